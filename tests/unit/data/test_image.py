from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitwright.data.contract import InputContract
from bitwright.data.image import is_image_name, read_image, read_indices
from bitwright.errors import InputMismatch

GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOR = np.stack([GRADIENT, 255 - GRADIENT, GRADIENT // 2], -1)


def saved(folder: Path, picture: Image.Image, name: str = "a.png", **options: object) -> Path:
    picture.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", True), ("A.JPEG", True), ("x.y.png", True), (".a.jpg", False), ("a.txt", False), ("jpg", False)],
)
def test_names_of_images(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


@pytest.mark.parametrize(("pixels", "mode"), [(COLOR, "RGB"), (GRADIENT, "L")])
def test_color_and_gray_are_kept(tmp_path: Path, pixels: np.ndarray[Any, Any], mode: str) -> None:
    got = read_image(saved(tmp_path, Image.fromarray(pixels)))
    assert isinstance(got, Image.Image)
    assert got.mode == mode
    assert (np.asarray(got) == pixels).all()


def test_16_bit_gray_keeps_its_fraction_in_pixel_units(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    got = read_image(saved(tmp_path, Image.fromarray(deep)))
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    assert got.shape == (6, 8, 1)
    assert np.abs(got[..., 0] - deep / 257).max() < 1e-4
    assert (got.min(), got.max()) == (0, 255)


def test_16_bit_pil_images_mean_the_same_as_their_files(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    contract = InputContract(color="gray")
    from_file = contract.apply(read_image(saved(tmp_path, Image.fromarray(deep))))
    assert (contract.apply(Image.fromarray(deep)) == from_file).all()


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOR).quantize(64)
    got = read_image(saved(tmp_path, picture))
    assert (np.asarray(got) == np.asarray(picture.convert("RGB"))).all()


def test_transparency_is_dropped_not_blended(tmp_path: Path) -> None:
    alpha = np.full((6, 8, 1), 7, np.uint8)
    got = read_image(saved(tmp_path, Image.fromarray(np.concatenate([COLOR, alpha], -1))))
    assert (np.asarray(got) == COLOR).all()
    gray = read_image(saved(tmp_path, Image.merge("LA", [Image.fromarray(GRADIENT), Image.fromarray(alpha[..., 0])])))
    assert (np.asarray(gray) == GRADIENT).all()


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOR).convert("CMYK")
    path = saved(tmp_path, picture, "a.tif")
    assert (np.asarray(read_image(path)) == np.asarray(picture.convert("RGB"))).all()
    jpeg = read_image(saved(tmp_path, picture, "a.jpg", quality=95))
    assert np.asarray(jpeg).shape == (6, 8, 3)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    got = np.asarray(read_image(saved(tmp_path, Image.fromarray(GRADIENT > 100))))
    assert (got == np.where(GRADIENT > 100, 255, 0)).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path, Image.fromarray(GRADIENT.astype(dtype)), "a.tif")
    with pytest.raises(InputMismatch, match="8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: COLOR,
        2: COLOR[:, ::-1],
        3: COLOR[::-1, ::-1],
        4: COLOR[::-1],
        5: COLOR.transpose(1, 0, 2),
        6: COLOR.transpose(1, 0, 2)[:, ::-1],
        7: COLOR.transpose(1, 0, 2)[::-1, ::-1],
        8: COLOR.transpose(1, 0, 2)[::-1],
    }[orientation]
    path = saved(tmp_path, Image.fromarray(COLOR), exif=exif)
    assert (np.asarray(read_image(path)) == turned).all()


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((6, 8), v, np.uint8)) for v in (10, 200)]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(read_image(path)) == 10).all()


def test_two_pictures_in_one_jpeg_as_phones_save_them(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert (np.asarray(read_image(tmp_path / "a.jpg")) == 10).all()


def test_more_pixels_than_sensible_are_refused_before_decoding(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (10_000, 60_000):  # PIL warns about the first and raises for the second
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        path = tmp_path / f"{side}.png"
        path.write_bytes(bomb)
        with pytest.raises(InputMismatch, match=r"more pixels|pixels are more"):
            read_image(path)


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    for name, data in (("text.jpg", b"hello"), ("empty.png", b""), ("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputMismatch, match="no image"):
            read_image(tmp_path / name)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(OSError, match="truncated"):
        read_image(tmp_path / "cut.jpg")


def test_label_images_keep_their_indices(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOR).quantize(5)
    assert (read_indices(saved(tmp_path, palette)) == np.asarray(palette)).all()
    assert (read_indices(saved(tmp_path, Image.fromarray(GRADIENT % 7))) == GRADIENT % 7).all()
    with pytest.raises(InputMismatch, match="one class index a pixel"):
        read_indices(saved(tmp_path, Image.fromarray(COLOR)))
