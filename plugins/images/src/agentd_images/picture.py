"""A picture as the model gets it, and its line of text."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import Any, Final

import attrs
from agentd_history.pictures import FOLDER

__all__ = ["PictureError", "ShownPicture", "data_part", "file_name", "plain_name"]

ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
MIME_TYPES: Final = {ending: mime_type for mime_type, ending in ENDINGS.items()}
_NAME_CHARS: Final = 80


class PictureError(ValueError):
    """Something is not a picture that can be shown. The message says what, and what is allowed."""


def plain_name(name: object) -> str:
    """Return a name that fits into a line: without control characters and brackets, at most 80 characters."""
    text = "".join(c for c in str(name) if c.isprintable() and c not in "[];").strip()
    return text[-_NAME_CHARS:] or "picture"


def file_name(data: bytes, mime_type: str) -> str:
    """Return the name of the file in which a picture is kept: its content's hash."""
    return f"{hashlib.sha256(data).hexdigest()[:32]}.{ENDINGS[mime_type]}"


class NamedUrl(str):
    """The address of a picture that has a name, which the form of chat completions has no place for."""

    name = ""


def data_part(data: bytes, mime_type: str, name: str = "") -> dict[str, Any]:
    """Return a picture as a part of a message, in the form of chat completions."""
    url = NamedUrl(f"data:{mime_type};base64,{base64.b64encode(data).decode('ascii')}")
    url.name = name
    return {"type": "image_url", "image_url": {"url": url}}


@attrs.frozen(slots=False)
class ShownPicture:
    """A picture that was checked and scaled. `name` is what a person calls it; `width` and `height` are in pixels."""

    name: str
    data: bytes = attrs.field(repr=False)
    mime_type: str
    width: int
    height: int

    @cached_property
    def file(self) -> str:
        """The name of its file."""
        return file_name(self.data, self.mime_type)

    @property
    def path(self) -> str:
        """Where it is kept, in the workspace."""
        return f"{FOLDER}/{self.file}"

    def line(self, what: str = "picture") -> str:
        """Return the text that stands for it; see `agentd_history.pictures`."""
        size = f"{max(1, len(self.data) // 1024)} KiB"
        return f"{what}: {self.name}, {self.mime_type}, {self.width} x {self.height} pixels, {size}; file {self.path}"
