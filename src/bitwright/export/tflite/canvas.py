"""Buffers of a program as int8 tensors of TFLite: stored in any order of axes, turned only where an operator asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.errors import ExportError, printable
from bitwright.export.tflite.flat import Graph, Quantization
from bitwright.number.expr import Expr, Op
from bitwright.number.format import Format
from bitwright.program.program import Buffer, Program, Step

UNSIGNED_MOVE = 128
"""Unsigned bytes are written as signed ones: codes and zero point less 128, which are the same numbers."""

LO, HI = -128, 127
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
SAME, VALID = 0, 1
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """Where a buffer is: axis ``i`` of the tensor is axis ``order[i]`` of the buffer."""

    tensor: int
    order: tuple[int, ...]


def refusal(step: Step, why: str) -> ExportError:
    """The error for a step that TFLite's integers cannot express."""
    return ExportError(
        f"Layer '{printable(step.layer)}' ({printable(step.op)}) has no form in int8 TFLite: {why}. --target litert has "
        "TFLite's rules; what it cannot compute in integers either must be replaced in the network."
    )


def moved_by(format: Format) -> int:
    """What is taken off a code to store it in a signed byte."""
    return 0 if format.signed else UNSIGNED_MOVE


def quantization(format: Format) -> Quantization:
    """Scale and zero point of an activation."""
    return Quantization(
        scale=np.asarray(format.scale, np.float32).reshape(1),
        zero_point=np.asarray(format.zero_point, np.int64).reshape(1) - moved_by(format),
    )


def bounds(expr: Expr, format: Format) -> tuple[int, int]:
    """The codes that an epilogue saturates at, as stored: those of the format, or of an activation inside it."""
    lo, hi = format.lo, format.hi
    while expr.op in (Op.MIN, Op.MAX):
        first, second = expr.args
        constant, rest = (second, first) if second.op is Op.CONST else (first, second)
        if constant.op is not Op.CONST:
            break
        if expr.op is Op.MIN:
            hi = min(hi, constant.value)
        else:
            lo = max(lo, constant.value)
        expr = rest
    return lo - moved_by(format), hi - moved_by(format)


def fused(limits: tuple[int, int], format: Format) -> int | None:
    """The activation of TFLite that saturates at ``limits``, computed as its kernels compute it; None if there is none."""
    scale, zero = np.float32(format.scale), int(format.zero_point) - moved_by(format)

    def code(real: float) -> int:
        steps = np.float32(real) / scale
        return zero + int(np.copysign(np.floor(np.abs(np.float64(steps)) + 0.5), steps))

    for kind, lo, hi in (
        (NONE, LO, HI),
        (RELU, code(0), HI),
        (RELU6, code(0), code(6)),
        (RELU_N1_TO_1, code(-1), code(1)),
    ):
        if (max(lo, LO), min(hi, HI)) == limits:
            return kind
    return None


