"""agentd.toml: the user's file, a project's file that anybody may have written, and a person's word for it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_cli.settings import trust
from agentd_cli.settings.file import project_file, project_root, read_settings_file
from agentd_cli.settings.keys import settings_keys
from agentd_cli.settings.resolved import ResolvedSettings, read_settings
from agentd_cli.settings.stricter import needs_word
from agentd_cli.settings.trust import content_digest, keep_word, word_for
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

Agentd = Any  # the fixture's class

WANTS = """\
max-turns = 7
policy = "ask-writes"

mcp = [
    "npx some-server",
]
executor = "subprocess"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The person's folders, and no variables."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("AGENTD_MODEL", "AGENTD_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config" / "agentd").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository."""
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "deep" / "er").mkdir(parents=True)
    return project


def mine(home: Path, text: str) -> None:
    (home / "config" / "agentd" / "agentd.toml").write_text(text)


def counts(found: ResolvedSettings) -> dict[str, Any]:
    return {one.said.key.name: one.said.value for one in found.settings if one.state == "counts"}


def left_out(found: ResolvedSettings) -> list[str]:
    return [one.said.key.name for one in found.left_out]


# --- reading ---------------------------------------------------------------------------------------


def test_the_projects_file_wins_over_the_users_and_is_found_up_to_the_repositorys_root(
    home: Path, project: Path
) -> None:
    mine(home, 'model = "mine"\nmax-turns = 9\n')
    (project / "agentd.toml").write_text('model = "theirs"\n')
    (project.parent / "agentd.toml").write_text('model = "outside"\n')
    found = read_settings(project / "deep" / "er")
    assert found.problems == []
    assert counts(found) == {"model": "theirs", "max-turns": 9}
    assert [one.state for one in found.settings] == ["overridden", "counts", "counts"]
    assert read_settings(project.parent / "config").project is None


def test_everything_that_is_wrong_is_said_at_once_with_file_line_and_the_nearest_key(
    home: Path, project: Path
) -> None:
    file = project / "agentd.toml"
    file.write_text(
        '# a comment\nmax_turns = 3\nmodell = "x"\ntimeout = "10"\nmax-turns = true\nmode = "pct"\n'
        'mcp = "one"\nwall-time = -1\nmcp-config = ["missing.json"]\nschema = "x"\nhistory = "forget"\nimages = "yes"\n'
        '[chat]\nmodel = "y"\n'
    )
    problems = [problem.removeprefix(f"{file}:") for problem in read_settings_file(file).problems]
    begins = [
        "2: unknown key 'max_turns'; did you mean 'max-turns'?",
        "3: unknown key 'modell'; did you mean 'model'?",
        "4: timeout: must be a number, got '10'",
        "5: max-turns: must be a whole number, got true",
        "6: mode: 'pct' is not one of 'ptc', 'tools'",
        "7: mcp: must be an array of texts, got 'one'",
        "8: wall-time: -1",
        "9: mcp-config: ",
        "10: unknown key 'schema': --schema is for the command line alone",
        "11: history: History.rule: must be one of",
        "12: images: must be true or false, got 'yes'",
        "13: unknown key 'chat'",
    ]
    assert len(problems) == len(begins), problems
    for problem, begin in zip(problems, begins, strict=True):
        assert problem.startswith(begin), problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'model = "x\n', ":1:"),
        (b"model = \xff\n", "utf-8"),
        (b"#" * 70_000, "is larger than 64 KiB"),
        (b"a = " + b"[" * 5_000, ""),
    ],
)
def test_what_is_no_toml_is_a_problem_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "agentd.toml"
    file.write_bytes(content)
    (problem,) = read_settings_file(file).problems
    assert problem.startswith(str(file))
    assert said in problem


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "0", "1e400", "0x10000000000000000000"])
def test_a_limit_is_a_number_that_limits(tmp_path: Path, number: str) -> None:
    file = tmp_path / "agentd.toml"
    file.write_text(f"max-cost = {number}\n")
    found = read_settings_file(file)
    assert bool(found.problems) == (number != "0x10000000000000000000")


def test_a_pipe_in_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "agentd.toml")
    assert read_settings_file(tmp_path / "agentd.toml").problems == [
        f"{tmp_path / 'agentd.toml'}: cannot be read: is no regular file"
    ]


def test_a_line_in_a_text_of_several_lines_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "agentd.toml"
    file.write_text('model = """\nmode = 1\n"""\nmode = "pct"\n')
    (problem,) = read_settings_file(file).problems
    assert problem.startswith(f"{file}:4: mode:")


