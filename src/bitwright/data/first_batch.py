"""Does the first batch look like what the network was trained on?

Preprocessing applied twice, or not at all, is the commonest way to lose all accuracy, and no later number shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bitwright.errors import InputMismatch, NonFinite, printable

if TYPE_CHECKING:
    from bitwright.data.batch import Batch
    from bitwright.data.contract import InputContract

# A std of at least this much can only be meant for pixels in 0..255: standardised or [0, 1] data never needs it.
PIXEL_STD = 8.0
# Pixel values of real images span more than this; [0, 1] and standardised data span less.
NORMALIZED_SPAN = 16.0
# Mean and std below this are those of pixels in 0..1.
UNIT = 1.0


def check_first_batch(
    batch: Batch,
    contract: InputContract,
    input_shape: Sequence[int | None] | Mapping[str, Sequence[int | None]],
    input_dtype: DTypeLike | Mapping[str, DTypeLike] = np.float32,
) -> tuple[str, ...]:
    """Check tensors against the graph input, and their values against the contract.

    Args:
        batch: The first batch, after the contract was applied.
        contract: The contract.
        input_shape: Shape of the graph input with its batch axis, None (or 0) for a free axis; a mapping from names
            for networks of several inputs.
        input_dtype: Element type of the graph input, or a mapping.

    Returns:
        Sentences about what looks odd but may be meant.

    Raises:
        InputMismatch: for a wrong element type, layout, channel count or size, or data normalised twice.
        NonFinite: for NaN or infinity, naming the sample.
    """
    notes: list[str] = []
    tensors = batch.x if isinstance(batch.x, dict) else {contract.name or "": batch.x}
    shapes = input_shape if isinstance(input_shape, Mapping) else dict.fromkeys(tensors, input_shape)
    dtypes: dict[str, Any] = (
        dict(input_dtype) if isinstance(input_dtype, Mapping) else dict.fromkeys(shapes, input_dtype)
    )
    missing = [name for name in shapes if name not in tensors and name]
    if missing and len(shapes) > 1:
        raise InputMismatch(
            f"The network has the inputs {_names(shapes)} but the data gives only {_names(tensors)}: give every sample "
            "as a dict with one array per input."
        )
    for name, x in tensors.items():
        key = name if name in shapes else next(iter(shapes)) if len(shapes) == 1 else None
        if key is None:
            raise InputMismatch(
                f"The data gives an array for {printable(name)!r}, but the inputs are {_names(shapes)}."
            )
        check_tensor(x, name, batch, contract, shapes[key], np.dtype(dtypes[key]))
    main = tensors.get(contract.name or "", next(iter(tensors.values())))
    if main.dtype.kind == "f":
        notes += check_values(main, batch, contract)
    return tuple(notes)


def check_tensor(
    x: NDArray[Any],
    name: str,
    batch: Batch,
    contract: InputContract,
    shape: Sequence[int | None],
    dtype: np.dtype[Any],
) -> None:
    """Element type, shape and finiteness of one input; raises as ``check_first_batch``."""
    what = f"Input {printable(name)}" if name else "The input"
    if x.dtype != dtype:
        raise InputMismatch(
            f"{what} takes {dtype} and the data gives {x.dtype}: "
            + (
                'set layout = "raw" and give integer arrays.'
                if dtype.kind in "iu"
                else f"convert the samples to {dtype}."
            )
        )
    got, wanted = x.shape[1:], tuple(v or None for v in shape[1:])
    if not _fits(got, wanted):
        raise InputMismatch(
            f"{what} takes samples of shape {_plain(wanted)}, got {_plain(got)}: {_cure(got, wanted, contract)}"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
        raise NonFinite(
            f"Sample {batch.indices[row]} ({printable(batch.origins[row])}) holds NaN or infinity: remove it from the data.",
            tensor=name,
            sample=int(batch.indices[row]),
        )


def check_values(x: NDArray[Any], batch: Batch, contract: InputContract) -> list[str]:
    """Notes about the range of ``x``; raises InputMismatch where data were certainly normalised twice."""
    low, high = float(x.min()), float(x.max())
    if low == high:
        return [f"Every value of the first batch is {low:g}: check the data."]
    mean, std = max(contract.mean, key=abs), min(contract.std)
    pixel_low, pixel_high = _pixel_range(x, contract)
    if std >= PIXEL_STD and pixel_high - pixel_low < NORMALIZED_SPAN and pixel_low > -NORMALIZED_SPAN:
        kind = "in [0, 1]" if pixel_low >= 0 and pixel_high <= 1.001 else "already normalised"
        found = (
            f"The samples are {kind} ({pixel_low:.3g}..{pixel_high:.3g}) before the input contract subtracts mean "
            f"{mean:g} and divides by std {std:g}, which are meant for pixels 0..255"
        )
        if batch.float_source and pixel_high <= NORMALIZED_SPAN:
            raise InputMismatch(
                f"{found}, so they would be normalised twice: give pixels, or give mean and std in the units of the "
                'samples, or set layout = "raw".'
            )
        return [f"{found}: the images of the first batch are nearly uniform or very dark."]
    if contract.layout == "raw":
        return []
    notes = []
    if contract.normalizes and max(contract.std) < UNIT and abs(mean) < UNIT and pixel_high > NORMALIZED_SPAN:
        notes.append(
            f"The samples are pixels {pixel_low:.3g}..{pixel_high:.3g}, but mean {mean:g} and std {std:g} look as if meant "
            f"for pixels in 0..1, so the network gets {low:.3g}..{high:.3g}: multiply mean and std by 255."
        )
    if not contract.normalizes and batch.float_source and high <= NORMALIZED_SPAN:
        notes.append(
            f"The samples are floats in {low:.3g}..{high:.3g} and the input contract has no mean and std: they are taken "
            "as ready for the network."
        )
    elif not contract.normalizes and high > NORMALIZED_SPAN:
        notes.append(
            f"The network gets pixels {low:.3g}..{high:.3g} as they are: the input contract has no mean and std. "
            "Some networks want this; most do not."
        )
    if not batch.float_source and 0 < float(np.ptp(x)) < 0.05:
        notes.append(f"The values of the first batch span only {low:.4g}..{high:.4g}: check mean and std.")
    if pixel_high > 255.5 or (pixel_low < -0.5 and std >= PIXEL_STD):
        notes.append(f"The samples hold {pixel_low:.4g}..{pixel_high:.4g}, outside the pixel range 0..255.")
    return notes


def _pixel_range(x: NDArray[Any], contract: InputContract) -> tuple[float, float]:
    """Smallest and largest pixel before mean and std were applied."""
    axis = 1 if contract.layout == "NCHW" and x.ndim == 4 else x.ndim - 1
    others = tuple(i for i in range(x.ndim) if i != axis)
    scale, mean = np.asarray(contract.std), np.asarray(contract.mean)
    if max(len(scale), len(mean)) not in (1, x.shape[axis]):
        return float(x.min()), float(x.max())
    return float((x.min(others) * scale + mean).min()), float((x.max(others) * scale + mean).max())


def _fits(got: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(got) == len(wanted) and all(w is None or g == w for g, w in zip(got, wanted, strict=True))


def _cure(got: tuple[int, ...], wanted: tuple[int | None, ...], contract: InputContract) -> str:
    """What to change so that ``got`` becomes ``wanted``."""
    if len(got) == len(wanted) == 3:
        if _fits((got[2], got[0], got[1]), wanted):
            return 'the data are NHWC and the network is NCHW: set layout = "NCHW" in [input], or transpose the arrays.'
        if _fits((got[1], got[2], got[0]), wanted):
            return 'the data are NCHW and the network is NHWC: set layout = "NHWC" in [input], or transpose the arrays.'
        if contract.layout != "raw":
            channel = 0 if contract.layout == "NCHW" else 2
            swapped = 2 - channel
            if wanted[channel] not in (None, got[channel]):
                if wanted[swapped] == got[channel]:
                    other = "NHWC" if contract.layout == "NCHW" else "NCHW"
                    return f'the network is {other}: set layout = "{other}" in [input].'
                return f"the number of channels differs ({wanted[channel]} wanted): correct color in [input]."
            size = [w for i, w in enumerate(wanted) if i != channel]
            return f"set resize = {_plain(size)} in [input], or resize and crop, to get the wanted size."
    return "give samples of that shape (the first axis of an array is the number of samples)."


def _plain(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if v is None else str(v) for v in shape) + "]"


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(printable(repr(n)) for n in names)
