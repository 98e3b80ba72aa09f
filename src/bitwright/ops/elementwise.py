"""Addition, subtraction, multiplication, bounds and slopes, element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, const, maximum, minimum, round_shift, var
from bitwright.number.format import Floats, Rounding
from bitwright.number.requantize import Scaled, parameter, rescale
from bitwright.ops.operator import NoIntegerForm, Operator, Result, Site, element, finish
from bitwright.program.builder import Builder
from bitwright.program.forms import Reshape
from bitwright.program.program import Buffer

CONSTANT_BITS = 16  # a constant addend keeps at least this many bits below the output's step
FACTOR_BITS = 15  # magnitude bits of the largest constant factor


def same_rank(build: Builder, buffer: Buffer, rank: int) -> Buffer:
    """``buffer`` with ones inserted after the batch, so that NumPy broadcasting aligns its last axes."""
    if len(buffer.shape) >= rank:
        return buffer
    return build.move(buffer, [Reshape((1,) * (rank - len(buffer.shape) + 1) + buffer.shape[1:])])


def lower_sum(site: Site, build: Builder, signs: Sequence[int]) -> Sequence[Buffer]:
    """``sum(sign * input)`` by the target's method, rounded once (or as the method says)."""
    rank = len(site.result.shape)
    method = site.rule.method or ("shift" if site.arithmetic.requantize == "shift" else "common-shift")
    buffers: list[Buffer] = []
    terms: list[tuple[Expr, float, int]] = []
    constants: list[tuple[Floats, int]] = []
    for value, sign in zip(site.inputs, signs, strict=True):
        if isinstance(value, Buffer):
            aligned = same_rank(build, value, rank)
            x = element(aligned, f"x{len(buffers)}") - int(value.format.zero_point)
            terms.append((x, float(value.format.scale), sign))
            buffers.append(aligned)
        else:
            constants.append((np.asarray(value, np.float64), sign))
    if not terms:
        raise NoIntegerForm("none of its operands is computed by the network")
    offset = _within_reach(_offset(constants, rank), site)
    if method == "tflite" and len(terms) == 2 and not constants:
        scaled = _sum_tflite(site, terms)
    elif method == "shift":
        scaled = _sum_shift(site, terms, offset)
    else:
        scaled = _sum_common(site, terms, offset)
    scaled = finish(scaled, site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, buffers, out, scaled.params)]


def _offset(constants: Sequence[tuple[Floats, int]], rank: int) -> Floats | None:
    if not constants:
        return None
    total = sum((sign * value for value, sign in constants), np.zeros(()))
    total = np.asarray(total, np.float64)
    if total.ndim and total.shape[0] != 1 and total.ndim == rank:
        raise NoIntegerForm("its constant operand differs from sample to sample")
    return total if total.ndim == 0 else total.reshape((1,) * (rank - total.ndim) + total.shape)


def _within_reach(offset: Floats | None, site: Site) -> Floats | None:
    """The constant, cut where the sum saturates whatever the other operands are (masks of -1e9 or -inf)."""
    if offset is None:
        return None
    ranges = [b.format.real_range for b in site.buffers] + [site.result.format.real_range] * 2
    reach = float(sum(max(abs(float(lo)), abs(float(hi))) for lo, hi in ranges))
    return np.clip(offset, -reach, reach)


def _constant(offset: Floats | None, step: float) -> Expr:
    """The constant operand in units of ``step`` as an expression; stored by :func:`_with_constant`."""
    if offset is None:
        return const(0)
    codes = _codes(offset, step)
    return const(int(codes)) if codes.ndim == 0 else var("offset", int(codes.min()), int(codes.max()))


def _codes(offset: Floats, step: float) -> NDArray[np.int64]:
    return np.asarray(np.rint(offset / step), np.int64)


def _with_constant(expr: Expr, offset: Floats | None, step: float) -> Scaled:
    used = offset is not None and offset.ndim and "offset" in expr.variables()
    return Scaled(expr, {"offset": _codes(offset, step)} if used and offset is not None else {})


def _sum_shift(site: Site, terms: Sequence[tuple[Expr, float, int]], offset: Floats | None) -> Scaled:
    """Align all terms to the finest step by left shifts, add, shift right once with rounding."""
    finest = min(step for _, step, _ in terms)
    output = float(site.result.format.scale)
    if offset is not None:
        finest = min(finest, output / 2**CONSTANT_BITS)
    total = _constant(offset, finest)
    for x, step, sign in terms:
        shifted = x << _log2(step / finest)
        total = total + shifted if sign > 0 else total - shifted
    right = _log2(output / finest)
    rounding = site.rule.rounding or site.arithmetic.rounding
    expr = round_shift(total, right, rounding) if right >= 0 else total << -right
    return _with_constant(expr, offset, finest)


def _log2(ratio: float) -> int:
    mantissa, exponent = math.frexp(ratio)
    if mantissa != 0.5:
        raise NoIntegerForm("its formats are not powers of two, and the target adds by shifting")
    return exponent - 1


