"""Text from outside (a model, a server, code, a file): valid Unicode from the border on. And data as strict JSON."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["TextJoiner", "strict_json", "valid_data", "valid_text"]

_LONGEST_INT = 13_000  # bits: Python writes no integer of more than 4,300 digits


def valid_text(text: str) -> str:
    """Return text that every encoding can hold: pairs of surrogates become their character, single ones U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def valid_data(value: Any) -> Any:
    """The same for all texts, keys too, in lists and mappings of plain data; what is none of these stays as it is."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, list | tuple):
        return [valid_data(item) for item in value]
    if isinstance(value, dict):
        return {valid_data(key): valid_data(item) for key, item in value.items()}
    return value


class TextJoiner:
    """Makes text valid that comes in pieces, one of which may end in the midst of a character."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str) -> str:
        """Return what is certain of the text up to here."""
        if text and self._half:
            text, self._half = self._half + text, ""
        if text.isascii():
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return valid_text(text)

    def close(self) -> str:
        """Return what stands for half a character whose other half never came."""
        half, self._half = self._half, ""
        return valid_text(half)


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
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        return None
    if not isinstance(value, dict | list | tuple):
        return value
    if depth == 0:
        return "..."
    if isinstance(value, dict):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    return [_plain(item, depth - 1) for item in value]
