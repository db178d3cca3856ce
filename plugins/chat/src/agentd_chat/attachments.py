"""Attachments: files that a person puts into a message, by `@path` or `/attach`."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest
from agentd_cli.prompt.lines import LineError

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_TEXT_BYTES",
    "AttachedFile",
    "image_part",
    "named_files",
    "picture_files",
    "read_attachment",
    "task_of",
    "unnamed",
    "unquoted",
]

MAX_TEXT_BYTES: Final = 64 * 1024
"""Of one file; the rest is left out, and the model is told so."""
MAX_IMAGE_BYTES: Final = 8 * 1024 * 1024

_NAMED: Final = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')
_TRAILING: Final = ".,;:!?)]}'\""
_MAGIC: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


@attrs.frozen(kw_only=True)
class AttachedFile:
    """A file of a message: its text, or a part of a message that is an image."""

    name: str
    text: str = ""
    part: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return "an image" if self.part else f"{len(self.text):,} characters"


def image_part(data: bytes, mime_type: str) -> dict[str, Any]:
    """Return the part of a task that shows an image, in the form of chat completions."""
    url = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def named_files(text: str, folder: Path) -> list[str]:
    """Return the paths that a message names with `@` and that are files; whatever else begins so is only text."""
    found = []
    for match in _NAMED.finditer(text):
        name = match[1] or match[2]
        names = [name] if match[1] else [name, name.rstrip(_TRAILING)]
        found += [one for one in names if one and _is_file(folder, one)][:1]
    return list(dict.fromkeys(found))


def unnamed(text: str, folder: Path) -> list[str]:
    """Return what looks like the path of a file behind `@`, and is none."""
    found = []
    for match in _NAMED.finditer(text):
        name = match[1] or match[2].rstrip(_TRAILING)
        if (match[1] or re.search(r"[./]\w", name)) and not named_files(match[0], folder):
            found.append(name)
    return list(dict.fromkeys(found))


def unquoted(name: str) -> str:
    """Return a path as it was meant: `@PATH` and `"PATH"` are written in messages."""
    name = name.removeprefix("@")
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == '"' else name


def _is_file(folder: Path, name: str) -> bool:
    try:
        return _path(folder, name).is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _path(folder: Path, name: str) -> Path:
    return folder / Path(name).expanduser()


def read_attachment(name: str, folder: Path) -> AttachedFile:
    """Read a file, relative to `folder`. Raises `LineError` that says why not."""
    try:
        path = _path(folder, name)
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LineError(f"{name!r} is no file that can be attached")
            data = file.read(MAX_IMAGE_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, LineError):
            raise
        why = getattr(error, "strerror", None) or str(error)
        others = [other for other in _names(folder) if other != name]
        raise LineError(f"{name!r} cannot be attached: {why}{suggest(name, others)}") from None
    if mime_type := _image_type(data):
        if len(data) > MAX_IMAGE_BYTES:
            raise LineError(f"{name!r} is larger than the {MAX_IMAGE_BYTES >> 20} MiB that an image may have")
        return AttachedFile(name=name, part=image_part(data, mime_type))
    if b"\0" in data[:8192]:
        raise LineError(
            f"{name!r} is neither text nor an image (PNG, JPEG, GIF, WebP); name its path instead"
        )
    text = data[:MAX_TEXT_BYTES].decode("utf-8", "replace")
    if size > MAX_TEXT_BYTES:
        text += f"\n[... {size - MAX_TEXT_BYTES:,} more bytes of this file are left out ...]"
    return AttachedFile(name=name, text=text)


def picture_files(paths: Iterable[Path]) -> tuple[AttachedFile, ...]:
    """Read the pictures that come with the first message, relative to the current folder. Raises `ConfigError`."""
    found = []
    for path in paths:
        try:
            one = read_attachment(str(path), Path())
        except LineError as error:
            raise ConfigError(f"--image: {error}") from None
        if one.part is None:
            raise ConfigError(f"--image: {str(path)!r} is no image (PNG, JPEG, GIF, WebP)")
        found.append(one)
    return tuple(found)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)[:1000]
    except OSError:
        return []


def _image_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC.items() if data.startswith(magic)), "")


def task_of(text: str, attached: Sequence[AttachedFile]) -> str | list[dict[str, Any]]:
    """Return what the session is told: text, or parts if there is an image."""
    told = "\n\n".join([text, *_blocks(attached)])
    images = [one.part for one in attached if one.part is not None]
    return [{"type": "text", "text": told}, *images] if images else told


def _blocks(attached: Iterable[AttachedFile]) -> Iterable[str]:
    for one in attached:
        if one.part is not None:
            yield f"[the image {one.name} is attached]"
            continue
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", one.text)), default=0))
        body = one.text if one.text.endswith("\n") else f"{one.text}\n"
        yield f"The file {one.name}:\n\n{fence}\n{body}{fence}"
