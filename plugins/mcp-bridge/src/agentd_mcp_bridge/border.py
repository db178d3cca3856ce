"""Where a server's lines come in: whatever Python's own JSON reader takes is read, as valid Unicode."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from agentd.text import valid_data

__all__ = ["loose_message", "valid_line"]

# An escaped backslash; a pair of surrogates, which is a character; and a single one.
_ESCAPES: Final = re.compile(
    rb"\\\\|(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def valid_line(line: bytes | bytearray) -> bytes | bytearray:
    """Replace what no JSON parser takes as text, by U+FFFD: bytes that are not UTF-8, escapes of half a character."""
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            line = line.decode("utf-8", "replace").encode()
    if b"\\ud" in line or b"\\uD" in line:
        line = _ESCAPES.sub(lambda m: m[0] if m[1] or m[0] == b"\\\\" else b"\\ufffd", line)
    return line


def loose_message(line: bytes | bytearray) -> dict[str, Any] | None:
    """Read a message that only Python takes for JSON (it holds NaN, say); None if it is none, or nested too deep."""
    try:
        message = json.loads(line)
        return valid_data(message) if isinstance(message, dict) else None
    except (ValueError, RecursionError):
        return None
