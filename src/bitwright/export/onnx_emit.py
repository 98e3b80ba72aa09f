"""Every step of a program as standard ONNX operators: what the engine's writer leaves to the reference, and islands.

The engine may run a step in the reference where ONNX has no short way; a file that leaves the house may not.  So here
every step has a way: longer, slower, as exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.onnx_graph import ExportGraph
from bitwright.export.onnx_integers import onnx_integers
from bitwright.export.onnx_island import splice
from bitwright.export.onnx_rounding import rounded
from bitwright.export.onnx_sum import exact_sum, write_sum
from bitwright.number.expr import Expr
from bitwright.program.forms import Axis, Contract, Island, Map, Reduce
from bitwright.program.program import Buffer, Program, Step
from bitwright.simulate.emit import EXACT32, F32, F64, CannotEmit, Emitter, taps_inside

I64 = np.dtype(np.int64)
EXACT64 = 1 << 53
MOST_TAPS = 4096
Tensor = tuple[str, np.dtype[Any]]


class StandardEmitter(Emitter):
    """Writes any step with standard operators.

    Args:
        program: The program.
        graph: Where nodes go.
        int8: Whether ``QLinearConv`` may be used.
    """

    def __init__(self, program: Program, graph: ExportGraph, *, int8: bool) -> None:
        super().__init__(program, graph, int8=int8, contrib=False)
        self.export_graph = graph
        self._source: Buffer | None = None

    def step(self, step: Step) -> str:
        """Write one step; returns the way it took.

        Raises:
            ExportError: if no arithmetic of ONNX is exact for it.
        """
        try:
            if isinstance(step.form, Island):
                return self.island(step, step.form)
            return super().step(step)
        except CannotEmit as why:
            raise ExportError(
                f"Step '{printable(step.name)}' ({printable(step.op)}) has no exact form in ONNX operators: {why}. "
                "Export it as C, or keep numbers narrower (fewer bits)."
            ) from why

    def set_raw(self, name: str, tensor: str) -> None:
        """Declare that the uint8 ``tensor`` holds the codes of ``name``, counted from the lowest."""
        self._raw[name] = tensor

    # ---------------------------------------------------------------- expressions

    def expression(
        self,
        expr: Expr,
        values: Mapping[str, Tensor],
        params: Mapping[str, NDArray[np.int64]],
        name: str,
    ) -> None:
        """Write ``expr`` in floats where they are exact, in int64 elsewhere."""
        try:
            super().expression(expr, values, params, name)
        except CannotEmit as why:
            if max(abs(expr.lo), abs(expr.hi)) >= EXACT64:
                raise CannotEmit(f"its result may reach {max(abs(expr.lo), abs(expr.hi))}") from why
            tensors = {key: self.graph.node("Cast", tensor, to=I64) for key, (tensor, _) in values.items()}
            result = onnx_integers(expr, tensors, params, self.graph)
            # An operand that ranges decided away still gives batch and shape.
            for key in sorted(set(tensors) - set(expr.variables())):
                nothing = self.graph.constant(np.asarray(0, np.int64))
                result = self.graph.node("Add", self.graph.node("Mul", tensors[key], nothing), result)
            self.set_real(name, self.graph.node("Cast", result, to=self.kind(name)), self.kind(name))

    def map(self, step: Step, form: Map) -> str:
        """As the engine does; sums of two bytes as nodes that runtimes fuse, where that is exact fused and unfused."""
        names = [*step.inputs, *step.outputs]
        if self.int8 and len(step.inputs) == 2 and not form.params and all(self.narrow(n) for n in names):
            found = exact_sum(form.expr, *(self.buffer(n) for n in names))
            if found is not None:
                left, right = (self.raw(n) for n in step.inputs)
                self.set_raw(step.outputs[0], write_sum(self.graph, found, left, right))
                return "onnx-int8"
        return super().map(step, form)

    # ---------------------------------------------------------------- windows

    def placed(self, x: str, shape: Sequence[int], axes: Sequence[Axis], fill: str) -> tuple[str, list[int]]:
        """``x`` spread out and padded along its last axes as the windows want it, and its shape after axis 0.

        Args:
            x: Tensor ``[n, ...]``.
            shape: Its shape; only what follows axis 0 counts.
            axes: Of its last axes.
            fill: Scalar constant of its type for empty places.
        """
        graph = self.graph
        sizes = list(shape[1:])
        first = len(sizes) - len(axes)
        for i, axis in enumerate(axes, first):
            if axis.spread > 1:
                # [.., n, ..] → [.., n, 1, ..] → [.., n, spread, ..] → [.., n * spread, ..], without the last gap.
                lead = [0, *sizes[:i]]
                rest = sizes[i + 1 :]
                x = graph.node("Reshape", x, self.ints(*lead, sizes[i], 1, *rest))
                after = [0] * (len(lead) + 2 + len(rest))
                after[len(lead) + 1] = axis.spread - 1
                x = graph.node("Pad", x, self.ints(*[0] * len(after), *after), fill)
                x = graph.node("Reshape", x, self.ints(*lead, sizes[i] * axis.spread, *rest))
                sizes[i] = (sizes[i] - 1) * axis.spread + 1
                x = graph.node("Slice", x, self.ints(0), self.ints(sizes[i]), self.ints(i + 1))
        before = [0] * (1 + first) + [max(0, a.before) for a in axes]
        after = [0] * (1 + first) + [max(0, a.after) for a in axes]
        if any(before) or any(after):
            x = graph.node("Pad", x, self.ints(*before, *after), fill)
            sizes = [n + b + a for n, b, a in zip(sizes, before[1:], after[1:], strict=True)]
        for i, axis in enumerate(axes, first):
            cut = (max(0, -axis.before), sizes[i] - max(0, -axis.after))
            if cut != (0, sizes[i]):
                x = graph.node("Slice", x, *(self.ints(v) for v in (*cut, i + 1)))
                sizes[i] = cut[1] - cut[0]
        return x, sizes

    def contract(self, step: Step, form: Contract) -> str:
        """As the engine does, remembering the shape of the input for windows that ONNX has no attributes for."""
        self._source = self.buffer(step.inputs[0])
        return super().contract(step, form)

    def convolve(self, x: str, weights: NDArray[np.float32], bias: NDArray[np.float32] | None, form: Contract) -> str:
        """A float32 convolution with the windows of ``form``, whatever they are."""
        try:
            return super().convolve(x, weights, bias, form)
        except CannotEmit:
            assert self._source is not None  # contract() was here
            x, _ = self.placed(x, self._source.shape, form.axes, self.number(0, F32))
            constants = [self.graph.constant(bias)] if bias is not None else []
            return self.graph.node(
                "Conv",
                x,
                self.graph.constant(weights),
                *constants,
                group=form.groups,
                kernel_shape=[a.taps for a in form.axes],
                strides=[a.stride for a in form.axes],
                dilations=[a.dilation for a in form.axes],
            )

    def accumulator(self, step: Step, form: Contract) -> Tensor:
        """The exact accumulators; inputs and weights are cut into digits where float32 cannot hold their sums."""
        try:
            return super().accumulator(step, form)
        except CannotEmit:
            return self.accumulator_by_digits(step, form)

    def accumulator_by_digits(self, step: Step, form: Contract) -> Tensor:
        """A float32 convolution for each pair of an input digit and a weight digit, joined in float64."""
        source = self.buffer(step.inputs[0])
        weights, bias = self.weights(form).astype(np.int64), self.bias(form)
        reach = max(abs(source.lo - form.input_zero), abs(source.hi - form.input_zero))
        if max(abs(form.acc_lo), abs(form.acc_hi)) >= EXACT64 or reach >= EXACT64:
            raise CannotEmit("the accumulator passes 2^53")
        products = int(np.prod(weights.shape[1:]))
        input_bits = 8 if reach >= 256 else max(1, int(reach).bit_length())
        weight_bits = (EXACT32 // max(1, products << input_bits)).bit_length() - 1
        if weight_bits < 1:
            raise CannotEmit(f"{products} products of {input_bits} bits pass 2^24")
        name = step.inputs[0]
        value = self.real(name, F64)
        if form.input_zero:
            value = self.graph.node("Sub", value, self.number(form.input_zero, F64))
        total: str | None = None
        for i, digit in enumerate(self.digits(value, input_bits, reach)):
            narrow = self.lifted(self.graph.node("Cast", digit, to=F32), form)
            for j, part in enumerate(weight_digits(weights, weight_bits)):
                y = self.lowered(self.convolve(narrow, part.astype(np.float32), None, form), form)
                wide = self.graph.node("Cast", y, to=F64)
                shift = input_bits * i + weight_bits * j
                wide = self.graph.node("Mul", wide, self.number(2.0**shift, F64)) if shift else wide
                total = wide if total is None else self.graph.node("Add", total, wide)
        assert total is not None  # there is at least one digit
        rank = len(self.buffer(step.outputs[0]).shape)
        constant = self.graph.constant(bias.astype(np.float64).reshape((1, -1) + (1,) * (rank - 2)))
        return self.graph.node("Add", total, constant), F64

    def digits(self, value: str, bits: int, reach: int) -> list[str]:
        """Digits of ``bits`` bits, lowest first; all but the highest are non-negative."""
        found = []
        while reach >= 1 << bits:
            high = self.graph.node("Floor", self.graph.node("Mul", value, self.number(2.0**-bits, F64)))
            shifted = self.graph.node("Mul", high, self.number(2.0**bits, F64))
            found.append(self.graph.node("Sub", value, shifted))
            value, reach = high, (reach >> bits) + 1
        return [*found, value]

    def reduce(self, step: Step, form: Reduce) -> str:
        """As the engine does where ONNX has an operator for the window, tap by tap elsewhere."""
        try:
            return super().reduce(step, form)
        except CannotEmit:
            self.reduce_by_taps(step, form)
            return "onnx-taps"

    def reduce_by_taps(self, step: Step, form: Reduce) -> None:
        """Sum, maximum or argmax over a window as one slice for each tap."""
        source = self.buffer(step.inputs[0])
        taps = list(np.ndindex(*(axis.taps for axis in form.axes)))
        if len(taps) > MOST_TAPS:
            raise CannotEmit(f"a window of {len(taps)} taps")
        summing = form.combine == "sum"
        count = len(taps) if summing else 1
        reach = max(abs(source.lo), abs(source.hi)) + abs(form.input_zero) + 1
        if reach * count >= EXACT64:
            raise CannotEmit("its sums pass 2^53")
        kind = F32 if reach * count < EXACT32 and self.kind(step.inputs[0]) == F32 else F64
        graph = self.graph
        value = self.real(step.inputs[0], kind)
        if summing and form.input_zero:
            value = graph.node("Sub", value, self.number(form.input_zero, kind))
        fill = self.number(0 if summing else source.format.lo - 1, kind)
        value, _ = self.placed(value, source.shape, form.axes, fill)
        sizes = [axis.outputs(n) for axis, n in zip(form.axes, source.shape[1:], strict=True)]
        best = acc = self.tap(value, form.axes, sizes, taps[0])
        if form.combine == "argmax":
            acc = graph.node("Mul", acc, self.number(0, kind))
        for place, index in enumerate(taps[1:], 1):
            seen = self.tap(value, form.axes, sizes, index)
            if form.combine == "argmax":
                acc = graph.node("Where", graph.node("Greater", seen, best), self.number(place, kind), acc)
                best = graph.node("Max", best, seen)
            else:
                acc = graph.node("Add" if summing else "Max", acc, seen)
        constants = {}
        if "count" in form.epilogue.expr.variables():
            constants["count"] = taps_inside(form.axes, source.shape[1:])
        self.finish(step, form.epilogue, {"acc": (acc, kind)}, constants)

    def tap(self, x: str, axes: Sequence[Axis], sizes: Sequence[int], index: Sequence[int]) -> str:
        """What tap ``index`` of each window sees."""
        starts = [k * axis.dilation for axis, k in zip(axes, index, strict=True)]
        ends = [s + (n - 1) * axis.stride + 1 for s, n, axis in zip(starts, sizes, axes, strict=True)]
        places, strides = range(1, len(axes) + 1), [axis.stride for axis in axes]
        return self.graph.node("Slice", x, *(self.ints(*v) for v in (starts, ends, places, strides)))

    # ---------------------------------------------------------------- islands

    def island(self, step: Step, form: Island) -> str:
        """Dequantize, the nodes of the float piece, quantize."""
        graph = self.graph
        feeds = {feed: self.dequantized(name) for feed, name in zip(form.feeds, step.inputs, strict=True)}
        made = splice(
            self.export_graph, self.program.tensors[form.model].tobytes(), feeds, form.fetches, layer=step.layer
        )
        for tensor, name in zip(made, step.outputs, strict=True):
            format = self.buffer(name).format
            real = graph.node("Div", graph.node("Cast", tensor, to=F64), self.number(float(format.scale), F64))
            codes = rounded(graph, real, form.rounding, F64)
            if int(format.zero_point):
                codes = graph.node("Add", codes, self.number(int(format.zero_point), F64))
            codes = graph.node("Clip", codes, self.number(format.lo, F64), self.number(format.hi, F64))
            self.set_real(name, codes, F64)
        return "island"

    def dequantized(self, name: str) -> str:
        """The buffer in real numbers, float64."""
        format = self.buffer(name).format
        value = self.real(name, F64)
        if int(format.zero_point):
            value = self.graph.node("Sub", value, self.number(int(format.zero_point), F64))
        return self.graph.node("Mul", value, self.number(float(format.scale), F64))


def weight_digits(weights: NDArray[np.int64], bits: int) -> list[NDArray[np.int64]]:
    """Digits of ``bits`` bits, lowest first; the highest may be negative, and none is beyond ``2**bits - 1``."""
    found = []
    while int(np.abs(weights).max(initial=0)) >= 1 << bits:
        high = weights >> bits
        found.append(weights - (high << bits))
        weights = high
    return [*found, weights]
