"""Files of any size, into an executor's place and out of it, with the rights of its code."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Final

import anyio
from agentd.errors import ExecutorError
from agentd.types import Action, ActionResult, Limits, PythonAction

from agentd_runner.host.limits import MIB

__all__ = ["FileTransfer"]

PART_BYTES: Final = 4 * 1024 * 1024

# `os` and `sys` are imported already: a module of the workspace cannot take their place.
_APPEND: Final = """\
import os, sys
path, part = {path!r}, {part!r}
os.makedirs(os.path.dirname(part) or ".", exist_ok=True)
with open(part, "ab") as file:
    file.write(sys.stdin.buffer.read())
if {is_last}:
    if os.path.exists(path):
        os.chmod(part, os.stat(path).st_mode & 0o7777)
    os.replace(part, path)
"""
_READ: Final = """\
import sys
with open({path!r}, "rb") as file:
    file.seek({at})
    sys.stdout.buffer.write(file.read({size}))
"""
_REMOVE: Final = "import os\nos.unlink({part!r})\n"


class FileTransfer(ABC):
    """Part of `RunnerExecutor`. A path is absolute, or relative to the workspace; code must have the right to it."""

    limits: Limits

    @abstractmethod
    async def run(self, action: Action) -> ActionResult: ...

    async def upload(
        self, path: str, data: bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes]
    ) -> None:
        """Write a file, whole or not at all, with the folders that it is in. A file that is there keeps its mode.

        :param data: the content, or its parts.
        :raises ExecutorError: if it cannot be written; and what `run` raises.
        """
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            async with aclosing(_parts(data)) as parts:
                async for chunk in parts:
                    await self._do(path, _APPEND.format(path=path, part=part, is_last=False), chunk)
            await self._do(path, _APPEND.format(path=path, part=part, is_last=True))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.run(PythonAction(code=_REMOVE.format(part=part), state="fresh", cwd="."))
            raise

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Read a file in parts: `b"".join([part async for part in executor.download(path)])`.

        :raises ExecutorError: if it cannot be read; and what `run` raises.
        """
        at, size = 0, min(PART_BYTES, self.limits.output_bytes, self.limits.host_mib * MIB // 2)
        while part := await self._do(path, _READ.format(path=path, at=at, size=size)):
            yield part
            at += len(part)

    async def _do(self, path: str, code: str, stdin: bytes = b"") -> bytes:
        result = await self.run(PythonAction(code=code, stdin=stdin, state="fresh", cwd="."))
        if result.exit_code:
            reason = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or result.message
            raise ExecutorError(f"the file {path!r} cannot be read or written: {reason}")
        if result.dropped_bytes:
            raise ExecutorError(
                f"the file {path!r} cannot be read: output of other blocks has taken the room for it (`host_mib`); "
                "try again when they have ended"
            )
        return result.stdout


async def _parts(
    data: bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes],
) -> AsyncGenerator[bytes, None]:
    """Yield the content in parts that fit into an action."""
    if isinstance(data, AsyncIterable):
        async for chunk in data:
            for start in range(0, len(chunk), PART_BYTES):
                yield chunk[start : start + PART_BYTES]
        return
    if isinstance(data, str):
        raise TypeError("data: must be bytes or parts of bytes, got str; encode it")
    for chunk in [bytes(data)] if isinstance(data, bytes | bytearray | memoryview) else data:
        for start in range(0, len(chunk), PART_BYTES):
            yield chunk[start : start + PART_BYTES]
