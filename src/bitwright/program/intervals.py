"""The interval of an expression for each channel, from the intervals of its variables.

``Expr`` carries one interval that holds for every channel.  Here each channel has its own constants and its own
inputs, and three things are seen that plain interval arithmetic cannot see:

- a sum of products is extreme at the ends of its variables even if one occurs twice (``x + (y - x)·share``);
- two variables may be known to be equal (an element that *is* the maximum of its row);
- one float32 product, rounded, is monotonic, so its ends are the products of the ends, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.number.expr import Expr, Op, evaluate
from bitwright.number.render import NUMPY

Ints = NDArray[np.int64]
FLOAT32_TOP = 0x7F80_0000  # the bits of infinity; below it are the positive finite numbers, in order
MOST_TERMS, MOST_ATOMS = 16, 4


class Unproven(ValueError):
    """A stated range that does not follow; the message says which."""


class Interval(NamedTuple):
    """Lowest and highest integer, each ``[channels]`` or ``[1]`` where all channels agree."""

    lo: Ints
    hi: Ints

    @classmethod
    def of(cls, lo: Any, hi: Any) -> Interval:
        """From numbers or arrays, broadcast against each other."""
        low, high = np.broadcast_arrays(
            np.atleast_1d(np.asarray(lo, np.int64)), np.atleast_1d(np.asarray(hi, np.int64))
        )
        return cls(low, high)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Where only one value is possible."""
        return np.asarray(self.lo == self.hi)

    def hull(self) -> Interval:
        """One interval that holds for all channels."""
        return Interval.of(self.lo.min(), self.hi.max())

    def within(self, lo: int, hi: int) -> bool:
        """Whether every channel stays in ``[lo, hi]``."""
        return int(self.lo.min()) >= lo and int(self.hi.max()) <= hi


Terms = Mapping[tuple[int, ...], Ints]
"""A polynomial without squares: atoms (in order) → coefficient per channel.  Arithmetic is modulo 2^64, which changes
nothing: the values looked for fit 64 bits."""


@dataclass(frozen=True)
class _Known:
    """What is known of one node: its interval, and the polynomial over atoms that it is, where it is a small one."""

    bounds: Interval
    terms: Terms | None
    atoms: Mapping[int, Interval] = field(default_factory=dict)


def bound(expr: Expr, values: Mapping[str, Interval], equal: Mapping[str, str] | None = None) -> Interval:
    """The interval of ``expr`` per channel.

    Args:
        expr: The expression.
        values: Variable → its interval.
        equal: Variable → variable that it is known to be equal to.

    Raises:
        Unproven: a variable leaves the range that the expression was built for (so that nothing of what the
            expression promises holds), or a float32 scaling has a factor that is not positive and finite, or leaves the
            range that it states.
    """
    names = dict(equal or {})
    identity: dict[str, int] = {}

    def leaf(node: Expr) -> _Known:
        if node.op is Op.CONST:
            return _exact(Interval.of(node.value, node.value))
        interval = values[node.name]
        if not interval.within(node.lo, node.hi):
            raise Unproven(
                f"'{printable(node.name)}' lies in [{interval.lo.min()}, {interval.hi.max()}], the expression is for "
                f"[{node.lo}, {node.hi}]"
            )
        if interval.constant.all():
            return _exact(interval)
        name = names.get(node.name, node.name)
        return _atom(identity.setdefault(name, len(identity)), interval)

    def combine(node: Expr, a: _Known, b: _Known) -> _Known:
        bounds = _corners(node, a.bounds, b.bounds)
        terms = _combined_terms(node, a, b)
        if terms is None:
            return _atom(-id(node), bounds)
        atoms = {**a.atoms, **b.atoms}
        if {i for term in a.terms or () for i in term} & {i for term in b.terms or () for i in term}:
            bounds = _meet(bounds, _ends(terms, atoms))
        return _Known(bounds, terms, atoms)

    with np.errstate(over="ignore"):
        return evaluate(expr, leaf, dict.fromkeys(NUMPY, combine)).bounds


def _exact(interval: Interval) -> _Known:
    return _Known(interval, {(): interval.lo})


def _atom(key: int, interval: Interval) -> _Known:
    return _Known(interval, {(key,): np.ones(1, np.int64)}, {key: interval})


def _meet(a: Interval, b: Interval) -> Interval:
    return Interval(np.maximum(a.lo, b.lo), np.minimum(a.hi, b.hi))


def _corners(node: Expr, a: Interval, b: Interval) -> Interval:
    """By the ends of the operands: every operation is monotonic in each of them, on each side of zero at most."""
    if node.op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY):
        if not b.within(1, FLOAT32_TOP - 1):
            raise Unproven("the factor of a float32 scaling is not positive and finite")
        reach = 2.0**-1 + float(np.abs(np.asarray([a.lo, a.hi], np.float64)).max()) * float(_single(b.hi).max())
        if reach > 2.0**62:
            raise Unproven("a float32 scaling may leave 64 bits")
    if node.op is Op.MUL and node.args[0] is node.args[1]:
        squares = (a.lo * a.lo, a.hi * a.hi)
        straddles = (a.lo <= 0) & (a.hi >= 0)
        return Interval(np.where(straddles, 0, np.minimum(*squares)), np.maximum(*squares))
    ends = np.stack(np.broadcast_arrays(*(NUMPY[node.op](node, x, y) for x in a for y in b)))
    found = Interval(ends.min(0), ends.max(0))
    if node.op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY) and not found.within(node.lo, node.hi):
        raise Unproven(
            f"a float32 scaling reaches [{found.lo.min()}, {found.hi.max()}] and states [{node.lo}, {node.hi}]"
        )
    return found


def _single(bits: Ints) -> NDArray[np.float64]:
    return np.asarray(bits.astype(np.uint32).view(np.float32), np.float64)


def _combined_terms(node: Expr, a: _Known, b: _Known) -> Terms | None:
    """The polynomial of a node whose operands have one, or None where it has none or it grows."""
    if a.terms is None or b.terms is None:
        return None
    match node.op:
        case Op.ADD | Op.SUB:
            sign = 1 if node.op is Op.ADD else -1
            total = dict(a.terms)
            for term, factor in b.terms.items():
                total[term] = total.get(term, np.zeros(1, np.int64)) + sign * factor
        case Op.MUL:
            total = {}
            for (s, x), (t, y) in product(a.terms.items(), b.terms.items()):
                if set(s) & set(t):
                    return None  # a square is not extreme at the ends
                term = tuple(sorted(s + t))
                total[term] = total.get(term, np.zeros(1, np.int64)) + x * y
        case Op.SHL if list(b.terms) == [()]:
            total = {term: np.left_shift(factor, b.terms[()]) for term, factor in a.terms.items()}
        case _:
            return None
    total = {term: factor for term, factor in total.items() if term == () or factor.any()} or {
        (): np.zeros(1, np.int64)
    }
    return total if len(total) <= MOST_TERMS and len({i for t in total for i in t}) <= MOST_ATOMS else None


def _ends(terms: Terms, atoms: Mapping[int, Interval]) -> Interval:
    """The extremes of a polynomial without squares: at the ends of all its atoms."""
    used = sorted({i for term in terms for i in term})
    values = []
    for chosen in product((0, 1), repeat=len(used)):
        at = {i: atoms[i][end] for i, end in zip(used, chosen, strict=True)}
        total = np.zeros(1, np.int64)
        for term, factor in terms.items():
            part = factor
            for i in term:
                part = part * at[i]
            total = total + part
        values.append(total)
    ends = np.stack(np.broadcast_arrays(*values))
    return Interval(ends.min(0), ends.max(0))
