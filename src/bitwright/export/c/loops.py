"""Loop nests as C text: dimensions that all operands step through regularly become one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """One loop.

    Attributes:
        count: How often.
        strides: Elements that each operand goes on by.
    """

    count: int
    strides: tuple[int, ...]


def merged(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """The same nest with as few loops as possible, from the outermost to the innermost."""
    out: list[Dimension] = []
    for dimension in dimensions:
        if dimension.count == 1:
            continue
        inner = tuple(s * dimension.count for s in dimension.strides)
        if out and out[-1].strides == inner:
            out[-1] = Dimension(out[-1].count * dimension.count, dimension.strides)
        else:
            out.append(dimension)
    return out


def index(counters: Sequence[str], strides: Sequence[int], offset: int = 0) -> str:
    """``i0 * 64 + i1 + 3`` as text."""
    terms = [c if s == 1 else f"{c} * {s}" for c, s in zip(counters, strides, strict=True) if s != 0]
    if offset or not terms:
        terms.append(str(offset))
    return " + ".join(terms).replace("+ -", "- ")


def nest(dimensions: Sequence[Dimension], body: Sequence[str], stem: str = "i", indent: int = 1) -> list[str]:
    """``body`` inside the loops; counters are ``stem`` and a number."""
    lines, pad = [], "    " * indent
    for level, dimension in enumerate(dimensions):
        name = f"{stem}{level}"
        lines.append(f"{pad}for (int32_t {name} = 0; {name} < {dimension.count}; {name}++) {{")
        pad += "    "
    lines += [f"{pad}{line}" for line in body]
    for level in range(len(dimensions), 0, -1):
        lines.append("    " * (indent + level - 1) + "}")
    return lines
