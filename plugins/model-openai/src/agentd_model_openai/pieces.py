"""Text that comes in pieces: valid Unicode, however a provider cuts it."""

from __future__ import annotations

from agentd.text import valid_text

__all__ = ["TextJoiner"]


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
