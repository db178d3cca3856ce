"""Signals, sockets, JSON and queues as the interpreter has them built in.

`signal`, `socket`, `json` and `collections` wrap these, and import `enum`, `selectors` and `re` for it: to import them
takes as long as an interpreter's whole start, and every session would pay it. An interpreter that has no such parts, or
other ones, has the modules themselves here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    import signal
    import socket
    from collections import deque
    from collections.abc import Callable
    from typing import Any
else:
    try:
        import _signal as signal
        import _socket as socket
        from _collections import deque
    except ImportError:
        import signal
        import socket
        from collections import deque

__all__ = ["accept", "deque", "from_json", "signal", "socket", "to_json"]

_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _ReadingRules:
    """What `json.JSONDecoder` has by default, for the scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = _CONSTANTS.__getitem__


def _built_in() -> tuple[Callable[[object], bytes], Callable[[bytes], Any]]:
    """Return `to_json` and `from_json`; raise `ImportError`, `TypeError` and the like where the parts are others."""
    import _json

    scan = _json.make_scanner(_ReadingRules())  # type: ignore[arg-type]  # as json gives itself
    escape = _json.encode_basestring_ascii

    def refuse(value: object) -> None:
        raise TypeError(f"a {type(value).__name__} is no JSON")

    encode = _json.make_encoder(None, refuse, escape, None, ": ", ", ", False, False, True)

    def to_json(value: object) -> bytes:
        return "".join(encode(value, 0)).encode()

    def from_json(data: bytes) -> Any:
        text = data.decode("utf-8", "surrogatepass").strip(" \t\r\n")
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("no JSON") from None
        if end != len(text):
            raise ValueError("something behind JSON")
        return value

    sample = {"a": [1, 1.5, None, True, "\u00e9\ud800"]}
    if from_json(to_json(sample)) != sample:
        raise TypeError("it is not what it was")
    return to_json, from_json


def _of_json() -> tuple[Callable[[object], bytes], Callable[[bytes], Any]]:
    import json

    return (lambda value: json.dumps(value).encode()), json.loads


def accept(listener: socket.socket) -> socket.socket:
    """Return the next connection. Raises `OSError`."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # what `accept` is made of
    return socket.socket(fileno=descriptor)


try:
    to_json, from_json = _built_in()
except (ImportError, AttributeError, TypeError, ValueError):
    to_json, from_json = _of_json()
