"""Convolution, transposed convolution and dense layers: one contraction with constant weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.expr import signed_bits, var
from bitwright.number.format import Floats, Format, Rounding, round_real
from bitwright.number.requantize import bound_by_parameters, rescale
from bitwright.ops.operator import NoIntegerForm, Operator, Site, finish
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Contract, Reshape, Transpose
from bitwright.program.program import Buffer


def conv_axes(attributes: Mapping[str, Any], taps: Sequence[int], size: Sequence[int]) -> tuple[Axis, ...]:
    """The windows of a convolution.

    Args:
        attributes: ``strides``, ``dilations``, ``pads``, ``auto_pad`` as in the ONNX operator.
        taps: Kernel shape.
        size: Spatial shape of the input.
    """
    rank = len(taps)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = explicit_pads(attributes, taps, strides, dilations, size)
    return tuple(
        Axis(taps=int(k), stride=int(s), dilation=int(d), before=int(b), after=int(a))
        for k, s, d, (b, a) in zip(taps, strides, dilations, pads, strict=True)
    )


def explicit_pads(
    attributes: Mapping[str, Any],
    taps: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    size: Sequence[int],
) -> list[tuple[int, int]]:
    """(before, after) per axis, with ``auto_pad`` resolved."""
    rank = len(taps)
    auto = attributes.get("auto_pad") or "NOTSET"
    auto = auto.decode() if isinstance(auto, bytes) else str(auto)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for k, s, d, n in zip(taps, strides, dilations, size, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            small, large = total // 2, total - total // 2
            pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return pads
    flat = list(attributes.get("pads") or [0] * (2 * rank)) if auto != "VALID" else [0] * (2 * rank)
    return list(zip(flat[:rank], flat[rank:], strict=True))


def transposed_axes(attributes: Mapping[str, Any], taps: Sequence[int], size: Sequence[int]) -> tuple[Axis, ...]:
    """The windows of a transposed convolution seen as a convolution of a spread-out input."""
    rank = len(taps)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    extra = list(attributes.get("output_padding") or [0] * rank)
    wanted = attributes.get("output_shape")
    auto = attributes.get("auto_pad") or "NOTSET"
    auto = auto.decode() if isinstance(auto, bytes) else str(auto)
    flat = list(attributes.get("pads") or [0] * (2 * rank))
    pads = list(zip(flat[:rank], flat[rank:], strict=True))
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for i, (k, s, d, n) in enumerate(zip(taps, strides, dilations, size, strict=True)):
            target = list(wanted)[-rank:][i] if wanted else n * s
            total = s * (n - 1) + extra[i] + (k - 1) * d + 1 - target
            small, large = total // 2, total - total // 2
            pads.append((large, small) if auto != "SAME_UPPER" and wanted else (small, large))
    return tuple(
        Axis(
            taps=int(k),
            dilation=int(d),
            before=int(d * (k - 1) - b),
            after=int(d * (k - 1) - a + e),
            spread=int(s),
        )
        for k, s, d, (b, a), e in zip(taps, strides, dilations, pads, extra, strict=True)
    )


def transposed_weights(weights: Floats, attributes: Mapping[str, Any]) -> Floats:
    """``[in, out/groups, *taps]`` of ConvTranspose → ``[out, in/groups, *flipped taps]``."""
    groups = int(attributes.get("group") or 1)
    inputs, outputs, *taps = weights.shape
    split = weights.reshape(groups, inputs // groups, outputs, *taps)
    joined = np.swapaxes(split, 1, 2).reshape(groups * outputs, inputs // groups, *taps)
    return np.ascontiguousarray(np.flip(joined, axis=tuple(range(2, joined.ndim))))


def gemm_weights(weights: Floats, attributes: Mapping[str, Any]) -> Floats:
    """Gemm's second operand → ``[out, in]``, with alpha multiplied in."""
    alpha = float(attributes.get("alpha", 1.0))
    return np.ascontiguousarray((weights if attributes.get("transB") else weights.T) * alpha)


def matmul_weights(weights: Floats, _: Mapping[str, Any]) -> Floats:
    """MatMul's second operand → ``[out, in]``."""
    return np.ascontiguousarray(weights.T)


def integer_weights(site: Site, weights: Floats) -> NDArray[np.int64]:
    """The weights as stored: given ones, or the constant rounded into its format."""
    if site.weight is None:
        raise NoIntegerForm("no format was chosen for its weights")
    if site.weight_values is not None:
        return np.asarray(site.weight_values, np.int64).reshape(weights.shape)
    return np.asarray(site.weight.quantize(weights, site.weight_rounding), np.int64)


