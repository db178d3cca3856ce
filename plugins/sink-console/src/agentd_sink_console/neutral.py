"""Text that is safe to print and to log: what others wrote must not steer the person's terminal, nor forge a line.

Others are the model, running code, servers, providers, and whoever wrote a configuration or named a file.
"""

from __future__ import annotations

import logging
import re
from typing import Any

__all__ = ["NeutralFormatter", "neutral", "one_line"]

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


def one_line(text: str) -> str:
    """Return any text as harmless words, a space apart."""
    return " ".join(neutral(text).split())


class NeutralFormatter(logging.Formatter):
    """Makes a line of a message whatever is in it; only a traceback has further lines, each indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(stack_info)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in neutral(text).splitlines())
