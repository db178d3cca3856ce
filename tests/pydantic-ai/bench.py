"""What a command costs through agentd-pydantic-ai: `.cache/envs/pydantic-ai/bin/python tests/pydantic-ai/bench.py`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
from agentd.registry import Registry
from agentd.types import BashAction, PythonAction
from agentd_pydantic_ai import AgentdWorkspaces
from agentd_pydantic_ai.place import CodePlace
from pydantic_ai import FunctionToolset, RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage
from pydantic_ai.workspaces import LocalWorkspaceBackend

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from adapter_bench import compare

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the same python3 for all

PYTHON = ["python3", "-c", "print('hi')"]


async def main(name: str) -> None:
    executor = Registry().create_executor(name, tempfile.mkdtemp())
    local = LocalWorkspaceBackend(tempfile.mkdtemp())
    place = CodePlace()
    place.open(name, None, None)
    ctx = RunContext(deps=None, model=TestModel(), usage=RunUsage())
    async with AgentdWorkspaces(name) as workspaces:
        ours = workspaces.backend()
        await compare(
            f"bash, {name}",
            {
                "executor, a bash block": partial(executor.run, BashAction(command="echo hi")),
                "agentd-pydantic-ai": partial(ours.run, "echo hi", shell=True),
                "Pydantic AI's local workspace": partial(local.run, "echo hi", shell=True),
            },
        )
        await compare(
            f"Python, {name}",
            {
                "executor, a Python block": partial(executor.run, PythonAction(code="print('hi')")),
                "run_code": partial(place.run, PythonAction(code="print('hi')"), FunctionToolset(), {}, ctx),
                "agentd-pydantic-ai, python3 -c": partial(ours.run, PYTHON),
                "Pydantic AI's local workspace, python3 -c": partial(local.run, PYTHON),
            },
        )
    await place.aclose()
    await executor.aclose()


anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "native")
