"""Reading image files: which are images, and what their pixels are.

Decisions, each tested:

- 8-bit gray stays gray and everything else becomes RGB as PIL converts it: palettes are looked up, CMYK and YCbCr
  converted, one-bit pixels become 0 and 255, an alpha channel is dropped (not blended).
- 16-bit gray is divided by 257, so that pixels are in 0..255 as everywhere, without losing the fraction.
- 32-bit integer and float pixels have no agreed range and are refused.
- The EXIF orientation is applied: the network sees the picture as a person does.
- The first frame of an animation or a multi-page file is taken.
- Files of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` are refused, and only the formats listed here are opened.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bitwright.errors import InputMismatch

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"]
)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # JPEG reads MPO too
ORIENTATION = 0x0112


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def read_image(path: Path) -> Image.Image | NDArray[np.float32]:
    """Decode ``path``: a PIL image of mode L or RGB, or float32 ``[h, w, 1]`` in 0..255 for 16-bit gray.

    Raises:
        InputMismatch: if the file is no image, is damaged, too large, or of 32 bits a pixel.
        OSError: if it cannot be opened.
    """
    with _opened(path) as picture:
        return decoded(picture)


def read_indices(path: Path) -> NDArray[Any]:
    """Decode a label image of one channel: ``[h, w]`` integers; of a palette image the indices, not the colours.

    Raises:
        InputMismatch: if it has several channels or is damaged.
        OSError: if it cannot be opened.
    """
    with _opened(path) as picture:
        if picture.mode not in ("L", "P", "1", "I;16", "I"):
            raise InputMismatch(
                f"a label image must hold one class index a pixel, but this one has mode {picture.mode}: save it as "
                "8-bit gray or with a palette"
            )
        return np.asarray(_upright(picture))


def decoded(picture: Image.Image) -> Image.Image | NDArray[np.float32]:
    """Pixels of an open PIL image, upright: mode L or RGB, or float32 ``[h, w, 1]`` in 0..255 for 16-bit gray."""
    if picture.mode.startswith("I;16"):
        return (np.asarray(_upright(picture), np.float32) / np.float32(257))[..., None]
    return plain(_upright(picture))


def plain(picture: Image.Image) -> Image.Image:
    """A PIL image of mode L or RGB; anything else is converted.

    Raises:
        InputMismatch: for 32 bits a pixel.
    """
    if picture.mode in ("L", "RGB"):
        return picture
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise InputMismatch(
            f"the pixels have mode {picture.mode}, whose range is not known: save the image with 8 or 16 bits, or give "
            "arrays"
        )
    return picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")


@functools.cache
def _formats() -> tuple[str, ...]:
    """``FORMATS`` as far as this build of PIL has them."""
    Image.init()
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _upright(picture: Image.Image) -> Image.Image:
    if picture.getexif().get(ORIENTATION, 1) == 1:
        picture.load()
        return picture
    return ImageOps.exif_transpose(picture)


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path, formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputMismatch("it has more pixels than any sensible image and was not decoded") from error
    except UnidentifiedImageError as error:
        raise InputMismatch("it is no image, or its header is damaged") from error
    if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        picture.close()
        raise InputMismatch(f"its {picture.width}x{picture.height} pixels are more than any sensible image has")
    return picture
