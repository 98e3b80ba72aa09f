"""An expression as an Amaranth value: the table of the hardware language.

Every intermediate has exactly the bits that its proven range needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bitwright.number.expr import Expr, Op, evaluate


def _table() -> Mapping[Op, Callable[[Expr, Any, Any], Any]]:
    from amaranth.hdl import Mux

    return {
        Op.ADD: lambda _, a, b: a + b,
        Op.SUB: lambda _, a, b: a - b,
        Op.MUL: lambda _, a, b: a * b,
        Op.SHL: lambda _, a, b: a << b.as_unsigned(),
        Op.SHR: lambda _, a, b: a >> b.as_unsigned(),
        Op.MIN: lambda _, a, b: Mux(a < b, a, b),
        Op.MAX: lambda _, a, b: Mux(a > b, a, b),
    }


def amaranth_value(expr: Expr, values: Mapping[str, Any]) -> Any:
    """The value of ``expr`` as an Amaranth value, two's complement of ``expr.bits`` bits.

    Args:
        expr: The expression; divisions and float scalings have no hardware and are refused.
        values: Variable → Amaranth value that holds it.

    Raises:
        NotImplementedError: if an operation has no hardware.
    """
    from amaranth.hdl import Const, Value, signed

    table = _table()

    def fit(node: Expr, value: Any) -> Any:
        value = Value.cast(value)
        return value[: node.bits].as_signed() if len(value) > node.bits else value

    def leaf(node: Expr) -> Any:
        return Const(node.value, signed(node.bits)) if node.op is Op.CONST else Value.cast(values[node.name])

    def combine(node: Expr, a: Any, b: Any) -> Any:
        if node.op not in table:
            raise NotImplementedError(f"{node.op.value} has no hardware")
        return fit(node, table[node.op](node, a, b))

    return evaluate(expr, leaf, dict.fromkeys(Op, combine))
