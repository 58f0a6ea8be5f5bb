"""The product: taken as given, cut out of a plain ground, or kept as a photograph."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from agora.ads.images.product import fitted, read_picture, read_product, rounded, shadow
from agora.errors import DataError


def picture(mode: str, ground: tuple[int, ...], *, noise: int = 0) -> bytes:
    """A red disc with a hole in the colour of the ground."""
    image = Image.new(mode, (240, 200), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 40, 180, 160), fill=(200, 40, 30, 255)[: len(ground)])
    draw.ellipse((110, 90, 130, 110), fill=ground)
    pixels = np.array(image)
    if noise:
        pixels[..., :3] = np.clip(
            pixels[..., :3].astype(int) + np.random.default_rng(0).integers(-noise, noise + 1, pixels[..., :3].shape), 0, 255
        )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_transparent_picture_is_taken_as_it_is_and_cropped() -> None:
    product = read_product(picture("RGBA", (0, 0, 0, 0)))
    assert product.kind == "as_given" and product.pixels.shape[:2] == (121, 121)


@pytest.mark.parametrize("ground", [(255, 255, 255), (238, 240, 235), (20, 22, 26)])
def test_a_plain_ground_is_removed_but_not_the_same_colour_inside(ground: tuple[int, ...]) -> None:
    product = read_product(picture("RGB", ground, noise=4))
    assert product.kind == "cut_out" and abs(product.pixels.shape[0] - 121) <= 3
    alpha = product.pixels[..., 3]
    assert alpha[2, 2] == 0 and alpha[60, 60] == 255 and alpha[60, 20] == 255  # corner, hole inside, disc


def test_no_fringe_of_the_old_ground_is_left() -> None:
    product = read_product(picture("RGB", (255, 255, 255)))
    edge = (product.pixels[..., 3] > 20) & (product.pixels[..., 3] < 235)
    assert edge.any() and product.pixels[edge][:, 1].max() < 120  # green of white would be 255


def test_a_ground_that_is_not_plain_is_kept_as_a_photograph() -> None:
    assert read_product(picture("RGB", (120, 130, 140), noise=70)).kind == "photograph"


def test_scaling_keeps_proportions_and_does_not_bleed_hidden_colours() -> None:
    pixels = np.zeros((40, 80, 4), np.uint8)
    pixels[:, :, :3] = (0, 255, 0)
    pixels[:, 40:] = (200, 0, 0, 255)
    small = fitted(pixels, 20, 20)
    assert small.shape[:2] == (10, 20)
    assert small[small[..., 3] > 0][:, 1].max() <= 2


def test_shadows_lie_under_and_below_the_product() -> None:
    pixels = np.full((80, 60, 4), 255, np.uint8)
    for layer in shadow(pixels, 100, 50, "#000000", strength=0.4, floor=True):
        rows = np.nonzero(layer.pixels[..., 3] > 4)[0] + layer.top
        assert rows.max() > 130 and layer.pixels[..., 3].max() < 255


def test_round_corners_are_transparent() -> None:
    assert rounded(np.full((50, 50, 4), 255, np.uint8), 10)[0, 0, 3] == 0


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    file = tmp_path / "product.png"
    file.write_text("no picture")
    with pytest.raises(DataError, match=r"product\.png"):
        read_product(file)
    with pytest.raises(DataError, match="does not exist"):
        read_product(tmp_path / "absent.png")


@pytest.mark.parametrize("side", [9_000, 12_000, 30_000])
@pytest.mark.parametrize("what", ["logo", "product picture"])
def test_a_picture_made_to_fill_the_memory_is_refused_by_name(tmp_path: Path, side: int, what: str) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    path = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=rf"{what} .*huge\.png .*make it smaller than 60,000,000 pixels"):
        read_picture(path, what=what)