def test_paths_are_relative_to_the_file(home: Path, project: Path) -> None:
    (project / "servers.json").write_text('{"mcpServers": {}}')
    (project / "tools.py").write_text("")
    (project / "agentd.toml").write_text(
        'mcp-config = ["servers.json"]\ntool = ["tools.py", "mcp:x"]\npolicy = "rules.yaml"\n'
    )
    said = read_settings(project / "deep").settings
    assert [one.said.value for one in said] == [
        (str(project / "servers.json"),),
        (str(project / "tools.py"), "mcp:x"),
        str(project / "rules.yaml"),
    ]


def test_a_variable_of_agentds_own_wins_over_files(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_MODEL", "environment")
    mine(home, 'model = "mine"\napi = "responses"\n')
    (project / "agentd.toml").write_text('model = "theirs"\n')
    assert counts(read_settings(project)) == {"api": "responses"}


def test_a_repository_of_somebody_else_above_is_none_of_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "agentd.toml").write_text("")
    below = tmp_path / "below"
    below.mkdir()
    assert project_root(below) == tmp_path
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder to another user")
    os.chown(tmp_path / ".git", 12345, 12345)
    assert project_root(below) == below
    assert project_file(below) is None


# --- what a project may say ------------------------------------------------------------------------

STRICTER = [
    ("model", "any", {}),
    ("model", "any", {"model": "mine"}),
    ("max-turns", 20, {}),
    ("max-turns", 3, {"max-turns": 3}),
    ("timeout", 60.0, {}),
    ("wall-time", 600.0, {}),
    ("max-cost", 1000.0, {}),
    ("max-cost", 1.0, {"max-cost": 1.0}),
    ("executor", "native", {}),
    ("executor", "srt", {"executor": "auto"}),
    ("executor", "msb", {"executor": "subprocess"}),
    ("policy", "read-only", {"policy": "ask-writes"}),
    ("policy", "ask-writes", {}),
    ("policy", "ask-writes", {"policy": "yolo"}),
    ("mode", "tools", {}),
    ("no-agents-md", True, {}),
    ("bare-fences", "answer", {}),
    ("images", False, {"images": True}),
]
WEAKER = [
    ("max-turns", 21, {}),
    ("max-turns", 4, {"max-turns": 3}),
    ("timeout", 61.0, {}),
    ("wall-time", 601.0, {}),
    ("max-cost", 1.1, {"max-cost": 1.0}),
    ("executor", "subprocess", {}),
    ("executor", "auto", {}),
    ("executor", "somebodys", {}),
    ("executor", "native", {"executor": "msb"}),
    ("policy", "yolo", {}),
    ("policy", "yolo", {"policy": "ask-writes"}),
    ("policy", "ask-writes", {"policy": "read-only"}),
    ("policy", "/rules.yaml", {}),
    ("policy", "read-only", {"policy": "/rules.yaml"}),
    ("mode", "ptc", {"mode": "tools"}),
    ("no-agents-md", False, {"no-agents-md": True}),
    ("bare-fences", "run", {}),
    ("checkpoints", False, {}),
    ("images", True, {}),
    ("max-chats", 2_000, {}),
    *[(name, ("x",), {}) for name in ("mcp", "mcp-config", "tool", "skills", "sink", "option", "parser")],
    *[(name, "x", {}) for name in ("base-url", "log", "renderer", "snapshots", "api", "history")],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "without"), STRICTER)
def test_stricter_things_and_a_models_name_need_no_word(
    name: str, value: Any, without: dict[str, Any]
) -> None:
    assert not needs_word(name, value, without)


@pytest.mark.parametrize(("name", "value", "without"), WEAKER)
def test_all_else_needs_the_persons_word(name: str, value: Any, without: dict[str, Any]) -> None:
    assert needs_word(name, value, without)


def test_each_key_is_among_these_tests_so_a_new_option_is_thought_about() -> None:
    assert {name for name, _, _ in [*STRICTER, *WEAKER]} | {"full-output"} == set(settings_keys())


def test_without_a_word_what_needs_one_is_left_out_and_the_rest_counts(home: Path, project: Path) -> None:
    mine(home, 'executor = "native"\nmcp = ["my-server"]\n')
    (project / "agentd.toml").write_text(WANTS)
    found = read_settings(project)
    assert left_out(found) == ["mcp", "executor"]
    assert counts(found) == {
        "executor": "native",
        "mcp": ("my-server",),
        "max-turns": 7,
        "policy": "ask-writes",
    }
    assert [one.said.line for one in found.left_out] == [4, 7]


