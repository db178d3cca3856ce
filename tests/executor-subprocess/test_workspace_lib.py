"""A workspace with a package of its own called `lib`, as the tools' package is: both can be imported, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet

ALL = (
    "from lib.tools import sq\n"
    "from lib.foo import X\n"
    "import lib.tools, lib.sub.deep\n"
    "from lib import tools\n"
    "print(X, sq(3), lib.tools is tools, tools.sq(2), lib.sub.deep.Y)\n"
)
SHOWN = "foo 9 True 4 deep\n"


def sq(x: int) -> int:
    """Square it."""
    return x * x


@pytest.fixture(params=["regular", "namespace"])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SubprocessExecutor]:
    workspace = tmp_path / "w"
    (workspace / "lib" / "sub").mkdir(parents=True)
    (workspace / "lib" / "foo.py").write_text("X = 'foo'\n")
    (workspace / "lib" / "sub" / "deep.py").write_text("Y = 'deep'\n")
    if request.param == "regular":
        (workspace / "lib" / "__init__.py").write_text("Z = 'init'\n")
    tools = ToolSet([sq])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), workspace / "skills")
    with SubprocessExecutor(workspace, timeout=20) as made:
        made.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        yield made
    tools.close()


def test_in_python_blocks(executor: SubprocessExecutor) -> None:
    assert executor.execute_python(ALL) == (SHOWN, 0)
    for _ in range(2):
        assert executor.run_sync(PythonAction(code=ALL, state="kept")).output == SHOWN
    assert executor.execute_python("import os; os.chdir('/')\nfrom lib.tools import sq; print(sq(4))") == (
        "16\n",
        0,
    )


def test_in_python_that_bash_starts(executor: SubprocessExecutor) -> None:
    assert executor.execute_bash(f"python3 -c {ALL!r}".replace("\\n", "\n")) == (SHOWN, 0)
    executor.create_file("script.py", ALL)
    assert executor.execute_bash("python3 script.py; cd skills; python3 ../script.py") == (SHOWN * 2, 0)
    assert executor.execute_bash("cd /; python3 -c 'from lib.tools import sq; print(sq(4))'") == ("16\n", 0)


def test_in_python_that_a_block_starts(executor: SubprocessExecutor) -> None:
    code = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {ALL!r}]).returncode)"
    assert executor.execute_python(code) == (f"{SHOWN}0\n", 0)


@pytest.mark.parametrize("executor", ["regular"], indirect=True)
def test_what_the_package_itself_defines(executor: SubprocessExecutor) -> None:
    code = "from lib import Z; import lib.tools; print(Z, lib.tools.sq(5), lib.__file__.endswith('w/lib/__init__.py'))"
    assert executor.execute_python(code) == ("init 25 True\n", 0)
    assert executor.execute_bash(f'python3 -c "{code}"') == ("init 25 True\n", 0)


def test_new_bindings_are_found_beside_it_as_well(executor: SubprocessExecutor) -> None:
    def triple(x: int) -> int:
        """Triple it."""
        return 3 * x

    tools = ToolSet([triple])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), executor.workspace_dir / "skills")
    executor.attach(tools=tools, layout=renderer.layout(executor.workspace_dir / "skills"))
    code = "from lib.tools import triple; from lib.foo import X; print(triple(3), X)"
    assert executor.execute_python(code) == ("9 foo\n", 0)
    assert executor.execute_bash(f"python3 -c '{code}'") == ("9 foo\n", 0)
    tools.close()


def test_the_interpreter_s_own_sitecustomize_runs_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys; sys.own = 'ran'\n")
    skills = tmp_path / "w" / "skills"
    renderer = AgentSkillsRenderer()
    renderer.render([], skills)
    layout = renderer.layout(skills)
    path = ":".join(map(str, (*layout.importable, folder)))
    with SubprocessExecutor(tmp_path / "w", env={"PYTHONPATH": path}) as executor:
        shown = executor.execute_bash("python3 -c 'import sys; print(sys.own, len(sys.meta_path) > 3)'")
        assert shown == ("ran True\n", 0)
