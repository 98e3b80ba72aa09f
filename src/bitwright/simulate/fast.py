"""The engine's own writer: the same integers as :class:`Emitter` writes, arranged as ONNX Runtime is quickest.

Its int8 convolutions read channels in fours and write them in sixteens; with other numbers of channels they are two to
three times slower.  So raw codes may have more channels than their buffer: what is behind is never looked at, because
the weights that would are zero.  Limits that a pooling can take over wait for it, sums over whole maps are taken where
channels lie innermost, and transposed convolutions become ordinary ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Op
from bitwright.number.match import ShiftDown
from bitwright.program.forms import Contract, Map, Reduce
from bitwright.program.program import Program, Step
from bitwright.simulate.emit import EXACT32, F32, Emitter
from bitwright.simulate.floors import HALF
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8_conv import window
from bitwright.simulate.int8_sum import find_sum
from bitwright.simulate.subpixel import Subpixel, subpixel

READ, WRITTEN = 4, 16
"""What ONNX Runtime's int8 convolutions want channels to be a multiple of."""


@dataclass(frozen=True)
class Codes:
    """Raw codes that are not quite those of their buffer.

    Attributes:
        tensor: The tensor, uint8.
        channels: How many it has; those beyond the buffer's mean nothing.
        limits: What they have still to be limited to, or None.
    """

    tensor: str
    channels: int
    limits: tuple[int, int] | None = None


