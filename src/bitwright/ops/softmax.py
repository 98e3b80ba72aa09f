"""Softmax in integers: subtract the maximum, look up the exponential, divide by the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bitwright.number.expr import const, divide, minimum, round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled, rescale
from bitwright.ops.gemmlowp import fixed_point_softmax
from bitwright.ops.operator import NoIntegerForm, Operator, Site, element, finish
from bitwright.ops.table import table_entries
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Epilogue, Reduce, Table
from bitwright.program.program import Buffer

LOG_INDEX_BITS = 14  # of the sum of exponentials whose logarithm is looked up


def softmax_axes(site: Site, source: Buffer) -> tuple[Axis, ...]:
    """One window over the softmax axis."""
    rank = len(source.shape)
    axis = int(site.attributes.get("axis", -1)) % rank
    if axis == 0:
        raise NoIntegerForm("it normalizes over the batch")
    return tuple(Axis(taps=n) if i == axis else Axis() for i, n in enumerate(source.shape) if i)


def largest(site: Site, build: Builder, source: Buffer, axes: tuple[Axis, ...]) -> Buffer:
    """The maximum over the window, one element wide along its axis."""
    shape = (1, *(axis.outputs(n) for axis, n in zip(axes, source.shape[1:], strict=True)))
    out = build.buffer(shape, source.format, lo=source.lo, hi=source.hi)
    form = Reduce(combine="max", axes=axes, epilogue=Epilogue(expr=var("acc", source.lo, source.hi)))
    build.step(form, [source], [out], ".max")
    return out


def total(build: Builder, source: Buffer, axes: tuple[Axis, ...]) -> Buffer:
    """The exact sum over the window as a 32-bit integer."""
    count = math.prod(axis.taps for axis in axes)
    acc = var("acc", source.lo * count, source.hi * count)
    shape = (1, *(axis.outputs(n) for axis, n in zip(axes, source.shape[1:], strict=True)))
    out = build.buffer(shape, Format(32, True, source.format.scale), lo=acc.lo, hi=acc.hi)
    build.step(Reduce(combine="sum", axes=axes, epilogue=Epilogue(expr=acc)), [source], [out], ".sum")
    return out


def lower_softmax(site: Site, build: Builder) -> Sequence[Buffer]:
    """Softmax over any axis but the batch, by the target's method."""
    source = site.data()
    if source.format.bits > 8:
        raise NoIntegerForm("its input has more than 8 bits")
    axes = softmax_axes(site, source)
    method = site.rule.method or "integer"
    if method == "q7":
        return [softmax_q7(site, build, source, axes)]
    top = largest(site, build, source, axes)
    if method == "gemmlowp":
        return [fixed_point_softmax(site, build, source, axes, top)]
    x, m = element(source, "x0"), element(top, "x1")
    span = source.hi - source.lo
    distance = minimum(x - m, 0)
    below = build.buffer(source.shape, Format(9, True, source.format.scale), lo=-span, hi=0)
    below = build.map(distance, [source, top], below, suffix=".distance")
    count = math.prod(axis.taps for axis in axes)
    # The largest power that keeps the sum of all exponentials inside 31 bits, at most 2^16: exp(0) = 2^bits.
    bits = min(16, 30 - math.ceil(math.log2(count)))
    if bits < 8:
        raise NoIntegerForm(f"a softmax over {count} elements leaves too few bits")
    powers = Format(bits + 2, True, np.asarray(2.0**-bits))
    entries = table_entries(np.exp, below.format, powers)
    exponentials = build.buffer(source.shape, powers, lo=0, hi=1 << bits)
    build.step(Table(table=build.tensor("exp", entries.astype(np.int64))), [below], [exponentials], ".exp")
    exponentials = build.narrow(exponentials, 0, 1 << bits)
    divisor = total(build, exponentials, axes)
    divisor = build.narrow(divisor, 1 << bits, divisor.hi)  # the largest element alone contributes 2^bits
    e, s = element(exponentials, "x0"), element(divisor, "x1")
    # Output steps per 1.0 as numerator / 2^shift, exact for the scales that targets prescribe.
    numerator, shift = _steps(float(site.result.format.scale))
    quotient = divide(e * numerator, s << shift, site.rule.rounding or Rounding.HALF_UP)
    scaled = finish(Scaled(quotient), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, [exponentials, divisor], out)]


def _steps(scale: float) -> tuple[int, int]:
    mantissa, exponent = math.frexp(1.0 / scale)
    if mantissa == 0.5:
        return (1 << (exponent - 1), 0) if exponent >= 1 else (1, 1 - exponent)
    shift = max(0, 14 - exponent)
    return round(1.0 / scale * 2**shift), shift


