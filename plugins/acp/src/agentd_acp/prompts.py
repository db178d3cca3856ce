"""Prompts: the content blocks of a message, as the model is told them and as the conversation keeps them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import attrs
from acp.schema import (
    BlobResourceContents,
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
)
from agentd.errors import ConfigError
from agentd_chat.attachments import MAX_IMAGE_BYTES, MAX_TEXT_BYTES, AttachedFile, task_of

__all__ = ["EditorPrompt", "has_images", "read_prompt"]

IMAGES: Final = "agentd-images"


def has_images() -> bool:
    """Tell whether pictures can be taken: the distribution that checks and scales them is there."""
    return find_spec("agentd_images") is not None


@attrs.frozen(kw_only=True)
class EditorPrompt:
    """A message: `told` is what the model reads, text or parts; `text` what the person has written."""

    told: str | list[dict[str, Any]]
    text: str


def read_prompt(blocks: Sequence[Any], cwd: Path) -> EditorPrompt:
    """Read the content blocks of a prompt.

    :param cwd: the session's folder; what lies in it is named by its path from there.
    :raises ConfigError: for a block of a kind that was not offered, and for a picture that cannot be read.
    """
    words: list[str] = []
    attached: list[AttachedFile] = []
    for block in blocks:
        match block:
            case TextContentBlock():
                words.append(block.text)
            case ResourceContentBlock():
                words.append(f"@{_name(block.uri, cwd)}")
            case EmbeddedResourceContentBlock():
                one = _resource(block.resource, cwd)
                words.append(f"@{one.name}")
                attached.append(one)
            case ImageContentBlock():
                attached.append(_image(block.data, block.uri or "image", cwd))
            case _:
                raise ConfigError(
                    f"prompt: content of the type {getattr(block, 'type', '?')!r} cannot be taken; there are text, "
                    "image, resource and resource_link"
                )
    text = _joined(words).strip()
    if not text and not attached:
        raise ConfigError("prompt: is empty")
    return EditorPrompt(told=task_of(text, attached), text=text or "[image]")


def _joined(words: Sequence[str]) -> str:
    """Put pieces of a sentence together: editors cut it where something is mentioned."""
    told = ""
    for word in words:
        told += word if not told or told[-1].isspace() or word[:1].isspace() else f" {word}"
    return told


def _name(uri: str, cwd: Path) -> str:
    """Return how a resource is called: a file by its path, from the session's folder on if it lies there."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # it need not be one that Python can read
        return uri
    if parts.scheme != "file":
        return uri
    path = Path(unquote(parts.path))
    lines = f"#{parts.fragment}" if parts.fragment else ""
    return f"{path.relative_to(cwd) if path.is_relative_to(cwd) else path}{lines}"


def _resource(given: Any, cwd: Path) -> AttachedFile:
    name = _name(given.uri, cwd)
    if isinstance(given, TextResourceContents):
        data = given.text.encode("utf-8", "replace")
        text = data[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
        if len(data) > MAX_TEXT_BYTES:
            text += f"\n[... {len(data) - MAX_TEXT_BYTES:,} more bytes of this file are left out ...]"
        return AttachedFile(name=name, text=text)
    assert isinstance(given, BlobResourceContents)
    if (given.mime_type or "").startswith("image/"):
        return _image(given.blob, name, cwd)
    return AttachedFile(
        name=name, text=f"[{given.mime_type or 'no text'}, {len(given.blob) * 3 // 4:,} bytes]"
    )


def _image(data: str, uri: str, cwd: Path) -> AttachedFile:
    name = _name(uri, cwd)
    if not has_images():
        raise ConfigError(f"prompt: pictures need {IMAGES}: pip install {IMAGES}")
    from agentd import Image, task_parts

    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"prompt: the image {name!r:.80} is no base64: {error}") from None
    if len(decoded) > MAX_IMAGE_BYTES:
        raise ConfigError(f"prompt: the image {name!r:.80} is larger than {MAX_IMAGE_BYTES >> 20} MiB")
    (part,) = task_parts([Image(decoded, name)])
    return AttachedFile(name=name, part=part)
