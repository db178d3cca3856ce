"""What a side of the comparison is: how it opens a session and runs code in it. Standard library only.

A side's module is imported in that side's environment alone; it imports its packages inside `prepare` and later, never
at its top, so that `packages`, `isolation` and the like can be read anywhere.
"""

from __future__ import annotations

import asyncio
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Box", "NotThere", "Said", "Side", "Turn"]


class NotThere(Exception):
    """The side has no way to do this; the text says why, in the words of the table's remarks."""


@dataclass
class Said:
    """What a block printed, and whether it ended without an error. `first_s` is when its first output came; not
    `whole` if it is known that something was cut out."""

    text: str
    ok: bool = True
    first_s: float | None = None
    whole: bool = True


@dataclass
class Turn:
    """What one run of a whole agent sent to its model."""

    requests: int
    sent_bytes: int


class Box(ABC):
    """An open session: where blocks run, one after the other."""

    @abstractmethod
    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """Run a block; `kept` in the session's lasting namespace, otherwise in a fresh one.

        :raises NotThere: if the side cannot do that.
        :raises TimeoutError: if the block was ended because of `timeout_s`.
        """

    async def bash(self, command: str, *, timeout_s: float | None = None) -> Said:
        """Run a shell command."""
        raise NotThere("it has no shell")

    @abstractmethod
    async def close(self) -> None:
        """End it, with all that it has started."""


class Side(ABC):
    """One program beside others.

    :cvar modules: what `import` rows import.
    :cvar packages: the distributions whose versions the table shows.
    :cvar requirements: what is installed for it into the environment `environment`, with the versions of
        `versions/ENVIRONMENT.txt`; without one it runs in the project's own.
    :cvar is_cpython: whether code runs in a real CPython.
    :cvar holds_by_kept: whether an open session holds nothing before a block in its kept namespace.
    :cvar fewer: how many sessions at most the row of many sessions opens, where 200 would not fit into the memory.
    """

    name: str
    title: str
    isolation: str
    language: str
    packages: Sequence[str]
    requirements: Sequence[str] = ()
    environment = ""
    modules: str
    is_cpython = True
    fewer = 200
    holds_by_kept = True

    async def prepare(self) -> None:  # noqa: B027
        """Import what a program of this side has imported by the time it opens its first session."""

    async def unprepare(self) -> None:  # noqa: B027
        """Give back what `prepare` took."""

    @abstractmethod
    async def open(self, folder: Path) -> Box:
        """Open a session whose code can call `echo(x)` and `same(x)`, if the side has tools."""

    # --- the code of rows, which a side changes where its code is written in another way

    call = "echo(x={x})"
    """A tool call as an expression."""

    head = ""
    """Lines before the first call."""

    def calls(self, count: int) -> str:
        """A block of `count` calls, one after the other."""
        return f"{self.head}for i in range({count}):\n    {self.call.format(x='i')}\n"

    def calls_at_once(self, each: int) -> str:
        """A block in which 8 workers make `each` calls."""
        return (
            f"{self.head}import threading\n\ndef work():\n    for i in range({each}):\n"
            f"        {self.call.format(x='i')}\n\n"
            "threads = [threading.Thread(target=work) for _ in range(8)]\n"
            "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\n"
        )

    def big_calls(self, count: int) -> str:
        """A block of `count` calls with 1 MB there and back."""
        same = self.call.replace("echo", "same").format(x="text")
        return (
            f"{self.head}text = 'x' * 1000000\nfor i in range({count}):\n    assert len({same}) == 1000000\n"
        )

    def mcp_calls(self, count: int) -> str:
        """A block of `count` calls of the MCP server's tool."""
        return f"{self.head}for i in range({count}):\n    {self.mcp_call}\n"

    mcp_call = ""

    def printing(self, megabytes: int) -> str:
        """A block that prints lines of 100 characters, this many MB of them."""
        return f"line = 'x' * 99\nfor i in range({megabytes * 10_000}):\n    print(line)\n"

    def looping(self, count: int) -> str:
        """A block that calculates."""
        return f"s = 0\nfor i in range({count}):\n    s += i * i % 7\n"

    empty = "pass"
    sleeping = "import time\ntime.sleep(0.1)\n"
    endless = "import subprocess\nsubprocess.Popen(['sleep', '347'])\nwhile True:\n    pass\n"
    standard_imports = "import json, re, pathlib, dataclasses, asyncio\n"
    numpy = "import numpy as np\nnp.arange(10).sum()\n"

    def shown(self, code: str) -> str:
        """The block that runs a snippet and shows what it left in `result`."""
        return f"{code}print(result)\n"

    # --- what only some have

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """Make an agent with a model that calls one tool through code (or as JSON) and then answers; return its run."""
        raise NotThere("it has no agent loop")

    async def open_with_mcp(self, folder: Path, argv: Sequence[str]) -> Box:
        """Open a session whose code can call the tool of an MCP server, which `argv` starts."""
        raise NotThere("its code calls no MCP server")


async def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run blocking calls at once, each in a thread."""
    return list(await asyncio.gather(*(asyncio.to_thread(call) for call in calls)))


def indented(code: str) -> str:
    """The code four columns to the right."""
    return textwrap.indent(code, "    ")