def test_a_word_holds_until_the_file_changes_or_what_it_names(home: Path, project: Path) -> None:
    file, tools = project / "agentd.toml", project / "tools.py"
    tools.write_text("# one\n")
    file.write_text('tool = ["tools.py"]\n')
    found = read_settings(project)
    assert found.word is None
    keep_word(file, found.digest, "yes")
    assert counts(read_settings(project)) == {"tool": (str(tools),)}
    tools.write_text("# two\n")
    assert left_out(read_settings(project)) == ["tool"]
    tools.write_text("# one\n")
    assert left_out(read_settings(project)) == []
    file.write_text('tool = ["tools.py"]\nmax-turns = 100\n')
    assert left_out(read_settings(project)) == ["tool", "max-turns"]


def test_a_tool_file_that_is_named_with_its_source_is_in_the_word_too(home: Path, project: Path) -> None:
    file, tools = project / "agentd.toml", project / "tools.py"
    file.write_text('tool = ["python:tools.py"]\n')
    tools.write_text("# one\n")
    keep_word(file, read_settings(project).digest, "yes")
    assert counts(read_settings(project / "deep")) == {"tool": (f"python:{tools}",)}
    tools.write_text("# two\n")
    assert left_out(read_settings(project)) == ["tool"]


def test_a_tool_file_is_never_one_of_the_folder_that_is_worked_in(home: Path, project: Path) -> None:
    file = project / "agentd.toml"
    file.write_text('tool = ["tools.py", "models:cheap"]\n')
    (project / "deep" / "tools.py").write_text("# not what was meant\n")
    keep_word(file, read_settings(project).digest, "yes")
    assert counts(read_settings(project / "deep")) == {"tool": (str(project / "tools.py"), "models:cheap")}


def test_a_word_is_for_what_lies_behind_links_to_folders_and_for_where_they_lead(
    home: Path, project: Path
) -> None:
    file, skills = project / "agentd.toml", project / "skills"
    for name in ("one", "two"):
        (project / "elsewhere" / name).mkdir(parents=True)
        (project / "elsewhere" / name / "SKILL.md").write_text(name)
    skills.mkdir()
    (skills / "a").symlink_to("../elsewhere/one")
    (skills / "b").symlink_to("../elsewhere/two")
    (skills / "loop").symlink_to(".")
    file.write_text('skills = ["skills"]\n')
    keep_word(file, read_settings(project).digest, "yes")
    assert left_out(read_settings(project)) == []
    (project / "elsewhere" / "one" / "SKILL.md").write_text("another")
    assert left_out(read_settings(project)) == ["skills"]
    (project / "elsewhere" / "one" / "SKILL.md").write_text("one")
    assert left_out(read_settings(project)) == []
    (skills / "loop").unlink()
    (skills / "loop").symlink_to("a")
    assert left_out(read_settings(project)) == ["skills"]


def test_a_word_for_one_place_is_none_for_a_copy(home: Path, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".git").mkdir(parents=True)
    for folder in (project, other):
        (folder / "agentd.toml").write_text(WANTS)
    keep_word(project / "agentd.toml", read_settings(project).digest, "yes")
    assert left_out(read_settings(project)) == []
    assert left_out(read_settings(other)) == ["mcp", "executor"]


def test_a_record_is_private_and_a_broken_one_is_no_word(home: Path, project: Path) -> None:
    file = project / "agentd.toml"
    keep_word(file, "digest", "yes")
    (record,) = (home / "state" / "agentd" / "trust").iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert word_for(file, "digest") == "yes"
    assert word_for(file, "other") is None
    for text in ("", "[]", "{}", '{"file": 1, "digest": "digest", "word": "yes"}'):
        record.write_text(text)
        assert word_for(file, "digest") is None


def test_what_a_file_names_is_looked_at_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skills = tmp_path / "skills"
    skills.mkdir()
    (skills / "a").write_text("1")
    one = content_digest(tmp_path / "f", b"", [str(skills)])
    (skills / "b").write_text("")
    assert content_digest(tmp_path / "f", b"", [str(skills)]) != one
    monkeypatch.setattr(trust, "MAX_FILES", 1)
    with pytest.raises(ConfigError, match="too much to be trusted"):
        content_digest(tmp_path / "f", b"", [str(skills)])


