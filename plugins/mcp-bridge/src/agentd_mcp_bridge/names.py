"""Short names for servers that were given none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final
from urllib.parse import urlsplit

__all__ = ["command_name", "url_name"]

_LAUNCHERS: Final = frozenset({"npx", "bunx", "uvx", "pipx", "uv", "node", "bun", "deno", "python", "docker"})


def url_name(url: str) -> str:
    """Return a short name for a URL: its host."""
    parts = urlsplit(url)
    host = (parts.hostname or "mcp").removeprefix("www.").removeprefix("mcp.")
    return f"{host}-{parts.port}" if parts.port and host in ("localhost", "127.0.0.1", "::1") else host


def command_name(command: str, args: Sequence[str]) -> str:
    """Return a short name for a command: the package or script that a launcher is given, else the program."""
    program = PurePath(command).name.removesuffix(".exe")
    launcher = program.rstrip("0123456789.")
    if launcher in _LAUNCHERS:
        words = [a for a in args if not a.startswith("-") and a not in ("run", "exec", "tool", "x")]
        if words:
            program = PurePath(words[-1] if launcher == "docker" else words[0]).name
    name, _, version = program.rpartition("@")
    program = name if name and version else program
    return program.removesuffix(".py").removesuffix(".js").removesuffix(".mjs").removesuffix(".ts") or "mcp"