def accumulator_bias(site: Site, bias: Floats, step: NDArray[np.float64]) -> tuple[NDArray[np.int64], Format | None]:
    """The bias in accumulator steps, and the format in which the device stores it.

    A bias with a format of its own is shifted into the accumulator; where its step is finer than the
    accumulator's, the shift goes right and rounds half up.

    Args:
        site: The layer.
        bias: Real bias ``[out]``.
        step: Accumulator step, 0-d or ``[out]``.
    """
    if site.bias is None:
        limit = 1 << (site.accumulator_bias_bits - 1)
        codes = np.clip(round_real(np.asarray(bias, np.float64) / step, site.bias_rounding), -limit, limit - 1)
        stored = Format(site.accumulator_bias_bits, True, step, axis=0 if step.ndim else None)
        return codes.astype(np.int64), stored
    codes = np.asarray(site.bias.quantize(bias, site.bias_rounding), np.int64)
    ratio = np.broadcast_to(site.bias.scale / step, codes.shape)
    shifted = np.where(ratio >= 1, codes * np.maximum(ratio, 1), round_real(codes * ratio, Rounding.HALF_UP))
    return shifted.astype(np.int64), site.bias


def accumulator_bounds(
    weights: NDArray[np.int64], bias: NDArray[np.int64], source: Buffer, zero: int, *, may_miss: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Proven interval of each output channel's accumulator.

    Args:
        weights: ``[out, in/groups, *taps]``.
        bias: ``[out]`` in accumulator steps.
        source: The input, with its proven range.
        zero: Its zero point.
        may_miss: Whether taps can fall outside the input (padding, spreading), where they add nothing.
    """
    lo, hi = source.lo - zero, source.hi - zero
    if may_miss:
        lo, hi = min(lo, 0), max(hi, 0)
    flat = weights.reshape(len(weights), -1)
    positive = np.maximum(flat, 0).sum(1)
    negative = np.minimum(flat, 0).sum(1)
    return bias + positive * lo + negative * hi, bias + positive * hi + negative * lo


def partial_bounds(weights: NDArray[np.int64], bias: NDArray[np.int64], source: Buffer, zero: int) -> tuple[int, int]:
    """Proven interval of every partial sum of every accumulator, whatever the order, the bias first, last or apart.

    Wider than :func:`accumulator_bounds` where products cannot be zero: what is added later may take back what was
    added before, and a machine (or a float that stands in for one) must hold what is in between.

    Args:
        weights: ``[out, in/groups, *taps]``.
        bias: ``[out]`` in accumulator steps.
        source: The input, with its proven range.
        zero: Its zero point.
    """
    lo, hi = min(source.lo - zero, 0), max(source.hi - zero, 0)
    flat = weights.reshape(len(weights), -1)
    positive = np.maximum(flat, 0).sum(1)
    negative = np.minimum(flat, 0).sum(1)
    lows = np.minimum(bias, 0) + positive * lo + negative * hi
    highs = np.maximum(bias, 0) + positive * hi + negative * lo
    return int(lows.min()), int(highs.max())


def contract(
    site: Site,
    build: Builder,
    source: Buffer,
    weights: Floats,
    bias: Floats | None,
    groups: int,
    axes: tuple[Axis, ...],
) -> Buffer:
    """Emit the contraction of ``source`` with ``weights`` ``[out, in/groups, *taps]`` and its epilogue."""
    if source.format.axis is not None:
        raise NoIntegerForm("its input has a scale per channel")
    integers = integer_weights(site, weights)
    assert site.weight is not None  # integer_weights refused None
    outputs = len(integers)
    step = np.asarray(source.format.scale * site.weight.scale, np.float64)
    zero = int(source.format.zero_point)
    real_bias = site.bias_values if site.bias_values is not None else bias
    biases, stored = accumulator_bias(site, np.zeros(outputs) if real_bias is None else real_bias, step)
    may_miss = any(a.before or a.after or a.spread > 1 for a in axes)
    lows, highs = accumulator_bounds(integers, biases, source, zero, may_miss=may_miss)
    acc_lo, acc_hi = partial_bounds(integers, biases, source, zero)
    check_accumulator(site, build, acc_lo, acc_hi)
    ratio = step / float(site.result.format.scale)
    acc = var("acc", int(lows.min()), int(highs.max()))
    scaled = finish(rescale(acc, ratio, arithmetic_of(site)), site.result, site.clamp)
    out_lo, out_hi = bound_by_parameters(scaled.expr, scaled.params, {"acc": (lows, highs)})
    size = [axis.outputs(n) for axis, n in zip(axes, source.shape[2:], strict=True)]
    if any(n <= 0 for n in size):
        raise NoIntegerForm(f"its window is larger than its input {source.shape}")
    out = build.buffer(
        (source.shape[0], outputs, *size),
        site.result.format,
        lo=int(out_lo.min()),
        hi=int(out_hi.max()),
        tensor=site.result.tensor,
    )
    weight_name = build.learnable("Weights", "weight", integers, site.weight)
    bias_name = None
    if bias is not None or biases.any():
        bias_name = build.tensor("bias", biases)
        if stored is not None:
            build.count_learnable("Bias", bias_name, biases.shape, stored)
    form = Contract(
        weight=weight_name,
        bias=bias_name,
        groups=groups,
        axes=axes,
        input_zero=zero,
        epilogue=build.epilogue(scaled),
        acc_lo=acc_lo,
        acc_hi=acc_hi,
    )
    build.step(form, [source], [out])
    return out


def arithmetic_of(site: Site) -> Arithmetic:
    """The target's arithmetic, or that of its rule for the operator."""
    if site.rule.method != "single":
        return site.arithmetic
    single = {"requantize": "multiplier-single", "rounding": Rounding.HALF_UP, "semantics": "tflite-single"}
    return replace(site.arithmetic, **single)  # type: ignore[arg-type]


def check_accumulator(site: Site, build: Builder, lo: int, hi: int) -> None:
    """Note the bits that the target's accumulator lacks, if any."""
    need = signed_bits(lo, hi)
    if need > site.arithmetic.accumulator_bits:
        build.notes.append(
            f"{site.layer}: the accumulator may reach [{lo}, {hi}] and needs {need} bits; the target has "
            f"{site.arithmetic.accumulator_bits}, {need - site.arithmetic.accumulator_bits} too few"
        )


def lower_conv(site: Site, build: Builder) -> Sequence[Buffer]:
    """Conv with constant weights and bias, any number of spatial axes."""
    source, weights = site.data(0), np.asarray(site.constant(1), np.float64)
    axes = conv_axes(site.attributes, weights.shape[2:], source.shape[2:])
    groups = int(site.attributes.get("group") or 1)
    return [contract(site, build, source, weights, site.optional_constant(2), groups, axes)]


def lower_conv_transpose(site: Site, build: Builder) -> Sequence[Buffer]:
    """ConvTranspose with constant weights and bias, as a convolution of the spread-out input."""
    source, weights = site.data(0), np.asarray(site.constant(1), np.float64)
    axes = transposed_axes(site.attributes, weights.shape[2:], source.shape[2:])
    groups = int(site.attributes.get("group") or 1)
    turned = transposed_weights(weights, site.attributes)
    return [contract(site, build, source, turned, site.optional_constant(2), groups, axes)]


def lower_gemm(site: Site, build: Builder) -> Sequence[Buffer]:
    """Gemm with constant second and third operands; alpha and beta go into them."""
    if site.attributes.get("transA"):
        raise NoIntegerForm("its first operand is transposed")
    weights = gemm_weights(np.asarray(site.constant(1), np.float64), site.attributes)
    bias = site.optional_constant(2)
    if bias is not None:
        beta = float(site.attributes.get("beta", 1.0))
        if bias.ndim > 1 and bias.shape[0] != 1:
            raise NoIntegerForm("its third operand differs from sample to sample")
        bias = np.broadcast_to(np.asarray(bias, np.float64).reshape(-1) * beta, (len(weights),))
    return [contract(site, build, site.data(0), weights, bias, 1, ())]


def lower_matmul(site: Site, build: Builder) -> Sequence[Buffer]:
    """MatMul of a tensor of any rank with a constant matrix on the right."""
    weights = np.asarray(site.constant(1), np.float64)
    if weights.ndim != 2:
        raise NoIntegerForm(f"its constant has {weights.ndim} axes; 2 are supported")
    source = site.data(0)
    rows = matmul_weights(weights, site.attributes)
    if len(source.shape) == 2:
        return [contract(site, build, source, rows, None, 1, ())]
    if len(source.shape) < 2:
        raise NoIntegerForm("its input has no batch axis")
    # [n, ..., k] becomes [n, k, t] so that channels are axis 1, and back.
    *outer, depth = source.shape[1:]
    places = int(np.prod(outer))
    turned = build.move(source, [Reshape((1, places, depth)), Transpose((0, 2, 1))])
    inner = contract(site, build, turned, rows[:, :, None], None, 1, (Axis(),))
    back = Reshape((1, *outer, len(rows)))
    return [build.move(inner, [Transpose((0, 2, 1)), back], tensor=site.result.tensor)]


OPERATORS = (
    Operator(
        types=("Conv",),
        summary="sum of (input - zero point) · weight over the window, plus bias; requantized, saturated",
        lower=lower_conv,
        weights=lambda w, _: np.asarray(w, np.float64),
    ),
    Operator(
        types=("ConvTranspose",),
        summary="a convolution of the input spread out by the stride, with the kernel flipped",
        lower=lower_conv_transpose,
        weights=transposed_weights,
    ),
    Operator(
        types=("Gemm",),
        summary="dense: sum of (input - zero point) · weight, plus bias; requantized, saturated",
        lower=lower_gemm,
        weights=gemm_weights,
    ),
    Operator(
        types=("MatMul",),
        summary="dense along the last axis with a constant right operand",
        lower=lower_matmul,
        weights=matmul_weights,
    ),
)
