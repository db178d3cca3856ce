"""Shows the model a picture, from code in the sandbox. Standard library only; made for Python 3.8 and later.

Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import os

try:  # the tools' own, also where this is agentd's: code catches the errors of `lib.tools`
    from lib._bridge import ToolError, UnknownToolError, call  # type: ignore[import-not-found]
except ImportError:
    from .bridge import ToolError, UnknownToolError, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["show"]

MAX_BYTES = 40 * 1024 * 1024  # what fits into a call, as base64; the session takes less
_DRAWN_PX = 2048


def show(picture: Any, name: str | None = None) -> None:
    """Show the model a picture, when this block is over.

    :param picture: a path, the bytes of a PNG, JPEG, GIF or WebP file, a Pillow image, a matplotlib figure, or
        anything that shows itself as PNG in a notebook.
    :param name: what to call it; default is the file's name.
    :raises ValueError: for a file that is too large.
    :raises TypeError: for something that is no picture.
    :raises ToolError: for a picture that cannot be shown, with the reason.
    """
    import base64

    data, own_name = _bytes_of(picture)
    if len(data) > MAX_BYTES:
        raise _too_large(own_name, len(data))
    try:
        call("agentd_show", {"data": base64.b64encode(data).decode("ascii"), "name": name or own_name})
    except UnknownToolError:
        raise ToolError(
            "show(): the model of this session is not shown pictures; `agentd run --images` or a "
            "session with images=True shows them"
        ) from None


def _too_large(name: str, size: int) -> ValueError:
    return ValueError(
        f"show(): {name} has {size:,} bytes; scale it down first: at most {MAX_BYTES:,} can be sent"
    )


def _bytes_of(picture: Any) -> tuple[bytes, str]:
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture), "picture"
    if isinstance(picture, (str, os.PathLike)):
        name = os.path.basename(os.fspath(picture))
        size = os.path.getsize(picture)  # first: it may be larger than the memory
        if size > MAX_BYTES:
            raise _too_large(name, size)
        with open(picture, "rb") as file:
            return file.read(MAX_BYTES + 1), name
    return _drawn(picture), "picture"


def _drawn(picture: Any) -> bytes:
    """Return a picture of a library's as PNG."""
    import io

    file = io.BytesIO()
    if hasattr(picture, "savefig"):  # a figure of matplotlib, or pyplot
        picture.savefig(file, format="png")
    elif hasattr(getattr(picture, "figure", None), "savefig"):  # what is drawn in one
        picture.figure.savefig(file, format="png")
    elif hasattr(picture, "thumbnail") and hasattr(picture, "mode"):  # Pillow's
        if max(picture.size) > _DRAWN_PX:
            picture = picture.copy()
            picture.thumbnail((_DRAWN_PX, _DRAWN_PX))
        if picture.mode not in ("1", "L", "LA", "I", "P", "RGB", "RGBA", "I;16"):
            picture = picture.convert("RGB")  # PNG has no such colours
        picture.save(file, "PNG")
    elif hasattr(picture, "_repr_png_"):
        return bytes(picture._repr_png_() or b"")
    else:
        raise TypeError(
            f"show(): {type(picture).__name__} is no picture: give a path, the bytes of a PNG, JPEG, GIF or WebP file, "
            "a Pillow image or a matplotlib figure"
        )
    return file.getvalue()
