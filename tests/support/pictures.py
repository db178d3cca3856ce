"""Pictures for tests, made by Pillow, and headers of pictures that have no content."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

__all__ = ["made", "png", "png_header"]


def made(kind: str = "PNG", size: tuple[int, int] = (60, 40), mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture's file: a gradient, so that neither its content nor its compression is trivial."""
    gradient = Image.linear_gradient("L").resize(size)
    file = io.BytesIO()
    gradient.convert(mode).save(file, kind, **options)
    return file.getvalue()


def png(number: int = 0) -> bytes:
    """Return a small PNG, another one for each number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG of this size, and its end: there is nothing to decode."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
