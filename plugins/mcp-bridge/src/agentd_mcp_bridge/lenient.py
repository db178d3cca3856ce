"""JSON as servers write it, where a strict reader refuses a line.

Servers send `NaN` and `Infinity`, halves of surrogate pairs, and bytes that are no UTF-8. Python reads the first;
what is no Unicode becomes U+FFFD here, so that everything behind this border is valid text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["read_json", "request_id"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ID: Final = re.compile(rb'"id"\s*:\s*(?:"([^"\\]{1,100})"|(\d{1,15}))')


def read_json(line: bytes | bytearray) -> Any:
    """Return the value of a line.

    :raises ValueError: if it is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"))
        return _valid(value) if re.search(rb"\\u[dD][89a-fA-F]", line) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def request_id(line: bytes | bytearray) -> str | int | None:
    """Return the id that a line which cannot be read seems to answer."""
    found = _ID.search(line)
    if found is None:
        return None
    return found[1].decode("utf-8", "replace") if found[1] is not None else int(found[2])


def _valid(value: Any) -> Any:
    """Return the value with U+FFFD for each half of a surrogate pair; whole pairs are one character by now."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_valid(item) for item in value]
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return value
