"""Puts a program together, giving every buffer, tensor and step a unique name and proving ranges on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled
from bitwright.program.forms import Epilogue, Fill, Form, Join, Map, Motion, Move, Reshape, Take, Transpose
from bitwright.program.program import Buffer, Learnable, Program, Step


class Builder:
    """Collects buffers, tensors and steps; :meth:`build` freezes them.

    The layer that is being lowered is set with :meth:`enter`; steps added after it belong to that layer.
    """

    def __init__(self, name: str, target: str) -> None:
        self.name, self.target = name, target
        self.buffers: dict[str, Buffer] = {}
        self.tensors: dict[str, NDArray[np.integer[Any]]] = {}
        self.steps: list[Step] = []
        self.learnables: list[Learnable] = []
        self.macs: dict[str, int] = {}
        self.notes: list[str] = []
        self._layer, self._op, self._sources = "", "", ()  # type: str, str, tuple[str, ...]
        self._taken: dict[str, None] = {}  # in order, so that a mark can be rolled back to

    def enter(self, layer: str, op: str, sources: Sequence[str]) -> None:
        """Make following steps belong to ``layer``."""
        self._layer, self._op, self._sources = layer, op, tuple(sources)

    @property
    def layer(self) -> str:
        """The layer being lowered."""
        return self._layer

    def unique(self, stem: str) -> str:
        """``stem``, with a number appended if it is taken."""
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken[name] = None
        return name

    def buffer(
        self,
        shape: Sequence[int],
        format: Format,
        *,
        lo: int | None = None,
        hi: int | None = None,
        tensor: str | None = None,
        stem: str | None = None,
    ) -> Buffer:
        """Add a buffer; ranges default to the whole format and are cut to it."""
        buffer = Buffer(
            name=self.unique(stem or tensor or f"{self._layer}.value"),
            shape=tuple(int(n) for n in shape),
            format=format,
            lo=format.lo if lo is None else max(lo, format.lo),
            hi=format.hi if hi is None else min(hi, format.hi),
            tensor=tensor,
        )
        self.buffers[buffer.name] = buffer
        return buffer

    def tensor(self, stem: str, values: NDArray[np.integer[Any]]) -> str:
        """Add constant integers in the smallest type that holds them; returns their name."""
        values = np.asarray(values)
        name = self.unique(f"{self._layer}.{stem}" if self._layer else stem)
        self.tensors[name] = np.ascontiguousarray(values.astype(smallest_dtype(values)))
        return name

    def learnable(self, parameter: str, stem: str, values: NDArray[np.integer[Any]], format: Format) -> str:
        """Add a weight or bias tensor and count it as learnable; returns the tensor's name."""
        name = self.tensor(stem, values)
        self.count_learnable(parameter, name, values.shape, format)
        return name

    def count_learnable(self, parameter: str, tensor: str, shape: Sequence[int], format: Format) -> None:
        """Record how a learnable is stored on the device."""
        self.learnables.append(
            Learnable(layer=self._layer, parameter=parameter, tensor=tensor, format=format, shape=tuple(shape))
        )

    def step(self, form: Form, inputs: Sequence[Buffer], outputs: Sequence[Buffer], suffix: str = "") -> None:
        """Add a step of the current layer."""
        self.steps.append(
            Step(
                name=self.unique(f"{self._layer}{suffix}#"),
                layer=self._layer,
                op=self._op,
                sources=self._sources,
                form=form,
                inputs=tuple(b.name for b in inputs),
                outputs=tuple(b.name for b in outputs),
            )
        )

    def mark(self) -> tuple[int, ...]:
        """The present state, for :meth:`rollback`."""
        return tuple(len(part) for part in self._parts())

    def rollback(self, mark: tuple[int, ...]) -> None:
        """Forget everything since ``mark``: the layer turned out to have no integer form."""
        for part, length in zip(self._parts(), mark, strict=True):
            if isinstance(part, list):
                del part[length:]
            else:
                for key in list(part)[length:]:
                    del part[key]

    def _parts(self) -> tuple[dict[str, Any] | list[Any], ...]:
        return (self.buffers, self.tensors, self.steps, self.learnables, self.notes, self._taken)

    def params(
        self, params: Mapping[str, NDArray[np.int64]], axis_shape: Sequence[int] | None = None
    ) -> dict[str, str]:
        """Store an expression's constants; with ``axis_shape`` each 1-d constant is reshaped to broadcast."""
        return {
            key: self.tensor(key, np.reshape(value, axis_shape) if axis_shape and value.ndim == 1 else value)
            for key, value in params.items()
        }

    def epilogue(self, scaled: Scaled) -> Epilogue:
        """An epilogue with its constants stored."""
        return Epilogue(expr=scaled.expr, params=self.params(scaled.params))

    def map(
        self,
        expr: Expr,
        inputs: Sequence[Buffer],
        output: Buffer,
        params: Mapping[str, NDArray[np.int64]] | None = None,
        suffix: str = "",
    ) -> Buffer:
        """Add an elementwise step and return its output with the range of ``expr``."""
        out = self.narrow(output, expr.lo, expr.hi)
        self.step(Map(expr=expr, params=self.params(params or {})), inputs, [out], suffix)
        return out

    def move(
        self, source: Buffer | Sequence[Buffer], motions: Sequence[Motion], *, tensor: str | None = None
    ) -> Buffer:
        """Add a step that only moves elements; the result has the format of the source."""
        sources = [source] if isinstance(source, Buffer) else list(source)
        shape = moved_shape([s.shape for s in sources], motions)
        fills = [m.value for m in motions if isinstance(m, Fill)]
        lo, hi = min([s.lo for s in sources] + fills), max([s.hi for s in sources] + fills)
        out = self.buffer(shape, sources[0].format, lo=lo, hi=hi, tensor=tensor)
        self.step(Move(tuple(motions)), sources, [out])
        return out

    def narrow(self, buffer: Buffer, lo: int, hi: int) -> Buffer:
        """Tighten the proven range of a buffer."""
        tight = replace(buffer, lo=max(buffer.lo, lo), hi=min(buffer.hi, hi))
        self.buffers[buffer.name] = tight
        return tight

    def build(
        self, inputs: Sequence[str], outputs: Sequence[str], *, batchable: bool, input_rounding: Rounding
    ) -> Program:
        """The finished program, without buffers and tensors that nothing uses."""
        used = {*inputs, *outputs, *(name for step in self.steps for name in (*step.inputs, *step.outputs))}
        return Program(
            name=self.name,
            target=self.target,
            buffers={name: b for name, b in self.buffers.items() if name in used},
            tensors=dict(self.tensors),
            steps=tuple(self.steps),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            learnables=tuple(self.learnables),
            macs=dict(self.macs),
            batchable=batchable,
            input_rounding=input_rounding,
            notes=tuple(self.notes),
        )


def smallest_dtype(values: NDArray[Any]) -> np.dtype[Any]:
    """The smallest signed type (or uint8 for file contents) that holds the values."""
    if values.dtype == np.uint8 or values.size == 0:
        return values.dtype
    lo, hi = int(values.min()), int(values.max())
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= lo and hi <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)


def moved_shape(shapes: Sequence[tuple[int, ...]], motions: Sequence[Motion]) -> tuple[int, ...]:
    """The shape after ``motions``; several shapes need a :class:`Join` first."""
    shape = list(shapes[0])
    for motion in motions:
        match motion:
            case Reshape():
                shape = list(motion.shape)
            case Transpose():
                shape = [shape[i] for i in motion.order]
            case Take():
                shape[motion.axis] = len(motion.indices)
            case Fill():
                shape = [b + n + a for b, n, a in zip(motion.before, shape, motion.after, strict=True)]
            case Join():
                shape[motion.axis] = sum(s[motion.axis] for s in shapes)
    return tuple(shape)


def identifier(name: str) -> str:
    """``name`` as a C or Verilog identifier; different names may collide, so keep a table."""
    text = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return text if text and not text[0].isdigit() else f"n{text}"
