"""Arithmetic of one element, as an expression whose range is proven while it is built.

This is the one definition of what an integer machine computes.  NumPy, C, ONNX and hardware are tables over these
operations (``number/render.py``), so they cannot disagree about rounding; and because every node carries the
interval of its values, an overflow is known before anything runs.

Integer sums are associative as long as nothing overflows, so a matrix product may be summed in any order by any back
end: only what happens to one accumulator afterwards, its *epilogue*, is written here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from bitwright.number.format import Rounding

INT64_LO, INT64_HI = -(1 << 63), (1 << 63) - 1


class Op(StrEnum):
    """The operations; a back end is a table with one entry for each."""

    CONST = "const"
    VAR = "var"
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    SHL = "shl"  # x * 2**s, s >= 0
    SHR = "shr"  # floor(x / 2**s), s >= 0
    DIV = "div"  # floor(x / d), d >= 1
    MIN = "min"
    MAX = "max"
    SCALE32_EVEN = "scale32-even"  # rint(float32(x) * m), one IEEE single product, ties to even
    SCALE32_AWAY = "scale32-away"  # the same, ties away from zero


@dataclass(frozen=True)
class Expr:
    """An integer expression and the interval ``[lo, hi]`` that it provably stays in.

    Attributes:
        op: What the node computes.
        args: Its operands.
        lo: Lowest possible value.
        hi: Highest possible value.
        name: Name of a variable (an element of a buffer, or a constant that may differ per channel).
        value: Value of a constant.
    """

    op: Op
    args: tuple[Expr, ...]
    lo: int
    hi: int
    name: str = ""
    value: int = 0

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"empty range [{self.lo}, {self.hi}] of {self.op}")
        if self.lo < INT64_LO or self.hi > INT64_HI:
            raise OverflowError(f"{self.op} may reach [{self.lo}, {self.hi}], which 64 bits cannot hold")

    def __add__(self, other: Expr | int) -> Expr:
        return _binary(Op.ADD, self, _lift(other))

    def __sub__(self, other: Expr | int) -> Expr:
        return _binary(Op.SUB, self, _lift(other))

    def __mul__(self, other: Expr | int) -> Expr:
        return _binary(Op.MUL, self, _lift(other))

    def __lshift__(self, shift_bits: Expr | int) -> Expr:
        return _binary(Op.SHL, self, _lift(shift_bits))

    def __rshift__(self, shift_bits: Expr | int) -> Expr:
        return _binary(Op.SHR, self, _lift(shift_bits))

    def __floordiv__(self, divisor: Expr | int) -> Expr:
        return _binary(Op.DIV, self, _lift(divisor))

    def walk(self) -> Iterator[Expr]:
        """Every distinct node, operands before the nodes that use them."""
        seen: dict[int, Expr] = {}

        def visit(node: Expr) -> Iterator[Expr]:
            if id(node) not in seen:
                seen[id(node)] = node
                for arg in node.args:
                    yield from visit(arg)
                yield node

        yield from visit(self)

    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in order of first use."""
        return tuple(dict.fromkeys(node.name for node in self.walk() if node.op is Op.VAR))

    @property
    def bits(self) -> int:
        """Width of the two's-complement integer that holds the result."""
        return signed_bits(self.lo, self.hi)


def signed_bits(lo: int, hi: int) -> int:
    """Width of the smallest two's-complement integer that holds every value of ``[lo, hi]``."""
    return max((~lo if lo < 0 else lo).bit_length(), (~hi if hi < 0 else hi).bit_length()) + 1


def const(value: int) -> Expr:
    """A constant."""
    return Expr(Op.CONST, (), value, value, value=value)


def var(name: str, lo: int, hi: int) -> Expr:
    """A variable whose values lie in ``[lo, hi]``."""
    return Expr(Op.VAR, (), lo, hi, name=name)


def _lift(x: Expr | int) -> Expr:
    return x if isinstance(x, Expr) else const(x)


def _binary(op: Op, a: Expr, b: Expr) -> Expr:
    """``a op b``, with constants folded and identities removed."""
    if op is Op.DIV and b.lo < 1:
        raise ValueError(f"divisor may be {b.lo}; it must be at least 1")
    if op in (Op.SHL, Op.SHR) and (b.lo < 0 or b.hi > 63):
        raise ValueError(f"shift may be {b.lo}..{b.hi}; it must lie in 0..63")
    if op is Op.SHL and b.hi == 63:
        raise OverflowError("a left shift by 63 leaves no value bit in 64 bits")
    if b.op is Op.CONST:
        neutral = b.value == (1 if op in (Op.MUL, Op.DIV) else 0)
        if neutral and op not in (Op.MIN, Op.MAX):
            return a
    if a.op is Op.CONST and b.op is not Op.CONST and (op, a.value) in {(Op.ADD, 0), (Op.MUL, 1)}:
        return b
    node = _proven(op, a, b)
    return const(node.lo) if a.op is Op.CONST and b.op is Op.CONST else node


