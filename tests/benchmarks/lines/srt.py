"""The executor `srt`: the start of a session, and what a block and a tool call cost in it.

Ours: a session's start until its first block can be run; then `/bin/true` in a bash block, an empty Python block, and
tool calls from a Python block, in a sandbox that runs.
Theirs: `execute_bash` and `execute_python` of its `SandboxRuntimeExecutor`, which start srt for each block, with srt
0.0.42 and the same Node.js; the calls go over the Unix socket that its bridge listens on in the workspace.
Floor: `srt -c true`; the same block and call on the `subprocess` executor.
If root measures, ours and the floor's srt drop to an unprivileged user and 0.8.6 stays root, as both do for users.
What a busy machine adds is no cost of any side: of starts and blocks the least counts, of calls the least of the
medians of twenty batches."""

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
from benchmarks.reference import ROOT, SRT, SRT_PACKAGE, install_reference_srt
from benchmarks.tools import their_tools

LINE = Line(
    name="srt",
    rows=(
        Row(key="start_ms", title="start of a session under srt; floor: `srt -c true`", unit="ms", floor=1.5),
        Row(
            key="bash_ms",
            title="bash block under srt, /bin/true; floor: not sandboxed",
            unit="ms",
            ratio=30,
            floor=2,
        ),
        Row(
            key="python_ms",
            title="Python block under srt; floor: not sandboxed",
            unit="ms",
            ratio=30,
            floor=2,
        ),
        Row(key="call_ms", title="tool call from inside srt, p50", unit="ms", ratio=2.5),
    ),
    prepare_theirs=install_reference_srt,
)
NPM = ROOT / ".cache" / "npm" / "node_modules"
NODE = NPM / "node" / "bin"
CLI = NPM / "@anthropic-ai" / "sandbox-runtime" / "dist" / "cli.js"
CALLS = """
import statistics, time
from lib.tools import echo
def once(i):
    begin = time.perf_counter()
    echo(x=i)
    return time.perf_counter() - begin
assert echo(x=7) == 7
print(min(statistics.median(once(i) for i in range({count})) for batch in range(20)) * 1000)
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
    from agentd.types import BashAction, PythonAction
    from agentd_tools import ToolSet

    def echo(x: int) -> int:
        """Give it back."""
        return x

    count = 20 if quick else 80
    tools = ToolSet([echo])
    skills = executor.workspace_dir / "skills"
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), skills)
    with executor:
        executor.attach(tools=tools, layout=renderer.layout(skills))
        figures: Figures = {
            "bash_ms": _least_ms(lambda: executor.run_sync(BashAction(command="/bin/true")), count),
            "python_ms": _least_ms(lambda: executor.run_sync(PythonAction(code="pass")), count),
            "call_ms": float(executor.run_sync(PythonAction(code=CALLS.format(count=50))).output),
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
    """A sandbox for each block, in the way of its handlers."""
    from agentd.sandbox_runtime_executor import SandboxRuntimeExecutor  # type: ignore[import-not-found]

    if NODE.is_dir():
        os.environ["PATH"] = f"{NODE}{os.pathsep}{os.environ['PATH']}"
    user = "root" if os.geteuid() == 0 else "an unprivileged user"
    note(f"0.8.6 ran with {SRT_PACKAGE} as {user}")
    executor = SandboxRuntimeExecutor(base_dir=Path.cwd() / "base", srt_path=str(SRT))
    executor, skills = their_tools(executor)
    works, said = executor.verify()
    assert works, said
    here, count = executor.workspace_dir, 2 if quick else 4
    figures: Figures = {
        "bash_ms": _least_ms(lambda: _must_work(executor.execute_bash("/bin/true", here)), count),
        "python_ms": _least_ms(lambda: _must_work(executor.execute_python("pass", here, skills)), count),
        "call_ms": float(_must_work(executor.execute_python(CALLS.format(count=50), here, skills))),
    }
    executor.close()
    return figures


def _must_work(result: tuple[str, int]) -> str:
    output, code = result
    assert code == 0, output
    return output


def floor(quick: bool) -> Figures:
    """srt by itself, and the executor without a sandbox."""
    from agentd_executor_subprocess.executor import SubprocessExecutor

    with tempfile.TemporaryDirectory(prefix="agentd-") as folder:
        settings = Path(folder, "settings.json")
        filesystem = {"denyRead": [], "allowWrite": [folder], "denyWrite": []}
        network: dict[str, list[str]] = {"allowedDomains": [], "deniedDomains": []}
        settings.write_text(json.dumps({"network": network, "filesystem": filesystem}))
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": 59999, "group": 59999, "extra_groups": []}
            os.chown(folder, 59999, 59999)
        path = "/usr/local/bin:/usr/bin:/bin"
        command = [NODE / "node", "--no-warnings", CLI, "--settings", settings, "-c", "true"]
        env = {"PATH": path, "HOME": folder, "TMPDIR": folder}
        bare = _least_ms(
            lambda: subprocess.run(command, cwd=folder, env=env, check=True, **user), 4 if quick else 12
        )
    return {"start_ms": bare, **_blocks(SubprocessExecutor(Path.cwd() / "plain"), quick)}