class Canvas:
    """A graph, and where each buffer of the program is in it."""

    def __init__(self, program: Program, specs: Mapping[str, LayerSpec]) -> None:
        self.program, self.specs = program, specs
        self.graph = Graph(program.name or "network")
        self.places: dict[str, Stored] = {}
        self.turned: dict[tuple[int, tuple[int, ...]], int] = {}
        self.notes: dict[str, None] = {}

    # ---------------------------------------------------------------- buffers

    def buffer(self, name: str) -> Buffer:
        """A buffer of the program."""
        return self.program.buffers[name]

    def spec(self, step: Step) -> LayerSpec:
        """The layer that a step belongs to."""
        return self.specs[step.layer]

    def check(self, step: Step, buffer: Buffer) -> None:
        """Refuse what is no 8-bit activation.

        Raises:
            ExportError: naming the layer.
        """
        if buffer.format.bits != 8 or buffer.format.scale.ndim:
            raise refusal(step, f"'{printable(buffer.name)}' is {buffer.format}, and activations are int8 there")

    def new(
        self, buffer: Buffer, shape: Sequence[int], *, name: str | None = None, format: Format | None = None
    ) -> int:
        """A tensor for (a part of) a buffer, in its format or another one."""
        return self.graph.tensor(
            name or buffer.tensor or buffer.name, shape, "int8", quantization(format or buffer.format)
        )

    def like(self, tensor: int, shape: Sequence[int], suffix: str) -> int:
        """A tensor with the format of another one."""
        found = self.graph.tensors[tensor]
        return self.graph.tensor(found.name + suffix, shape, found.kind, found.quantization)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor of the file."""
        return self.graph.tensors[tensor].shape

    def put(self, name: str, tensor: int, order: Sequence[int]) -> None:
        """Say where a buffer is."""
        self.places[name] = Stored(tensor, tuple(order))

    def get(self, name: str, order: Sequence[int]) -> int:
        """A buffer with its axes in ``order``; turned if it must be."""
        stored = self.places[name]
        return self.permuted(stored.tensor, [stored.order.index(axis) for axis in order])

    def any_order(self, name: str) -> tuple[int, tuple[int, ...]]:
        """A buffer as it is."""
        stored = self.places[name]
        return stored.tensor, stored.order

    # ---------------------------------------------------------------- operators without arithmetic

    def permuted(self, tensor: int, perm: Sequence[int]) -> int:
        """``tensor`` with axis ``i`` = its axis ``perm[i]``: itself, a reshape where only axes of one element move, or a
        transpose.
        """
        shape = self.shape(tensor)
        if list(perm) == list(range(len(shape))):
            return tensor
        key = (tensor, tuple(perm))
        if key not in self.turned:
            result = [shape[i] for i in perm]
            moving = [i for i in perm if shape[i] != 1]
            if moving == sorted(moving):
                self.turned[key] = self.reshaped(tensor, result)
            else:
                out = self.like(tensor, result, "_turned")
                order = self.graph.constant("order", np.asarray(perm, np.int32))
                self.turned[key] = self.graph.op("TRANSPOSE", [tensor, order], [out], "TransposeOptions")
        return self.turned[key]

    def reshaped(self, tensor: int, shape: Sequence[int]) -> int:
        """The same elements in another shape."""
        if tuple(shape) == self.shape(tensor):
            return tensor
        out = self.like(tensor, shape, "_reshaped")
        wanted = self.graph.constant("shape", np.asarray(shape, np.int32))
        return self.graph.op("RESHAPE", [tensor, wanted], [out], "ReshapeOptions", NewShape=tuple(shape))

    def padded(self, tensor: int, pads: Sequence[tuple[int, int]], code: int) -> int:
        """A border of ``code`` (as stored)."""
        if not any(b or a for b, a in pads):
            return tensor
        shape = [b + n + a for n, (b, a) in zip(self.shape(tensor), pads, strict=True)]
        out = self.like(tensor, shape, "_padded")
        amounts = self.graph.constant("pads", np.asarray(pads, np.int32))
        found = self.graph.tensors[tensor].quantization
        assert found is not None
        if code == int(found.zero_point[0]):
            return self.graph.op("PAD", [tensor, amounts], [out], "PadOptions")
        value = self.graph.constant("border", np.asarray([code], np.int8), found)
        return self.graph.op("PADV2", [tensor, amounts, value], [out], "PadV2Options")

    # ---------------------------------------------------------------- formats and limits

    def requantized(self, tensor: int, format: Format, name: str) -> int:
        """In another format; itself if it has that one."""
        wanted, found = quantization(format), self.graph.tensors[tensor].quantization
        assert found is not None
        if wanted.scale[0] == found.scale[0] and wanted.zero_point[0] == found.zero_point[0]:
            return tensor
        out = self.graph.tensor(name, self.shape(tensor), "int8", wanted)
        return self.graph.op("QUANTIZE", [tensor], [out], "QuantizeOptions")

    def limited(self, tensor: int, limits: tuple[int, int], name: str) -> int:
        """Cut at codes ``limits`` (as stored)."""
        found = self.graph.tensors[tensor].quantization
        for code, op, end in ((limits[0], "MAXIMUM", LO), (limits[1], "MINIMUM", HI)):
            if code != end:
                bound = self.graph.constant("limit", np.asarray(code, np.int8), found)
                out = self.graph.tensor(name, self.shape(tensor), "int8", found)
                tensor = self.graph.op(op, [tensor, bound], [out], "MaximumMinimumOptions")
        return tensor

    def finished(
        self,
        code: str,
        inputs: Sequence[int],
        out: Buffer,
        shape: Sequence[int],
        limits: tuple[int, int],
        options: str,
        **fields: object,
    ) -> int:
        """Add an operator with a fused activation for ``limits``; limits that no activation means are cut off after it."""
        activation = fused(limits, out.format)
        plain = activation is None
        result = self.new(out, shape, name=f"{out.name}_unlimited" if plain else None)
        kind = NONE if activation is None else activation
        self.graph.op(code, inputs, [result], options, FusedActivationFunction=kind, **fields)
        return self.limited(result, limits, out.tensor or out.name) if plain else result
