"""What an earlier session has left in the workspace: none of it runs in the runner, or before a block."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from agentd.types import Limits
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet

MIB = 1024 * 1024


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def planted(journal: Path) -> str:
    """Python that notes which process has run it."""
    return f"import os\nwith open({str(journal)!r}, 'a') as file: file.write(__file__ + chr(10))\n"


def standard_names() -> list[str]:
    """All modules of the standard library that a runner could be tempted to import from elsewhere."""
    return sorted(
        name for name in sys.stdlib_module_names if name.isidentifier() and not name.startswith("__")
    )


def run_next_session(workspace: Path, bash: str = "echo on", python: str = "print('on')") -> None:
    """Begin a session as a program does, and run a block of each kind."""
    tools = ToolSet([double])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), workspace / "skills")
    with SubprocessExecutor(workspace, timeout=20) as executor:
        executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        assert executor.execute_bash(bash) == ("on\n", 0)
        assert executor.execute_python(python) == ("on\n", 0)
    tools.close()


@pytest.mark.parametrize("folder", [".agentd/site", "skills", "skills/lib", "."])
def test_modules_named_like_those_of_the_standard_library_run_nowhere_before_a_block(
    tmp_path: Path, folder: str
) -> None:
    workspace, journal = tmp_path / "w", tmp_path / "journal"
    (workspace / folder).mkdir(parents=True)
    for name in [*standard_names(), "sitecustomize", "usercustomize"]:
        (workspace / folder / f"{name}.py").write_text(planted(journal))
    run_next_session(workspace)
    assert not journal.exists()


def test_a_block_finds_the_standard_library_before_what_was_installed(tmp_path: Path) -> None:
    site = tmp_path / ".agentd" / "site"
    site.mkdir(parents=True)
    for name in ("colorsys", "installed", "iniconfig"):  # the last is in the interpreter's packages, too
        (site / f"{name}.py").write_text("PLACE = 'site'\n")
    code = "import colorsys, installed, iniconfig; print(hasattr(colorsys, 'PLACE'), installed.PLACE, iniconfig.PLACE)"
    with SubprocessExecutor(tmp_path) as executor:
        assert executor.execute_python(code) == ("False site site\n", 0)


def test_bindings_that_code_has_changed_are_written_again_though_the_manifest_agrees_with_them(
    tmp_path: Path,
) -> None:
    workspace, journal = tmp_path / "w", tmp_path / "journal"
    use = "from lib.tools import double; print('on' if double(2) == 4 else 'off')"
    run_next_session(workspace, python=use)
    library = workspace / "skills" / "lib"
    manifest = json.loads((library / ".manifest.json").read_text())
    for name in ("__init__", "tools", "_bridge"):
        text = planted(journal)
        (library / f"{name}.py").write_text(text + (library / f"{name}.py").read_text())
        state = (library / f"{name}.py").stat()
        digest, *_ = manifest["files"][f"lib/{name}.py"]
        manifest["files"][f"lib/{name}.py"] = [digest, state.st_size, state.st_mtime_ns]
    (library / ".manifest.json").write_text(json.dumps(manifest))
    run_next_session(workspace, python=use, bash="python -c 'from lib.tools import double' && echo on")
    assert not journal.exists()


def test_bindings_that_code_changes_while_the_program_attaches_them_do_not_reach_the_runner(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal"
    tools = ToolSet([double])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), tmp_path / "w" / "skills")
    for module in (tmp_path / "w" / "skills" / "lib").glob("*.py"):
        module.write_text(planted(journal))
    with SubprocessExecutor(tmp_path / "w") as executor:
        executor.attach(tools=tools, layout=renderer.layout(tmp_path / "w" / "skills"))
        assert executor.execute_python("from lib.tools import double; print(double(4))") == ("8\n", 0)
        assert not journal.exists()
    tools.close()


def test_programs_named_like_those_that_the_runner_starts_are_not_started(tmp_path: Path) -> None:
    workspace, journal = tmp_path / "w", tmp_path / "journal"
    bin_dir = workspace / ".agentd" / "site" / "bin"
    bin_dir.mkdir(parents=True)
    for name in ("bash", "sh", "python", "python3"):
        (bin_dir / name).write_text(f"#!/bin/sh\necho {name} >> {journal}\n")
        (bin_dir / name).chmod(0o755)
    run_next_session(workspace)
    assert not journal.exists()


def test_start_files_in_the_session_s_home_are_not_read(tmp_path: Path) -> None:
    workspace, journal = tmp_path / "w", tmp_path / "journal"
    home = workspace / ".agentd" / "home"
    packages = home / ".local" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    for name in (".bashrc", ".bash_profile", ".profile", ".bash_login", ".bash_logout", ".inputrc"):
        (home / name).write_text(f"echo {name} >> {journal}\n")
    (packages / "usercustomize.py").write_text(planted(journal))
    (packages / "planted.pth").write_text(f"import os; open({str(journal)!r}, 'a').write('pth')\n")
    run_next_session(workspace)
    assert not journal.exists()


def test_folders_of_the_session_that_are_links_are_not_followed(tmp_path: Path) -> None:
    """The runner makes these folders and removes them where they are empty."""
    workspace, outside = tmp_path / "w", tmp_path / "outside"
    workspace.mkdir()
    (outside / "home").mkdir(parents=True)
    (workspace / ".agentd").symlink_to(outside)
    run_next_session(workspace)
    assert os.listdir(outside) == ["home"]
    (workspace / ".agentd").unlink()
    (workspace / ".agentd").mkdir()
    (workspace / ".agentd" / "home").symlink_to(outside / "home")
    run_next_session(workspace)
    assert os.listdir(outside) == ["home"]


def test_a_shell_state_of_an_earlier_session_runs_only_within_a_block_s_limits(tmp_path: Path) -> None:
    """The state is data to the runner: what it says is done by the next block's bash, under its clock."""
    state = {
        "workspace": str(tmp_path),
        "cwd": str(tmp_path),
        "source": "touch early; sleep 30\n",
        "options": "",
        "shopts": "",
        "unset": [],
    }
    with SubprocessExecutor(tmp_path, limits=Limits(timeout_s=0.5)) as executor:
        import anyio

        anyio.run(executor.set_shell_state, state)
        executor.execute_python("pass")
        assert not (tmp_path / "early").exists()
        assert executor.execute_bash("echo never")[1] == 124
