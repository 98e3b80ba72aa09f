"""An expression in the languages of the back ends: one table each.

``numpy_function``   int64 arrays, the reference.
``python_source``    a scalar function for numba, the fast kernels.
``c_statements``     C99, for microcontrollers.
``onnx_nodes``       standard ONNX operators over float32 or float64 that hold integers exactly.

A new language is a table over ``Op`` and a rule for names; see ``docs/how-to/add-a-back-end.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, Op, evaluate

Ints = NDArray[np.int64]


def _scale32(x: Ints, pattern: Ints) -> NDArray[np.float32]:
    """``float32(x) * m`` where ``pattern`` holds the bits of the float32 ``m``; one IEEE product."""
    multiplier = np.asarray(pattern, np.int64).astype(np.uint32).view(np.float32)
    return np.asarray(np.asarray(x).astype(np.float32) * multiplier, np.float32)


def _away(x: NDArray[np.float32]) -> Ints:
    wide = x.astype(np.float64)  # exact, so that adding one half cannot round
    return np.asarray(np.where(wide < 0, -np.floor(0.5 - wide), np.floor(wide + 0.5))).astype(np.int64)


NUMPY: Mapping[Op, Callable[[Expr, Ints, Ints], Ints]] = {
    Op.ADD: lambda _, a, b: np.add(a, b),
    Op.SUB: lambda _, a, b: np.subtract(a, b),
    Op.MUL: lambda _, a, b: np.multiply(a, b),
    Op.SHL: lambda _, a, b: np.left_shift(a, b),
    Op.SHR: lambda _, a, b: np.right_shift(a, b),
    Op.DIV: lambda _, a, b: np.floor_divide(a, b),
    Op.MIN: lambda _, a, b: np.minimum(a, b),
    Op.MAX: lambda _, a, b: np.maximum(a, b),
    Op.SCALE32_EVEN: lambda _, a, b: np.rint(_scale32(a, b)).astype(np.int64),
    Op.SCALE32_AWAY: lambda _, a, b: _away(_scale32(a, b)),
}


def numpy_value(expr: Expr, values: Mapping[str, NDArray[np.integer[Any]]]) -> Ints:
    """The value of ``expr`` in int64 arrays.

    Args:
        expr: The expression; its ranges are already proven to fit 64 bits.
        values: Variable → integers, of shapes that broadcast against each other.

    Raises:
        KeyError: if a variable has no value.
    """

    def leaf(node: Expr) -> Ints:
        if node.op is Op.CONST:
            return np.asarray(node.value, np.int64)
        return np.asarray(values[node.name]).astype(np.int64)

    return evaluate(expr, leaf, NUMPY)


PYTHON: Mapping[Op, Callable[[Expr, str, str], str]] = {
    Op.ADD: lambda _, a, b: f"({a} + {b})",
    Op.SUB: lambda _, a, b: f"({a} - {b})",
    Op.MUL: lambda _, a, b: f"({a} * {b})",
    Op.SHL: lambda _, a, b: f"({a} << {b})",
    Op.SHR: lambda _, a, b: f"({a} >> {b})",
    Op.DIV: lambda _, a, b: f"({a} // {b})",
    Op.MIN: lambda _, a, b: f"min({a}, {b})",
    Op.MAX: lambda _, a, b: f"max({a}, {b})",
    Op.SCALE32_EVEN: lambda _, a, b: f"scale32_even({a}, {b})",
    Op.SCALE32_AWAY: lambda _, a, b: f"scale32_away({a}, {b})",
}


@dataclass
class _Statements:
    """Names every intermediate result, so that shared nodes are computed once."""

    declare: Callable[[Expr, str, str], str]
    lines: list[str] = field(default_factory=list)

    def name(self, node: Expr, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(self.declare(node, name, text))
        return name


def python_source(expr: Expr, name: Callable[[str], str] = str, constant: Callable[[int], str] = str) -> list[str]:
    """Assignments in Python (for numba) whose last line sets ``result``; every value is a signed 64-bit integer.

    Args:
        expr: The expression.
        name: Variable of the expression → Python expression that holds it.
        constant: Integer → Python expression for it (a caller may lift constants into arguments).
    """
    body = _Statements(lambda _, target, text: f"{target} = {text}")

    def leaf(node: Expr) -> str:
        return constant(node.value) if node.op is Op.CONST else name(node.name)

    def combine(node: Expr, a: str, b: str) -> str:
        return body.name(node, PYTHON[node.op](node, a, b))

    result = evaluate(expr, leaf, dict.fromkeys(PYTHON, combine))
    return [*body.lines, f"result = {result}"]


def c_type(lo: int, hi: int) -> str:
    """The C99 integer type for arithmetic on ``[lo, hi]``: 32 bits where they suffice, else 64."""
    return "int32_t" if lo >= -(1 << 31) and hi < 1 << 31 else "int64_t"


# C leaves shifts of negative numbers to the compiler, so SHL multiplies and SHR goes through BW_ASR, and C's division
# rounds toward zero, so DIV goes through BW_FLOOR_DIV.  C_DEFINITIONS has them.
C: Mapping[Op, Callable[[str, str, str], str]] = {
    Op.ADD: lambda _, a, b: f"{a} + {b}",
    Op.SUB: lambda _, a, b: f"{a} - {b}",
    Op.MUL: lambda _, a, b: f"{a} * {b}",
    Op.SHL: lambda t, a, b: f"{a} * (({t})1 << {b})",  # the type holds 1 << b too, see c_statements
    Op.SHR: lambda _, a, b: f"BW_ASR({a}, {b})",
    Op.DIV: lambda _, a, b: f"BW_FLOOR_DIV({a}, {b})",
    Op.MIN: lambda _, a, b: f"({a} < {b}) ? {a} : {b}",
    Op.MAX: lambda _, a, b: f"({a} > {b}) ? {a} : {b}",
    Op.SCALE32_EVEN: lambda t, a, b: f"({t})bw_scale32_even({a}, {b})",
    Op.SCALE32_AWAY: lambda t, a, b: f"({t})bw_scale32_away({a}, {b})",
}

C_INCLUDES = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n"
# Name → its definition, and the names that this needs.
C_DEFINITIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "BW_ASR": (
        """\
