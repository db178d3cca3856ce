"""Pictures in a task: `Image`, and the parts of a message in the forms that people know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError

from agentd_images.picture import PictureError, ShownPicture, data_part
from agentd_images.reading import MIB, read_picture
from agentd_images.settings import Images

__all__ = ["Image", "bytes_of", "task_parts"]

_DEFAULTS: Final = Images()


@attrs.frozen
class Image:
    """A picture for a task: `session.ask(["What is this?", Image("photo.jpg")])`.

    :param source: a path, the bytes of a file, or what Pillow and matplotlib make: a picture, a figure.
    :param name: what the model is told it is called; default is the file's name.
    """

    source: Any = attrs.field(repr=False)
    name: str | None = None

    def read(self, images: Images = _DEFAULTS) -> ShownPicture:
        """Return it, checked and scaled. Raises `ConfigError` for what is no picture that can be shown."""
        try:
            data, name = bytes_of(self.source, images.max_file_mib * MIB)
            return read_picture(data, self.name or name, images)
        except (PictureError, OSError) as error:
            raise ConfigError(f"task: a picture cannot be shown: {error}") from error


def bytes_of(source: Any, max_bytes: int) -> tuple[bytes, str]:
    """Return the bytes of a picture's file, and a name. Raises `PictureError`, and `OSError` for a path."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "picture"
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if not path.is_file():
            raise PictureError(f"{path}: there is no such file")
        if (size := path.stat().st_size) > max_bytes:
            raise PictureError(
                f"{path}: {size:,} bytes; a picture may have {max_bytes:,}: scale it down first"
            )
        return path.read_bytes(), path.name
    from agentd_tools.libraries import plain_value

    value = plain_value(source)
    if not isinstance(value, bytes):
        raise PictureError(
            f"{type(source).__name__} is no picture: give a path, bytes, a Pillow image or a matplotlib figure"
        )
    return bytes(value), "picture"


def task_parts(task: list[Any]) -> list[dict[str, Any]]:
    """Return a task's parts as chat completions have them, whatever mixture of forms they were given in.

    Takes texts, paths (`pathlib.Path`), `Image`, Pillow images and matplotlib figures; the parts `text`, `image_url`
    and `file` of chat completions; `input_text` and `input_image` of responses. Pictures are checked and scaled, but
    for those that come as parts.

    :raises ConfigError: for a picture that cannot be shown. Other parts are left as they are.
    """
    return [_part(part) for part in task]


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict):
        return _of_responses(part)
    if isinstance(part, Image):
        return _shown(part.read())
    if isinstance(part, os.PathLike) or type(part).__module__.startswith(("PIL.", "matplotlib.")):
        return _shown(Image(part).read())
    return part


def _shown(picture: ShownPicture) -> dict[str, Any]:
    return data_part(picture.data, picture.mime_type, picture.name)


def _of_responses(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "input_text" and "text" in part:
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        if isinstance(part.get("detail"), str):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    return part
