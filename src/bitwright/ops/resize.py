"""Resizing: nearest moves elements; linear adds neighbors with constant integer weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import round_shift, signed_bits, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled, rescale
from bitwright.ops.move import moved
from bitwright.ops.operator import NoIntegerForm, Operator, Site, element, finish
from bitwright.program.builder import Builder
from bitwright.program.forms import Motion, Reshape, Take
from bitwright.program.program import Buffer

WEIGHT_BITS = 8  # a neighbor's weight in 1/256: exact for the scales 2, 4, 8 … that networks use


def _text(value: Any, default: str) -> str:
    value = value or default
    return value.decode() if isinstance(value, bytes) else str(value)


def source_positions(site: Site, size: int, wanted: int, scale: float) -> NDArray[np.float64]:
    """Where each output position lies on the input axis, by the operator's coordinate transformation.

    Args:
        site: The layer (``coordinate_transformation_mode``).
        size: Input length.
        wanted: Output length.
        scale: Output over input, as the file states it.
    """
    x = np.arange(wanted, dtype=np.float64)
    match _text(site.attributes.get("coordinate_transformation_mode"), "half_pixel"):
        case "half_pixel":
            return (x + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            adjustment = wanted / (scale * size)
            center = size / 2
            return center * (1 - adjustment) + (x + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (x + 0.5) / scale - 0.5 if wanted > 1 else np.zeros(1)
        case "align_corners":
            return x * (size - 1) / (wanted - 1) if wanted > 1 else np.zeros(1)
        case "asymmetric":
            return x / scale
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        case other:
            raise NoIntegerForm(f"its coordinate transformation {other!r} has no integer form")


def nearest_index(position: NDArray[np.float64], mode: str, size: int) -> NDArray[np.int64]:
    """The nearest input element by ``nearest_mode``, inside the axis."""
    match mode:
        case "floor":
            index = np.floor(position)
        case "ceil":
            index = np.ceil(position)
        case "round_prefer_ceil":
            index = np.floor(position + 0.5)
        case _:
            index = np.ceil(position - 0.5)
    return np.clip(index, 0, size - 1).astype(np.int64)


def scales(site: Site, shape: Sequence[int]) -> list[float]:
    """Output over input per axis: the stated scales, else the ratio of the sizes."""
    stated = site.attributes.get("scales")
    if stated is None:
        for index in (2, 1):
            value = site.optional_constant(index) if index < len(site.inputs) else None
            if value is not None and value.size == len(shape) and np.issubdtype(value.dtype, np.floating):
                stated = [float(v) for v in value]
                break
    ratios = [want / have for want, have in zip(site.result.shape, shape, strict=True)]
    return [float(s) for s in stated] if stated is not None and len(stated) == len(shape) else ratios


def lower_resize(site: Site, build: Builder) -> Sequence[Buffer]:
    """Resize by nearest neighbors or linear interpolation along any axes but the batch."""
    source = site.data()
    if site.attributes.get("antialias"):
        raise NoIntegerForm("it smooths while shrinking (antialias)")
    mode = _text(site.attributes.get("mode"), "nearest")
    ratios = scales(site, source.shape)
    changed = [i for i, (a, b) in enumerate(zip(source.shape, site.result.shape, strict=True)) if a != b]
    if 0 in changed:
        raise NoIntegerForm("it resizes the batch")
    if mode == "nearest":
        how = _text(site.attributes.get("nearest_mode"), "round_prefer_floor")
        motions: list[Motion] = []
        for axis in changed:
            size, wanted = source.shape[axis], site.result.shape[axis]
            index = nearest_index(source_positions(site, size, wanted, ratios[axis]), how, size)
            motions.append(Take(axis, tuple(int(i) for i in index)))
        return [moved(site, build, motions or [Reshape(site.result.shape)])]
    if mode != "linear":
        raise NoIntegerForm(f"resizing by {mode!r} has no integer form")
    return [linear(site, build, source, changed, ratios)]


def linear(site: Site, build: Builder, source: Buffer, axes: Sequence[int], ratios: Sequence[float]) -> Buffer:
    """Linear interpolation axis by axis without rounding in between; one rounding at the end."""
    current, fraction_bits = source, 0
    zero = int(source.format.zero_point)
    for axis in axes:
        size, wanted = source.shape[axis], site.result.shape[axis]
        position = np.clip(source_positions(site, size, wanted, ratios[axis]), 0, size - 1)
        left = np.floor(position).astype(np.int64)
        right = np.minimum(left + 1, size - 1)
        weight = np.rint((position - left) * 2**WEIGHT_BITS).astype(np.int64)
        a = build.move(current, [Take(axis, tuple(int(i) for i in left))])
        b = build.move(current, [Take(axis, tuple(int(i) for i in right))])
        shape = [1] * len(source.shape)
        shape[axis] = wanted
        x, y = element(a, "x0"), element(b, "x1")
        share = var("share", int(weight.min()), int(weight.max()))
        # x + (y - x) * share: never outside what it interpolates, which the interval rules cannot see.
        blend = (x << WEIGHT_BITS) + (y - x) * share
        fraction_bits += WEIGHT_BITS
        lo, hi = min(a.lo, b.lo) << WEIGHT_BITS, max(a.hi, b.hi) << WEIGHT_BITS
        wide = Format(max(32, signed_bits(lo, hi)), True, source.format.scale * 2.0**-fraction_bits)
        out = build.buffer(a.shape, wide, lo=lo, hi=hi)
        current = build.map(blend, [a, b], out, {"share": weight.reshape(shape)})
    value = element(current, "x0") - (zero << fraction_bits)
    ratio = float(source.format.scale) / float(site.result.format.scale)
    if ratio == 1.0:
        rounding = site.rule.rounding or site.arithmetic.rounding
        integer = rounding if site.arithmetic.requantize == "shift" else Rounding.HALF_UP
        scaled = Scaled(round_shift(value, fraction_bits, integer))
    else:
        scaled = rescale(value, np.asarray(math.ldexp(ratio, -fraction_bits)), site.arithmetic)
    scaled = finish(scaled, site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return build.map(scaled.expr, [current], out, scaled.params)


OPERATORS = (
    Operator(
        types=("Resize", "Upsample"),
        summary="nearest: elements repeated; linear: neighbors weighted in 1/256, one rounding",
        lower=lower_resize,
        relation="input",
    ),
)