def softmax_q7(site: Site, build: Builder, source: Buffer, axes: tuple[Axis, ...]) -> Buffer:
    """Legacy CMSIS-NN ``arm_softmax_q7``: powers of two in place of e, base at the maximum minus 8.

    ``sum = Σ 2^usat3(x - base)``, ``y = ssat8((2^20 // sum) >> usat5(13 + base - x))``.
    Source: CMSIS 5.9.0 ``arm_softmax_q7.c``.
    """
    top = largest(site, build, source, axes)
    x, m = element(source, "x0"), element(top, "x1")
    above = saturate(x - m + 8, 0, 7)  # x - base, at most 8, saturated to 3 bits
    power = build.buffer(source.shape, Format(9, True, np.asarray(1.0)), lo=1, hi=128)
    power = build.map(const(1) << above, [source, top], power, suffix=".power")
    power = build.narrow(power, 1, 128)
    divisor = build.narrow(total(build, power, axes), 128, 1 << 30)
    s = var("x2", divisor.lo, divisor.hi)
    down = saturate(const(13) + m - 8 - x, 0, 31)
    scaled = finish(Scaled((const(1 << 20) // s) >> down), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return build.map(scaled.expr, [source, top, divisor], out)


def lower_log_softmax(site: Site, build: Builder) -> Sequence[Buffer]:
    """``x - max - log(sum)``: the logarithm of the sum comes from a table over its leading bits."""
    source = site.data()
    if source.format.bits > 8:
        raise NoIntegerForm("its input has more than 8 bits")
    axes = softmax_axes(site, source)
    top = largest(site, build, source, axes)
    x, m = element(source, "x0"), element(top, "x1")
    below = build.buffer(source.shape, Format(9, True, source.format.scale), lo=source.lo - source.hi, hi=0)
    below = build.map(minimum(x - m, 0), [source, top], below, suffix=".distance")
    count = math.prod(axis.taps for axis in axes)
    bits = min(16, 30 - math.ceil(math.log2(count)))
    if bits < 8:
        raise NoIntegerForm(f"a logarithm of a softmax over {count} elements leaves too few bits")
    powers = Format(bits + 2, True, np.asarray(2.0**-bits))
    exponentials = build.buffer(source.shape, powers, lo=0, hi=1 << bits)
    entries = table_entries(np.exp, below.format, powers)
    build.step(Table(table=build.tensor("exp", entries.astype(np.int64))), [below], [exponentials], ".exp")
    sums = total(build, build.narrow(exponentials, 0, 1 << bits), axes)
    sums = build.narrow(sums, 1 << bits, sums.hi)  # the largest element alone contributes 2^bits
    drop = max(0, (count << bits).bit_length() - LOG_INDEX_BITS)
    short = Format(LOG_INDEX_BITS, False, np.asarray(2.0 ** (drop - bits)))
    index = build.buffer(sums.shape, short)
    rounded = saturate(round_shift(element(sums, "x0"), drop, Rounding.HALF_UP), 1, short.hi)
    index = build.map(rounded, [sums], index, suffix=".index")
    # Sixteenths of the input's step, in as many bits as the logarithm needs: narrow inputs have fine steps.
    fine = Format(32, True, np.asarray(float(source.format.scale) / 16))
    logs = build.buffer(sums.shape, fine, lo=0)
    log_entries = table_entries(lambda v: np.log(np.maximum(v, 1.0)), short, fine)
    logs = build.narrow(logs, 0, int(log_entries[index.hi]))
    build.step(Table(table=build.tensor("log", log_entries.astype(np.int64))), [index], [logs], ".log")
    difference = (element(below, "x0") << 4) - element(logs, "x1")
    ratio = np.asarray(float(fine.scale) / float(site.result.format.scale))
    scaled = finish(rescale(difference, ratio, site.arithmetic), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, [below, logs], out, scaled.params)]


def lower_lrn(site: Site, build: Builder) -> Sequence[Buffer]:
    """Local response normalization: squares, their sum over neighboring channels, a table, a product."""
    source = site.data()
    if source.format.bits > 8:
        raise NoIntegerForm("its input has more than 8 bits")
    size = int(site.attributes["size"])
    alpha, beta = float(site.attributes.get("alpha", 1e-4)), float(site.attributes.get("beta", 0.75))
    bias = float(site.attributes.get("bias", 1.0))
    x = element(source, "x0") - int(source.format.zero_point)
    square = x * x
    squares = build.buffer(source.shape, Format(17, True, source.format.scale**2), lo=0, hi=square.hi)
    squares = build.map(square, [source], squares, suffix=".square")
    rank = len(source.shape)
    window = Axis(taps=size, before=(size - 1) // 2, after=size - 1 - (size - 1) // 2)
    acc = var("acc", 0, square.hi * size)
    drop = max(0, acc.hi.bit_length() - 12)
    reduced = round_shift(acc, drop, Rounding.HALF_UP)
    energy = build.buffer(
        source.shape, Format(13, False, np.asarray(float(source.format.scale) ** 2 * 2.0**drop)), lo=0, hi=reduced.hi
    )
    axes = (window, *([Axis()] * (rank - 2)))
    build.step(Reduce(combine="sum", axes=axes, epilogue=Epilogue(expr=reduced)), [squares], [energy], ".energy")
    top = bias**-beta
    fine = Format(16, True, np.exp2(np.ceil(np.log2(top)) - 15))
    entries = table_entries(lambda e: (bias + alpha / size * np.maximum(e, 0)) ** -beta, energy.format, fine)
    gain = build.buffer(source.shape, fine, lo=0)
    build.step(Table(table=build.tensor("gain", entries.astype(np.int64))), [energy], [gain], ".gain")
    ratio = float(source.format.scale) * float(fine.scale) / float(site.result.format.scale)
    shift = max(0, 14 - math.floor(math.log2(ratio)))
    product = x * element(gain, "x1") * round(ratio * 2.0**shift)
    scaled = finish(Scaled(round_shift(product, shift, Rounding.HALF_UP)), site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return [build.map(scaled.expr, [source, gain], out)]


OPERATORS = (
    Operator(
        types=("Softmax",),
        summary="exponentials of the distance to the maximum from a table, divided by their exact sum, rounded once",
        lower=lower_softmax,
        fixed=(0.0, 1.0),
    ),
    Operator(
        types=("LogSoftmax",),
        summary="distance to the maximum minus the logarithm of the sum, from tables",
        lower=lower_log_softmax,
    ),
    Operator(types=("LRN",), summary="squares, window sum over channels, table, product", lower=lower_lrn),
)
