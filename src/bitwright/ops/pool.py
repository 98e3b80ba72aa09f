"""Pooling and reductions over axes: a window to one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from bitwright.number.arithmetic import dpu_pool_factor
from bitwright.number.expr import Expr, divide, round_shift, saturate, var
from bitwright.number.format import Rounding
from bitwright.number.requantize import Scaled, integer_multiplier, rescale
from bitwright.ops.linear import explicit_pads
from bitwright.ops.move import in_format
from bitwright.ops.operator import NoIntegerForm, Operator, Site, code_bounds, finish
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Epilogue, Fill, Reduce, Reshape
from bitwright.program.program import Buffer


def window(site: Site) -> tuple[list[int], list[int], list[int]]:
    """Taps, strides and dilations of a pooling layer, one per spatial axis."""
    taps = [int(k) for k in site.attributes["kernel_shape"]]
    strides = [int(s) for s in site.attributes.get("strides") or [1] * len(taps)]
    return taps, strides, [int(d) for d in site.attributes.get("dilations") or [1] * len(taps)]


def stated_pads(site: Site, source: Buffer) -> list[tuple[int, int]]:
    """(before, after) of a pooling layer, one per spatial axis, as the file states them."""
    return explicit_pads(site.attributes, *window(site), source.shape[2:])


def pool_axes(site: Site, source: Buffer) -> tuple[Axis, ...]:
    """The windows of a pooling layer over the axes after the batch; the channel axis is not pooled."""
    taps, strides, dilations = window(site)
    size = source.shape[2:]
    pads = stated_pads(site, source)
    axes = [Axis()]
    for k, s, d, (b, a), n, wanted in zip(taps, strides, dilations, pads, size, site.result.shape[2:], strict=True):
        # Rounding the output size up (ceil_mode) is padding at the end, as much as the stated shape needs.
        needed = (wanted - 1) * s + (k - 1) * d + 1 - n - b
        axes.append(Axis(taps=k, stride=s, dilation=d, before=int(b), after=max(int(a), needed)))
    return tuple(axes)


def lower_max_pool(site: Site, build: Builder) -> Sequence[Buffer]:
    """MaxPool; what lies outside the tensor never wins."""
    source = site.data()
    if len(site.outputs) > 1:
        raise NoIntegerForm("the positions of the maxima are asked for")
    axes = pool_axes(site, source)
    if window_counts(axes, source.shape[1:])[0] == 0:
        raise NoIntegerForm("a window lies wholly in the padding")
    source = in_format(site, build, source, site.result)
    scaled = finish(Scaled(var("acc", source.lo, source.hi) - int(source.format.zero_point)), site.result, site.clamp)
    lo, hi = scaled.expr.lo, scaled.expr.hi
    out = build.buffer(site.result.shape, site.result.format, lo=lo, hi=hi, tensor=site.result.tensor)
    build.step(Reduce(combine="max", axes=axes, epilogue=build.epilogue(scaled)), [source], [out])
    return [out]


def window_counts(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[int, int]:
    """Fewest and most taps that fall inside the tensor, over all output positions."""
    fewest = most = 1
    for axis, n in zip(axes, shape, strict=True):
        positions = (
            np.arange(axis.outputs(n))[:, None] * axis.stride + np.arange(axis.taps) * axis.dilation - axis.before
        )
        inside = ((positions >= 0) & (positions < n)).sum(1)
        fewest, most = fewest * int(inside.min()), most * int(inside.max())
    return fewest, most


def average(site: Site, build: Builder, source: Buffer, axes: tuple[Axis, ...]) -> Buffer:
    """Emit the mean over windows ``axes`` (one per axis after the batch) by the target's method."""
    method = site.rule.method or "exact"
    if method not in MEANS:
        raise NoIntegerForm(f"the target's pooling method {method!r} is unknown")
    # The kernels behind "away" average stored integers as they are; with a zero point halves then round another way.
    zero = 0 if method == "away" else int(source.format.zero_point)
    fewest, most = window_counts(axes, source.shape[1:])
    if fewest == 0:
        raise NoIntegerForm("a window lies wholly in the padding")
    reach = [(source.lo - zero) * n for n in (fewest, most)] + [(source.hi - zero) * n for n in (fewest, most)]
    acc = var("acc", min(reach), max(reach))
    ratio = float(source.format.scale) / float(site.result.format.scale)
    count = var("count", fewest, most) if fewest != most else fewest
    taps = [axis.taps for axis in axes if axis.taps > 1]
    mean = MEANS[method](site, acc, count, ratio, taps)
    if method == "away":
        moved = int(site.result.format.zero_point) - int(source.format.zero_point)
        scaled = Scaled(saturate(mean.expr + moved, *code_bounds(site.result.format, site.clamp)))
    else:
        scaled = finish(mean, site.result, site.clamp)
    return emit(site, build, source, Reduce(combine="sum", axes=axes, input_zero=zero, epilogue=build.epilogue(scaled)))