SAID = st.one_of(
    st.integers(0, 100),
    st.sampled_from(["yolo", "read-only", "native", "subprocess", "x"]),
    st.lists(st.text(), max_size=2),
)
KEYS = ["model", "max-turns", "executor", "policy", "mcp", "base-url", "max-cost", "nonsense"]


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=st.dictionaries(st.sampled_from(KEYS), SAID))
def test_whatever_a_project_says_nothing_that_needs_a_word_counts_without(
    home: Path, project: Path, said: dict[str, Any]
) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in said.items()]
    (project / "agentd.toml").write_text("\n".join(lines))
    found = read_settings(project)
    for one in found.settings:
        if one.state == "counts":
            assert one.said.key.name not in ("mcp", "base-url")
            assert one.said.key.name == "model" or one.said.value not in ("yolo", "subprocess")
            assert one.said.key.name != "max-turns" or one.said.value <= 20


# --- the commands ----------------------------------------------------------------------------------


@pytest.fixture
def here(agentd: Agentd, home: Path) -> Path:
    """The folder that the command runs in, a repository."""
    (agentd.cwd / ".git").mkdir()
    agentd.env |= {name: os.environ[name] for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    return Path(agentd.cwd)


@pytest.mark.slow
def test_a_run_takes_what_the_files_say_and_the_command_line_wins(
    agentd: Agentd, here: Path, home: Path
) -> None:
    server = agentd.replay("done", "done")
    mine(home, 'model = "mine"\nquiet-not = 1\n')
    refused = agentd("run", "task")
    assert refused.returncode == 2
    assert "agentd.toml:2: unknown key 'quiet-not'" in refused.stderr
    assert agentd("run", "--no-config", "task").returncode == 0
    mine(home, 'model = "mine"\n')
    assert agentd("run", "task").returncode == 0
    assert server.requests[-1].body["model"] == "mine"
    assert agentd("run", "--model", "typed", "task").returncode == 0
    assert server.requests[-1].body["model"] == "typed"


@pytest.mark.slow
def test_off_a_terminal_a_line_says_what_was_left_out_and_config_gives_the_word(
    agentd: Agentd, here: Path, home: Path
) -> None:
    server = agentd.replay("done", "done")
    (here / "agentd.toml").write_text('model = "theirs"\noption = ["model.request.temperature=0"]\n')
    first = agentd("run", "task")
    assert first.returncode == 0
    assert (
        "left out, for they need your word: option (line 2); to give it: agentd config --trust"
        in first.stderr
    )
    assert server.requests[0].body["model"] == "theirs"
    assert "temperature" not in server.requests[0].body
    told = json.loads(agentd("config", "--json").stdout)
    assert [(one["key"], one["line"], one["state"]) for one in told["settings"]] == [
        ("model", 1, "counts"),
        ("option", 2, "needs your word"),
    ]
    trusted = agentd("config", "--trust")
    assert trusted.returncode == 0
    assert "needs your word" not in trusted.stdout
    second = agentd("run", "task")
    assert (second.returncode, second.stderr) == (0, "")
    assert server.requests[1].body["temperature"] == 0
    assert "needs your word" in agentd("config", "--forget").stdout


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "after"), [("y", "yes"), ("n", "no"), ("", None)])
def test_on_a_terminal_the_person_is_asked_once(
    agentd: Agentd, here: Path, home: Path, answer: str, after: str | None
) -> None:
    server = agentd.replay("done", "done")
    (here / "agentd.toml").write_text('option = ["model.request.temperature=0"]\n')
    terminal = agentd.on_terminal("run", "task")
    terminal.read_until("not this time")
    assert 'option = ["model.request.temperature=0"]' in terminal.output
    terminal.type(answer)
    assert terminal.wait() == 0
    assert ("temperature" in server.requests[0].body) == (answer == "y")
    assert json.loads(agentd("config", "--json").stdout)["word"] == after
    if after:
        again = agentd.on_terminal("run", "task")
        assert again.wait() == 0
        assert "not this time" not in again.output


@pytest.mark.slow
def test_config_says_which_file_said_what(agentd: Agentd, here: Path, home: Path) -> None:
    assert agentd("config").stdout.startswith("no agentd.toml: none in this project")
    mine(home, "max-turns = 5\n")
    (here / "agentd.toml").write_text("max-turns = 4\n")
    shown = agentd("config").stdout
    assert "(yours)\n  1: max-turns = 5  -- overridden (by agentd.toml of the project)" in shown
    assert "(the project's)\n  1: max-turns = 4\n" in shown
    (here / "agentd.toml").write_text("max-trns = 4\n")
    wrong = agentd("config")
    assert wrong.returncode == 2
    assert "did you mean 'max-turns'?" in wrong.stderr
