"""Small integer programs for tests: one of every form, with channels that are constant on purpose."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled
from bitwright.program.builder import Builder
from bitwright.program.forms import (
    Axis,
    Contract,
    Epilogue,
    Fill,
    Island,
    Join,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.program import Buffer, Program


def int8(zero: int = 0) -> Format:
    return Format(8, True, np.asarray(1.0), np.asarray(zero))


class Maker:
    """Grows a program step by step, with random numbers of which many make channels constant."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.build = rng, Builder("small", "test")
        self.count = 0

    def enter(self, op: str) -> None:
        self.count += 1
        self.build.enter(f"layer{self.count}", op, (f"node{self.count}",))

    def input(self, shape: tuple[int, ...]) -> Buffer:
        return self.build.buffer(shape, int8(self.zero()), stem="x")

    def zero(self) -> int:
        return int(self.rng.choice([0, 0, -128, 5]))

    def weights(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        values = self.rng.integers(-9, 10, shape)
        values[self.rng.random(shape[0]) < 0.3] = 0  # outputs that see nothing
        values[:, self.rng.random(shape[1]) < 0.1] = 0  # inputs that nobody sees
        return values

    def contract(
        self,
        source: Buffer,
        outputs: int,
        *,
        groups: int = 1,
        axes: tuple[Axis, ...] = (),
        weights: NDArray[np.int64] | None = None,
        bias: NDArray[np.int64] | None = None,
        result: Format | None = None,
        bias_bits: int = 32,
    ) -> Buffer:
        self.enter("Conv" if axes else "Gemm")
        if weights is None:
            weights = self.weights((outputs, source.shape[1] // groups, *(a.taps for a in axes)))
        if bias is None and self.rng.random() < 0.8:
            bias = self.rng.integers(-200, 200, outputs)
            bias[self.rng.random(outputs) < 0.3] = -1_000_000  # below the lowest code for every input
            bias[self.rng.random(outputs) < 0.1] = 1_000_000
        build, zero = self.build, int(source.format.zero_point)
        reach = int(np.abs(weights).reshape(outputs, -1).sum(1).max()) * 256 + 1_000_001
        form = result or int8(self.zero())
        acc = var("acc", -reach, reach)
        right = self.rng.integers(3, 9, outputs)
        rounded = round_shift(acc, var("right", int(right.min()), int(right.max())), Rounding.HALF_UP)
        low = int(form.zero_point) if self.rng.random() < 0.7 else form.lo  # a fused ReLU, mostly
        expr = saturate(rounded + int(form.zero_point), low, form.hi)
        size = [axis.outputs(n) for axis, n in zip(axes, source.shape[2:], strict=True)]
        out = build.buffer((1, outputs, *size), form, lo=expr.lo, hi=expr.hi)
        name = build.learnable("Weights", "weight", weights, Format(8, True, np.ones(outputs), axis=0))
        bias_name = None
        if bias is not None:
            bias_name = build.learnable("Bias", "bias", bias, Format(bias_bits, True, np.ones(outputs), axis=0))
        build.step(
            Contract(
                weight=name,
                bias=bias_name,
                groups=groups,
                axes=axes,
                input_zero=zero,
                epilogue=build.epilogue(Scaled(expr, {"right": right})),
                acc_lo=-reach,
                acc_hi=reach,
            ),
            [source],
            [out],
        )
        build.macs[build.layer] = weights.size * prod(size)
        return out

    def conv(self, source: Buffer, outputs: int, *, groups: int = 1, pad: int | None = None) -> Buffer:
        border = int(self.rng.integers(0, 2)) if pad is None else pad
        window = Axis(taps=3, before=border, after=border)
        axes = tuple(window if n >= 3 else Axis() for n in source.shape[2:])
        return self.contract(source, outputs, groups=groups, axes=axes)

    def table(self, source: Buffer) -> Buffer:
        self.enter("Sigmoid")
        entries = self.rng.integers(-128, 128, 256)
        entries[: int(self.rng.integers(1, 200))] = 7
        out = self.build.buffer(source.shape, int8(self.zero()))
        self.build.step(Table(table=self.build.tensor("table", entries)), [source], [out])
        return out

    def add(self, a: Buffer, b: Buffer) -> Buffer:
        self.enter("Add")
        x, y = var("x0", a.lo, a.hi), var("x1", b.lo, b.hi)
        offset = self.rng.integers(-3, 4, (1, a.shape[1]) + (1,) * (len(a.shape) - 2))
        expr = saturate(x + y + var("offset", int(offset.min()), int(offset.max())), -128, 127)
        out = self.build.buffer(a.shape, int8(self.zero()))
        return self.build.map(expr, [a, b], out, {"offset": offset})

    def pool(self, source: Buffer, combine: str = "max") -> Buffer:
        self.enter("Pool")
        axes = (Axis(), *(Axis(taps=2, stride=2) if n >= 2 else Axis() for n in source.shape[2:]))
        zero = int(source.format.zero_point)
        acc = var("acc", source.lo, source.hi) if combine == "max" else var("acc", -1024, 1024)
        expr = acc if combine == "max" else saturate(round_shift(acc, 2, Rounding.FLOOR) + zero, -128, 127)
        shape = (1, *(axis.outputs(n) for axis, n in zip(axes, source.shape[1:], strict=True)))
        out = self.build.buffer(shape, source.format, lo=expr.lo, hi=expr.hi)
        form = Reduce(
            combine="max" if combine == "max" else "sum",
            axes=axes,
            input_zero=0 if combine == "max" else zero,
            epilogue=Epilogue(expr=expr),
        )
        self.build.step(form, [source], [out])
        return out

    def finish(self, *outputs: Buffer) -> Program:
        return self.build.build(["x"], [b.name for b in outputs], batchable=True, input_rounding=Rounding.HALF_EVEN)


def random_program(seed: int) -> Program:
    """A random network of a few layers; every kind of step that pruning looks at occurs in some of them."""
    rng = np.random.default_rng(seed)
    make = Maker(rng)
    x = make.input((1, 3, 6, 5))
    wide = [make.conv(x, 8)]
    for _ in range(int(rng.integers(1, 7))):
        now = wide[-1]
        match rng.integers(0, 10):
            case 0:
                wide.append(make.conv(now, int(rng.integers(1, 9))))
            case 1:
                wide.append(make.conv(now, now.shape[1], groups=now.shape[1]))
            case 2:
                wide.append(make.table(now))
            case 3:
                same = [b for b in wide if b.shape == now.shape]
                wide.append(make.add(same[0], now))
            case 4:
                wide.append(make.pool(now, "max"))
            case 5:
                wide.append(make.pool(now, "sum"))
            case 6:
                same = [b for b in wide if b.shape[2:] == now.shape[2:] and b is not now and b.format == now.format]
                make.enter("Concat")
                wide.append(make.build.move([*same, now], [Join(1)]))
            case 7:
                make.enter("Pad")
                border = (0, int(rng.integers(0, 2)), 1, 0)
                wide.append(make.build.move(now, [Fill(border, border, int(now.format.zero_point))]))
            case 8:
                make.enter("Slice")
                axis = int(rng.integers(1, 3))
                taken = tuple(int(i) for i in rng.integers(0, now.shape[axis], int(rng.integers(1, 7))))
                wide.append(make.build.move(now, [Take(axis, taken)]))
            case 9 if now.shape[1] % 2 == 0:
                wide.append(make.conv(now, 2 * int(rng.integers(1, 4)), groups=2))
    now = wide[-1]
    make.enter("Flatten")
    count = prod(now.shape)
    turned = [Transpose((0, 2, 3, 1))] if rng.random() < 0.5 else []
    flat = make.build.move(now, [*turned, Reshape((1, count))])
    dense = make.contract(flat, 4)
    return make.finish(dense) if rng.random() < 0.7 else make.finish(dense, wide[0])


def every_form(seed: int = 0) -> Program:
    """One program with each form and motion, an island (of bytes that no one runs) included."""
    make = Maker(np.random.default_rng(seed))
    x = make.input((1, 4, 4, 4))
    a = make.conv(x, 4, pad=1)
    b = make.add(a, make.table(a))
    pooled = make.pool(b)
    make.enter("Move")
    moved = make.build.move(
        pooled, [Join(1), Fill((0, 0, 1, 0), (0, 0, 0, 0), 3), Take(2, (0, 1)), Transpose((0, 1, 3, 2))]
    )
    make.enter("Erf")
    out = make.build.buffer(moved.shape, int8())
    model = make.build.tensor("island", np.frombuffer(b"not run", np.uint8))
    form = Island(model=model, reason="a test", feeds=("a",), fetches=("b",))
    make.build.step(form, [moved], [out])
    make.enter("Flatten")
    flat = make.build.move(out, [Reshape((1, prod(out.shape)))])
    return make.finish(make.contract(flat, 3, weights=make.weights((3, flat.shape[1])), bias=None))
