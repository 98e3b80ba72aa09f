"""What an operator declares: how its output's format relates to its inputs', and the forms it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.expr import Expr, saturate, var
from bitwright.number.format import Floats, Format, Rounding
from bitwright.number.requantize import Scaled
from bitwright.program.builder import Builder
from bitwright.program.program import Buffer

Constant = NDArray[Any]
Input = Buffer | Constant | None


class Rule(Protocol):
    """What a target says about an operator (``targets.OpRule`` has this shape)."""

    @property
    def method(self) -> str | None:
        """How the operator is computed, where there are several ways."""
        ...

    @property
    def rounding(self) -> Rounding | None:
        """The operator's own rounding; None for that of the target's arithmetic."""
        ...


class NoIntegerForm(Exception):
    """This use of the operator has no integer form; the message says why, for the report.

    Not an error: the layer becomes a float island.
    """


@dataclass(frozen=True, kw_only=True)
class Result:
    """An output that a layer must produce.

    Attributes:
        tensor: Its name in the network.
        shape: With batch 1.
        format: Chosen for it.
    """

    tensor: str
    shape: tuple[int, ...]
    format: Format


@dataclass(frozen=True, kw_only=True)
class Site:
    """One layer, as an operator's declaration sees it.

    Attributes:
        layer: Name of the layer.
        op: Operator type.
        attributes: ONNX attributes with defaults filled in.
        inputs: Buffers already lowered, constants, or None for an input that is left out.
        outputs: What must be produced.
        clamp: Real bounds of an activation fused onto the layer, or None.
        rule: What the target says about the operator.
        arithmetic: The target's requantizer.
        weight: Format of the weights, with per-channel scales along axis 0 of the contracted layout.
        bias: Format of the bias where it has one of its own; None: steps of the accumulator.
        weight_rounding: How weights are rounded.
        bias_rounding: How the bias is rounded.
        accumulator_bias_bits: Width of a bias in accumulator steps.
        weight_values: Integers to use instead of rounding the constant (from an adaptive rounding), or None.
        bias_values: Real bias to use instead of the constant's, or None.
    """

    layer: str
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[Result, ...]
    clamp: tuple[float, float] | None
    rule: Rule
    arithmetic: Arithmetic
    weight: Format | None = None
    bias: Format | None = None
    weight_rounding: Rounding = Rounding.HALF_AWAY
    bias_rounding: Rounding = Rounding.HALF_AWAY
    accumulator_bias_bits: int = 32
    weight_values: NDArray[np.int64] | None = None
    bias_values: Floats | None = None

    def data(self, index: int = 0) -> Buffer:
        """Input ``index`` as a buffer.

        Raises:
            NoIntegerForm: if it is constant or absent.
        """
        value = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(value, Buffer):
            raise NoIntegerForm(f"input {index} is not computed by the network")
        return value

    def constant(self, index: int) -> Constant:
        """Input ``index`` as a constant.

        Raises:
            NoIntegerForm: if it is computed by the network or absent.
        """
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None or isinstance(value, Buffer):
            raise NoIntegerForm(f"input {index} is not constant")
        return value

    def optional_constant(self, index: int) -> Constant | None:
        """Input ``index`` as a constant, or None where it is left out.

        Raises:
            NoIntegerForm: if it is computed by the network.
        """
        if index >= len(self.inputs) or self.inputs[index] is None:
            return None
        return self.constant(index)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The inputs that the network computes."""
        return tuple(x for x in self.inputs if isinstance(x, Buffer))

    @property
    def result(self) -> Result:
        """The first output."""
        return self.outputs[0]


Relation = Literal["own", "input", "all"]
Lower = Callable[[Site, Builder], Sequence[Buffer]]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """The declaration of an operator.

    Attributes:
        types: ONNX operator types (or names of grouped patterns such as ``SiLU``).
        summary: Its integer meaning in one line, for the reference.
        lower: Emits steps and returns the output buffers; raises :class:`NoIntegerForm` where it has none.
        relation: ``own``: the output has its own format; ``input``: it has the first input's; ``all``: all inputs
            and outputs share one.  A target's rule may tighten ``own``.
        becomes: What reports call it: ``integer`` arithmetic or a ``table``.
        weights: For operators with learnables: constant input 1 → ``[out, in/groups, *taps]``.
        fixed: Output range that the operator itself guarantees, if it is worth fixing a format to.
    """

    types: tuple[str, ...]
    summary: str
    lower: Lower
    relation: Relation = "own"
    becomes: Literal["integer", "table"] = "integer"
    weights: Callable[[Floats, Mapping[str, Any]], Floats] | None = None
    fixed: tuple[float, float] | None = None


def element(buffer: Buffer, name: str) -> Expr:
    """The variable for an element of ``buffer``, with its proven range."""
    return var(name, buffer.lo, buffer.hi)


def finish(scaled: Scaled, result: Result, clamp: tuple[float, float] | None) -> Scaled:
    """Add the zero point and saturate to the format and to a fused activation's bounds."""
    lo, hi = code_bounds(result.format, clamp)
    expr = saturate(scaled.expr + int(result.format.zero_point), lo, hi)
    kept = set(expr.variables())
    return Scaled(expr, {k: v for k, v in scaled.params.items() if k in kept}, scaled.ratio)


def code_bounds(format: Format, clamp: tuple[float, float] | None) -> tuple[int, int]:
    """Lowest and highest code of ``format`` inside real bounds ``clamp``."""
    if clamp is None:
        return format.lo, format.hi
    with np.errstate(over="ignore"):
        codes = np.clip(np.asarray(clamp) / float(format.scale), -(2.0**62), 2.0**62)
    low, high = (int(np.sign(c) * np.floor(abs(c) + 0.5)) + int(format.zero_point) for c in codes)
    return min(max(format.lo, low), format.hi), max(min(format.hi, high), format.lo)


def scalar_scale(format: Format) -> float:
    """The scale of a per-tensor format."""
    return float(format.scale)


def elements(shape: Sequence[int]) -> int:
    """Elements of one sample."""
    return prod(shape)