def up(count: int, multiple: int) -> int:
    """``count``, made larger until it is a multiple."""
    return -(-count // multiple) * multiple


class FastEmitter(Emitter):
    """Writes steps for the engine; see :class:`Emitter`.

    Args:
        program: The program.
        graph: Where nodes go.
        int8: Whether ``QLinearConv`` may be used.
        kernels: Whether steps that would need several float64 nodes are left to compiled kernels.
        late_floors: Whether floors are left out, to be put into the optimized graph; see ``simulate/floors.py``.

    Attributes:
        floors: How many were left out so far.
    """

    def __init__(
        self, program: Program, graph: GraphWriter, *, int8: bool, kernels: bool = False, late_floors: bool = False
    ) -> None:
        super().__init__(program, graph, int8=int8, contrib=True, kernels=kernels)
        self.late_floors, self.floors = late_floors, 0
        self._codes: dict[str, Codes] = {}
        self._readers: dict[str, list[Step]] = {}
        for step in program.steps:
            for name in step.inputs:
                self._readers.setdefault(name, []).append(step)

    # ---------------------------------------------------------------- representations

    def at_hand(self, name: str) -> bool:
        """Whether raw codes of the buffer were computed already."""
        return name in self._raw or name in self._codes

    def wide(self, name: str) -> Codes:
        """Raw codes within their limits, maybe with more channels."""
        found = self._codes.get(name)
        if found is None:
            return Codes(self.raw(name), self.buffer(name).shape[1])
        if found.limits is not None:
            found = Codes(self.limited(found.tensor, found.limits), found.channels)
            self._codes[name] = found
        return found

    def raw(self, name: str) -> str:
        """The buffer as uint8, nothing more and nothing less."""
        if name not in self._raw and name in self._codes:
            codes, channels = self.wide(name), self.buffer(name).shape[1]
            cut = [self.ints(v) for v in (0, channels, 1)]
            whole = codes.channels == channels
            self._raw[name] = codes.tensor if whole else self.graph.node("Slice", codes.tensor, *cut)
        return super().raw(name)

    def real(self, name: str, dtype: np.dtype[Any]) -> str:
        """The buffer as floats that hold its integers."""
        if (name, dtype) not in self._real and name in self._codes:
            self.raw(name)
        return super().real(name, dtype)

    # ---------------------------------------------------------------- contractions

    def contract_int8(self, step: Step, form: Contract) -> bool:
        """Write a contraction as ``QLinearConv`` if that is exact, with numbers of channels that it likes."""
        if any(axis.spread > 1 for axis in form.axes):
            return self.transposed_int8(step, form)
        name = step.outputs[0]
        depthwise = (
            form.groups > 1 and form.groups == self.buffer(step.inputs[0]).shape[1] == self.buffer(name).shape[1]
        )
        if not form.axes:
            return self.dense_int8(step, form)
        if form.groups > 1 and not depthwise:
            return super().contract_int8(step, form)
        made = self.int8_convolution(step, form, self.weights(form), self.bias(form), form.axes)
        if made is None:
            return False
        source = self.wide(step.inputs[0])
        if depthwise:
            made = made.widened(1, source.channels)
        else:
            source = self.in_fours(step.inputs[0], source)
            made = made.widened(source.channels, self.written(name))
        self._codes[name] = Codes(made.write(self.graph, source.tensor), len(made.weights), made.limits)
        return True

    def dense_int8(self, step: Step, form: Contract) -> bool:
        """Write a dense layer as a convolution along the batch, so that it is one product of matrices."""
        made = self.int8_convolution(step, form, self.weights(form), self.bias(form), self.spatial(form))
        if made is None:
            return False
        graph, first = self.graph, self.ints(0)
        # [n, k] is [1, n, k] with channels innermost, the order in which ONNX Runtime wants them: nothing is moved.
        x = graph.node("Transpose", graph.node("Unsqueeze", self.raw(step.inputs[0]), first), perm=[0, 2, 1])
        y = graph.node("Squeeze", graph.node("Transpose", made.write(graph, x), perm=[0, 2, 1]), first)
        self._raw[step.outputs[0]] = self.limited(y, made.limits)
        return True

    def lifted(self, tensor: str, form: Contract) -> str:
        """A dense layer's input stays ``[n, k]``."""
        return tensor

    def lowered(self, tensor: str, form: Contract) -> str:
        """And so does its output."""
        return tensor

    def convolve(self, x: str, weights: NDArray[np.float32], bias: NDArray[np.float32] | None, form: Contract) -> str:
        """A float32 convolution, or the product of matrices that a dense layer is."""
        if form.axes:
            return super().convolve(x, weights, bias, form)
        constants = [self.graph.constant(bias)] if bias is not None else []
        return self.graph.node("Gemm", x, self.graph.constant(weights[:, :, 0]), *constants, transB=1)

    def in_fours(self, name: str, codes: Codes) -> Codes:
        """Codes with a number of channels that is read quickly."""
        missing = up(codes.channels, READ) - codes.channels
        if not missing or codes.channels == 1:
            return codes
        rank = len(self.buffer(name).shape)
        ends = self.ints(*[0] * rank, 0, missing, *[0] * (rank - 2))
        padded = self.graph.node("Pad", codes.tensor, ends, self.graph.constant(np.asarray(0, np.uint8)))
        self._codes[name] = Codes(padded, codes.channels + missing)
        return self._codes[name]

    def written(self, name: str) -> int:
        """How many channels a convolution writes: more where that is quicker, and nobody has to cut them off again."""
        channels = self.buffer(name).shape[1]
        readers = self._readers.get(name, [])
        free = bool(readers) and name not in self.program.outputs and all(self.takes_wide(r) for r in readers)
        return up(channels, WRITTEN) if free or channels < WRITTEN or channels % (WRITTEN // 2) else channels

    def takes_wide(self, reader: Step) -> bool:
        """Whether a step can do with more channels than there are."""
        return isinstance(reader.form, Contract) and bool(reader.form.axes) and reader.form.groups in {
            1,
            self.buffer(reader.inputs[0]).shape[1],
        }  # fmt: skip

    def transposed_int8(self, step: Step, form: Contract) -> bool:
        """Write a transposed convolution as an ordinary one whose channels are neighbors in space."""
        name, source = step.outputs[0], self.buffer(step.inputs[0])
        if form.groups > 1:
            return False
        found = subpixel(self.program.tensors[form.weight], form.axes, source.shape[2:])
        if found is None:
            return False
        made = self.int8_convolution(step, form, found.weights, np.tile(self.bias(form), found.phases), found.axes)
        if made is None:
            return False
        codes = self.in_fours(step.inputs[0], self.wide(step.inputs[0]))
        made = made.widened(codes.channels, up(len(found.weights), WRITTEN // 2))
        out = self.spread_out(made.write(self.graph, codes.tensor), found, len(made.weights))
        self._codes[name] = Codes(out, self.buffer(name).shape[1], made.limits)
        return True

    def spread_out(self, tensor: str, found: Subpixel, channels_written: int) -> str:
        """Phases from channels to their places."""
        graph, count = self.graph, len(found.axes)
        channels = len(found.weights) // found.phases
        y = graph.node("Transpose", tensor, perm=[0, *range(2, 2 + count), 1])
        if channels_written > len(found.weights):
            y = graph.node("Slice", y, self.ints(0), self.ints(len(found.weights)), self.ints(1 + count))
        y = graph.node("Reshape", y, self.ints(0, *found.positions, *found.spreads, channels))
        pairs = [axis for i in range(count) for axis in (1 + i, 1 + count + i)]
        y = graph.node("Transpose", y, perm=[0, *pairs, 1 + 2 * count])
        grown = [m * s for m, s in zip(found.positions, found.spreads, strict=True)]
        y = graph.node("Reshape", y, self.ints(0, *grown, channels))
        for axis, (size, wanted) in enumerate(zip(grown, found.sizes, strict=True), 1):
            if size > wanted:
                y = graph.node("Slice", y, self.ints(0), self.ints(wanted), self.ints(axis))
        return graph.node("Transpose", y, perm=[0, 1 + count, *range(1, 1 + count)])

    def rounded_down(self, y: str, found: ShiftDown) -> str:
        """``clip(floor(y) + zero, lo, hi)`` of a float32 convolution."""
        if not self.late_floors or found.zero:
            return super().rounded_down(y, found)
        self.floors += 1
        return self.graph.node("Clip", y, self.number(found.lo, F32), self.number(found.hi + HALF, F32))

    # ---------------------------------------------------------------- the rest

    def reduce(self, step: Step, form: Reduce) -> str:
        """Sums over whole maps with channels innermost; the rest as usual."""
        source = self.buffer(step.inputs[0])
        _, *spatial = form.axes
        whole = len(source.shape) == 4 and all(
            a.taps == n and not (a.before or a.after or a.spread > 1)
            for a, n in zip(spatial, source.shape[2:], strict=False)
        )
        count = prod(a.taps for a in form.axes)
        reach = 256 * count
        summing = form.combine == "sum" and form.axes[0].trivial and len(spatial) == 2
        if not (self.int8 and summing and whole and self.at_hand(step.inputs[0]) and reach < EXACT32):
            return super().reduce(step, form)
        graph = self.graph
        y = graph.node("Transpose", self.raw(step.inputs[0]), perm=[0, 2, 3, 1])
        y = graph.node("ReduceSum", graph.node("Cast", y, to=F32), self.ints(1, 2), keepdims=0)
        lacking = count * (source.format.lo - form.input_zero)
        y = graph.node("Add", y, self.number(lacking, F32)) if lacking else y
        y = graph.node("Reshape", y, self.ints(0, source.shape[1], 1, 1))
        constants = {"count": np.asarray(count)} if "count" in form.epilogue.expr.variables() else {}
        self.finish(step, form.epilogue, {"acc": (y, F32)}, constants)
        return "onnx-float32"

    def maximum(self, step: Step, form: Reduce, moving: Sequence[int], whole: bool) -> str:
        """Maxima; limits and further channels pass through where only codes are compared."""
        source, name = step.inputs[0], step.outputs[0]
        same = form.epilogue.expr.op is Op.VAR and self.buffer(name).format == self.buffer(source).format
        codes = self._codes.get(source)
        _, *spatial = form.axes
        fits = all(a.spread == 1 and 0 <= a.before < a.taps and 0 <= a.after < a.taps for a in spatial)
        if codes is None or not same or not form.axes[0].trivial or not fits or not 1 <= len(spatial) <= 3:
            return super().maximum(step, form, moving, whole)
        pooled = self.graph.node("MaxPool", codes.tensor, **window(spatial))
        self._codes[name] = replace(codes, tensor=pooled)
        return "onnx-move"

    def sum_int8(self, step: Step, form: Map) -> bool:
        """As usual, on more channels where both operands have them."""
        if not self.int8:
            return False  # codes would be made of floats for this step only
        names = [*step.inputs, *step.outputs]
        found_codes = [self._codes.get(n) for n in step.inputs]
        shapes = {self.buffer(n).shape for n in names}
        if len(step.inputs) != 2 or form.params or len(shapes) > 1 or not all(self.narrow(n) for n in names):
            return super().sum_int8(step, form)
        if None in found_codes or len({c.channels for c in found_codes if c is not None}) > 1:
            return super().sum_int8(step, form)
        found = find_sum(form.expr, *(self.buffer(n) for n in names))
        if found is None:
            return False
        a, b = (self.wide(n) for n in step.inputs)
        limits = None if found.clip == (0, 255) else found.clip
        self._codes[step.outputs[0]] = Codes(self.added(found, a.tensor, b.tensor), a.channels, limits)
        return True
