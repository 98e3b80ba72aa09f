"""Pieces of a network between tensors that everything passes through, and errors carried back through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.number.format import Format
from bitwright.program.forms import Axis, Contract, Reduce
from bitwright.program.program import Program, Step

Floats = NDArray[np.float32]

LINEAR = ("Conv", "ConvTranspose", "Gemm")
JOINED = ("Add", "Sub", "Concat", "Relu", "Clip", "Flatten", "Reshape", "Identity")
"""Layers without weights that an error can be carried through without looking at values other than the output's."""
AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive layers that read one tensor of others and give one tensor to others.

    Attributes:
        layers: In the order of execution.
        source: What comes in.
        output: What goes out.
    """

    layers: tuple[LayerSpec, ...]
    source: str
    output: str

    @property
    def linear(self) -> tuple[LayerSpec, ...]:
        """Its layers with weights."""
        return tuple(spec for spec in self.layers if _is_linear(spec))


def find_blocks(spec: NetworkSpec, *, fewest: int = 2, most: int = 24) -> tuple[Block, ...]:
    """The network in blocks of at least ``fewest`` layers with weights, as small as branches let them be.

    Residual blocks, fire modules and inverted bottlenecks lie between tensors that everything passes through; chains
    are cut into pieces of ``fewest``; what is left of a chain at the end goes with the last piece.  Other layers, such as
    pooling of maxima, end a block, and a branch around them makes that part unusable.

    Args:
        spec: The layers.
        fewest: Layers with weights that a block should have; at least two, for of one layer its own outputs say all.
        most: Layers that it may have.
    """
    found: list[Block] = []
    current: list[LayerSpec] = []
    source = begin = spec.inputs[0] if len(spec.inputs) == 1 else ""

    def close(end: str) -> None:
        block = Block(layers=tuple(current), source=begin, output=end)
        room = bool(found) and len(found[-1].layers) + len(current) <= most
        if len(block.linear) < 2 and room and found[-1].output == begin:
            block = Block(layers=(*found[-1].layers, *current), source=found.pop().source, output=end)
        if len(block.linear) >= 2 and len(block.layers) <= most and block.source:
            found.append(block)

    piece: list[LayerSpec] = []
    for i, layer in enumerate(spec.layers):
        piece.append(layer)
        live = _live(spec, i)
        if len(live) != 1:
            continue
        (tensor,) = live
        if all(map(_passes, piece)):
            current += piece
            if sum(map(_is_linear, current)) >= fewest:
                close(tensor)
                current, begin = [], tensor
        else:
            close(source)
            current, begin = [], tensor
        piece, source = [], tensor
    close(source)
    return tuple(found)


def _live(spec: NetworkSpec, done: int) -> set[str]:
    """Tensors made so far that later layers or the caller read."""
    made = [*spec.inputs, *(t for layer in spec.layers[: done + 1] for t in layer.outputs)]
    later = {t for layer in spec.layers[done + 1 :] for t in layer.tensors} | set(spec.outputs)
    return {t for t in made if t in later}


def _is_linear(spec: LayerSpec) -> bool:
    return spec.op in LINEAR and spec.is_linear and not spec.reason


def _passes(spec: LayerSpec) -> bool:
    return not spec.reason and len(spec.outputs) == 1 and (_is_linear(spec) or spec.op in (*JOINED, *AVERAGES))


def carried_back(
    block: Block,
    program: Program,
    steps: Mapping[str, Sequence[Step]],
    values: Mapping[str, NDArray[np.integer]],
    error: Floats,
) -> dict[str, Floats]:
    """What ``error`` at the block's output asks of each linear layer's sums: the transposed Jacobian times it.

    Rounding is taken as the identity and saturation as flat, activations included (the straight-through estimate of
    Bengio et al. 2013, arXiv:1308.3432).

    Args:
        block: The block.
        program: The integer program.
        steps: Layer → its steps.
        values: Tensor → its integers, ``[n, ...]``, for the block's source and all outputs of its layers.
        error: ``[n, ...]`` in real units.

    Returns:
        Layer → ``[n, out, ...]``, for each layer with weights.
    """
    found: dict[str, Floats] = {}
    at = {block.output: error}
    for spec in reversed(block.layers):
        slope = at.pop(spec.outputs[0], None)
        if slope is None:
            continue
        out = next(b for b in program.buffers.values() if b.tensor == spec.outputs[0])
        slope = slope * inside(values[spec.outputs[0]], out.format, spec.clamp)
        for tensor, part in _before(spec, program, steps, values, slope, found):
            at[tensor] = at[tensor] + part if tensor in at else part
    return found


def _before(
    spec: LayerSpec,
    program: Program,
    steps: Mapping[str, Sequence[Step]],
    values: Mapping[str, NDArray[np.integer]],
    slope: Floats,
    found: dict[str, Floats],
) -> list[tuple[str, Floats]]:
    """The slopes at the inputs of a layer; those at its sums go into ``found``."""
    tensors = spec.tensors
    if _is_linear(spec):
        form = contraction(steps[spec.name])
        found[spec.name] = slope
        step = next(item for item in program.learnables if item.tensor == form.weight).format
        weights = step.dequantize(program.tensors[form.weight]).astype(np.float32)
        return [(tensors[0], transposed(form.axes, form.groups, weights, slope, values[tensors[0]].shape))]
    if spec.op in AVERAGES:
        return [(tensors[0], _spread(steps[spec.name], slope, values[tensors[0]].shape))]
    if spec.op == "Concat":
        axis = int(spec.attributes["axis"]) % slope.ndim
        edges = np.cumsum([values[t].shape[axis] for t in tensors])[:-1]
        return list(zip(tensors, np.split(slope, edges, axis=axis), strict=True))
    if spec.op in ("Add", "Sub"):
        signs = (1.0, -1.0 if spec.op == "Sub" else 1.0)
        return [(t, summed(slope, values[t].shape) * np.float32(s)) for t, s in zip(tensors, signs, strict=False)]
    return [(tensors[0], slope.reshape(values[tensors[0]].shape))]


def inside(codes: NDArray[np.integer], format: Format, clamp: tuple[float, float] | None) -> Floats:
    """1 where a value is not at a bound of its format or activation, else 0."""
    lo, hi = float(format.lo), float(format.hi)
    if clamp is not None:
        ends = (np.asarray(clamp) / float(format.scale)) + float(format.zero_point)
        lo, hi = max(lo, float(np.rint(ends[0]))), min(hi, float(np.rint(ends[1])))
    return np.asarray((codes > lo) & (codes < hi), np.float32)


def summed(slope: Floats, shape: tuple[int, ...]) -> Floats:
    """``slope`` added up over the axes along which an operand of ``shape`` was repeated."""
    while slope.ndim > len(shape):
        slope = slope.sum(axis=1)
    repeated = tuple(i for i, (a, b) in enumerate(zip(slope.shape, shape, strict=True)) if b == 1 < a)
    return slope.sum(axis=repeated, keepdims=True) if repeated else slope


def contraction(steps: Sequence[Step]) -> Contract:
    """The one contraction of a linear layer."""
    return next(step.form for step in steps if isinstance(step.form, Contract))


def _spread(steps: Sequence[Step], slope: Floats, shape: tuple[int, ...]) -> Floats:
    """The transpose of averaging: each value shares its slope evenly among its window."""
    axes = next(step.form.axes for step in steps if isinstance(step.form, Reduce))[1:]
    taps = tuple(axis.taps for axis in axes)
    positions = tuple(axis.outputs(size) for axis, size in zip(axes, shape[2:], strict=True))
    slope = slope.reshape(*shape[:2], *positions)
    weights = np.full((shape[1], 1, *taps), 1.0 / prod(taps), np.float32)
    return transposed(axes, shape[1], weights, slope, shape)


def transposed(axes: Sequence[Axis], groups: int, weights: Floats, slope: Floats, shape: tuple[int, ...]) -> Floats:
    """The transpose of a contraction.

    Args:
        axes: Of its windows.
        groups: Channel groups.
        weights: Real, ``[out, in / groups, *taps]``.
        slope: At its sums, ``[n, out, *positions]``.
        shape: Of its input, ``[n, in, *size]``.
    """
    n = len(slope)
    positions = slope.shape[2:]
    each = slope.reshape(n, groups, -1, prod(positions))
    folded = weights.reshape(groups, each.shape[2], weights.shape[1], -1)
    # The whole that windows slide over: spread, padded, and cut where padding is negative.
    sizes = [(size - 1) * a.spread + 1 + a.before + a.after for size, a in zip(shape[2:], axes, strict=True)]
    whole = np.zeros((*shape[:2], *sizes), np.float32)
    taps = [range(a.taps) for a in axes]
    for i, tap in enumerate(product(*taps)):
        column = folded[:, :, :, i]  # [groups, out, in]
        if column.shape[1:] == (1, 1):
            part = each * column[None, :, :, :]
        else:
            part = np.matmul(column.swapaxes(1, 2)[None], each)
        where = tuple(_slide(a, k, count) for a, k, count in zip(axes, tap, positions, strict=True))
        whole[(slice(None), slice(None), *where)] += part.reshape(*shape[:2], *positions)
    return _placed_back(whole, axes, shape)


def _slide(axis: Axis, tap: int, count: int) -> slice:
    start = tap * axis.dilation
    return slice(start, start + (count - 1) * axis.stride + 1, axis.stride)


def _placed_back(whole: Floats, axes: Sequence[Axis], shape: tuple[int, ...]) -> Floats:
    """The places of ``whole`` that hold elements of the input; those that negative padding cuts off get 0."""
    out = np.zeros(shape, np.float32)
    into, outof = [slice(None)] * 2, [slice(None)] * 2
    for axis, size, reach in zip(axes, shape[2:], whole.shape[2:], strict=True):
        kept = [i for i in range(size) if 0 <= i * axis.spread + axis.before < reach]
        into.append(slice(kept[0], kept[-1] + 1))
        outof.append(slice(kept[0] * axis.spread + axis.before, kept[-1] * axis.spread + axis.before + 1, axis.spread))
    out[tuple(into)] = whole[tuple(outof)]
    return out
