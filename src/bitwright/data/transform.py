"""From one sample to one tensor: the arithmetic of the input contract, as pure functions.

The result of ``normalize`` is defined to the last bit: float32 subtraction of float32(mean), then float32 multiplication
by float32(1 / std).  Generated C does the same two operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bitwright.data import image as images
from bitwright.errors import InputMismatch, printable

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
CHANNEL_COUNTS = (1, 3, 4)


def apply(contract: InputContract, sample: object) -> NDArray[Any]:
    """See ``InputContract.apply``."""
    if contract.layout == "raw":
        return raw(contract, sample)
    picture = sample if isinstance(sample, Image.Image) else oriented(contract, as_array(sample))
    if isinstance(picture, Image.Image):
        picture = images.decoded(picture)
    if contract.resize is not None:
        picture = resized(picture, contract.resize)
    if contract.crop is not None:
        picture = cropped(picture, contract.crop)
    pixels = colored(contract, np.asarray(picture))
    return normalize(pixels, contract)


def raw(contract: InputContract, sample: object) -> NDArray[Any]:
    """An array for layout raw: element type and shape of the graph input, and mean and std if there are any."""
    x = as_array(sample)
    if contract.dtype is not None and not contract.dtype.startswith("float"):
        return _as_integers(x, np.dtype(contract.dtype), contract).reshape(_fit(x, contract))
    if contract.dtype is None and x.dtype in (np.int64, np.int32, np.bool_):
        return x  # token ids or masks, as far as one can know without the network
    x = x.astype(np.float32)
    if contract.normalizes:
        x = (x - np.array(contract.mean, np.float32)) * contract.scale
    return x.reshape(_fit(x, contract))


def as_array(sample: object) -> NDArray[Any]:
    """A NumPy array from an array, a tensor of torch or TensorFlow, a PIL image, or nested numbers.

    Raises:
        InputMismatch: if it is no rectangular block of numbers.
    """
    if isinstance(sample, np.ndarray):
        array = sample
    elif isinstance(sample, Image.Image):
        array = np.asarray(images.decoded(sample))
    else:
        try:
            if hasattr(sample, "detach") and hasattr(sample, "cpu"):
                sample = sample.detach().cpu()
            array = sample.numpy() if hasattr(sample, "numpy") else np.asarray(sample)
        except (TypeError, ValueError) as error:
            raise InputMismatch(f"A {type(sample).__name__} cannot become an array: {error}.") from error
    if array.dtype.kind not in "biuf":
        raise InputMismatch(
            f"An array of {printable(array.dtype)} is no block of real numbers: give uint8 or float arrays of one shape."
        )
    return array


def oriented(contract: InputContract, x: NDArray[Any]) -> NDArray[Any]:
    """``x`` as ``[h, w, c]``, from ``[h, w]``, ``[h, w, c]`` or ``[c, h, w]``.

    Where both ends could be channels, uint8 arrays are taken as ``[h, w, c]``, as cameras and PIL give them, and others
    in the contract's own layout.
    """
    if x.ndim == 4 and x.shape[0] == 1:
        x = x[0]
    if x.ndim == 2:
        return x[..., None]
    if x.ndim != 3:
        raise InputMismatch(
            f"A sample of shape {list(x.shape)} is no image: give [h, w], [h, w, c] or [c, h, w], or set "
            f'layout = "raw" in the input contract.'
        )
    wanted = contract.channels
    for counts in ((wanted,) if wanted else (), CHANNEL_COUNTS):
        first, last = x.shape[0] in counts, x.shape[2] in counts
        if first and last:
            first = x.dtype != np.uint8 and contract.layout == "NCHW"
            last = not first
        if last:
            return x
        if first:
            return x.transpose(1, 2, 0)
    raise InputMismatch(
        f"A sample of shape {list(x.shape)} has neither first nor last {wanted or '1, 3 or 4'} channels"
        f'{"" if wanted is None else ", which the network wants"}: correct the data, or set layout = "raw".'
    )


def target_size(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after ``resize``: exact, or shorter side to one number and the longer one rounded down."""
    if not isinstance(resize, int):
        return resize
    if height <= width:
        return resize, max(resize * width // height, 1)
    return max(resize * height // width, 1), resize


def resized(picture: Image.Image | NDArray[Any], resize: int | tuple[int, int]) -> Image.Image | NDArray[Any]:
    """``picture`` resized with PIL's bilinear filter (which averages when it shrinks); arrays are ``[h, w, c]``."""
    height, width = size_of(picture)
    new_height, new_width = target_size(height, width, resize)
    if (height, width) == (new_height, new_width):
        return picture
    size, how = (new_width, new_height), Image.Resampling.BILINEAR
    if isinstance(picture, Image.Image):
        return picture.resize(size, how)
    if picture.dtype == np.uint8 and picture.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, how))
    kind = np.uint8 if picture.dtype == np.uint8 else np.float32
    planes = [np.ascontiguousarray(picture[..., c], kind) for c in range(picture.shape[2])]
    return np.stack([np.asarray(Image.fromarray(p).resize(size, how)) for p in planes], -1)


