"""Random programs of what the processor lowers: windows of all shapes, fused maxima, sums, products, tables, moves."""

from __future__ import annotations

import random

import numpy as np

from bitwright.number.expr import const, divide, maximum, minimum, round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Contract, Epilogue, Fill, Join, Map, Reduce, Reshape, Table, Take, Transpose
from bitwright.program.program import Buffer, Program

FORMAT = Format(8, True, np.asarray(0.25))


KINDS = (
    "contract", "contract", "contract", "transposed", "pool", "pair", "table", "join", "move", "resize", "shuffle",
)  # fmt: skip


class Random:
    """Grows a program; most steps read the newest tensor, some an older one."""

    def __init__(self, seed: int, rounding: Rounding = Rounding.HALF_UP) -> None:
        self.rounding = rounding
        self.pick, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.build = Builder(f"random{seed}", "fpga")

    def axis(self, size: int, most: int = 5) -> Axis:
        for _ in range(20):
            axis = Axis(
                taps=self.pick.randint(1, most),
                stride=self.pick.choice([1, 1, 2, 3]),
                dilation=self.pick.choice([1, 1, 2]),
                before=self.pick.choice([0, 0, 1, 2]),
                after=self.pick.choice([0, 1, 2]),
            )
            if axis.outputs(size) >= 1 and axis.before < axis.taps * axis.dilation:
                return axis
        return Axis()

    def contract(self, x: Buffer) -> Buffer:
        channels = x.shape[1]
        kind = self.pick.choice(["dense", "dense", "point", "depthwise", "grouped"])
        if kind == "grouped" and channels % 2:
            kind = "depthwise"
        groups = {"depthwise": channels, "grouped": 2}.get(kind, 1)
        outputs = channels if kind == "depthwise" else groups * self.pick.choice([1, 3, 4, 6, 9, 17])
        axes = (Axis(), Axis()) if kind == "point" else tuple(self.axis(n) for n in x.shape[2:])
        return self.add_contract(x, outputs, groups, axes)

    def add_contract(self, x: Buffer, outputs: int, groups: int, axes: tuple[Axis, ...]) -> Buffer:
        per = x.shape[1] // groups
        weights = self.numbers.integers(-128, 128, (outputs, per, *(a.taps for a in axes)))
        if self.pick.random() < 0.3:
            weights[self.numbers.random(weights.shape) < 0.7] = 0
        if self.pick.random() < 0.3:
            weights[self.numbers.random(weights.shape) < 0.1] = -128
        bias = self.numbers.integers(-3000, 3000, outputs)
        bound = int((np.abs(weights).reshape(outputs, -1).sum(1) * 128 + np.abs(bias)).max()) + 1
        shift = max(bound.bit_length() - self.pick.choice([7, 8, 9, 10]), 0)
        lo = self.pick.choice([-128, 0, -20])
        expr = saturate(round_shift(var("acc", -bound, bound), shift, self.rounding), lo, self.pick.choice([127, 60]))
        shape = (1, outputs, *(a.outputs(n) for a, n in zip(axes, x.shape[2:], strict=True)))
        out = self.build.buffer(shape, FORMAT, lo=expr.lo, hi=expr.hi)
        self.build.macs[self.build.layer] = weights.size * int(np.prod(shape[2:]))
        form = Contract(
            weight=self.build.learnable("Weights", "w", weights, FORMAT),
            bias=self.build.learnable("Bias", "b", bias, Format(32, True, np.ones(()))),
            groups=groups,
            axes=axes,
            epilogue=Epilogue(expr=expr),
            acc_lo=-bound,
            acc_hi=bound,
        )
        self.build.step(form, [x], [out])
        return out

    def transposed(self, x: Buffer) -> Buffer:
        """Stride 2 or 3, windows smaller, as large and larger than that; sometimes one that stays as it is."""

        def axis(size: int) -> Axis:
            spread = self.pick.choice([2, 2, 3, 1])
            taps, dilation = self.pick.choice([spread, spread, 1, 3, 4]), self.pick.choice([1, 1, 1, 2])
            reach = dilation * (taps - 1)
            return Axis(
                taps=taps, dilation=dilation, spread=spread, before=self.pick.randint(0, reach),
                after=self.pick.randint(0, reach + spread - 1),
            )  # fmt: skip

        axes = tuple(axis(n) for n in x.shape[2:])
        if any(not 1 <= a.outputs(n) <= 24 for a, n in zip(axes, x.shape[2:], strict=True)):
            return self.contract(x)
        groups = 2 if x.shape[1] % 2 == 0 and self.pick.random() < 0.2 else 1
        return self.add_contract(x, groups * self.pick.choice([1, 3, 4, 5, 9]), groups, axes)

    def resize(self, x: Buffer) -> Buffer:
        """Nearest neighbors: whole factors, other factors, or a part of the rows in steps."""
        if max(x.shape[2:]) > 14:
            return self.contract(x)
        takes = []
        for axis in (2, 3):
            size = x.shape[axis]
            wanted = self.pick.choice([size, 2 * size, 2 * size, 3 * size, size * 3 // 2 or 1, -(-size // 2)])
            takes.append(Take(axis, tuple(at * size // wanted for at in range(wanted))))
        if self.pick.random() < 0.3:
            return self.build.move(x, [*takes, Fill((0, 0, 1, 0), (0, 0, 2, 1), self.pick.choice([0, 0, 7, -3]))])
        return self.build.move(x, takes)

    def shuffle(self, x: Buffer) -> Buffer:
        """Groups of channels interleaved, by way of a tensor with five axes."""
        channels, height, width = x.shape[1:]
        groups = next((g for g in (2, 3) if channels % g == 0), 1)
        split = self.build.move(x, [Reshape((1, groups, channels // groups, height, width))])
        turned = self.build.move(split, [Transpose((0, 2, 1, 3, 4))])
        return self.build.move(turned, [Reshape((1, channels, height, width))])

    def pool(self, x: Buffer) -> Buffer:
        if self.pick.random() < 0.6:
            axes = tuple(self.axis(n, 3) for n in x.shape[2:])
            out = self.build.buffer(
                (1, x.shape[1], *(a.outputs(n) for a, n in zip(axes, x.shape[2:], strict=True))), FORMAT
            )
            acc = var("acc", -128, 127)
            lo = max(x.lo, -128)
            # A window that sees nothing but padding has no maximum.
            if any(a.before >= a.taps or a.after >= a.taps or (a.dilation > 1 and a.before) for a in axes):
                return x
            self.build.step(Reduce(combine="max", axes=(Axis(), *axes), epilogue=Epilogue(expr=acc)), [x],
                            [self.build.narrow(out, lo, x.hi)])  # fmt: skip
            return self.build.buffers[out.name]
        axes = (Axis(taps=x.shape[2]), Axis(taps=x.shape[3]))
        taps = x.shape[2] * x.shape[3]
        expr = saturate(divide(var("acc", -128 * taps, 127 * taps) << 1, 2 * taps, self.rounding), -128, 127)
        out = self.build.buffer((1, x.shape[1], 1, 1), FORMAT, lo=expr.lo, hi=expr.hi)
        self.build.step(Reduce(combine="sum", axes=(Axis(), *axes), epilogue=Epilogue(expr=expr)), [x], [out])
        return out

    def pair(self, x: Buffer, y: Buffer) -> Buffer:
        a, b = var("x0", x.lo, x.hi), var("x1", y.lo, y.hi)
        if self.pick.random() < 0.7:
            mixed = (a << self.pick.choice([0, 1, 3])) + (b << self.pick.choice([0, 2]))
            expr = saturate(round_shift(mixed, self.pick.choice([0, 1, 2, 4]), self.rounding), -128, 127)
        else:
            expr = saturate(round_shift(a * b, self.pick.choice([5, 7]), self.rounding), -128, 127)
        out = self.build.buffer(x.shape, FORMAT, lo=expr.lo, hi=expr.hi)
        self.build.step(Map(expr=expr), [x, y], [out])
        return out

    def table(self, x: Buffer) -> Buffer:
        out = self.build.buffer(x.shape, FORMAT)
        if self.pick.random() < 0.5:
            values = self.numbers.integers(-128, 128, 256)
            self.build.step(Table(table=self.build.tensor("table", values)), [x], [out])
        else:
            expr = maximum(minimum(const(20) - var("x0", x.lo, x.hi), 90), -50)
            out = self.build.narrow(out, expr.lo, expr.hi)
            self.build.step(Map(expr=expr), [x], [out])
        return out

    def move(self, x: Buffer) -> Buffer:
        channels, height, _ = x.shape[1:]
        match self.pick.randrange(4):
            case 0:
                order = list(range(channels))
                self.pick.shuffle(order)
                return self.build.move(x, [Take(1, tuple(order[: max(channels - 1, 1)]))])
            case 1:
                return self.build.move(x, [Take(2, tuple(range(self.pick.randrange(height), height, 2)))])
            case 2:
                return self.build.move(x, [Fill((0, 2, 0, 0), (0, 1, 0, 0), 0)])
            case _:
                return self.build.move(x, [Take(3, tuple(range(x.shape[3])))])

    def grow(self, steps: int) -> Program:
        build = self.build
        source = build.buffer((1, self.pick.choice([1, 3, 4, 5, 9]), self.pick.randint(5, 14), self.pick.randint(5, 14)), FORMAT,
                              tensor="in0")  # fmt: skip
        pool = [source]
        for at in range(steps):
            build.enter(f"layer{at}", "Any", ())
            x = pool[-1] if self.pick.random() < 0.8 else self.pick.choice(pool)
            same = [y for y in pool if y.shape == x.shape and y is not x]
            flat = [y for y in pool if y.shape[2:] == x.shape[2:] and y is not x]
            kind = self.pick.choice(KINDS)
            if kind == "pair" and same:
                pool.append(self.pair(x, self.pick.choice(same)))
            elif kind == "join" and flat:
                pool.append(build.move([x, self.pick.choice(flat)], [Join(1)]))
            elif kind in ("pair", "join"):
                pool.append(self.contract(x))
            else:
                pool.append(getattr(self, kind)(x))
        build.enter("dense", "Gemm", ())
        x = pool[-1]
        flat_one = build.move(x, [Reshape((1, int(np.prod(x.shape))))])
        result = self.add_contract(flat_one, self.pick.choice([1, 5, 10]), 1, ())
        outputs = [result.name, *([pool[len(pool) // 2].name] if self.pick.random() < 0.5 else [])]
        outputs = [name for name in outputs if name != source.name]
        return build.build(["in0"], outputs, batchable=True, input_rounding=Rounding.HALF_AWAY)


def random_program(seed: int, steps: int = 8, rounding: Rounding = Rounding.HALF_UP) -> Program:
    """A program of ``steps`` steps and a dense layer."""
    return Random(seed, rounding).grow(steps)