def emit(site: Site, build: Builder, source: Buffer, form: Reduce) -> Buffer:
    """Add the step, and one that drops the reduced axes where the result's shape has none."""
    shape = (1, *(axis.outputs(n) for axis, n in zip(form.axes, source.shape[1:], strict=True)))
    same = shape == tuple(site.result.shape)
    expr = form.epilogue.expr
    inner = build.buffer(shape, site.result.format, lo=expr.lo, hi=expr.hi, tensor=site.result.tensor if same else None)
    build.step(form, [source], [inner])
    return inner if same else build.move(inner, [Reshape(site.result.shape)], tensor=site.result.tensor)


def _exact(site: Site, acc: Expr, count: Expr | int, ratio: float, _: Sequence[int]) -> Scaled:
    """The mean, rounded once into the output's own format."""
    arithmetic = site.arithmetic
    rounding = site.rule.rounding or arithmetic.rounding
    if arithmetic.requantize == "shift":
        exponent = math.frexp(ratio)[1] - 1  # ratio is 2**exponent
        return Scaled(divide(acc << max(exponent, 0), count << max(-exponent, 0), rounding))
    if isinstance(count, int):
        return rescale(acc, np.asarray(ratio / count), arithmetic)
    multiplier, shift = integer_multiplier(np.asarray(ratio), 22)
    left, right = max(-int(shift), 0), max(int(shift), 0)
    return Scaled(divide(acc * (int(multiplier) << left), count << right, rounding))


def _away(_: Site, acc: Expr, count: Expr | int, ratio: float, __: Sequence[int]) -> Scaled:
    """TensorFlow Lite and CMSIS-NN s8: stored integers divided by the count, half away from zero, in the input's format."""
    return Scaled(divide(_same_format(acc, ratio), count, Rounding.HALF_AWAY))


def _multiplied(site: Site, acc: Expr, count: Expr | int, ratio: float, __: Sequence[int]) -> Scaled:
    """TensorFlow Lite's MEAN: the sum times one multiplier, into which the count was divided in integers.

    Source: tensorflow/lite/kernels/reduce.cc (the shift by which the multiplier is widened first), measured on LiteRT 2.3.
    """
    if isinstance(count, Expr):
        raise NoIntegerForm("this target's means are over whole axes only")
    multiplier, right = (int(v) for v in integer_multiplier(np.asarray(ratio), 31))
    widened = min(count.bit_length() - 1, 32, max(0, 62 - right))
    multiplier, shift = (multiplier << widened) // count, right - 31 + widened
    if site.arithmetic.requantize != "multiplier-double":
        return Scaled(round_shift(acc * multiplier, shift + 31, Rounding.HALF_UP))
    high = round_shift((acc << max(-shift, 0)) * multiplier, 31, Rounding.HALF_UP)
    return Scaled(round_shift(high, max(shift, 0), Rounding.HALF_AWAY))


def _truncate(_: Site, acc: Expr, count: Expr | int, ratio: float, __: Sequence[int]) -> Scaled:
    """NNoM and legacy CMSIS-NN: C's division, toward zero, in the input's format."""
    return Scaled(divide(_same_format(acc, ratio), count, Rounding.TOWARD_ZERO))


def _dpu(site: Site, acc: Expr, count: Expr | int, ratio: float, taps: Sequence[int]) -> Scaled:
    """Vitis DPU: the sum times k / 2^n in place of the division."""
    if isinstance(count, Expr):
        raise NoIntegerForm("the DPU averages whole windows only, and some reach into the padding")
    factor, shift = dpu_pool_factor(taps or [1])
    exponent = math.frexp(ratio)[1] - 1
    product = (acc * factor) << max(exponent, 0)
    return Scaled(round_shift(product, shift + max(-exponent, 0), site.rule.rounding or site.arithmetic.rounding))


def _same_format(acc: Expr, ratio: float) -> Expr:
    if ratio != 1.0:
        raise NoIntegerForm("this target's average pooling cannot change the scale, and its formats differ")
    return acc


Mean = Callable[[Site, Expr, Expr | int, float, Sequence[int]], Scaled]
MEANS: Mapping[str, Mean] = {"exact": _exact, "away": _away, "truncate": _truncate, "dpu": _dpu, "mean": _multiplied}


def lower_average_pool(site: Site, build: Builder) -> Sequence[Buffer]:
    """AveragePool; padding counts only where ``count_include_pad`` says so."""
    source = site.data()
    axes = pool_axes(site, source)
    if site.attributes.get("count_include_pad") and any(a.before or a.after for a in axes):
        # The stated padding counts as zeros; what rounding the size up adds at the end (ceil_mode) does not count.
        after = (0, 0, *(a for _, a in stated_pads(site, source)))
        before = (0, *(axis.before for axis in axes))
        source = build.move(source, [Fill(before, after, int(source.format.zero_point))])
        axes = tuple(
            replace(axis, before=0, after=axis.after - filled) for axis, filled in zip(axes, after[1:], strict=True)
        )
    return [average(site, build, source, axes)]