/* Arithmetic shift right without relying on the compiler's choice for negative numbers. */
#define BW_ASR(x, s) ((x) < 0 ? ~((~(x)) >> (s)) : ((x) >> (s)))
""",
        (),
    ),
    "BW_FLOOR_DIV": (
        """\
/* Division rounded toward minus infinity; d > 0. */
#define BW_FLOOR_DIV(x, d) ((x) < 0 ? ~((~(x)) / (d)) : ((x) / (d)))
""",
        (),
    ),
    "bw_scale32": (
        """\
static inline float bw_scale32(int64_t x, int64_t pattern)
{
    uint32_t bits = (uint32_t)pattern;
    float multiplier;
    memcpy(&multiplier, &bits, sizeof multiplier);
    return (float)x * multiplier;
}
""",
        (),
    ),
    "bw_scale32_even": (
        (
            "static inline int64_t bw_scale32_even(int64_t x, int64_t pattern) "
            "{ return (int64_t)rintf(bw_scale32(x, pattern)); }\n"
        ),
        ("bw_scale32",),
    ),
    "bw_scale32_away": (
        (
            "static inline int64_t bw_scale32_away(int64_t x, int64_t pattern) "
            "{ return (int64_t)roundf(bw_scale32(x, pattern)); }\n"
        ),
        ("bw_scale32",),
    ),
}
C_PRELUDE = C_INCLUDES + "".join(text for text, _ in C_DEFINITIONS.values())


def c_prelude(text: str) -> str:
    """The part of ``C_PRELUDE`` that a C text needs: compilers warn of functions that nobody calls."""
    used = {name for name in C_DEFINITIONS if f"{name}(" in text}
    used |= {needed for name in used for needed in C_DEFINITIONS[name][1]}
    return C_INCLUDES + "".join(text for name, (text, _) in C_DEFINITIONS.items() if name in used) if used else ""


def c_statements(expr: Expr, name: Callable[[str], str] = str) -> list[str]:
    """C99 declarations whose last one defines ``result``; needs ``C_PRELUDE`` before it.

    Each intermediate has the type that its operands and its own proven range need, so nothing overflows and nothing
    is wider than it must be.
    """

    def work_type(node: Expr) -> str:
        """The type that holds the result and every operand, and by whose width C lets one shift that far."""
        nodes = (node, *node.args)
        if node.op in (Op.SHL, Op.SHR) and node.args[1].hi > 30:
            return "int64_t"
        return c_type(min(n.lo for n in nodes), max(n.hi for n in nodes))

    body = _Statements(lambda node, target, text: f"const {work_type(node)} {target} = {text};")

    def leaf(node: Expr) -> str:
        if node.op is Op.VAR:
            return name(node.name)
        suffix = "" if c_type(node.value, node.value) == "int32_t" else "LL"
        if node.value == -(1 << 63):
            return "INT64_MIN"
        if node.value == -(1 << 31):
            return "INT32_MIN"
        return f"{node.value}{suffix}" if node.value >= 0 else f"({node.value}{suffix})"

    def combine(node: Expr, a: str, b: str) -> str:
        kind = work_type(node)
        shift = node.op in (Op.SHL, Op.SHR)
        right = b if shift else f"({kind}){b}"
        return body.name(node, C[node.op](kind, f"({kind}){a}", right))

    result = evaluate(expr, leaf, dict.fromkeys(C, combine))
    return [*body.lines, f"const {c_type(expr.lo, expr.hi)} result = ({c_type(expr.lo, expr.hi)}){result};"]


class OnnxBuilder(Protocol):
    """What :func:`onnx_value` needs from a graph writer; names are tensor names."""

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the name of that output."""

    def constant(self, value: NDArray[Any]) -> str:
        """Add an initializer and return its name."""


