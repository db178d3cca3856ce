"""A Jupyter kernel: ipykernel, driven by jupyter_client's asynchronous manager and client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rivals.side import Box, NotThere, Said, Side, Turn

__all__ = ["SIDES"]


class KernelBox(Box):
    """A kernel and its client."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager = manager
        self._client = client

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """Execute it in the kernel's namespace; after a time-out, interrupt the kernel."""
        if not kept:
            raise NotThere("a kernel has one namespace: a fresh one is a new kernel")
        begin = time.perf_counter()
        first: list[float] = []
        parts: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                if not first:
                    first.append(time.perf_counter() - begin)
                parts.append(content["text"])
            elif message["msg_type"] == "error":
                parts.append(f"\n{content['ename']}: {content['evalue']}")

        try:
            reply = await self._client.execute_interactive(code, output_hook=hook, timeout=timeout_s)
        except TimeoutError:
            await self._manager.interrupt_kernel()
            raise
        text = "".join(parts)
        return Said(text, reply["content"]["status"] == "ok", first[0] if first else None)

    async def bash(self, command: str, *, timeout_s: float | None = None) -> Said:
        """The magic `%%bash`."""
        return await self.python(f"%%bash\n{command}", kept=True, timeout_s=timeout_s)

    async def close(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)


class Jupyter(Side):
    """Kernels."""

    name = "jupyter"
    title = "Jupyter kernel"
    isolation = "none: a child process"
    language = "CPython (IPython)"
    packages = ("ipykernel", "jupyter-client")
    environment = "jupyter"
    requirements = ("jupyter-client", "ipykernel", "numpy")
    modules = "jupyter_client"
    fewer = 50

    async def prepare(self) -> None:
        """Import it."""
        import jupyter_client.manager

        del jupyter_client

    async def open(self, folder: Path) -> KernelBox:
        """Start a kernel and wait until it answers."""
        from jupyter_client.manager import AsyncKernelManager

        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel(cwd=str(folder))
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        return KernelBox(manager, client)

    def calls(self, count: int) -> str:
        """Code has no tools."""
        raise NotThere("code calls no tools")

    calls_at_once = big_calls = calls

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """No agent."""
        raise NotThere("it has no agent loop")


SIDES = (Jupyter(),)
