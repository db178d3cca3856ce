"""What code of an earlier session has left in the workspace runs in a later one's blocks at most, and there last."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sandbox
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet

PLANT = """
import os, sys
journal = os.path.abspath("journal")
text = f"with open({journal!r}, 'a') as file: file.write(__file__ + chr(10))"
site = os.path.abspath(".agentd/site")
os.makedirs(site + "/bin", exist_ok=True)
for name in [*filter(str.isidentifier, sys.stdlib_module_names), "sitecustomize", "usercustomize"]:
    open(f"{site}/{name}.py", "w").write(text)
for name in ("bash", "sh", "python3"):
    open(f"{site}/bin/{name}", "w").write(f"#!/bin/sh\\necho {name} >> {journal}\\n")
    os.chmod(f"{site}/bin/{name}", 0o755)
"""


def double(x: int) -> int:
    """Double it."""
    return 2 * x


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_nothing_that_a_session_has_planted_runs_before_the_blocks_of_the_next(
    tmp_path: Path, profile: str
) -> None:
    workspace = tmp_path / "w"
    with sandbox.make(workspace, timeout=20, profile=profile) as executor:
        assert executor.execute_python(PLANT) == ("", 0)
    assert (workspace / ".agentd/site/threading.py").exists()
    tools = ToolSet([double])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), workspace / "skills")
    with sandbox.make(workspace, timeout=20, profile=profile) as executor:
        executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        assert executor.execute_bash("echo on") == ("on\n", 0)
        code = (
            "import threading, colorsys; from lib.tools import double; print(double(4), threading.__file__)"
        )
        output, exit_code = executor.execute_python(code)
        assert (output.split()[0], exit_code) == ("8", 0)
        assert output.split()[1].startswith(str(Path(sys.base_prefix).resolve()))
    assert not (workspace / "journal").exists()
    tools.close()