EXACT_INTEGERS: Mapping[np.dtype[Any], int] = {np.dtype(np.float32): 1 << 24, np.dtype(np.float64): 1 << 53}


def onnx_dtype(expr: Expr) -> np.dtype[Any]:
    """The narrowest float type that holds every intermediate integer of ``expr`` exactly.

    Raises:
        OverflowError: if an intermediate may pass 2^53.
    """
    # Halving and doubling by powers of two is exact at any size; everything else must stay integer-valued in range.
    reach = max(max(abs(node.lo), abs(node.hi)) for node in expr.walk())
    scaled = any(node.op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY) for node in expr.walk())
    for dtype, limit in EXACT_INTEGERS.items():
        if reach < limit and not (scaled and dtype == np.float32):
            return dtype
    raise OverflowError(f"an intermediate may reach {reach}; ONNX floats hold integers exactly below 2^53")


def onnx_value(expr: Expr, values: Mapping[str, str], params: Mapping[str, Ints], graph: OnnxBuilder) -> str:
    """Write ``expr`` as standard ONNX nodes over :func:`onnx_dtype` and return the result's tensor name.

    Args:
        expr: The expression.
        values: Variable → tensor of that float type, holding integers.
        params: Variable → constant integers, of a shape that broadcasts against the tensors.
        graph: Where the nodes go.

    Floor and the multiplications by powers of two are exact; the division is too, since quotients of integers below
    2^52 that are not integers stay at least one unit in the last place away from the next integer.
    """
    dtype = onnx_dtype(expr)

    def number(value: NDArray[Any]) -> str:
        return graph.constant(np.asarray(value, dtype))

    def constants(node: Expr) -> Ints | None:
        if node.op is Op.CONST:
            return np.asarray(node.value, np.int64)
        return np.asarray(params[node.name]) if node.op is Op.VAR and node.name in params else None

    def leaf(node: Expr) -> str:
        known = constants(node)
        return values[node.name] if known is None else ""  # constants are written where they are used

    def operand(node: Expr, name: str) -> str:
        known = constants(node)
        return name if known is None else number(known)

    def power(node: Expr, name: str, sign: int) -> str:
        """2**(sign * shift), written as a constant where the shift is one."""
        known = constants(node)
        if known is not None:
            return number(np.exp2(sign * known.astype(np.float64)))
        exponent = graph.node("Neg", name) if sign < 0 else name
        return graph.node("Pow", number(np.asarray(2.0)), exponent)

    def scale32(node: Expr, a: str, _: str) -> str:
        pattern = constants(node.args[1])
        if pattern is None:
            raise ValueError("the multiplier of a float32 scaling must be a constant")
        multiplier = graph.constant(pattern.astype(np.uint32).view(np.float32))
        # The maximum changes nothing; it keeps runtimes from folding the product into the weights of a convolution
        # before it, which would round elsewhere.
        lowest = graph.constant(np.asarray(-(2.0**100), np.float32))
        single = graph.node("Max", graph.node("Cast", a, to=np.dtype(np.float32)), lowest)
        product = graph.node("Mul", single, multiplier)
        if node.op is Op.SCALE32_EVEN:
            return graph.node("Cast", graph.node("Round", product), to=dtype)
        wide = graph.node("Cast", product, to=dtype)
        magnitude = graph.node("Floor", graph.node("Add", graph.node("Abs", wide), number(np.asarray(0.5))))
        return graph.node("Mul", graph.node("Sign", wide), magnitude)

    def combine(node: Expr, a: str, b: str) -> str:
        left, right = node.args
        match node.op:
            case Op.SHL:
                return graph.node("Mul", operand(left, a), power(right, b, 1))
            case Op.SHR:
                return graph.node("Floor", graph.node("Mul", operand(left, a), power(right, b, -1)))
            case Op.DIV:
                return graph.node("Floor", graph.node("Div", operand(left, a), operand(right, b)))
            case Op.SCALE32_EVEN | Op.SCALE32_AWAY:
                return scale32(node, operand(left, a), b)
            case _:
                return graph.node(node.op.value.capitalize(), operand(left, a), operand(right, b))

    result = evaluate(expr, leaf, dict.fromkeys(NUMPY, combine))
    return operand(expr, result)