def _sum_common(site: Site, terms: Sequence[tuple[Expr, float, int]], offset: Floats | None) -> Scaled:
    """``(sum x_i * M_i + constant + half) >> n``: fixed-point multipliers with one common shift, one rounding."""
    output = float(site.result.format.scale)
    largest = max(step / output for _, step, _ in terms)
    shift = min(20 - math.ceil(math.log2(largest)), 62)
    total = _constant(offset, output / 2.0**shift)
    for x, step, sign in terms:
        multiplier = round(step / output * 2.0**shift)
        total = total + x * (sign * multiplier)
    if shift < 0:
        return _with_constant(total << -shift, offset, output / 2.0**shift)
    rounding = site.rule.rounding or Rounding.HALF_UP
    return _with_constant(round_shift(total, shift, rounding), offset, output / 2.0**shift)


def _sum_tflite(site: Site, terms: Sequence[tuple[Expr, float, int]]) -> Scaled:
    """TensorFlow Lite's int8 ADD/SUB: both inputs shifted left by 20 and requantized, added, requantized.

    Source: tensorflow/lite/micro/kernels/add_common.cc and reference/integer_ops/add.h.
    """
    output = float(site.result.format.scale)
    twice = 2 * max(step for _, step, _ in terms)
    params: dict[str, NDArray[np.int64]] = {}
    total = const(0)
    for i, (x, step, sign) in enumerate(terms):
        scaled = rescale(x << 20, np.asarray(step / twice), site.arithmetic, f"in{i}_")
        params |= scaled.params
        total = total + scaled.expr if sign > 0 else total - scaled.expr
    result = rescale(total, np.asarray(twice / (2.0**20 * output)), site.arithmetic, "out_")
    return Scaled(result.expr, {**params, **result.params})


def lower_product(site: Site, build: Builder) -> Sequence[Buffer]:
    """The product of two tensors, or of a tensor and constants, requantized."""
    rank = len(site.result.shape)
    if len(site.buffers) == 2:
        a, b = (same_rank(build, x, rank) for x in site.buffers)
        x = element(a, "x0") - int(a.format.zero_point)
        y = x if a.name == b.name else element(b, "x1") - int(b.format.zero_point)
        ratio = np.asarray(float(a.format.scale) * float(b.format.scale) / float(site.result.format.scale))
        scaled = finish(rescale(x * y, ratio, site.arithmetic), site.result, site.clamp)
        inputs = [a] if a.name == b.name else [a, b]
        out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
        return [build.map(scaled.expr, inputs, out, scaled.params)]
    if not site.buffers:
        raise NoIntegerForm("none of its operands is computed by the network")
    source = same_rank(build, site.buffers[0], rank)
    constant = next(np.asarray(v, np.float64) for v in site.inputs if not isinstance(v, Buffer) and v is not None)
    return [scaled_by_constant(site, build, source, constant)]


