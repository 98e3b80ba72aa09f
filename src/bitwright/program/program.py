"""What the integer machine does: named, typed integer buffers and a short list of steps over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.format import Format, Rounding
from bitwright.program.forms import Contract, Form, Island


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """A tensor of integers.

    Attributes:
        name: Unique in the program.
        shape: With the batch as axis 0, which is 1.
        format: What its integers mean; always one format for the whole buffer.
        lo: Proven lowest integer.
        hi: Proven highest integer.
        tensor: The tensor of the source network that it stands for, or None for an intermediate of our own.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    lo: int
    hi: int
    tensor: str | None = None

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of one sample in the smallest integer type that holds the format."""
        return self.size * self.format.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Step:
    """One form applied to buffers.

    Attributes:
        name: Unique in the program.
        layer: The layer of the network that it belongs to.
        op: Operator of that layer, for people; back ends look at ``form``.
        sources: Names of the source nodes.
        form: What is computed.
        inputs: Buffers read.
        outputs: Buffers written.
    """

    name: str
    layer: str
    op: str
    sources: tuple[str, ...]
    form: Form
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Learnable:
    """A weight or bias as it is stored on the device.

    Attributes:
        layer: Its layer.
        parameter: ``"Weights"`` or ``"Bias"``.
        tensor: Its tensor in the program.
        format: What its integers mean.
        shape: Its shape.
    """

    layer: str
    parameter: str
    tensor: str
    format: Format
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes on the device, each value in whole bytes (4-bit weights: two in one)."""
        return -(-self.count * self.format.bits // 8)


@dataclass(frozen=True, kw_only=True)
class Program:
    """An integer program.

    Attributes:
        name: Name of the network.
        target: Name of the target whose rules it obeys.
        buffers: Name → buffer.
        tensors: Name → constant integers.
        steps: In execution order.
        inputs: Buffers that the caller fills, in the order of the network's inputs.
        outputs: Buffers that hold the result.
        learnables: Weights and biases as stored.
        macs: Layer → multiply-accumulates of one sample, integer and float alike.
        batchable: Whether all steps treat samples along axis 0 independently of each other.
        input_rounding: How real inputs become integers.
        notes: What lowering found that the user should know, in sentences.
    """

    name: str
    target: str
    buffers: Mapping[str, Buffer]
    tensors: Mapping[str, NDArray[np.integer[Any]]]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    learnables: tuple[Learnable, ...] = ()
    macs: Mapping[str, int] = field(default_factory=dict)
    batchable: bool = True
    input_rounding: Rounding = Rounding.HALF_AWAY
    notes: tuple[str, ...] = ()

    @property
    def integer_mac_share(self) -> float:
        """Share of all multiply-accumulates that run in integers; 1.0 where there are none."""
        floating = {step.layer for step in self.steps if isinstance(step.form, Island)}
        total = sum(self.macs.values())
        return 1.0 if total == 0 else 1.0 - sum(self.macs.get(layer, 0) for layer in floating) / total

    @property
    def learnable_bytes(self) -> int:
        """Bytes of weights and biases on the device."""
        return sum(item.size_bytes for item in self.learnables)

    @property
    def learnable_float_bytes(self) -> int:
        """Bytes of the same in float32."""
        return sum(4 * item.count for item in self.learnables)

    def producer(self, buffer: str) -> Step | None:
        """The step that writes ``buffer``, or None for an input."""
        return next((step for step in self.steps if buffer in step.outputs), None)

    def contracts(self) -> tuple[tuple[Step, Contract], ...]:
        """The steps that multiply, with their forms."""
        return tuple((step, step.form) for step in self.steps if isinstance(step.form, Contract))
