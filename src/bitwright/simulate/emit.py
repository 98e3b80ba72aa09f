"""Writes steps of a program as ONNX nodes whose results are the program's integers, exactly.

Two representations of a buffer's integers ``q`` are used, and converted where a step needs the other one:

- *raw*: uint8 ``q - lowest code``, for buffers of at most 8 bits;
- *real*: float32, or float64 where 2^24 is not enough, holding ``q`` itself.

A contraction goes one of two ways.  ``onnx-int8``: ``QLinearConv``, whose float32 rounding is made exact (see
``simulate/int8.py``).  ``onnx-float``: a float convolution of integers, exact in any order of summation because the proven
bound of every partial sum stays below 2^24.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, Op
from bitwright.number.match import ShiftDown, describe
from bitwright.number.render import EXACT_INTEGERS, onnx_dtype, onnx_value
from bitwright.program.forms import (
    Axis,
    Contract,
    Epilogue,
    Fill,
    Form,
    Join,
    Map,
    Motion,
    Move,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.program import Buffer, Program, Step
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8_conv import Int8Convolution, int8_convolution, window
from bitwright.simulate.int8_sum import Int8Sum, find_sum

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
EXACT32 = EXACT_INTEGERS[F32]


class CannotEmit(Exception):
    """This step cannot be written as ONNX nodes that are exact."""


class NeedsKernel(CannotEmit):
    """There are ONNX nodes for this step, but a compiled kernel is faster."""


class Emitter:
    """Writes steps into one graph and remembers in which representations each buffer is at hand.

    Args:
        program: The program.
        graph: Where nodes go.
        int8: Whether ``QLinearConv`` may be used.
        contrib: Whether operators outside the ONNX standard may be used.
        kernels: Whether steps that would need several float64 nodes are left to compiled kernels.
    """

    def __init__(
        self, program: Program, graph: GraphWriter, *, int8: bool, contrib: bool = False, kernels: bool = False
    ) -> None:
        self.program, self.graph, self.int8, self.contrib, self.kernels = program, graph, int8, contrib, kernels
        self._raw: dict[str, str] = {}
        self._real: dict[tuple[str, np.dtype[Any]], str] = {}

    # ---------------------------------------------------------------- representations

    def buffer(self, name: str) -> Buffer:
        """A buffer of the program."""
        return self.program.buffers[name]

    def narrow(self, name: str) -> bool:
        """Whether the buffer has a raw representation."""
        return self.buffer(name).format.bits <= 8

    def kind(self, name: str) -> np.dtype[Any]:
        """The float type that holds the buffer's integers."""
        reach = max(abs(self.buffer(name).format.lo), abs(self.buffer(name).format.hi))
        return F32 if reach < EXACT32 else F64

    def feed(self, name: str, tensor: str) -> None:
        """Declare a graph input that holds ``name``: raw uint8, or int64 for wider buffers."""
        if self.narrow(name):
            self._raw[name] = tensor
        else:
            self._real[name, self.kind(name)] = self.graph.node("Cast", tensor, to=self.kind(name))

    def fetch(self, name: str) -> tuple[str, np.dtype[Any]]:
        """The tensor to read ``name`` from, and its type: raw uint8, or int64 for wider buffers."""
        if self.narrow(name):
            return self.raw(name), np.dtype(np.uint8)
        return self.graph.node("Cast", self.real(name, self.kind(name)), to=np.dtype(np.int64)), np.dtype(np.int64)

    def at_hand(self, name: str) -> bool:
        """Whether raw codes of the buffer were computed already."""
        return name in self._raw

    def raw(self, name: str) -> str:
        """The buffer as uint8."""
        if name not in self._raw:
            real = self.real(name, F32)
            lowest = self.buffer(name).format.lo
            shifted = self.graph.node("Sub", real, self.number(lowest, F32)) if lowest else real
            self._raw[name] = self.graph.node("Cast", shifted, to=np.dtype(np.uint8))
        return self._raw[name]

    def real(self, name: str, dtype: np.dtype[Any]) -> str:
        """The buffer as floats that hold its integers."""
        if (name, dtype) not in self._real:
            other = F64 if dtype == F32 else F32
            if name in self._raw:
                value = self.graph.node("Cast", self._raw[name], to=dtype)
                lowest = self.buffer(name).format.lo
                value = self.graph.node("Add", value, self.number(lowest, dtype)) if lowest else value
            else:
                value = self.graph.node("Cast", self._real[name, other], to=dtype)
            self._real[name, dtype] = value
        return self._real[name, dtype]

    def set_real(self, name: str, tensor: str, dtype: np.dtype[Any]) -> None:
        """Declare that ``tensor`` holds the integers of ``name``; wide float64 goes down to the buffer's own type."""
        wanted = self.kind(name)
        self._real[name, wanted] = tensor if dtype == wanted else self.graph.node("Cast", tensor, to=wanted)

    def number(self, value: float, dtype: np.dtype[Any]) -> str:
        """A scalar constant."""
        return self.graph.constant(np.asarray(value, dtype))

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        return self.graph.constant(np.asarray(values, np.int64))

    # ---------------------------------------------------------------- steps

    def step(self, step: Step) -> str:
        """Write one step; returns the way it took.

        Raises:
            CannotEmit: if there is no exact way; nothing that was written is used then.
        """
        form: Form = step.form
        match form:
            case Contract():
                return self.contract(step, form)
            case Reduce():
                return self.reduce(step, form)
            case Map():
                return self.map(step, form)
            case Table():
                return self.table(step, form)
            case Move():
                return self.move(step, form)
        raise CannotEmit("islands are run apart")

    def contract(self, step: Step, form: Contract) -> str:
        """Sums of products: int8 instructions if they are exact, else a float convolution; gives the way."""
        if self.int8 and self.contract_int8(step, form):
            return "onnx-int8"
        program = self.program
        params = {k: program.tensors[t].astype(np.int64) for k, t in form.epilogue.params.items()}
        found = describe(form.epilogue.expr, params)
        if isinstance(found, ShiftDown) and self.contract_floor(step, form, found):
            return "onnx-float32"
        if self.kernels:
            raise NeedsKernel("its requantizer is more than a shift")
        acc, kind = self.accumulator(step, form)
        self.finish(step, form.epilogue, {"acc": (acc, kind)})
        return "onnx-float64"

    def finish(
        self,
        step: Step,
        epilogue: Epilogue,
        values: Mapping[str, tuple[str, np.dtype[Any]]],
        constants: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        """Write an epilogue over accumulators that are at hand as floats."""
        name = step.outputs[0]
        rank = len(self.buffer(name).shape)
        params = dict(constants or {})
        for key, tensor in epilogue.params.items():
            value = self.program.tensors[tensor].astype(np.int64)
            params[key] = value.reshape((1, -1) + (1,) * (rank - 2)) if value.ndim == 1 else value
        self.expression(epilogue.expr, values, params, name)

    def expression(
        self,
        expr: Expr,
        values: Mapping[str, tuple[str, np.dtype[Any]]],
        params: Mapping[str, NDArray[np.int64]],
        name: str,
    ) -> None:
        """Write ``expr`` and declare its value to be buffer ``name``."""
        try:
            dtype = onnx_dtype(expr)
        except OverflowError as error:
            raise CannotEmit(str(error)) from error
        tensors = {
            key: tensor if kind == dtype else self.graph.node("Cast", tensor, to=dtype)
            for key, (tensor, kind) in values.items()
        }
        result = onnx_value(expr, tensors, params, self.graph)
        # Ranges may have decided that an operand does not matter to the value; its batch and shape still do.
        for key in sorted(set(tensors) - set(expr.variables())):
            result = self.graph.node("Add", self.graph.node("Mul", tensors[key], self.number(0.0, dtype)), result)
        self.set_real(name, result, dtype)

    def spatial(self, form: Contract) -> tuple[Axis, ...]:
        """The windows, with one trivial axis where there is none (a dense layer is a 1-wide convolution)."""
        return form.axes or (Axis(),)

    def lifted(self, tensor: str, form: Contract) -> str:
        """A dense layer's ``[n, k]`` input as ``[n, k, 1]``."""
        return tensor if form.axes else self.graph.node("Unsqueeze", tensor, self.ints(2))

    def lowered(self, tensor: str, form: Contract) -> str:
        """The opposite of :meth:`lifted`."""
        return tensor if form.axes else self.graph.node("Squeeze", tensor, self.ints(2))

    def weights(self, form: Contract) -> NDArray[np.integer[Any]]:
        """Weights with the same extra axis."""
        weights = self.program.tensors[form.weight]
        return weights if form.axes else weights[:, :, None]

    def bias(self, form: Contract) -> NDArray[np.int64]:
        """Bias in accumulator steps, zeros where there is none."""
        if form.bias is None:
            return np.zeros(len(self.program.tensors[form.weight]), np.int64)
        return self.program.tensors[form.bias].astype(np.int64)

    def contract_int8(self, step: Step, form: Contract) -> bool:
        """Write a contraction as ``QLinearConv`` if that is exact."""
        source, name = step.inputs[0], step.outputs[0]
        made = self.int8_convolution(step, form, self.weights(form), self.bias(form), self.spatial(form))
        if made is None:
            return False
        out = self.lowered(made.write(self.graph, self.lifted(self.raw(source), form)), form)
        self._raw[name] = self.limited(out, made.limits)
        return True

    def int8_convolution(
        self,
        step: Step,
        form: Contract,
        weights: NDArray[np.integer[Any]],
        bias: NDArray[np.int64],
        axes: Sequence[Axis],
    ) -> Int8Convolution | None:
        """The step as a ``QLinearConv`` of the weights, or None if there is no exact one.

        Weights may hold the output channels several times over.
        """
        params = {k: self.program.tensors[t].astype(np.int64) for k, t in form.epilogue.params.items()}
        channels = self.buffer(step.outputs[0]).shape[1]
        params = {k: np.tile(v, len(weights) // channels) if v.ndim else v for k, v in params.items()}
        return int8_convolution(
            weights,
            bias,
            axes,
            form.groups,
            source=self.buffer(step.inputs[0]),
            input_zero=form.input_zero,
            target=self.buffer(step.outputs[0]),
            expr=form.epilogue.expr,
            params=params,
        )

    def limited(self, raw: str, limits: tuple[int, int] | None) -> str:
        """Raw codes within limits."""
        if limits is None:
            return raw
        return self.graph.node("Clip", raw, *(self.graph.constant(np.asarray(v, np.uint8)) for v in limits))

    def partial_sum_bound(self, form: Contract, source: Buffer) -> NDArray[np.float64]:
        """Per output channel, a bound on every partial sum in any order, bias included."""
        reach = max(abs(source.lo - form.input_zero), abs(source.hi - form.input_zero))
        weights = np.abs(self.program.tensors[form.weight].astype(np.float64))
        return np.asarray(weights.reshape(len(weights), -1).sum(1) * reach + np.abs(self.bias(form)))

    def centered(self, name: str, zero: int) -> str:
        """The buffer's integers minus its zero point, float32."""
        value = self.real(name, F32)
        return self.graph.node("Sub", value, self.number(zero, F32)) if zero else value

    def convolve(self, x: str, weights: NDArray[np.float32], bias: NDArray[np.float32] | None, form: Contract) -> str:
        """A float32 convolution with the windows of ``form``."""
        axes = self.spatial(form)
        constants = [self.graph.constant(bias)] if bias is not None else []
        if all(a.spread == 1 for a in axes):
            if any(a.before < 0 or a.after < 0 for a in axes):
                raise CannotEmit("negative padding")
            return self.graph.node(
                "Conv", x, self.graph.constant(weights), *constants, group=form.groups, **window(axes)
            )
        return self.transposed(x, weights, constants, form)

    def transposed(self, x: str, weights: NDArray[np.float32], constants: Sequence[str], form: Contract) -> str:
        """A convolution of a spread-out input as ONNX's ``ConvTranspose``."""
        axes = form.axes
        edges = [a.dilation * (a.taps - 1) for a in axes]
        begin = [e - a.before for e, a in zip(edges, axes, strict=True)]
        end = [e - a.after for e, a in zip(edges, axes, strict=True)]
        extra = [max(0, -e) for e in end]
        if any(b < 0 for b in begin) or any(a.stride != 1 for a in axes):
            raise CannotEmit("padding beyond a transposed convolution's")
        if any(o >= max(a.spread, a.dilation) for o, a in zip(extra, axes, strict=True) if o):
            raise CannotEmit("output padding beyond the stride")
        groups = form.groups
        outputs, inputs, *taps = weights.shape
        flipped = np.flip(weights, axis=tuple(range(2, weights.ndim))).reshape(groups, outputs // groups, inputs, *taps)
        turned = np.swapaxes(flipped, 1, 2).reshape(groups * inputs, outputs // groups, *taps)
        return self.graph.node(
            "ConvTranspose",
            x,
            self.graph.constant(np.ascontiguousarray(turned)),
            *constants,
            group=groups,
            kernel_shape=list(taps),
            strides=[a.spread for a in axes],
            dilations=[a.dilation for a in axes],
            pads=[*begin, *(max(0, e) for e in end)],
            output_padding=extra,
        )

    def contract_floor(self, step: Step, form: Contract, found: ShiftDown) -> bool:
        """Write a contraction as ``Conv → Floor → Clip``: the shift and the half are in weights and bias."""
        source, name = self.buffer(step.inputs[0]), step.outputs[0]
        if (self.partial_sum_bound(form, source) + np.exp2(found.shift.astype(np.float64)) >= EXACT32).any():
            return False
        weights, bias = self.weights(form), self.bias(form)
        factor = np.broadcast_to(np.exp2(-found.shift.astype(np.float64)), bias.shape)
        scaled = weights * factor.reshape((-1,) + (1,) * (weights.ndim - 1))
        half = np.where(np.broadcast_to(found.shift, bias.shape) > 0, 0.5, 0.0)
        x = self.lifted(self.centered(step.inputs[0], form.input_zero), form)
        y = self.convolve(x, scaled.astype(np.float32), (bias * factor + half).astype(np.float32), form)
        self.set_real(name, self.lowered(self.rounded_down(y, found), form), F32)
        return True

    def rounded_down(self, y: str, found: ShiftDown) -> str:
        """``clip(floor(y) + zero, lo, hi)`` of a float32 convolution."""
        y = self.graph.node("Floor", y)
        if found.zero:
            y = self.graph.node("Add", y, self.number(found.zero, F32))
        return self.graph.node("Clip", y, self.number(found.lo, F32), self.number(found.hi, F32))

    def accumulator(self, step: Step, form: Contract) -> tuple[str, np.dtype[Any]]:
        """The exact accumulators as floats: one float32 convolution, or two of halved weights joined in float64."""
        source = self.buffer(step.inputs[0])
        if max(abs(source.lo - form.input_zero), abs(source.hi - form.input_zero)) >= EXACT32:
            raise CannotEmit("inputs wider than 24 bits")
        bound = self.partial_sum_bound(form, source)
        x = self.lifted(self.centered(step.inputs[0], form.input_zero), form)
        weights, bias = self.weights(form), self.bias(form)
        if (bound < EXACT32).all():
            y = self.convolve(x, weights.astype(np.float32), bias.astype(np.float32), form)
            return self.lowered(y, form), F32
        high = weights.astype(np.int64) >> 4
        low = weights.astype(np.int64) - (high << 4)
        reach = max(abs(source.lo - form.input_zero), abs(source.hi - form.input_zero))
        for part in (high, low):
            if (np.abs(part).reshape(len(part), -1).sum(1) * reach >= EXACT32).any():
                raise CannotEmit("the accumulator passes 2^24 even with halved weights")
        pieces = [
            self.graph.node("Cast", self.lowered(self.convolve(x, p.astype(np.float32), None, form), form), to=F64)
            for p in (high, low)
        ]
        rank = len(self.buffer(step.outputs[0]).shape)
        shifted = self.graph.node("Mul", pieces[0], self.number(16.0, F64))
        total = self.graph.node("Add", shifted, pieces[1])
        constant = self.graph.constant(bias.astype(np.float64).reshape((1, -1) + (1,) * (rank - 2)))
        return self.graph.node("Add", total, constant), F64

    def reduce(self, step: Step, form: Reduce) -> str:
        """Sums, maxima and positions of maxima over windows; gives the way."""
        source, name = self.buffer(step.inputs[0]), step.outputs[0]
        moving = [i for i, axis in enumerate(form.axes, 1) if not axis.trivial]
        whole = all(
            axis.taps == n and not (axis.before or axis.after or axis.spread > 1)
            for i, (axis, n) in enumerate(zip(form.axes, source.shape[1:], strict=True), 1)
            if i in moving
        )
        if form.combine == "argmax":
            if not whole or len(moving) != 1:
                raise CannotEmit("argmax over a window")
            index = self.graph.node("ArgMax", self.real(step.inputs[0], self.kind(step.inputs[0])), axis=moving[0])
            self.set_real(name, self.graph.node("Cast", index, to=F32), F32)
            return "onnx-move"
        if form.combine == "max":
            return self.maximum(step, form, moving, whole)
        count = prod(axis.taps for axis in form.axes)
        reach = max(abs(source.lo - form.input_zero), abs(source.hi - form.input_zero)) * count
        kind = F32 if reach < EXACT32 and self.kind(step.inputs[0]) == F32 else F64
        value = self.real(step.inputs[0], kind)
        centered = self.graph.node("Sub", value, self.number(form.input_zero, kind)) if form.input_zero else value
        if whole:
            total = self.graph.node("ReduceSum", centered, self.ints(*moving), keepdims=1) if moving else centered
        else:
            total = self.window_sum(centered, kind, form, source)
        constants = {}
        if "count" in form.epilogue.expr.variables():
            constants["count"] = taps_inside(form.axes, source.shape[1:])
        self.finish(step, form.epilogue, {"acc": (total, kind)}, constants)
        return "onnx-float32" if kind == F32 else "onnx-float64"

    def window_sum(self, centered: str, kind: np.dtype[Any], form: Reduce, source: Buffer) -> str:
        """Sums over spatial windows as a depthwise convolution with ones, exact because every sum is below 2^24."""
        channel, *spatial = form.axes
        fits = all(a.spread == 1 and a.before >= 0 and a.after >= 0 for a in spatial)
        if not channel.trivial or not fits or not spatial or kind != F32 or len(spatial) > 3:
            raise CannotEmit("sums over this kind of window")
        channels = source.shape[1]
        ones = self.graph.constant(np.ones((channels, 1, *(a.taps for a in spatial)), np.float32))
        return self.graph.node("Conv", centered, ones, group=channels, **window(spatial))

    def maximum(self, step: Step, form: Reduce, moving: Sequence[int], whole: bool) -> str:
        """A maximum on raw codes, or on floats where there are none."""
        name = step.outputs[0]
        raw = self.at_hand(step.inputs[0])
        value = self.raw(step.inputs[0]) if raw else self.real(step.inputs[0], self.kind(step.inputs[0]))
        kind = self.kind(step.inputs[0])
        if whole and moving:
            y = self.graph.node("ReduceMax", value, self.ints(*moving), keepdims=1)
        elif moving:
            channel, *spatial = form.axes
            fits = all(a.spread == 1 and 0 <= a.before < a.taps and 0 <= a.after < a.taps for a in spatial)
            if not channel.trivial or not fits or not 1 <= len(spatial) <= 3 or (not raw and kind != F32):
                raise CannotEmit("maxima over this kind of window")
            y = self.graph.node("MaxPool", value, **window(spatial))
        else:
            y = value
        expr = form.epilogue.expr
        same = expr.op is Op.VAR and self.buffer(name).format == self.buffer(step.inputs[0]).format
        if same and raw:
            self._raw[name] = y
        elif raw:
            real = self.graph.node("Cast", y, to=F32)
            lowest = self.buffer(step.inputs[0]).format.lo
            real = self.graph.node("Add", real, self.number(lowest, F32)) if lowest else real
            self.finish(step, form.epilogue, {"acc": (real, F32)})
        else:
            self.finish(step, form.epilogue, {"acc": (y, kind)})
        return "onnx-move"

    def map(self, step: Step, form: Map) -> str:
        """One element from those at the same place; gives the way."""
        if self.contrib and self.sum_int8(step, form):
            return "onnx-int8"
        shapes = {self.buffer(n).shape for n in (*step.inputs, *step.outputs)}
        scalars = all(self.program.tensors[t].size == 1 for t in form.params.values())
        if self.kernels and len(shapes) == 1 and scalars and not fits_float32(form.expr):
            raise NeedsKernel("its intermediates pass 2^24")
        values = {f"x{i}": (self.real(n, self.kind(n)), self.kind(n)) for i, n in enumerate(step.inputs)}
        params = {key: self.program.tensors[t].astype(np.int64) for key, t in form.params.items()}
        self.expression(form.expr, values, params, step.outputs[0])
        return "onnx-float"

    def sum_int8(self, step: Step, form: Map) -> bool:
        """Write a two-operand step as ``QLinearAdd``, if that gives the right code for every pair of codes."""
        names = [*step.inputs, *step.outputs]
        if len(step.inputs) != 2 or form.params or not all(self.narrow(n) for n in names):
            return False
        found = find_sum(form.expr, *(self.buffer(n) for n in names))
        if found is None:
            return False
        a, b = (self.raw(n) for n in step.inputs)
        limits = None if found.clip == (0, 255) else found.clip
        self._raw[step.outputs[0]] = self.limited(self.added(found, a, b), limits)
        return True

    def added(self, found: Int8Sum, a: str, b: str) -> str:
        """The ``QLinearAdd`` of raw codes; not limited yet."""
        constants = [self.graph.constant(np.asarray(value, kind)) for value, kind in found.constants]
        return self.graph.node("QLinearAdd", a, *constants[:2], b, *constants[2:], domain="com.microsoft")

    def table(self, step: Step, form: Table) -> str:
        """A gather from the table; gives the way."""
        source, name = self.buffer(step.inputs[0]), step.outputs[0]
        entries = self.program.tensors[form.table].astype(np.int64)
        if self.narrow(step.inputs[0]):
            index = self.graph.node("Cast", self.raw(step.inputs[0]), to=np.dtype(np.int32))
        else:
            real = self.real(step.inputs[0], self.kind(step.inputs[0]))
            lowest = self.number(source.format.lo, self.kind(step.inputs[0]))
            index = self.graph.node("Cast", self.graph.node("Sub", real, lowest), to=np.dtype(np.int32))
        if self.narrow(name):
            raw = (entries - self.buffer(name).format.lo).astype(np.uint8)
            self._raw[name] = self.graph.node("Gather", self.graph.constant(raw), index)
        else:
            kind = self.kind(name)
            self.set_real(name, self.graph.node("Gather", self.graph.constant(entries.astype(kind)), index), kind)
        return "onnx-table"

    def move(self, step: Step, form: Move) -> str:
        """Elements to other places, as raw codes where they are at hand; gives the way."""
        name = step.outputs[0]
        raw = self.narrow(name) and all(self.at_hand(n) for n in step.inputs)
        kind = np.dtype(np.uint8) if raw else self.kind(name)
        values = [self.raw(n) if raw else self.real(n, kind) for n in step.inputs]
        lowest = self.buffer(name).format.lo if raw else 0
        for motion in form.motions:
            values = [self.motion(values, motion, kind, lowest)]
        if raw:
            self._raw[name] = values[0]
        else:
            self.set_real(name, values[0], kind)
        return "onnx-move"

    def motion(self, values: Sequence[str], motion: Motion, kind: np.dtype[Any], lowest: int) -> str:
        """One motion of tensors of type ``kind`` whose codes start at ``lowest``."""
        x = values[0]
        graph = self.graph
        match motion:
            case Join(axis):
                return graph.node("Concat", *values, axis=axis)
            case Reshape(shape):
                # 0 keeps the batch as it is.
                kept = (0, *shape[1:]) if self.program.batchable and shape and shape[0] == 1 else shape
                return graph.node("Reshape", x, self.ints(*kept))
            case Transpose(order):
                return graph.node("Transpose", x, perm=list(order))
            case Fill(before, after, value):
                return graph.node(
                    "Pad", x, self.ints(*before, *after), self.graph.constant(np.asarray(value - lowest, kind))
                )
            case Take(axis, indices):
                step = indices[1] - indices[0] if len(indices) > 1 else 1
                if step > 0 and indices == tuple(range(indices[0], indices[-1] + 1, step)):
                    bounds = (self.ints(v) for v in (indices[0], indices[-1] + 1, axis, step))
                    return graph.node("Slice", x, *bounds)
                return graph.node("Gather", x, self.ints(*indices), axis=axis)


def fits_float32(expr: Expr) -> bool:
    """Whether float32 holds every intermediate."""
    try:
        return onnx_dtype(expr) == F32
    except OverflowError:
        return False


def taps_inside(axes: Sequence[Axis], shape: Sequence[int]) -> NDArray[np.int64]:
    """How many taps fall inside the tensor at each output position, ``[1, ...]``."""
    total = np.ones((1,) * (len(axes) + 1), np.int64)
    for i, (axis, n) in enumerate(zip(axes, shape, strict=True)):
        at = np.arange(axis.outputs(n))[:, None] * axis.stride + np.arange(axis.taps) * axis.dilation - axis.before
        inside = ((at >= 0) & (at <= (n - 1) * axis.spread) & (at % axis.spread == 0)).sum(1)
        total = total * inside.reshape((1,) * (i + 1) + (-1,) + (1,) * (len(axes) - i - 1))
    return total
