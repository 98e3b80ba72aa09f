"""Any function of one element as an exact table: one entry per input code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bitwright.number.arithmetic import DPU_LEAKY_SLOPE
from bitwright.number.expr import maximum, minimum
from bitwright.number.format import Floats, Format, Integers, Rounding
from bitwright.number.requantize import rescale
from bitwright.ops.operator import NoIntegerForm, Operator, Site, code_bounds, element, finish
from bitwright.program.builder import Builder
from bitwright.program.forms import Table
from bitwright.program.program import Buffer

WIDEST_INPUT_BITS = 16
Attributes = Mapping[str, Any]
Function = Callable[[Floats, Attributes], Floats]


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))`` without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)), np.float64)


def softplus(x: Floats) -> Floats:
    """``log(1 + exp(x))`` without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), np.float64)


_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Floats) -> Floats:
    """The error function, elementwise."""
    return np.asarray(_erf(x), np.float64)


def gelu(x: Floats, attributes: Attributes) -> Floats:
    """``x · Φ(x)``, or its tanh approximation where ``approximate`` says so."""
    how = attributes.get("approximate") or "none"
    if (how.decode() if isinstance(how, bytes) else how) == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), np.float64)
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def hard_sigmoid(x: Floats, attributes: Attributes) -> Floats:
    """``clip(alpha · x + beta, 0, 1)``."""
    return np.asarray(np.clip(float(attributes.get("alpha", 0.2)) * x + float(attributes.get("beta", 0.5)), 0, 1))


def _hard_swish(x: Floats, _: Attributes) -> Floats:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def _elu(x: Floats, attributes: Attributes) -> Floats:
    return np.where(x > 0, x, float(attributes.get("alpha", 1.0)) * np.expm1(np.minimum(x, 0)))


def _celu(x: Floats, attributes: Attributes) -> Floats:
    alpha = float(attributes.get("alpha", 1.0))
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _selu(x: Floats, attributes: Attributes) -> Floats:
    alpha, gamma = float(attributes.get("alpha", 1.67326319)), float(attributes.get("gamma", 1.05070102))
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _leaky(x: Floats, attributes: Attributes) -> Floats:
    return np.where(x >= 0, x, float(attributes.get("alpha", 0.01)) * x)


def _swish(x: Floats, attributes: Attributes) -> Floats:
    return x * sigmoid(float(attributes.get("alpha", 1.0)) * x)


def _thresholded(x: Floats, attributes: Attributes) -> Floats:
    return np.where(x > float(attributes.get("alpha", 1.0)), x, 0.0)


def _shrink(x: Floats, attributes: Attributes) -> Floats:
    bias, edge = float(attributes.get("bias", 0.0)), float(attributes.get("lambd", 0.5))
    return np.where(x < -edge, x + bias, np.where(x > edge, x - bias, 0.0))


def _plain(function: Callable[[Floats], Floats]) -> Function:
    return lambda x, _: function(x)


FUNCTIONS: Mapping[str, Function] = {
    "Abs": _plain(np.abs),
    "Acos": _plain(np.arccos),
    "Acosh": _plain(np.arccosh),
    "Asin": _plain(np.arcsin),
    "Asinh": _plain(np.arcsinh),
    "Atan": _plain(np.arctan),
    "Atanh": _plain(np.arctanh),
    "Ceil": _plain(np.ceil),
    "Celu": _celu,
    "Cos": _plain(np.cos),
    "Cosh": _plain(np.cosh),
    "Elu": _elu,
    "Erf": _plain(erf),
    "Exp": _plain(np.exp),
    "Floor": _plain(np.floor),
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Log": _plain(np.log),
    "Mish": _plain(lambda x: x * np.tanh(softplus(x))),
    "Neg": _plain(np.negative),
    "Reciprocal": _plain(np.reciprocal),
    "Round": _plain(np.rint),
    "Selu": _selu,
    "Shrink": _shrink,
    "SiLU": _plain(lambda x: x * sigmoid(x)),
    "Sigmoid": _plain(sigmoid),
    "Sign": _plain(np.sign),
    "Sin": _plain(np.sin),
    "Sinh": _plain(np.sinh),
    "Softplus": _plain(softplus),
    "Softsign": _plain(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _plain(np.sqrt),
    "Swish": _swish,
    "Tan": _plain(np.tan),
    "Tanh": _plain(np.tanh),
    "ThresholdedRelu": _thresholded,
}


def _mod(x: Floats, divisor: float, attributes: Attributes) -> Floats:
    """The remainder: with the sign of ``x`` where ``fmod`` is set (as it must be for floats), else of the divisor."""
    return np.asarray(np.fmod(x, divisor) if attributes.get("fmod") else np.mod(x, divisor))


# Functions of one tensor and one constant, the constant on the right; as (x, constant, attributes).
WITH_CONSTANT: Mapping[str, Callable[[Floats, float, Attributes], Floats]] = {
    "Pow": lambda x, c, _: np.asarray(np.power(x, c)),
    "Mod": _mod,
}


def table_entries(
    function: Callable[[Floats], Floats], source: Format, result: Format, clamp: tuple[float, float] | None = None
) -> Integers:
    """``function`` for every code of ``source``, in codes of ``result``.

    Entries are computed in float64, rounded half away from zero and saturated.  Where the function is not defined
    (the square root of a negative code) the entry is the code of zero; where it is infinite it saturates.

    Args:
        function: Real function, elementwise.
        source: Format of the input, at most 16 bits.
        result: Format of the output.
        clamp: Real bounds of a fused activation.

    Returns:
        One integer per code, from the lowest code on.
    """
    codes = np.arange(source.lo, source.hi + 1)
    with np.errstate(all="ignore"):
        values = np.asarray(function(source.dequantize(codes)), np.float64)
    entries = result.quantize(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf), Rounding.HALF_AWAY)
    return np.clip(entries, *code_bounds(result, clamp))