def scaled_by_constant(site: Site, build: Builder, source: Buffer, constant: Floats) -> Buffer:
    """``source * constant``, the constant in 16 bits over a power of two that its largest element decides."""
    rank = len(site.result.shape)
    if constant.ndim and constant.ndim == rank and constant.shape[0] != 1:
        raise NoIntegerForm("its constant operand differs from sample to sample")
    x = element(source, "x0") - int(source.format.zero_point)
    codes, step = factor_codes(constant, rank)
    ratio = np.asarray(float(source.format.scale) * step / float(site.result.format.scale))
    scaled = rescale(x * parameter("factor", codes), ratio, site.arithmetic)
    params = dict(scaled.params) | ({"factor": codes} if codes.ndim else {})
    scaled = finish(Scaled(scaled.expr, params), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return build.map(scaled.expr, [source], out, scaled.params)


def factor_codes(constant: Floats, rank: int) -> tuple[NDArray[np.int64], float]:
    """Constant factors as integers of at most ``FACTOR_BITS`` magnitude bits and their step, a power of two.

    Powers of two are exact.  The error of any factor is at most half of 2^-14 of the largest.

    Args:
        constant: Real factors.
        rank: Axes of the tensor that they multiply; ones are put in front so that they broadcast.
    """
    largest = float(np.abs(constant).max(initial=0.0))
    step = math.ldexp(1.0, math.frexp(largest)[1] - FACTOR_BITS) if largest > 0 else 1.0
    limit = (1 << FACTOR_BITS) - 1
    codes = np.clip(np.rint(constant / step), -limit, limit).astype(np.int64)
    return codes.reshape((1,) * (rank - codes.ndim) + codes.shape) if codes.ndim else codes, step


def lower_add(site: Site, build: Builder) -> Sequence[Buffer]:
    """Add and Sum of any number of tensors and constants."""
    return lower_sum(site, build, [1] * len(site.inputs))


def lower_sub(site: Site, build: Builder) -> Sequence[Buffer]:
    """Sub; either operand may be constant."""
    return lower_sum(site, build, [1, -1])


def lower_div(site: Site, build: Builder) -> Sequence[Buffer]:
    """Div by a constant, as a multiplication."""
    divisor = site.constant(1)
    if (np.asarray(divisor) == 0).any():
        raise NoIntegerForm("it divides by zero")
    return [
        scaled_by_constant(
            site, build, same_rank(build, site.data(), len(site.result.shape)), 1.0 / np.asarray(divisor, np.float64)
        )
    ]


def lower_identity(site: Site, build: Builder) -> Sequence[Buffer]:
    """Requantize (where formats differ) and clamp: ReLU, Clip and format changes on their own."""
    source = site.data()
    return [requantized(site, build, source)]


def requantized(site: Site, build: Builder, source: Buffer, out: Buffer | None = None) -> Buffer:
    """``source`` in the format of ``out`` (by default a new buffer for the result), clamped by the site's activation."""
    out = out or build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    x = element(source, "x0") - int(source.format.zero_point)
    ratio = np.asarray(float(source.format.scale) / float(out.format.scale))
    result = Result(tensor=site.result.tensor, shape=out.shape, format=out.format)
    scaled = finish(Scaled(x) if ratio == 1.0 else rescale(x, ratio, site.arithmetic), result, site.clamp)
    return build.map(scaled.expr, [source], out, scaled.params)


def lower_prelu(site: Site, build: Builder) -> Sequence[Buffer]:
    """``max(x, 0)`` and ``slope * min(x, 0)``, each requantized; one of them is zero."""
    source, slope = site.data(), np.asarray(site.constant(1), np.float64)
    rank = len(site.result.shape)
    if slope.ndim > rank - 1 and slope.shape[0] != 1:
        raise NoIntegerForm("its slope differs from sample to sample")
    x = element(source, "x0") - int(source.format.zero_point)
    base = float(source.format.scale) / float(site.result.format.scale)
    positive = rescale(maximum(x, 0), np.asarray(base), site.arithmetic, "up_")
    codes, step = factor_codes(slope, rank)
    sloped = minimum(x, 0) * parameter("slope", codes)
    negative = rescale(sloped, np.asarray(base * step), site.arithmetic, "down_")
    params = {**positive.params, **negative.params} | ({"slope": codes} if codes.ndim else {})
    scaled = finish(Scaled(positive.expr + negative.expr, params), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, [source], out, scaled.params)]


def lower_extreme(site: Site, build: Builder) -> Sequence[Buffer]:
    """Minimum or maximum of tensors: each brought to the output's format, then compared."""
    rank = len(site.result.shape)
    pick = minimum if site.op == "Min" else maximum
    total: Expr | None = None
    params: dict[str, NDArray[np.int64]] = {}
    buffers: list[Buffer] = []
    for i, value in enumerate(site.inputs):
        if isinstance(value, Buffer):
            aligned = same_rank(build, value, rank)
            x = element(aligned, f"x{len(buffers)}") - int(value.format.zero_point)
            ratio = np.asarray(float(value.format.scale) / float(site.result.format.scale))
            scaled = Scaled(x) if ratio == 1.0 else rescale(x, ratio, site.arithmetic, f"in{i}_")
            buffers.append(aligned)
            term, params = scaled.expr, {**params, **scaled.params}
        else:
            # What lies outside the output's format saturates anyway; infinities are common here.
            ends = site.result.format.real_range
            inside = np.clip(np.asarray(value, np.float64), float(ends[0]), float(ends[1]))
            codes = np.asarray(np.rint(inside / float(site.result.format.scale)), np.int64)
            codes = codes.reshape((1,) * (rank - codes.ndim) + codes.shape) if codes.size > 1 else codes.reshape(())
            term = parameter(f"c{i}", codes)
            params |= {f"c{i}": codes} if codes.ndim else {}
        total = term if total is None else pick(total, term)
    if total is None or not buffers:
        raise NoIntegerForm("none of its operands is computed by the network")
    scaled = finish(Scaled(total, params), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, buffers, out, scaled.params)]


OPERATORS = (
    Operator(
        types=("Add", "Sum"), summary="terms aligned, added, rounded once (method of the target)", lower=lower_add
    ),
    Operator(types=("Sub",), summary="as Add, the second term negative", lower=lower_sub),
    Operator(types=("Mul",), summary="product, requantized", lower=lower_product),
    Operator(types=("Div",), summary="multiplication by the reciprocal of a constant", lower=lower_div),
    Operator(
        types=("Relu", "Clip", "Identity"), summary="requantized where formats differ, clamped", lower=lower_identity
    ),
    Operator(
        types=("PRelu",), summary="positive part, and slope times negative part, each requantized", lower=lower_prelu
    ),
    Operator(
        types=("Min", "Max"), summary="operands requantized to the output's format, compared", lower=lower_extreme
    ),
)
