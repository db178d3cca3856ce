"""Pictures on a terminal: drawn by one that can (kitty's protocol, or iTerm2's), as a link to the file elsewhere."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from agentd.events import Picture

from agentd_sink_console.neutral import one_line

__all__ = ["PictureProtocol", "protocol_of", "shown_on_terminal", "summary_of"]

PictureProtocol = Literal["kitty", "iterm2", ""]

_ITERM2: Final = frozenset({"iTerm.app", "WezTerm", "mintty"})
_KITTY: Final = frozenset({"ghostty", "kitty"})
_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_COLUMNS: Final = 60
_PIXELS_A_COLUMN: Final = 10
_CHUNK: Final = 4096  # kitty's protocol takes no longer pieces


def protocol_of(environ: Mapping[str, str]) -> PictureProtocol:
    """Return how the terminal takes pictures, by its variables; nothing where it does not, or tmux is between."""
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    program = environ.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") == "xterm-kitty" or program in _KITTY:
        return "kitty"
    return "iterm2" if program in _ITERM2 or environ.get("LC_TERMINAL") == "iTerm2" else ""


def summary_of(event: Picture) -> str:
    """Return a line about a picture."""
    return f"{one_line(event.name)} · {event.width} x {event.height} · {max(1, event.size_bytes // 1024)} KiB"


def shown_on_terminal(event: Picture, columns: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return what makes a terminal show a picture, or a link to its file, with a newline; nothing without a file."""
    if not event.path:
        return ""
    protocol = protocol_of(environ)
    data = _content(event.path) if protocol else b""
    width = max(1, min(columns - 4, _MOST_COLUMNS, -(-event.width // _PIXELS_A_COLUMN)))
    if data and protocol == "iterm2":
        encoded = base64.b64encode(data).decode("ascii")
        return f"\x1b]1337;File=inline=1;size={len(data)};width={width};preserveAspectRatio=1:{encoded}\x07\n"
    if data and event.mime_type == "image/png":  # kitty's protocol takes no other format
        return _for_kitty(base64.b64encode(data).decode("ascii"), width) + "\n"
    path = one_line(event.path)
    uri = Path(event.path).as_uri() if os.path.isabs(event.path) else ""
    return f"    \x1b]8;;{uri}\x1b\\{path}\x1b]8;;\x1b\\\n" if uri else f"    {path}\n"


def _for_kitty(encoded: str, width: int) -> str:
    pieces = [encoded[at : at + _CHUNK] for at in range(0, len(encoded), _CHUNK)]
    more = [int(number < len(pieces) - 1) for number in range(len(pieces))]
    head = f"a=T,f=100,q=2,c={width},"  # q=2: the terminal answers nothing, which would be read as typed
    return "".join(
        f"\x1b_G{head if number == 0 else ''}m={more[number]};{piece}\x1b\\"
        for number, piece in enumerate(pieces)
    )


def _content(path: str) -> bytes:
    """Return the picture, if it is still what it was: its file's name is its content's hash, and code may have put
    anything else in its place."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return b""
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return b""
    same = hashlib.sha256(data).hexdigest().startswith(Path(path).stem)
    return data if same and len(data) <= _MOST_BYTES and len(Path(path).stem) >= 32 else b""