def emit_table(site: Site, build: Builder, source: Buffer, function: Callable[[Floats], Floats]) -> Buffer:
    """Add a table step for ``function`` of ``source``."""
    if source.format.bits > WIDEST_INPUT_BITS:
        raise NoIntegerForm(f"a table over {source.format.bits}-bit codes is too large")
    entries = table_entries(function, source.format, site.result.format, site.clamp)
    reachable = entries[source.lo - source.format.lo : source.hi - source.format.lo + 1]
    out = build.buffer(
        site.result.shape,
        site.result.format,
        lo=int(reachable.min()),
        hi=int(reachable.max()),
        tensor=site.result.tensor,
    )
    build.step(Table(table=build.tensor("table", entries.astype(np.int64))), [source], [out])
    return out


def lower_function(site: Site, build: Builder) -> Sequence[Buffer]:
    """A function of one element; LeakyRelu also as the DPU has it."""
    function = FUNCTIONS[site.op]
    if site.op == "LeakyRelu" and site.rule.method == "dpu":
        return [leaky_dpu(site, build)]
    return [emit_table(site, build, site.data(), lambda x: function(x, site.attributes))]


def leaky_dpu(site: Site, build: Builder) -> Buffer:
    """Vitis DPU: the negative slope is 26/256 (for alpha 0.1); the product and the change of step are rounded once."""
    source = site.data()
    if not math.isclose(float(site.attributes.get("alpha", 0.01)), 0.1, rel_tol=1e-3):
        raise NoIntegerForm("the DPU's LeakyRelu has the slope 26/256 (alpha 0.1) only")
    factor, shift = DPU_LEAKY_SLOPE
    x = element(source, "x0") - int(source.format.zero_point)
    sloped = (maximum(x, 0) << shift) + minimum(x, 0) * factor
    ratio = float(source.format.scale) / float(site.result.format.scale)
    scaled = rescale(sloped, np.asarray(math.ldexp(ratio, -shift)), site.arithmetic)
    scaled = finish(scaled, site.result, site.clamp)
    out = build.buffer(site.result.shape, site.result.format, tensor=site.result.tensor)
    return build.map(scaled.expr, [source], out, scaled.params)


def lower_with_constant(site: Site, build: Builder) -> Sequence[Buffer]:
    """A function of one element and one constant."""
    function = WITH_CONSTANT[site.op]
    constant = np.ravel(site.constant(1))
    if constant.size != 1:
        raise NoIntegerForm("its second operand is not one number")
    return [emit_table(site, build, site.data(), lambda x: function(x, float(constant[0]), site.attributes))]


OPERATORS = (
    Operator(
        types=tuple(FUNCTIONS),
        summary="a table with one entry per input code, each the function's value rounded half away from zero",
        lower=lower_function,
        becomes="table",
    ),
    Operator(
        types=tuple(WITH_CONSTANT),
        summary="a table, the second operand being one constant",
        lower=lower_with_constant,
        becomes="table",
    ),
)
