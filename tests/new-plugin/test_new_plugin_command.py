"""The command `agentd new-plugin`: what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.hookspecs import GROUPS
from agentd_new_plugin.kinds import TEMPLATES
from agentd_new_plugin.project import PluginProject
from projects import agentd


def test_there_is_a_template_for_every_kind() -> None:
    assert set(TEMPLATES) == set(GROUPS)


def test_it_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    done = agentd(["new-plugin", "parser", "acme", "--into", "my plugins"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    shown = {line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")}
    folder = tmp_path / "my plugins" / "agentd-parser-acme"
    assert shown == {str(p.relative_to(tmp_path)) for p in folder.rglob("*") if p.is_file()}
    assert lines[-3:] == [
        "    cd 'my plugins/agentd-parser-acme'",
        "    pip install -e . --group test",
        "    pytest",
    ]


@pytest.mark.parametrize("kind", ["tool_source", "tool-source", "Tool source", "tool_sources"])
def test_a_kind_may_be_spelled_as_people_do(kind: str, tmp_path: Path) -> None:
    done = agentd(["new-plugin", kind, "acme"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["agentd-tools-acme"]


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "agentd-parser-acme"
    folder.mkdir()
    done = agentd(["new-plugin", "parser", "acme"], cwd=tmp_path)
    assert done.returncode == 2
    assert "'agentd-parser-acme' is there already and stays as it is" in done.stderr
    assert list(folder.iterdir()) == []


def test_a_place_where_no_folder_can_be_made_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        PluginProject("parser", "acme").write(tmp_path / "file" / "acme")


def test_a_project_that_cannot_be_written_whole_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Path.write_text

    def fail(path: Path, *args: str, **options: str) -> int:
        if path.name == "pyproject.toml":
            raise OSError(28, "No space left on device")
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        PluginProject("parser", "acme").write(tmp_path / "acme")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Acme", "did you mean 'acme'?"),
        ("acme_box", "did you mean 'acme-box'?"),
        ("acme--box", "did you mean 'acme-box'?"),
        ("-acme", "did you mean 'acme'?"),
        ("3d", "did you mean 'd'?"),
        ("../acme", "did you mean 'acme'?"),
        ("acme\n", "did you mean 'acme'?"),
        ("a-name-that-is-too-long", "did you mean 'a-name-that-is-too-l'?"),
        ("ä", "got 'ä'"),
        ("", "got ''"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="small letters, digits and single hyphens") as caught:
        PluginProject("executor", name)
    assert str(caught.value).endswith(hint)


def test_the_name_of_an_official_plugin_is_refused(tmp_path: Path) -> None:
    done = agentd(["new-plugin", "executor", "srt"], cwd=tmp_path)
    assert done.returncode == 2
    assert "the executor 'srt' is agentd's own (agentd-executor-srt)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused_and_the_kinds_are_named(tmp_path: Path) -> None:
    done = agentd(["new-plugin", "sink", "acme"], cwd=tmp_path)
    assert done.returncode == 2
    assert "'sink' is not one of" in done.stderr
    assert "'event_sink'" in done.stderr
