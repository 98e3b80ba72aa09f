"""Expressions as ONNX nodes over int64, for intermediates that no float holds exactly.

Standard operators only.  A shift to the right is a floor division by a power of two, and the floor division of ONNX's
truncating ``Div`` is ``(a - a mod d) / d``, since ``Mod`` gives remainders the sign of the divisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, Op, evaluate
from bitwright.number.render import NUMPY, OnnxBuilder

Ints = NDArray[np.int64]
I64, F32, F64 = np.dtype(np.int64), np.dtype(np.float32), np.dtype(np.float64)
NAMES: Mapping[Op, str] = {Op.ADD: "Add", Op.SUB: "Sub", Op.MUL: "Mul", Op.MIN: "Min", Op.MAX: "Max"}


def onnx_integers(expr: Expr, values: Mapping[str, str], params: Mapping[str, Ints], graph: OnnxBuilder) -> str:
    """Write ``expr`` as standard ONNX nodes over int64 and return the result's tensor name.

    Args:
        expr: The expression; its proven ranges fit 64 bits, as those of every expression do.
        values: Variable → int64 tensor.
        params: Variable → constant integers, of a shape that broadcasts against the tensors.
        graph: Where the nodes go.

    Raises:
        ValueError: if a float32 scaling has a multiplier that is no constant.
    """

    def number(value: NDArray[Any]) -> str:
        return graph.constant(np.asarray(value, np.int64))

    def known(node: Expr) -> Ints | None:
        if node.op is Op.CONST:
            return np.asarray(node.value, np.int64)
        return np.asarray(params[node.name], np.int64) if node.op is Op.VAR and node.name in params else None

    def leaf(node: Expr) -> str:
        return values[node.name] if known(node) is None else ""

    def operand(node: Expr, name: str) -> str:
        constant = known(node)
        return name if constant is None else number(constant)

    def power(node: Expr, name: str) -> str:
        """2**shift; constants are at most 62."""
        shift = known(node)
        if shift is not None:
            return number(np.left_shift(np.int64(1), shift))
        # float64 holds every power of two; int64 has no power operator that promises to be exact.
        two = graph.constant(np.asarray(2.0, np.float64))
        return graph.node("Cast", graph.node("Pow", two, graph.node("Cast", name, to=F64)), to=I64)

    def floor_div(a: str, d: str) -> str:
        return graph.node("Div", graph.node("Sub", a, graph.node("Mod", a, d)), d)

    def shift_right(a: str, amount: Expr, name: str) -> str:
        shift = known(amount)
        if shift is None or int(shift.max()) <= 62:
            return floor_div(a, power(amount, name))
        # 2**63 is no int64: go half the way twice.
        for part in (shift // 2, shift - shift // 2):
            a = floor_div(a, number(np.left_shift(np.int64(1), part)))
        return a

    def scale32(node: Expr, a: str) -> str:
        pattern = known(node.args[1])
        if pattern is None:
            raise ValueError("the multiplier of a float32 scaling must be a constant")
        multiplier = graph.constant(pattern.astype(np.uint32).view(np.float32))
        # The maximum changes nothing and keeps runtimes from folding the product into a convolution before it.
        lowest = graph.constant(np.asarray(-(2.0**100), np.float32))
        product = graph.node("Mul", graph.node("Max", graph.node("Cast", a, to=F32), lowest), multiplier)
        if node.op is Op.SCALE32_EVEN:
            return graph.node("Cast", graph.node("Round", product), to=I64)
        wide = graph.node("Cast", product, to=F64)
        half = graph.constant(np.asarray(0.5, np.float64))
        magnitude = graph.node("Floor", graph.node("Add", graph.node("Abs", wide), half))
        return graph.node("Cast", graph.node("Mul", graph.node("Sign", wide), magnitude), to=I64)

    def combine(node: Expr, a: str, b: str) -> str:
        left, right = node.args
        match node.op:
            case Op.SHL:
                return graph.node("Mul", operand(left, a), power(right, b))
            case Op.SHR:
                return shift_right(operand(left, a), right, b)
            case Op.DIV:
                return floor_div(operand(left, a), operand(right, b))
            case Op.SCALE32_EVEN | Op.SCALE32_AWAY:
                return scale32(node, operand(left, a))
            case _:
                return graph.node(NAMES[node.op], operand(left, a), operand(right, b))

    result = evaluate(expr, leaf, dict.fromkeys(NUMPY, combine))
    return operand(expr, result)