def lower_global_average(site: Site, build: Builder) -> Sequence[Buffer]:
    """GlobalAveragePool."""
    source = site.data()
    return [average(site, build, source, (Axis(), *(Axis(taps=n) for n in source.shape[2:])))]


def lower_global_max(site: Site, build: Builder) -> Sequence[Buffer]:
    """GlobalMaxPool."""
    source = site.data()
    axes = (Axis(), *(Axis(taps=n) for n in source.shape[2:]))
    return [reduced(site, build, source, axes, "max")]


def reduced(
    site: Site, build: Builder, source: Buffer, axes: tuple[Axis, ...], combine: Literal["max", "sum"]
) -> Buffer:
    """Emit a maximum or a sum over axes, dropping reduced axes where the result's shape does."""
    zero = int(source.format.zero_point)
    ratio = np.asarray(float(source.format.scale) / float(site.result.format.scale))
    if combine == "max":
        acc = var("acc", source.lo, source.hi) - zero
        scaled = Scaled(acc) if ratio == 1.0 else rescale(acc, ratio, site.arithmetic)
    else:
        count = math.prod(a.taps for a in axes)
        scaled = rescale(var("acc", (source.lo - zero) * count, (source.hi - zero) * count), ratio, site.arithmetic)
    epilogue = build.epilogue(finish(scaled, site.result, site.clamp))
    input_zero = 0 if combine == "max" else zero
    return emit(site, build, source, Reduce(combine=combine, axes=axes, input_zero=input_zero, epilogue=epilogue))


def reduced_axes(site: Site, source: Buffer) -> tuple[Axis, ...]:
    """The windows of ``ReduceMean`` and its kin: whole axes."""
    given = site.attributes.get("axes")
    if given is None and len(site.inputs) > 1 and site.inputs[1] is not None:
        given = [int(a) for a in np.ravel(site.constant(1))]
    rank = len(source.shape)
    axes = {int(a) % rank for a in given} if given else set(range(rank))
    if 0 in axes:
        raise NoIntegerForm("it reduces over the batch")
    return tuple(Axis(taps=n) if i in axes else Axis() for i, n in enumerate(source.shape) if i)


def lower_reduce_mean(site: Site, build: Builder) -> Sequence[Buffer]:
    """ReduceMean over any axes but the batch."""
    source = site.data()
    return [average(site, build, source, reduced_axes(site, source))]


def lower_reduce_max(site: Site, build: Builder) -> Sequence[Buffer]:
    """ReduceMax over any axes but the batch."""
    source = site.data()
    return [reduced(site, build, source, reduced_axes(site, source), "max")]


def lower_reduce_sum(site: Site, build: Builder) -> Sequence[Buffer]:
    """ReduceSum over any axes but the batch."""
    source = site.data()
    return [reduced(site, build, source, reduced_axes(site, source), "sum")]


def lower_arg_max(site: Site, build: Builder) -> Sequence[Buffer]:
    """ArgMax over any axis but the batch; the first of equals wins."""
    source = site.data()
    rank = len(source.shape)
    axis = int(site.attributes.get("axis", 0)) % rank
    if axis == 0:
        raise NoIntegerForm("it compares samples of the batch")
    if site.attributes.get("select_last_index"):
        raise NoIntegerForm("it asks for the last of equal maxima")
    axes = tuple(Axis(taps=n) if i == axis else Axis() for i, n in enumerate(source.shape) if i)
    index = var("acc", 0, source.shape[axis] - 1)
    return [emit(site, build, source, Reduce(combine="argmax", axes=axes, epilogue=Epilogue(expr=index)))]


OPERATORS = (
    Operator(
        types=("MaxPool",),
        summary="the largest code of the window; padding never wins",
        lower=lower_max_pool,
        relation="input",
    ),
    Operator(
        types=("AveragePool",),
        summary="sum over the window's valid taps, divided by the target's method, rounded once",
        lower=lower_average_pool,
    ),
    Operator(
        types=("GlobalAveragePool",),
        summary="sum over all positions, divided by the target's method, rounded once",
        lower=lower_global_average,
    ),
    Operator(
        types=("GlobalMaxPool",),
        summary="the largest code of each channel",
        lower=lower_global_max,
        relation="input",
    ),
    Operator(
        types=("ReduceMean",),
        summary="sum over the axes, divided by the target's method, rounded once",
        lower=lower_reduce_mean,
    ),
    Operator(types=("ReduceMax",), summary="the largest code over the axes", lower=lower_reduce_max, relation="input"),
    Operator(types=("ReduceSum",), summary="sum over the axes, requantized", lower=lower_reduce_sum),
    Operator(types=("ArgMax",), summary="position of the first largest code", lower=lower_arg_max),
)
