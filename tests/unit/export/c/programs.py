"""Programs put together by hand, for tests of the C back end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitwright.number.expr import Expr, round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Contract, Epilogue, Join, Map, Table, Take
from bitwright.program.program import Buffer, Program

INT8 = Format(8, True, np.asarray(0.5))


class Net:
    """A builder with short names; all activations are int8 with a step of one half."""

    def __init__(self, name: str = "net", format: Format = INT8) -> None:
        self.build, self.format = Builder(name, "test"), format
        self.random = np.random.default_rng(0)
        self.inputs: list[str] = []

    def input(self, *shape: int, name: str = "x") -> Buffer:
        made = self.build.buffer(shape, self.format, tensor=name)
        self.inputs.append(made.name)
        return made

    def conv(
        self,
        x: Buffer,
        outputs: int,
        taps: int = 1,
        *,
        layer: str = "conv",
        pad: int = 0,
        axes: int = 2,
        groups: int = 1,
    ) -> Buffer:
        self.build.enter(layer, "Conv", [layer])
        window = tuple(Axis(taps=taps, before=pad, after=pad) for _ in range(axes))
        weights = self.random.integers(-127, 128, (outputs, x.shape[1] // groups, *(taps,) * axes))
        reach = int(np.abs(weights).reshape(outputs, -1).sum(1).max()) * 128
        expr = saturate(round_shift(var("acc", -reach, reach), 8, Rounding.HALF_UP), -128, 127)
        size = [a.outputs(n) for a, n in zip(window, x.shape[2:], strict=True)]
        out = self.build.buffer((1, outputs, *size), self.format)
        form = Contract(
            weight=self.build.tensor("weight", weights), bias=None, groups=groups, axes=window,
            epilogue=Epilogue(expr=expr), acc_lo=-reach, acc_hi=reach,
        )  # fmt: skip
        self.build.step(form, [x], [out])
        return out

    def map(self, expr: Expr, *inputs: Buffer, layer: str = "map") -> Buffer:
        self.build.enter(layer, "Add", [layer])
        out = self.build.buffer(inputs[0].shape, self.format)
        self.build.step(Map(expr=expr), inputs, [out])
        return out

    def add(self, *inputs: Buffer) -> Buffer:
        total = var("x0", -128, 127)
        for i in range(1, len(inputs)):
            total = total + var(f"x{i}", -128, 127)
        return self.map(saturate(total, -128, 127), *inputs)

    def table(self, x: Buffer, layer: str = "table") -> Buffer:
        self.build.enter(layer, "Sigmoid", [layer])
        out = self.build.buffer(x.shape, self.format)
        self.build.step(Table(table=self.build.tensor("table", self.random.integers(-128, 128, 256))), [x], [out])
        return out

    def join(self, *inputs: Buffer, axis: int = 1, layer: str = "join") -> Buffer:
        self.build.enter(layer, "Concat", [layer])
        return self.build.move(inputs, [Join(axis)])

    def take(self, x: Buffer, axis: int, indices: Sequence[int]) -> Buffer:
        self.build.enter("take", "Slice", ["take"])
        return self.build.move(x, [Take(axis, tuple(indices))])

    def move(self, x: Buffer, *motions: object) -> Buffer:
        self.build.enter("move", "Reshape", ["move"])
        return self.build.move(x, list(motions))  # type: ignore[arg-type]

    def program(self, *outputs: Buffer) -> Program:
        return self.build.build(
            self.inputs, [o.name for o in outputs], batchable=True, input_rounding=Rounding.HALF_AWAY
        )
