"""The tool that the benchmarks call, bound to an executor in the way of each version."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

__all__ = ["our_tools", "their_tools"]


@contextlib.asynccontextmanager
async def our_tools(executor: Any) -> AsyncIterator[None]:
    """Render the bindings of `echo` into the workspace and attach them, as a session does."""
    from agentd.registry import Registry
    from agentd_tools import ToolSet, tool

    @tool
    def echo(x: int) -> int:
        """Give back what it got.

        x: anything
        """
        return x

    @tool
    def same(x: str) -> str:
        """Give back a text."""
        return x

    tools = ToolSet([echo, same])
    await tools.start()
    skills = executor.workspace_dir / "skills"
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), skills)
    executor.attach(tools=tools, layout=renderer.layout(skills))
    try:
        yield
    finally:
        await tools.aclose()


def their_tools(executor: Any = None) -> tuple[Any, Path]:
    """Return an executor of 0.8.6 and its skills folder, with the bridge started, as its handlers do.

    Without one, its subprocess executor. One with a `bridge_socket_path` gets the bridge at that Unix socket.
    """
    import asyncio

    from agentd import tool
    from agentd.ptc import SubprocessExecutor, set_bridge_env, setup_skills_directory  # type: ignore[import-not-found]

    @tool
    def echo(x: int) -> int:
        """Give back what it got.

        x: anything
        """
        return x

    @tool
    def same(x: str) -> str:
        """Give back a text.

        x: anything
        """
        return x

    executor = executor or SubprocessExecutor()
    skills = Path.cwd() / "skills"
    socket = getattr(executor, "bridge_socket_path", None)
    _, address, _ = asyncio.run(
        setup_skills_directory(skills, None, {}, bridge_socket_path=socket, bridge_cache={})
    )
    set_bridge_env(address)
    return executor, skills
