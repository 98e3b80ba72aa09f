"""Every operator, found by type."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from bitwright.ops import elementwise, linear, move, pool, resize, softmax, table
from bitwright.ops.operator import Operator

FAMILIES = (linear, pool, elementwise, table, softmax, move, resize)


@cache
def operators() -> Mapping[str, Operator]:
    """Operator type → declaration.

    Raises:
        ValueError: if two declarations claim one type.
    """
    found: dict[str, Operator] = {}
    for family in FAMILIES:
        for operator in family.OPERATORS:
            for name in operator.types:
                if name in found:
                    raise ValueError(f"two declarations for operator {name}")
                found[name] = operator
    return found
