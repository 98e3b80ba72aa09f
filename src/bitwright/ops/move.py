"""Operators that only move elements: the output has the input's format and nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitwright.number.format import Rounding
from bitwright.ops.elementwise import requantized
from bitwright.ops.operator import NoIntegerForm, Operator, Result, Site
from bitwright.program.builder import Builder
from bitwright.program.forms import Fill, Join, Motion, Reshape, Take, Transpose
from bitwright.program.program import Buffer


def in_format(site: Site, build: Builder, source: Buffer, result: Result) -> Buffer:
    """``source`` in the result's format: itself, or requantized at the input."""
    if source.format == result.format:
        return source
    inner = build.buffer(source.shape, result.format, stem=f"{source.name}.requantized")
    return requantized(site, build, source, inner)


def moved(site: Site, build: Builder, motions: Sequence[Motion], index: int = 0) -> Buffer:
    """Move the first input to output ``index``, requantizing before where formats differ, clamping after."""
    result = site.outputs[index]
    source = in_format(site, build, site.data(), result)
    if site.clamp is not None:
        raise NoIntegerForm("an activation is fused onto an operator that only moves elements")
    return build.move(source, list(motions), tensor=result.tensor)


def lower_reshape(site: Site, build: Builder) -> Sequence[Buffer]:
    """Operators that change the shape and nothing else."""
    return [moved(site, build, [Reshape(site.result.shape)])]


def lower_transpose(site: Site, build: Builder) -> Sequence[Buffer]:
    """Transpose."""
    rank = len(site.data().shape)
    order = tuple(int(i) for i in site.attributes.get("perm") or reversed(range(rank)))
    return [moved(site, build, [Transpose(order)])]


def lower_concat(site: Site, build: Builder) -> Sequence[Buffer]:
    """Concat of tensors that the network computes."""
    if len(site.buffers) != len(site.inputs):
        raise NoIntegerForm("one of its operands is constant")
    rank = len(site.result.shape)
    axis = int(site.attributes["axis"]) % rank
    if site.clamp is not None:
        raise NoIntegerForm("an activation is fused onto a concatenation")
    sources = [in_format(site, build, b, site.result) for b in site.buffers]
    return [build.move(sources, [Join(axis)], tensor=site.result.tensor)]


def lower_split(site: Site, build: Builder) -> Sequence[Buffer]:
    """Split: one piece per output, as wide as the output is."""
    source = site.data()
    rank = len(source.shape)
    axis = int(site.attributes.get("axis", 0)) % rank
    outputs: list[Buffer] = []
    start = 0
    for i, result in enumerate(site.outputs):
        width = result.shape[axis]
        outputs.append(moved(site, build, [Take(axis, tuple(range(start, start + width)))], i))
        start += width
    return outputs


def lower_slice(site: Site, build: Builder) -> Sequence[Buffer]:
    """Slice with constant bounds; negative steps run backwards."""
    source = site.data()
    rank = len(source.shape)
    starts, ends = (np.ravel(site.constant(i)).tolist() for i in (1, 2))
    axes_given, steps_given = site.optional_constant(3), site.optional_constant(4)
    axes = range(len(starts)) if axes_given is None else np.ravel(axes_given).tolist()
    steps = [1] * len(starts) if steps_given is None else np.ravel(steps_given).tolist()
    motions: list[Motion] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = source.shape[int(axis)]
        # ONNX's rules for ends beyond the axis and negative steps are Python's.
        indices = tuple(range(*slice(int(start), int(end), int(step)).indices(size)))
        if indices != tuple(range(size)):
            motions.append(Take(int(axis) % rank, indices))
    return [moved(site, build, motions or [Reshape(site.result.shape)])]


def lower_gather(site: Site, build: Builder) -> Sequence[Buffer]:
    """Gather with constant indices; negative ones count from the end."""
    source, indices = site.data(), np.asarray(site.constant(1), np.int64)
    rank = len(source.shape)
    axis = int(site.attributes.get("axis", 0)) % rank
    wrapped = tuple(int(i) % source.shape[axis] for i in indices.ravel())
    return [moved(site, build, [Take(axis, wrapped), Reshape(site.result.shape)])]


def lower_expand(site: Site, build: Builder) -> Sequence[Buffer]:
    """Expand, and broadcasting to a known shape in general."""
    source, shape = site.data(), site.result.shape
    padded = (1,) * (len(shape) - len(source.shape)) + source.shape
    motions: list[Motion] = [Reshape(padded)]
    for axis, (have, want) in enumerate(zip(padded, shape, strict=True)):
        if have != want:
            motions.append(Take(axis, (0,) * want))
    return [moved(site, build, motions)]


