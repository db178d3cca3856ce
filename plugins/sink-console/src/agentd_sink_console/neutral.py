"""Text that is safe to print: what running code wrote must not steer the person's terminal."""

from __future__ import annotations

import re

__all__ = ["neutral"]

# CSI, OSC and the other strings that a terminal swallows, each only when it is complete; a sequence that
# is not loses its ESC below and shows as harmless text.
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b\n]*\x1b\\"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
# C0 without tab and newline, DEL, C1; the controls that reorder text (they make code read as what it is
# not); lone surrogates, which no terminal encoding can carry.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def neutral(text: str) -> str:
    """Return `text` without escape sequences and control characters; only newline and tab stay.

    A carriage return before a newline goes; one inside a line hides nothing: it becomes a newline.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", text)