def _proven(op: Op, a: Expr, b: Expr) -> Expr:
    """The node ``a op b`` with its range: every operation is monotone in each operand, so corners are extremes."""
    apply = EXACT[op]
    corners = [apply(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    if op is Op.MUL and a is b:  # a square is never negative
        corners = [0] if a.lo <= 0 <= a.hi else []
        corners += [a.lo * a.lo, a.hi * a.hi]
    return Expr(op, (a, b), min(corners), max(corners))


# Python's own integers: unbounded, floor shifts and floor division.  The oracle of all other tables.
EXACT: Mapping[Op, Callable[[int, int], int]] = {
    Op.ADD: lambda x, y: x + y,
    Op.SUB: lambda x, y: x - y,
    Op.MUL: lambda x, y: x * y,
    Op.SHL: lambda x, s: x << s,
    Op.SHR: lambda x, s: x >> s,
    Op.DIV: lambda x, d: x // d,
    Op.MIN: min,
    Op.MAX: max,
}


def minimum(a: Expr, b: Expr | int) -> Expr:
    """The smaller of two values; drops out when the ranges decide."""
    b = _lift(b)
    if a.hi <= b.lo:
        return a
    return b if b.hi <= a.lo else _binary(Op.MIN, a, b)


def maximum(a: Expr, b: Expr | int) -> Expr:
    """The larger of two values; drops out when the ranges decide."""
    b = _lift(b)
    if a.lo >= b.hi:
        return a
    return b if b.lo >= a.hi else _binary(Op.MAX, a, b)


def saturate(x: Expr, lo: int, hi: int) -> Expr:
    """``x`` clamped to ``[lo, hi]``."""
    return minimum(maximum(x, lo), hi)


def round_shift(x: Expr, shift_bits: Expr | int, rounding: Rounding) -> Expr:
    """``x / 2**shift_bits`` rounded to an integer; the shift may be 0 and may differ per channel.

    Half-up is one addition before the shift, which hardware folds into the bias; half-away adds the sign; half-even
    looks at the bit that will become the last one.
    """
    s = _lift(shift_bits)
    if s.op is Op.CONST and s.value == 0:
        return x
    half = (const(1) << s) >> 1
    match rounding:
        case Rounding.FLOOR:
            return x >> s
        case Rounding.HALF_UP:
            return (x + half) >> s
        case Rounding.HALF_AWAY:
            # A negative tie must go down: take 1 off every negative x.  With a shift of 0 half is 0 and so must this be.
            return (x + half + (minimum(maximum(x, -1), 0) * minimum(half, 1))) >> s
        case Rounding.TOWARD_ZERO:
            return (x - minimum(maximum(x, -1), 0) * ((const(1) << s) - 1)) >> s
        case Rounding.HALF_EVEN:
            odd = _odd(x >> s)
            # Doubled, so that a shift of 0 needs no case of its own: floor((2x + 2^s - 1 + odd) / 2^(s+1)).
            return ((x << 1) + (const(1) << s) - 1 + odd) >> (s + 1)


def divide(x: Expr, divisor: Expr | int, rounding: Rounding) -> Expr:
    """``x / divisor`` rounded to an integer; ``divisor >= 1``."""
    d = _lift(divisor)
    negative = minimum(maximum(x, -1), 0)  # -1 for negative x, else 0
    match rounding:
        case Rounding.FLOOR:
            return x // d
        case Rounding.TOWARD_ZERO:
            return (x - negative * (d - 1)) // d
        case Rounding.HALF_UP:
            return ((x << 1) + d) // (d << 1)
        case Rounding.HALF_AWAY:
            # floor((2x + d) / 2d) sends negative ties up; one less in the doubled numerator sends them down.
            return ((x << 1) + d + negative) // (d << 1)
        case Rounding.HALF_EVEN:
            return ((x << 1) + d - 1 + _odd(x // d)) // (d << 1)


def _odd(x: Expr) -> Expr:
    """1 for odd ``x``, else 0.  The clamp changes no value; it tells the ranges what the subtraction cannot."""
    return saturate(x - ((x >> 1) << 1), 0, 1)


def scale_float32(x: Expr, multiplier: Expr, scale_lo: float, scale_hi: float, rounding: Rounding) -> Expr:
    """``round(float32(x) * m)`` with one IEEE-754 single-precision product, as ONNX Runtime, TensorRT and ncnn do.

    Args:
        x: The accumulator.
        multiplier: A variable that holds the *bit pattern* of the float32 ``m`` (programs hold integers only).
        scale_lo: Smallest ``m``, positive.
        scale_hi: Largest ``m``.
        rounding: Half-even (``rint``) or half-away (``round``).
    """
    # Two single roundings are each off by at most 2^-24 relative; go outwards far beyond that, then round.
    corners = [v * s * (1 + g) for v in (x.lo, x.hi) for s in (scale_lo, scale_hi) for g in (-(2**-20), 2**-20)]
    lo, hi = math.floor(min(corners)) - 1, math.ceil(max(corners)) + 1
    match rounding:
        case Rounding.HALF_EVEN:
            op = Op.SCALE32_EVEN
        case Rounding.HALF_AWAY:
            op = Op.SCALE32_AWAY
        case _:
            raise ValueError(f"float32 scaling rounds half-even or half-away, not {rounding}")
    return Expr(op, (x, multiplier), lo, hi)


T = TypeVar("T")


def evaluate(expr: Expr, leaf: Callable[[Expr], T], table: Mapping[Op, Callable[[Expr, T, T], T]]) -> T:
    """Walk ``expr`` once, operands first, and combine with the entries of ``table``; shared nodes are computed once."""
    done: dict[int, T] = {}
    for node in expr.walk():
        if node.args:
            a, b = (done[id(arg)] for arg in node.args)
            done[id(node)] = table[node.op](node, a, b)
        else:
            done[id(node)] = leaf(node)
    return done[id(expr)]


Row = list[str | int]


def to_rows(expr: Expr) -> list[Row]:
    """The expression as JSON-ready rows, operands before users; the last row is the result."""
    index: dict[int, int] = {}
    rows: list[Row] = []
    for node in expr.walk():
        index[id(node)] = len(rows)
        match node.op:
            case Op.CONST:
                rows.append([node.op.value, node.value])
            case Op.VAR:
                rows.append([node.op.value, node.name, node.lo, node.hi])
            case Op.SCALE32_EVEN | Op.SCALE32_AWAY:
                rows.append([node.op.value, *(index[id(a)] for a in node.args), node.lo, node.hi])
            case _:
                rows.append([node.op.value, *(index[id(a)] for a in node.args)])
    return rows


def from_rows(rows: Sequence[Sequence[str | int]]) -> Expr:
    """The inverse of :func:`to_rows`; ranges are proven anew, not believed.

    Raises:
        ValueError: if a row is not one of ours.
    """
    nodes: list[Expr] = []
    if not rows:
        raise ValueError("an expression needs at least one row")
    for row in rows:
        try:
            nodes.append(_from_row(Op(str(row[0])), row[1:], nodes))
        except (IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
            raise ValueError(f"row {len(nodes)} of an expression is not one of ours: {error}") from error
    return nodes[-1]


def _from_row(op: Op, fields: Sequence[str | int], nodes: Sequence[Expr]) -> Expr:
    if op is Op.VAR:
        name, lo, hi = fields
        if not isinstance(name, str) or not name:
            raise ValueError(f"row {len(nodes)} is a variable without a name")
        return var(name, *_whole([lo, hi]))
    numbers = _whole(fields)
    if op is Op.CONST:
        (value,) = numbers
        return const(value)
    if op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY):
        a, b, _, _ = numbers  # the range in the row is for readers; it is proven anew from the bit patterns
        x, pattern = _earlier(nodes, a), _earlier(nodes, b)
        rounding = Rounding.HALF_EVEN if op is Op.SCALE32_EVEN else Rounding.HALF_AWAY
        return scale_float32(x, pattern, float32_of(pattern.lo), float32_of(pattern.hi), rounding)
    a, b = numbers
    x, y = _earlier(nodes, a), _earlier(nodes, b)
    if op is Op.DIV and y.lo < 1:
        raise ValueError(f"row {len(nodes)} may divide by {y.lo}")
    if op in (Op.SHL, Op.SHR) and (y.lo < 0 or y.hi > (62 if op is Op.SHL else 63)):
        raise ValueError(f"row {len(nodes)} may shift by {y.lo}..{y.hi}")
    return _proven(op, x, y)


def _whole(fields: Sequence[str | int]) -> list[int]:
    if any(isinstance(v, bool) or not isinstance(v, int) for v in fields):
        raise ValueError(f"{list(fields)} should be whole numbers")
    return [int(v) for v in fields]


def float32_of(pattern: int) -> float:
    """The positive finite float32 whose bits are ``pattern``; larger patterns are larger numbers.

    Raises:
        ValueError: if the bits mean a negative number, infinity or NaN.
    """
    if not 0 <= pattern < 0x7F800000:
        raise ValueError(f"{pattern:#x} is not the bit pattern of a positive finite float32")
    (value,) = struct.unpack("<f", struct.pack("<I", pattern))
    return float(value)


def _earlier(nodes: Sequence[Expr], index: int) -> Expr:
    if not 0 <= index < len(nodes):
        raise ValueError(f"row {len(nodes)} refers to row {index}, which does not come before it")
    return nodes[index]
