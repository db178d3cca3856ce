"""What a command costs through agentd-deepagents: `.cache/envs/deepagents/bin/python tests/deepagents/bench.py`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
from agentd.registry import Registry
from agentd.types import BashAction, PythonAction
from agentd_deepagents import AgentdSandbox
from deepagents.backends import LocalShellBackend

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from adapter_bench import compare

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the same python3 for all

PYTHON = "python3 -c \"print('hi')\""


async def main(name: str) -> None:
    executor = Registry().create_executor(name, tempfile.mkdtemp())
    local = LocalShellBackend(root_dir=tempfile.mkdtemp(), virtual_mode=False, inherit_env=True)
    with AgentdSandbox(name) as backend:
        blocks = {
            "bash": ("echo hi", BashAction(command="echo hi")),
            "Python": (PYTHON, PythonAction(code="print('hi')")),
        }
        for title, (command, action) in blocks.items():
            await compare(
                f"{title}, {name}",
                {
                    f"executor, a {title} block": partial(executor.run, action),
                    "agentd-deepagents": partial(backend.aexecute, command),
                    "deepagents' LocalShellBackend": partial(local.aexecute, command),
                },
            )
        await backend.aupload_files([(f"{backend.workspace}/f", b"x" * 1000)])
        Path(local.cwd, "f").write_bytes(b"x" * 1000)
        await compare(
            f"files, {name}",
            {
                "agentd-deepagents, read": partial(backend.aread, f"{backend.workspace}/f"),
                "agentd-deepagents, download": partial(backend.adownload_files, [f"{backend.workspace}/f"]),
            },
        )
    await executor.aclose()


anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "native")
