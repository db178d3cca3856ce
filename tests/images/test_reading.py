"""Bytes to pictures: what is taken, what becomes of it, and that nothing is decoded that is too large."""

from __future__ import annotations

import io
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_images.picture import PictureError
from agentd_images.reading import MIB, read_picture
from agentd_images.settings import Images
from hypothesis import given, strategies as st
from pictures import made, png, png_header
from PIL import Image

DEFAULTS = Images()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(("kind", "mime_type"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_small_picture_stays_as_it_is(kind: str, mime_type: str) -> None:
    data = made(kind)
    picture = read_picture(data, "a.bin", DEFAULTS)
    assert (picture.data, picture.mime_type) == (data, f"image/{mime_type}")
    assert (picture.width, picture.height) == (60, 40)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_picture_is_scaled_down_and_keeps_its_shape(kind: str, mode: str) -> None:
    picture = read_picture(made(kind, (4000, 2000), mode), "wide", DEFAULTS)
    assert (picture.width, picture.height) == (1568, 784)
    assert opened(picture.data).size == (1568, 784)
    assert picture.mime_type == ("image/jpeg" if kind == "JPEG" else "image/png")


def test_the_bytes_of_a_picture_are_bounded_whatever_it_shows() -> None:
    noise = Image.effect_noise((1500, 1500), 100)
    file = io.BytesIO()
    noise.save(file, "PNG")
    images = Images(max_bytes=200_000)
    assert len(file.getvalue()) > images.max_bytes * 5
    picture = read_picture(file.getvalue(), "noise", images)
    assert len(picture.data) <= images.max_bytes
    assert opened(picture.data).size == (picture.width, picture.height)


def test_a_turned_photo_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    picture = read_picture(made("JPEG", (60, 40), exif=exif), "photo", DEFAULTS)
    assert (picture.width, picture.height) == (40, 60)


def test_of_an_animation_the_first_picture_is_taken() -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], lossless=True)
        picture = read_picture(file.getvalue(), "moving", DEFAULTS)
        assert picture.mime_type == "image/png"
        assert not getattr(opened(picture.data), "is_animated", False)
        assert opened(picture.data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_colour_can_be_scaled(mode: str) -> None:
    file = io.BytesIO()
    if mode == "I;16":
        Image.new(mode, (2000, 20), 65_535).save(file, "PNG")
    else:
        Image.new("RGBA", (2000, 20), (255, 255, 255, 255)).convert(mode).save(file, "PNG")
    picture = read_picture(file.getvalue(), mode, DEFAULTS)
    assert picture.width == 1568
    assert opened(picture.data).convert("RGB").getpixel((100, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begins with b''"),
        (b"hello, world", "begins with b'hello, w'"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "begins with b'<svg xml'"),
        (b"%PDF-1.7", "PNG, JPEG, GIF and WebP can be shown"),
        (made("BMP"), "begins with b'BM"),
        (made("TIFF"), "PNG, JPEG, GIF and WebP can be shown"),
        (made("PNG")[:-40], "a broken png picture"),
        (made("JPEG")[:60], "a broken jpeg picture"),
        (made("GIF")[:20], "a broken gif picture"),
        (made("WEBP")[:40], "a broken webp picture"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "a broken png picture"),
    ],
)
def test_other_formats_and_broken_pictures_are_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(PictureError) as raised:
        read_picture(data, "thing.bin", DEFAULTS)
    assert str(raised.value).startswith("thing.bin: ")
    assert why in str(raised.value)


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    with pytest.raises(PictureError, match=r"8,001 x 8,001 pixels; a picture may have 64 million"):
        read_picture(png_header(8_001, 8_001), "huge.png", DEFAULTS)
    with pytest.raises(PictureError, match=r"60,000 x 60,000 pixels"):
        read_picture(png_header(60_000, 60_000), "huge.png", DEFAULTS)
    with pytest.raises(PictureError, match="a broken png picture"):  # within the bound, it is looked into
        read_picture(png_header(8_000, 8_000), "large.png", DEFAULTS)


def test_a_large_plain_picture_is_refused_without_its_memory(monkeypatch: Any) -> None:
    file = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000
    from PIL.PngImagePlugin import PngImageFile

    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="9,000 x 9,000"):
        read_picture(file.getvalue(), "plain.png", DEFAULTS)


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    data = bytearray(20 * MIB + 1)
    with pytest.raises(
        PictureError, match=r"20,971,521 bytes; a picture may have 20 MiB: scale it down first"
    ):
        read_picture(bytes(data), "big", DEFAULTS)


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]), st.integers(0, 300))
def test_whatever_the_bytes_are_they_are_a_picture_or_refused(junk: bytes, kind: str, at: int) -> None:
    data = made(kind, (20, 10))
    data = data[:at] + junk + data[at + len(junk) :]
    try:
        picture = read_picture(data, "junk", DEFAULTS)
    except PictureError:
        return
    assert len(picture.data) <= DEFAULTS.max_bytes
    assert max(picture.width, picture.height) <= DEFAULTS.max_side_px


@pytest.mark.parametrize("name", ["a\nb", "x]; file y", "\x1b[31mred", "n" * 500, "", "]"])
def test_a_name_forges_no_line(name: str) -> None:
    from agentd_history.pictures import PICTURE

    line = f"[note: {read_picture(png(), name, DEFAULTS).line()}]"
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 300
    assert [file for *_, file in PICTURE.findall(line)] == [read_picture(png(), "", DEFAULTS).file]


@pytest.mark.parametrize(
    "wrong", [{"max_pictures": 0}, {"max_side_px": 1.5}, {"sees": "yes"}, {"max_bytes": True}]
)
def test_a_setting_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Images\.{next(iter(wrong))}: must be"):
        Images(**wrong)
