"""Text from outside (a model, a server, code, a file): valid Unicode from the border on. And data as strict JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["strict_json", "valid_data", "valid_text"]

_HALF = re.compile("[\ud800-\udfff]")
_LONGEST_INT = 13_000  # bits: Python writes no integer of more than 4,300 digits


def valid_text(text: str) -> str:
    """Return text that every encoding can hold: pairs of surrogates become their character, single ones U+FFFD."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def valid_data(value: Any) -> Any:
    """The same for all texts, keys too, in lists and mappings of plain data; what is none of these stays as it is."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, list | tuple):
        return [valid_data(item) for item in value]
    if isinstance(value, dict):
        return {valid_data(key): valid_data(item) for key, item in value.items()}
    return value


def strict_json(value: Any) -> str:
    """Return data as JSON that every reader takes: NaN, infinities and numbers of more than 4,000 digits become null.

    Other objects become their `str()`; what contains itself or is nested too deep does, too.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        text = json.dumps(_plain(value, 100), ensure_ascii=False, default=str, allow_nan=False)
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
