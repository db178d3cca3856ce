"""The executor `srt`: the start of a session, and what a block and a tool call cost in it.

Ours: a session's start until its first block can be run, `/bin/true` in a bash block, an empty Python block, and a
tool call from a Python block, in a sandbox that runs.
Theirs: not measured: agentd 0.8.6 needs srt 0.0.42, which later ones cannot stand beside.
Floor: `srt -c true`; the same block and call on the `subprocess` executor. All as an unprivileged user, if root
measures. The least of each is taken: what a busy machine adds is no cost of ours."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kit import note
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="srt",
    rows=(
        Row(key="start_ms", title="srt: start of a session; floor: `srt -c true`", unit="ms", floor=1.5),
        Row(key="bash_ms", title="  bash block, /bin/true; floor: subprocess", unit="ms", floor=2),
        Row(key="python_ms", title="  Python block; floor: subprocess", unit="ms", floor=2),
        Row(key="call_ms", title="  tool call from a Python block; floor: subprocess", unit="ms", floor=2),
    ),
)
NPM = Path(__file__).resolve().parents[3] / ".cache" / "npm" / "node_modules"
CLI = NPM / "@anthropic-ai" / "sandbox-runtime" / "dist" / "cli.js"
CALLS = """
import time
from lib.tools import echo
def once(i):
    begin = time.perf_counter()
    echo(x=i)
    return time.perf_counter() - begin
print(min(once(i) for i in range(300)) * 1000)
"""


def _least_ms(call: Callable[[], object], count: int) -> float:
    def once() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    call()
    return min(once() for _ in range(count)) * 1000


def _blocks(executor: Any, quick: bool) -> Figures:
    """What blocks and calls cost in an executor that runs."""
    from agentd.registry import Registry
    from agentd.tools import ToolSet
    from agentd.types import BashAction, PythonAction

    def echo(x: int) -> int:
        """Give it back."""
        return x

    count = 20 if quick else 80
    tools = ToolSet([echo])
    skills = executor.workspace_dir / "skills"
    Registry().create_skill_renderer().render(tools.specs(), skills)
    with executor:
        executor.attach(tools=tools, skills_dir=skills)
        figures: Figures = {
            "bash_ms": _least_ms(lambda: executor.run_sync(BashAction(command="/bin/true")), count),
            "python_ms": _least_ms(lambda: executor.run_sync(PythonAction(code="pass")), count),
            "call_ms": float(executor.run_sync(PythonAction(code=CALLS)).output),
        }
    tools.close()
    return figures


def ours(quick: bool) -> Figures:
    """A sandbox for each start, and one for all blocks."""
    from agentd_executor_srt.executor import SandboxRuntimeExecutor

    def start() -> float:
        executor = SandboxRuntimeExecutor(Path.cwd() / "started", srt_path=CLI)
        begin = time.perf_counter()
        executor._connect()
        took = time.perf_counter() - begin
        executor.close()
        return took

    started = min(start() for _ in range(4 if quick else 12)) * 1000
    return {"start_ms": started, **_blocks(SandboxRuntimeExecutor(Path.cwd() / "work", srt_path=CLI), quick)}


def theirs(quick: bool) -> Figures:
    """Only a note."""
    note("srt: 0.8.6 is not measured: it needs srt 0.0.42")
    return {}


def floor(quick: bool) -> Figures:
    """srt by itself, and the executor without a sandbox."""
    from agentd_executor_subprocess.executor import SubprocessExecutor

    with tempfile.TemporaryDirectory(prefix="agentd-") as folder:
        settings = Path(folder, "settings.json")
        filesystem = {"denyRead": [], "allowWrite": [folder], "denyWrite": []}
        network: dict[str, list[str]] = {"allowedDomains": [], "deniedDomains": []}
        settings.write_text(json.dumps({"network": network, "filesystem": filesystem}))
        node = NPM / "node" / "bin" / "node"
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": 59999, "group": 59999, "extra_groups": []}
            os.chown(folder, 59999, 59999)
        path = "/usr/local/bin:/usr/bin:/bin"
        command = [node, "--no-warnings", CLI, "--settings", settings, "-c", "true"]
        env = {"PATH": path, "HOME": folder, "TMPDIR": folder}
        bare = _least_ms(
            lambda: subprocess.run(command, cwd=folder, env=env, check=True, **user), 4 if quick else 12
        )
    return {"start_ms": bare, **_blocks(SubprocessExecutor(Path.cwd() / "plain"), quick)}
