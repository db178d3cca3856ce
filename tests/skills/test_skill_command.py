"""The `skills` command, as the model's code runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    tools = [
        ToolSpec(name="add", description="Add two numbers."),
        ToolSpec(name="shout", description='Say "it": loud --- now.', source="voice"),
    ]
    AgentSkillsRenderer().render(tools, directory)
    mine = directory / "mine"
    (mine / "scripts").mkdir(parents=True)
    (mine / "SKILL.md").write_text("---\nname: mine\ndescription: >\n  folded over\n  lines\n---\n# Body\n")
    (mine / "scripts" / "hello.py").write_text("import sys, lib.tools; print('hello', sys.argv[1:])")
    (mine / "scripts" / "plain.sh").write_text("echo sh $1")
    (tmp_path / "outside.py").write_text("print('escaped')")
    (mine / "scripts" / "link.py").symlink_to(tmp_path / "outside.py")
    return directory


def run(skills: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["skills", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd=skills.parent,
        env={"PATH": f"/usr/bin:/bin:{skills}/bin", "AGENTD_PYTHON": sys.executable},
    )


def test_list_shows_every_skill_with_its_description(skills: Path) -> None:
    done = run(skills, "list")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "local: Python functions of this session's program: add",
        "mine: folded over lines",
        "voice: Tools of voice: shout",
    ]


def test_frontmatter_and_read_show_the_document(skills: Path) -> None:
    assert run(skills, "frontmatter", "voice").stdout.startswith("name: voice\ndescription: ")
    text = run(skills, "read", "voice").stdout
    assert "## shout" in text
    assert '> Say "it": loud — now.' in text


@pytest.mark.parametrize("script", ["hello", "hello.py", "scripts/hello.py"])
def test_run_runs_a_script_with_arguments_and_tools_importable(skills: Path, script: str) -> None:
    assert run(skills, "run", "mine", script, "a b", "-c").stdout == "hello ['a b', '-c']\n"


def test_run_takes_shell_scripts_too(skills: Path) -> None:
    assert run(skills, "run", "mine", "plain.sh", "x").stdout == "sh x\n"


@pytest.mark.parametrize(
    ("skill", "script"),
    [("mine", "../../../outside.py"), ("mine", "/etc/passwd"), ("mine", "link"), ("..", "outside.py"),
     ("mine/../..", "outside"), (".", "mine/scripts/hello")],
)  # fmt: skip
def test_run_does_not_leave_the_skills_folder(skills: Path, skill: str, script: str) -> None:
    done = run(skills, "run", skill, script)
    assert done.returncode == 2
    assert "escaped" not in done.stdout
    assert "there are:" in done.stderr


def test_exec_runs_python_from_standard_input_and_passes_its_exit_code(skills: Path) -> None:
    done = run(skills, "exec", stdin="import lib.tools, sys; print(lib.tools.add.__doc__); sys.exit(3)")
    assert (done.stdout, done.returncode) == ("Add two numbers.\n", 3)


@pytest.mark.parametrize("arguments", [("nonsense",), ("read",), ("read", "a", "b"), ("read", "nothing"), ()])
def test_a_wrong_command_line_says_what_there_is(skills: Path, arguments: tuple[str, ...]) -> None:
    done = run(skills, *arguments)
    assert done.returncode == 2
    assert done.stderr or "skills list" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_the_runners_variable_a_plain_python3_serves(skills: Path, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    done = subprocess.run(
        [skills / "bin" / "skills", "list"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONHOME": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("local: "), done.stderr


def test_a_closed_pipe_is_no_traceback(skills: Path) -> None:
    env = {**os.environ, "PATH": f"{skills}/bin:/usr/bin:/bin", "AGENTD_PYTHON": sys.executable}
    done = subprocess.run(["bash", "-c", "skills list | true"], env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
