"""Bytes from anywhere to a `ShownPicture`: bounded before it is decoded, scaled, in a format that every provider takes.

PNG, JPEG, GIF and WebP alone are read, each by Pillow's reader for it, which its first bytes choose: nothing else of
Pillow ever sees the data. Of an animation, the first picture is taken.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Final

from agentd_images.picture import PictureError, ShownPicture, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from agentd_images.settings import Images

__all__ = ["read_picture"]

MIB: Final = 1024 * 1024
ALLOWED: Final = "PNG, JPEG, GIF and WebP can be shown"
_ORIENTATION: Final = 0x0112  # of EXIF
_decoding: Final = threading.Lock()
"""A decoded picture may take hundreds of megabytes: one at a time."""


def kind_of(data: bytes) -> str:
    """Return the format that the first bytes say: png, jpeg, gif, webp or nothing."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def read_picture(data: bytes, name: object, images: Images) -> ShownPicture:
    """Check a picture and scale it down to what `images` allows. May take a second: for a worker thread.

    :raises PictureError: for a file that is too large, another format, too many pixels, or broken data.
    """
    name = plain_name(name)
    if len(data) > images.max_file_mib * MIB:
        raise PictureError(
            f"{name}: {len(data):,} bytes; a picture may have {images.max_file_mib} MiB: scale it down first"
        )
    kind = kind_of(data)
    if not kind:
        raise PictureError(f"{name}: not a picture that can be shown, it begins with {data[:8]!r}; {ALLOWED}")
    try:
        with _decoding:
            return _read(data, kind, name, images)
    except PictureError:
        raise
    except Exception as error:  # Pillow's boundary: it raises whatever a broken picture leads to
        raise PictureError(f"{name}: a broken {kind} picture: {type(error).__name__}: {error}") from error


def _reader(kind: str) -> Callable[[Any], Image]:
    if kind == "png":
        from PIL.PngImagePlugin import PngImageFile as Reader
    elif kind == "jpeg":
        from PIL.JpegImagePlugin import JpegImageFile as Reader  # type: ignore[assignment]
    elif kind == "gif":
        from PIL.GifImagePlugin import GifImageFile as Reader  # type: ignore[assignment]
    else:
        from PIL.WebPImagePlugin import WebPImageFile as Reader  # type: ignore[assignment]
    return Reader


def _read(data: bytes, kind: str, name: str, images: Images) -> ShownPicture:
    with _reader(kind)(io.BytesIO(data)) as image:
        width, height = image.size
        if width * height > images.max_megapixels * 1_000_000:  # by the header; nothing is decoded yet
            raise PictureError(
                f"{name}: {width:,} x {height:,} pixels; a picture may have {images.max_megapixels} million: "
                "scale it down first"
            )
        side = images.max_side_px
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        moves = bool(getattr(image, "is_animated", False))
        if kind == "jpeg" and max(width, height) > side:
            image.draft(None, (side, side))  # decodes at a fraction of its size
        image.load()
        as_it_is = kind != "gif" and not turned and not moves and max(width, height) <= side
        if as_it_is and len(data) <= images.max_bytes:
            return ShownPicture(name, data, f"image/{kind}", width, height)
        return _scaled(image, kind, name, images)


def _scaled(image: Image, kind: str, name: str, images: Images) -> ShownPicture:
    """Return a picture encoded anew, upright, within the bounds of sides and bytes."""
    from PIL.Image import Resampling
    from PIL.ImageOps import exif_transpose

    image = exif_transpose(_plain(image))
    side = images.max_side_px
    while True:
        image.thumbnail((side, side), Resampling.LANCZOS)
        data, mime_type = _encoded(image, kind, images.max_bytes)
        if len(data) <= images.max_bytes or side <= 16:
            return ShownPicture(name, data, mime_type, *image.size)
        side = max(16, max(image.size) * 3 // 4)


def _plain(image: Image) -> Image:
    """Return a picture in grey or colours of 8 bits, with or without transparency."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode.startswith("I"):  # 16 bits of grey
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")


def _encoded(image: Image, kind: str, max_bytes: int) -> tuple[bytes, str]:
    """Return PNG, which keeps lines and letters sharp; JPEG for what was one, and where PNG is too large."""
    file = io.BytesIO()
    if kind != "jpeg":
        image.save(file, "PNG")
        if file.tell() <= max_bytes:
            return file.getvalue(), "image/png"
        file = io.BytesIO()
    if "A" in image.mode:
        from PIL import Image as images

        white = images.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white.convert("RGB")
    image.save(file, "JPEG", quality=85)
    return file.getvalue(), "image/jpeg"