def corner(height: int, width: int, crop: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the centre crop."""
    return (height - crop[0]) // 2, (width - crop[1]) // 2


def cropped(picture: Image.Image | NDArray[Any], crop: tuple[int, int]) -> Image.Image | NDArray[Any]:
    """The centre of ``picture``.

    Raises:
        InputMismatch: if the picture is smaller than the crop.
    """
    height, width = size_of(picture)
    if height < crop[0] or width < crop[1]:
        raise InputMismatch(
            f"An image of {height}x{width} is smaller than crop = {crop[0]}x{crop[1]}: add resize to the input contract."
        )
    if (height, width) == crop:
        return picture
    top, left = corner(height, width, crop)
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, left + crop[1], top + crop[0]))
    return picture[top : top + crop[0], left : left + crop[1]]


def size_of(picture: Image.Image | NDArray[Any]) -> tuple[int, int]:
    """Height and width."""
    return (picture.height, picture.width) if isinstance(picture, Image.Image) else (picture.shape[0], picture.shape[1])


def colored(contract: InputContract, pixels: NDArray[Any]) -> NDArray[Any]:
    """``[h, w]`` or ``[h, w, c]`` as ``[h, w, c]`` with the channels that the network wants, in its order."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    have, want = pixels.shape[2], contract.channels
    if have == 4 and want != 4:
        pixels, have = pixels[..., :3], 3  # alpha is dropped, as PIL's convert("RGB") does
    if contract.color == "gray" and have == 3:
        return np.asarray(pixels @ LUMA)[..., None]
    if want is not None and have != want:
        if have == 1 and want == 3:
            return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        if have == 3 and want == 1:
            raise InputMismatch(
                'The network takes one channel and the sample has three: set color = "gray" in the input contract '
                "to convert it."
            )
        raise InputMismatch(f"The network takes {want} channels and the sample has {have}: correct layout or the data.")
    if contract.color == "BGR" and have == 3:
        return pixels[..., ::-1]
    return pixels


def normalize(pixels: NDArray[Any], contract: InputContract) -> NDArray[np.float32]:
    """``(pixels - mean) * float32(1 / std)`` in float32, from ``[h, w, c]`` to the contract's layout, contiguous."""
    channel_first = contract.layout == "NCHW"
    view = pixels.transpose(2, 0, 1) if channel_first else pixels
    out = np.empty(view.shape, np.float32)
    out[...] = view
    if contract.normalizes:
        shape = (-1, 1, 1) if channel_first else (-1,)
        try:
            out -= np.array(contract.mean, np.float32).reshape(shape)
            out *= contract.scale.reshape(shape)
        except ValueError as error:
            raise InputMismatch(
                f"The input contract lists {max(len(contract.mean), len(contract.std))} means or stds and the sample "
                f"has {pixels.shape[2]} channels: correct mean, std or color."
            ) from error
    return out


def _as_integers(x: NDArray[Any], dtype: np.dtype[Any], contract: InputContract) -> NDArray[Any]:
    """``x`` as ``dtype``, refused if a number would change."""
    with np.errstate(invalid="ignore"):
        converted = x.astype(dtype)
    if not np.array_equal(converted, x):
        raise InputMismatch(
            f"Input {printable(contract.name or 'of the network')} takes {dtype} and the sample holds {x.dtype} numbers "
            "that are no such integers: give token ids or indices."
        )
    return converted


def _fit(x: NDArray[Any], contract: InputContract) -> tuple[int, ...]:
    """The shape of the graph input, if ``x`` has as many elements and differs only by axes of length 1 or flattening."""
    shape = contract.shape
    if shape is None or x.ndim == 0:
        return x.shape
    known = [v for v in shape if v is not None]
    squeezed = [v for v in x.shape if v != 1]
    if len(known) == len(shape):
        wanted = tuple(known)
        same = squeezed == [v for v in wanted if v != 1]
        flat = x.size == int(np.prod(wanted)) and (x.ndim == 1 or len(wanted) == 1)
        return wanted if same or flat else x.shape
    return x.shape
