"""The five loop nests that every integer program is made of, and the one float exception.

Operators are many, forms are few: the simulator, the C writer, the hardware compiler and the ONNX writer walk these,
never operators.  Buffers are laid out as in the source network with the batch as axis 0, ``[n, ...]``.

====================  =====================================================================================
:class:`Contract`     sums of products with constant weights: convolution, transposed convolution, dense
:class:`Reduce`       a window of one tensor to one number: pooling, sums and maxima over axes, argmax
:class:`Map`          one element from the elements at the same place of the inputs, broadcasting
:class:`Table`        one element looked up by another
:class:`Move`         elements to other places, none computed
:class:`Island`       openly float: dequantize, run a piece of the float network, quantize; every report counts it
====================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bitwright.number.expr import Expr
from bitwright.number.format import Rounding


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How a window slides along one axis.

    Output position ``p``, tap ``k`` reads input position ``(p * stride + k * dilation - before) / spread``; where
    that is not a whole number, or lies outside the tensor, there is no tap.

    Attributes:
        taps: Window length in taps.
        stride: Input steps from one output to the next.
        dilation: Input steps from one tap to the next.
        before: Padding before the first element.
        after: Padding after the last element.
        spread: Distance of neighboring inputs, above 1 for transposed convolutions.
    """

    taps: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    spread: int = 1

    def outputs(self, size: int) -> int:
        """Number of output positions for ``size`` input elements."""
        reach = (size - 1) * self.spread + 1 + self.before + self.after - (self.taps - 1) * self.dilation
        return max(0, (reach - 1) // self.stride + 1)

    @property
    def trivial(self) -> bool:
        """Whether the window is a single tap that moves nothing."""
        return self == Axis()


@dataclass(frozen=True, kw_only=True)
class Epilogue:
    """What happens to one accumulator.

    Attributes:
        expr: Over ``acc`` (and, for :class:`Reduce`, ``count``) and the variables in ``params``.
        params: Variable → tensor of the program, 0-d or ``[channels]`` along axis 1.
    """

    expr: Expr
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """``out[n,o,p] = epilogue(bias[o] + sum_{i,k} (x[n, g*I+i, at(p,k)] - input_zero) * weight[o,i,k])``.

    ``g = o // (O / groups)``.  Missing taps add nothing.  With no axes it is a dense layer over ``[n, i]``.

    Attributes:
        weight: Tensor ``[O, I/groups, *taps]``.
        bias: Tensor ``[O]`` in accumulator steps, or None.
        groups: Channel groups.
        axes: One per spatial axis.
        input_zero: Zero point of the input.
        epilogue: Accumulator → output.
        acc_lo: Proven lowest partial sum over all channels, whatever the order of summation and wherever the bias is
            added; at most 0.
        acc_hi: Proven highest.
    """

    weight: str
    bias: str | None
    groups: int = 1
    axes: tuple[Axis, ...] = ()
    input_zero: int = 0
    epilogue: Epilogue
    acc_lo: int
    acc_hi: int


@dataclass(frozen=True, kw_only=True)
class Reduce:
    """``out[p] = epilogue(combine over taps of x[at(p,k)])``, with a window along every axis after the batch.

    ``sum`` adds ``x - input_zero``; ``max`` takes the largest ``x``; ``argmax`` the first position (in taps along
    the one axis whose window has more than one) of the largest.  ``count`` in the epilogue is the number of taps
    that fell inside the tensor.

    Attributes:
        combine: How taps combine.
        axes: One per axis after the batch.
        input_zero: Zero point taken off each tap of a sum.
        epilogue: Accumulator and count → output.
    """

    combine: Literal["sum", "max", "argmax"]
    axes: tuple[Axis, ...]
    input_zero: int = 0
    epilogue: Epilogue


@dataclass(frozen=True, kw_only=True)
class Map:
    """``out = expr(x0, x1, ...)`` elementwise, NumPy broadcasting.

    Attributes:
        expr: Over ``x0``, ``x1`` … (the step's inputs) and the variables in ``params``.
        params: Variable → tensor of the program, of a shape that broadcasts against the output.
    """

    expr: Expr
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """``out = table[x - lowest]`` where ``lowest`` is the lowest code of the input's format.

    Attributes:
        table: Tensor with one entry per input code.
    """

    table: str


@dataclass(frozen=True)
class Reshape:
    """Same elements in the same order, other shape (batch first, kept)."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """Axis ``i`` of the result is axis ``order[i]`` of the source."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Take:
    """Along ``axis``, the elements at ``indices``: slices, splits, gathers and nearest-neighbor resizing."""

    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Fill:
    """Put ``before`` and ``after`` elements of ``value`` around the tensor, per axis."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int


@dataclass(frozen=True)
class Join:
    """All inputs of the step one after the other along ``axis``; only as the first motion."""

    axis: int


Motion = Reshape | Transpose | Take | Fill | Join


@dataclass(frozen=True)
class Move:
    """Motions, applied in order.  All buffers have one format; several inputs need a :class:`Join` first."""

    motions: tuple[Motion, ...]


@dataclass(frozen=True, kw_only=True)
class Island:
    """A piece of the network that stays float: dequantize the inputs, run it, quantize the outputs.

    Attributes:
        model: Tensor of the program (uint8) that holds the piece as a serialized ONNX model.
        reason: Why there is no integer form.
        rounding: How outputs are quantized.
        feeds: Names of the piece's inputs, in the order of the step's inputs.
        fetches: Names of its outputs, in the order of the step's outputs.
    """

    model: str
    reason: str
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    rounding: Rounding = Rounding.HALF_EVEN


Form = Contract | Reduce | Map | Table | Move | Island
