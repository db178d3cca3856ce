"""Records as JSON that every reader takes, whatever is in them."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from agentd.text import valid_text

__all__ = ["strict_json"]

_LONGEST_INT: Final = 13_000  # bits: Python writes no integer of more than 4,300 digits

_encode: Final = json.JSONEncoder(ensure_ascii=False, default=str, allow_nan=False).encode
"""`json.dumps` makes another encoder for each record."""


def strict_json(value: Any) -> str:
    """Return data as JSON that every reader takes: NaN, infinities and numbers of more than 4,000 digits become null.

    Other objects become their `str()`; what contains itself or is nested too deep does, too.
    """
    try:
        text = _encode(value)
    except (ValueError, TypeError, RecursionError):
        text = _encode(_plain(value, 100))
    return valid_text(text)


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list | tuple) and not depth:
        return "..."
    if isinstance(value, dict):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    is_huge = isinstance(value, int) and value.bit_length() > _LONGEST_INT
    return None if is_huge or (isinstance(value, float) and not math.isfinite(value)) else value
