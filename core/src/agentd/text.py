"""Text from outside (a model, a server, code, a file): valid Unicode from the border on."""

from __future__ import annotations

from typing import Any

__all__ = ["valid_data", "valid_text"]


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
