"""Skills that somebody else wrote: given by their paths, linked, and written in every way that people write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from agentd_skills.sandbox.frontmatter import field

TWO_PARAGRAPHS = "description: |\n  Fills in forms.\n\n  Use when a PDF has fields."


def skill(folder: Path, text: str = "", *, document: str = "SKILL.md") -> Path:
    folder.mkdir(parents=True)
    body = text or f"---\nname: {folder.name}\ndescription: About {folder.name}.\n---\n# Body\n"
    (folder / document).write_text(body)
    return folder


def run(skills: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["skills", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": f"/usr/bin:/bin:{skills}/bin", "AGENTD_PYTHON": sys.executable},
    )


def rendered(directory: Path, *paths: object, tools: tuple[ToolSpec, ...] = ()) -> str:
    renderer = AgentSkillsRenderer(skills=paths)  # type: ignore[arg-type]
    renderer.render(tools, directory)
    return renderer.prompt(tools, directory)


# --- given by their paths ------------------------------------------------------------------------


def test_a_skill_and_a_folder_of_skills_are_copied_with_their_modes_and_shown(tmp_path: Path) -> None:
    one = skill(tmp_path / "one")
    (one / "scripts").mkdir()
    (one / "scripts" / "go").write_text("#!/bin/sh\necho went $1\n")
    (one / "scripts" / "go").chmod(0o755)
    (one / "reference.md").write_text("details\n")
    skill(tmp_path / "many" / "two")
    skill(tmp_path / "elsewhere" / "three")
    (tmp_path / "many" / "three").symlink_to(tmp_path / "elsewhere" / "three")
    (tmp_path / "many" / "no-skill").mkdir()
    text = rendered(tmp_path / "skills", one, str(tmp_path / "many"))
    assert [line for line in text.splitlines() if line.startswith("- ")] == [
        "- one: About one.", "- three: About three.", "- two: About two."
    ]  # fmt: skip
    assert run(tmp_path / "skills", "run", "one", "go", "far").stdout == "went far\n"
    assert run(tmp_path / "skills", "read", "one", "reference.md").stdout == "details\n"
    assert not (tmp_path / "skills" / "one").is_symlink()


def test_a_copy_follows_its_skill_and_goes_with_it(tmp_path: Path) -> None:
    one = skill(tmp_path / "one")
    directory = tmp_path / "skills"
    rendered(directory, one)
    inode = (directory / "one" / "SKILL.md").stat().st_ino
    rendered(directory, one)
    assert (directory / "one" / "SKILL.md").stat().st_ino == inode, "nothing has changed"
    (one / "more.md").write_text("more")
    rendered(directory, one)
    assert (directory / "one" / "more.md").read_text() == "more"
    (one / "more.md").unlink()
    rendered(directory, one)
    assert not (directory / "one" / "more.md").exists()
    rendered(directory)
    assert not (directory / "one").exists()
    assert one.is_dir()


def test_what_lies_there_by_hand_stays_and_tools_of_that_name_get_another_folder(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    skill(directory / "one", "mine")
    given = [skill(tmp_path / "given" / name) for name in ("one", "local")]
    rendered(directory, *given, tools=(ToolSpec(name="add"),))
    assert (directory / "one" / "SKILL.md").read_text() == "mine"
    assert "About local." in (directory / "local" / "SKILL.md").read_text()
    assert (directory / "local-2" / "SKILL.md").exists()


def test_a_link_in_a_skill_brings_no_other_file_before_the_code(tmp_path: Path) -> None:
    one = skill(tmp_path / "one")
    (tmp_path / "secret").write_text("secret")
    (one / "leak.md").symlink_to(tmp_path / "secret")
    (one / "own.md").symlink_to(one / "SKILL.md")
    (one / "loop").symlink_to(one)
    rendered(tmp_path / "skills", one)
    assert sorted(path.name for path in (tmp_path / "skills" / "one").iterdir()) == [
        ".agentd-copy.json", "SKILL.md", "own.md"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["{folder}/nothing"], "nothing' is no folder; name a skill's folder or a folder of skills"),
        (["{folder}"], "has no SKILL.md, nor has a folder in it"),
        ("{folder}", "must be a list of paths"),
        ([5], "must be a list of paths, and 5 is none"),
        (["{folder}/a/x", "{folder}/b/x"], "two are called 'x'"),
    ],
)
def test_a_path_without_a_skill_is_told(given: object, told: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in "ab":
        skill(folder / name / "x")
    if isinstance(given, list):
        given = [one.format(folder=folder) if isinstance(one, str) else one for one in given]
    with pytest.raises(ConfigError, match="skills: ") as caught:
        AgentSkillsRenderer(skills=given)  # type: ignore[arg-type]
    assert told in str(caught.value)


# --- linked, hidden, named otherwise -------------------------------------------------------------


def test_a_linked_skill_is_the_same_everywhere(tmp_path: Path) -> None:
    far = skill(tmp_path / "far")
    (far / "scripts").mkdir()
    (far / "scripts" / "go.sh").write_text("echo went")
    directory = tmp_path / "skills"
    directory.mkdir()
    (directory / "near").symlink_to(far)
    text = rendered(directory, tools=(ToolSpec(name="add"),))
    assert "- near: About far." in text
    assert "near (far): About far." in run(directory, "list").stdout
    assert run(directory, "run", "near", "go.sh").stdout == "went\n"
    assert "# Body" in run(directory, "read", "far").stdout


def test_a_skill_is_found_by_its_folder_and_by_its_name(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    skill(directory / "react-guide", "---\nname: Vercel React\ndescription: x\n---\nhello\n")
    rendered(directory, tools=(ToolSpec(name="add"),))
    for name in ("react-guide", "Vercel React", "vercel react"):
        assert "hello" in run(directory, "read", name).stdout
    assert run(directory, "read", "other").returncode == 2


def test_a_skill_that_its_author_hides_is_for_people_only(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    skill(
        directory / "deploy",
        "---\ndescription: Deploys.\ndisable-model-invocation: true\n---\nhow to deploy\n",
    )
    text = rendered(directory, tools=(ToolSpec(name="add"),))
    assert "deploy" not in text
    assert "deploy" not in run(directory, "list").stdout
    assert "deploy" not in run(directory, "search", "deploy").stdout
    assert "deploy: Deploys." in run(directory, "list", "--all").stdout
    assert "how to deploy" in run(directory, "read", "deploy").stdout


# --- as their authors meant them -----------------------------------------------------------------


@pytest.mark.parametrize("document", ["skill.md", "Skill.md", "SKILL.MD"])
@pytest.mark.parametrize("front", ["", "\ufeff", "\n", "\ufeff\n\n"])
def test_a_document_in_any_case_with_a_bom_or_blank_lines_is_read(
    document: str, front: str, tmp_path: Path
) -> None:
    directory = tmp_path / "skills"
    skill(directory / "one", f"{front}---\ndescription: About it.\n---\nbody\n", document=document)
    assert "- one: About it." in rendered(directory, tools=(ToolSpec(name="add"),))
    assert "one: About it." in run(directory, "list").stdout
    assert "body" in run(directory, "read", "one").stdout


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        (TWO_PARAGRAPHS, "Fills in forms.\n\nUse when a PDF has fields."),
        ("description: >-\n  one\n  two\n\n  three\nname: x", "one two\nthree"),
        ("description: plain # a comment\nname: x", "plain"),
        ("description: C# and a#b", "C# and a#b"),
        ("description: over\n  two lines # said\nname: x", "over two lines"),
        ("description: 'it''s: # no comment' # one", "it's: # no comment"),
        ('description: "a \\"word\\" \\u00e9\\n#" # one', 'a "word" é\n#'),
        ("description:\n  below\nname: x", "below"),
        ("name: x", ""),
        ("description: |  # a comment\n    kept\n      deeper", "kept\n  deeper"),
    ],
)
def test_a_description_is_read_as_yaml(yaml: str, value: str) -> None:
    assert field(f"---\n{yaml}\n---\n", "description") == value
    assert field(f"---\n{yaml}\n---\n".replace("\n", "\r\n"), "description") == value


def test_descriptions_are_whole_while_there_is_room_and_keep_when_to_use_them(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    text = "Handles documents of every kind. " * 12 + "Use when somebody names a PDF."
    for number in range(30):
        skill(directory / f"s{number:02}", f"---\ndescription: {text}\n---\n")
    roomy = AgentSkillsRenderer(prompt_tokens=20_000).prompt([], directory)
    assert roomy.count(text) == 30
    tight = AgentSkillsRenderer(prompt_tokens=2_000).prompt([], directory)
    assert tight.count("Use when somebody names a PDF.") == 30
    assert tight.count(text) == 0


def test_reading_says_where_the_other_files_are(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    one = skill(directory / "one")
    (one / "docs").mkdir()
    (one / "docs" / "forms.md").write_text("about forms")
    rendered(directory, tools=(ToolSpec(name="add"),))
    text = run(directory, "read", "one").stdout
    assert f"[Paths above are relative to {one}; `skills read one FILE` prints one of: docs/forms.md]" in text
    assert run(directory, "read", "one", "docs/forms.md").stdout == "about forms\n"
    missing = run(directory, "read", "one", "../../secret")
    assert missing.returncode == 2
    assert "has no file '../../secret'; there are: docs/forms.md" in missing.stderr
    assert "[Paths" not in run(directory, "read", "local").stdout, "ours name their own scripts"


def test_a_script_without_the_executable_bit_is_run_by_what_its_first_line_names(tmp_path: Path) -> None:
    directory = tmp_path / "skills"
    one = skill(directory / "one")
    (one / "scripts").mkdir()
    (one / "scripts" / "go").write_text(f"#!{sys.executable} -S\nimport sys; print('python', sys.argv[1])\n")
    (one / "scripts" / "env").write_text("#!/usr/bin/env bash\n[[ 1 == 1 ]] && echo bash\n")
    rendered(directory, tools=(ToolSpec(name="add"),))
    assert not os.access(one / "scripts" / "go", os.X_OK)
    assert run(directory, "run", "one", "go", "x").stdout == "python x\n"
    assert run(directory, "run", "one", "env").stdout == "bash\n"