def lower_tile(site: Site, build: Builder) -> Sequence[Buffer]:
    """Tile with constant repeats."""
    source = site.data()
    repeats = [int(r) for r in np.ravel(site.constant(1))]
    motions: list[Motion] = [
        Take(axis, tuple(range(n)) * r) for axis, (n, r) in enumerate(zip(source.shape, repeats, strict=True)) if r != 1
    ]
    return [moved(site, build, motions or [Reshape(site.result.shape)])]


def lower_pad(site: Site, build: Builder) -> Sequence[Buffer]:
    """Pad in every mode of ONNX; negative pads cut before others add."""
    source = site.data()
    rank = len(source.shape)
    mode = site.attributes.get("mode") or "constant"
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    pads = site.attributes.get("pads")
    given = [int(p) for p in (pads if pads is not None else np.ravel(site.constant(1)))]
    chosen = site.optional_constant(3)
    axes = list(range(rank)) if chosen is None else [int(a) % rank for a in np.ravel(chosen)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = given[i], given[i + len(axes)]
    motions: list[Motion] = []
    sizes = list(source.shape)
    for axis in range(rank):  # negative padding cuts
        if before[axis] < 0 or after[axis] < 0:
            kept = range(max(0, -before[axis]), source.shape[axis] - max(0, -after[axis]))
            motions.append(Take(axis, tuple(kept)))
            sizes[axis] = len(kept)
    before, after = [max(0, b) for b in before], [max(0, a) for a in after]
    if mode == "constant":
        value = site.optional_constant(2)
        real = float(np.ravel(value)[0]) if value is not None and value.size else float(site.attributes.get("value", 0))
        code = int(site.result.format.quantize(np.asarray(real), Rounding.HALF_AWAY))
        if any(before) or any(after):
            motions.append(Fill(tuple(before), tuple(after), code))
    else:
        numpy_mode = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}.get(mode)
        if numpy_mode is None:
            raise NoIntegerForm(f"its padding mode {mode!r} is unknown")
        for axis in range(rank):
            if before[axis] or after[axis]:
                size = sizes[axis]
                index = np.pad(np.arange(size), (before[axis], after[axis]), mode=numpy_mode)  # type: ignore[call-overload]
                motions.append(Take(axis, tuple(int(i) for i in index)))
    return [moved(site, build, motions or [Reshape(site.result.shape)])]


def lower_depth_to_space(site: Site, build: Builder) -> Sequence[Buffer]:
    """DepthToSpace in both orders, DCR and CRD."""
    n, c, h, w = site.data().shape
    b = int(site.attributes["blocksize"])
    mode = site.attributes.get("mode") or "DCR"
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    inner = (n, b, b, c // (b * b), h, w) if mode == "DCR" else (n, c // (b * b), b, b, h, w)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return [moved(site, build, [Reshape(inner), Transpose(order), Reshape(site.result.shape)])]


def lower_space_to_depth(site: Site, build: Builder) -> Sequence[Buffer]:
    """SpaceToDepth."""
    n, c, h, w = site.data().shape
    b = int(site.attributes["blocksize"])
    split = Reshape((n, c, h // b, b, w // b, b))
    return [moved(site, build, [split, Transpose((0, 3, 5, 1, 2, 4)), Reshape(site.result.shape)])]


OPERATORS = (
    Operator(
        types=("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Cast"),
        summary="same elements, other shape",
        lower=lower_reshape,
        relation="input",
    ),
    Operator(types=("Transpose",), summary="axes exchanged", lower=lower_transpose, relation="input"),
    Operator(
        types=("Concat",), summary="inputs one after the other, in one format", lower=lower_concat, relation="all"
    ),
    Operator(types=("Split",), summary="pieces along an axis", lower=lower_split, relation="input"),
    Operator(types=("Slice",), summary="a range along axes", lower=lower_slice, relation="input"),
    Operator(types=("Gather",), summary="constant positions along an axis", lower=lower_gather, relation="input"),
    Operator(types=("Expand",), summary="repeated by broadcasting", lower=lower_expand, relation="input"),
    Operator(types=("Tile",), summary="repeated", lower=lower_tile, relation="input"),
    Operator(
        types=("Pad",),
        summary="a border of one code, or of mirrored or repeated elements",
        lower=lower_pad,
        relation="input",
    ),
    Operator(types=("DepthToSpace",), summary="channels to places", lower=lower_depth_to_space, relation="input"),
    Operator(types=("SpaceToDepth",), summary="places to channels", lower=lower_space_to_depth, relation="input"),
)
