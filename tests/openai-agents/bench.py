"""What a command costs through agentd-openai-agents: `PYTHON tests/openai-agents/bench.py [EXECUTOR]`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
from agentd.registry import Registry
from agentd.types import BashAction, PythonAction
from agentd_openai_agents import AgentdSandboxClient
from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from adapter_bench import compare

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the same python3 for all

PYTHON = "python3 -c \"print('hi')\""


async def main(name: str) -> None:
    executor = Registry().create_executor(name, tempfile.mkdtemp())
    clients = {
        "agentd-openai-agents": AgentdSandboxClient(name),
        "the SDK's local sandbox": UnixLocalSandboxClient(),
    }
    sessions = {title: await client.create() for title, client in clients.items()}
    for session in sessions.values():
        await session.start()
    blocks = {
        "bash": ("echo hi", BashAction(command="echo hi")),
        "Python": (PYTHON, PythonAction(code="print('hi')")),
    }
    inner = sessions["agentd-openai-agents"]._inner
    for title, (command, action) in blocks.items():
        ways = {
            f"executor, a {title} block": partial(executor.run, action),
            "agentd-openai-agents, without the SDK": partial(inner._exec_internal, "bash", "-c", command),
        }
        ways |= {who: partial(session.exec, command) for who, session in sessions.items()}
        await compare(f"{title}, {name}", ways)
    for session, client in zip(sessions.values(), clients.values(), strict=True):
        await session.aclose()
        await client.delete(session)
    await executor.aclose()


anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "native")
