"""JSON as servers write it, where a strict reader refuses a line.

Servers send `NaN` and `Infinity`, halves of surrogate pairs, and bytes that are no UTF-8. Python reads the first;
what is no Unicode becomes U+FFFD here, so that everything behind this border is valid text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from agentd.text import valid_data

__all__ = ["read_json", "request_id", "valid_line"]

# An escaped backslash; a pair of surrogates, which is a character; and a single one.
_ESCAPES: Final = re.compile(
    rb"\\\\|(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_ID: Final = re.compile(rb'"id"\s*:\s*(?:"([^"\\]{1,100})"|(\d{1,15}))')


def read_json(line: bytes | bytearray) -> Any:
    """Return the value of a line.

    :raises ValueError: if it is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"))
        return valid_data(value) if re.search(rb"\\u[dD][89a-fA-F]", line) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def request_id(line: bytes | bytearray) -> str | int | None:
    """Return the id that a line which cannot be read seems to answer."""
    found = _ID.search(line)
    if found is None:
        return None
    return found[1].decode("utf-8", "replace") if found[1] is not None else int(found[2])


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
