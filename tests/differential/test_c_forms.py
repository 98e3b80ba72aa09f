"""Forms of every shape that there is, many in one program, as C under the sanitizers against the reference."""

from __future__ import annotations

import random
from math import prod
from pathlib import Path

import numpy as np
import pytest

from bitwright.export.c.writer import random_samples, write
from bitwright.mcu import host
from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.expr import Expr, const, divide, maximum, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled, rescale
from bitwright.program.builder import Builder, moved_shape
from bitwright.program.forms import (
    Axis,
    Contract,
    Fill,
    Join,
    Map,
    Motion,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.program import Buffer, Program

STEPS, SEEDS = 40, 8
TYPES = ((8, True), (8, False), (16, True), (12, True), (32, True))


class Random:
    """Grows a program step by step; every buffer may be read by any later step."""

    def __init__(self, seed: int) -> None:
        self.pick, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.build = Builder(f"random{seed}", "test")
        self.pool: list[Buffer] = []
        self.inputs: list[str] = []

    def format(self, *, wide: bool = True) -> Format:
        bits, signed = self.pick.choice(TYPES if wide else TYPES[:4])
        lo = -(1 << (bits - 1)) if signed else 0
        zero = self.pick.choice([0, max(lo, -7), 5])
        return Format(bits, signed, np.asarray(0.25), np.asarray(zero))

    def input(self, *shape: int) -> None:
        format = self.pick.choice([Format(8, True, np.asarray(0.5)), self.format(wide=False)])
        made = self.build.buffer(shape, format, tensor=f"in{len(self.inputs)}")
        self.inputs.append(made.name)
        self.pool.append(made)

    def source(self, fewest_axes: int = 2, *, narrow: bool = True) -> Buffer:
        good = [
            b
            for b in self.pool
            if len(b.shape) >= fewest_axes and (not narrow or b.format.bits <= 16) and b.size <= 4000
        ]
        return self.pick.choice(good[-12:])

    def finished(self, acc: Expr, channels: int, format: Format) -> Scaled:
        semantics = self.pick.choice(list(SEMANTICS))
        kind, rounding = SEMANTICS[semantics]
        arithmetic = Arithmetic(requantize=kind, rounding=rounding, semantics=semantics)
        span = max(abs(acc.lo), abs(acc.hi), 1)
        exponent = np.log2(200.0 / span) + self.numbers.uniform(-1, 1, channels if self.pick.random() < 0.6 else ())
        ratio = np.exp2(np.floor(exponent) if kind == "shift" else exponent)
        scaled = rescale(acc, ratio, arithmetic)
        lo, hi = format.lo, format.hi
        if self.pick.random() < 0.3:
            lo = max(lo, int(format.zero_point))
        expr = saturate(scaled.expr + int(format.zero_point), lo, hi)
        if self.pick.random() < 0.15:  # something no kernel knows
            expr = saturate(maximum(expr, const(lo) + 1) - 1, lo, hi)
        used = expr.variables()
        return Scaled(expr, {k: v for k, v in scaled.params.items() if k in used})

    def axis(self, size: int, *, spread: bool = True) -> Axis:
        for _ in range(50):
            axis = Axis(
                taps=self.pick.choice([1, 1, 2, 3, 3, 4]),
                stride=self.pick.choice([1, 1, 2, 3]),
                dilation=self.pick.choice([1, 1, 2]),
                before=self.pick.choice([0, 0, 1, 2, -1]),
                after=self.pick.choice([0, 0, 1, 2, -1]),
                spread=self.pick.choice([1, 1, 1, 2]) if spread else 1,
            )
            if axis.outputs(size) >= 1:
                return axis
        return Axis()

    def contract(self) -> None:
        x = self.source()
        inputs = x.shape[1]
        groups = self.pick.choice([g for g in (1, 1, 2, 3, inputs) if inputs % g == 0])
        outputs = groups * self.pick.choice([1, 1, 2, 3, 5])
        plain = self.pick.random() < 0.3
        axes = tuple(Axis() if plain else self.axis(n, spread=self.pick.random() < 0.3) for n in x.shape[2:])
        high = self.pick.choice([127, 127, 127, 3000])
        weights = self.numbers.integers(-high, high + 1, (outputs, inputs // groups, *(a.taps for a in axes)))
        bias = self.numbers.integers(-20000, 20000, outputs) if self.pick.random() < 0.7 else None
        zero = int(x.format.zero_point)
        reach = np.abs(weights).reshape(outputs, -1).sum(1) * max(abs(x.format.lo - zero), abs(x.format.hi - zero))
        bound = int((reach + (0 if bias is None else np.abs(bias))).max()) + 1
        format = self.format()
        scaled = self.finished(var("acc", -bound, bound), outputs, format)
        out = self.build.buffer((1, outputs, *(a.outputs(n) for a, n in zip(axes, x.shape[2:], strict=True))), format)
        form = Contract(
            weight=self.build.tensor("w", weights),
            bias=None if bias is None else self.build.tensor("b", bias),
            groups=groups,
            axes=axes,
            input_zero=zero,
            epilogue=self.build.epilogue(scaled),
            acc_lo=-bound,
            acc_hi=bound,
        )
        self.add(form, [x], out)

    def reduce(self) -> None:
        x = self.source()
        combine = self.pick.choice(["sum", "max", "argmax"])
        axes = [Axis() if self.pick.random() < 0.4 else self.axis(n) for n in x.shape[1:]]
        if combine == "argmax":
            along = self.pick.randrange(len(axes))
            axes = [Axis(taps=n) if i == along else Axis() for i, n in enumerate(x.shape[1:])]
        shape = (1, *(a.outputs(n) for a, n in zip(axes, x.shape[1:], strict=True)))
        taps, zero = prod(a.taps for a in axes), int(x.format.zero_point) if combine == "sum" else 0
        format = self.format()
        if combine == "argmax":
            expr: Expr = saturate(var("acc", 0, taps), format.lo, format.hi)
            scaled = Scaled(expr)
        elif combine == "sum" and self.pick.random() < 0.5:
            bound = taps * (x.format.hi - x.format.lo)
            mean = divide(
                var("acc", -bound, bound), maximum(var("count", 0, taps), 1), self.pick.choice(list(Rounding))
            )
            scaled = Scaled(saturate(mean, format.lo, format.hi))
        else:
            bound = taps * (x.format.hi - x.format.lo + 1)
            scaled = self.finished(var("acc", min(-bound, x.format.lo - 1), bound), shape[1], format)
        out = self.build.buffer(shape, format)
        form = Reduce(combine=combine, axes=tuple(axes), input_zero=zero, epilogue=self.build.epilogue(scaled))
        self.add(form, [x], out)

    def map(self) -> None:
        x = self.source(narrow=False)
        others = [b for b in self.pool if b.shape == x.shape and b.size <= 4000]
        chosen = [x, *self.pick.choices(others, k=self.pick.choice([0, 1, 1, 2]))]
        total = var("x0", x.format.lo, x.format.hi)
        for i, b in enumerate(chosen[1:], 1):
            total = total + var(f"x{i}", b.format.lo, b.format.hi)
        params = {}
        if self.pick.random() < 0.6:
            shape = [n if self.pick.random() < 0.5 else 1 for n in (1, *x.shape[1:])]
            shape = shape[self.pick.choice([0, 1]) :]
            values = self.numbers.integers(-50, 50, shape)
            params["offset"] = values
            total = total * 3 - var("offset", -50, 50)
        format = self.format()
        scaled = self.finished(total, 1, format)
        out = self.build.buffer(x.shape, format)
        flat = {k: np.asarray(v).reshape(()) for k, v in scaled.params.items()} | params
        self.build.enter("map", "Map", [])
        self.add(Map(expr=scaled.expr, params=self.build.params(flat)), chosen, out)

    def table(self) -> None:
        x = self.source()
        format = self.format()
        entries = self.numbers.integers(format.lo, format.hi + 1, x.format.hi - x.format.lo + 1)
        self.add(Table(table=self.build.tensor("t", entries)), [x], self.build.buffer(x.shape, format))

    def move(self) -> None:
        x = self.source(narrow=False)
        self.build.enter("move", "Move", [])
        shape, motions = x.shape, []
        sources = [x]
        if self.pick.random() < 0.5:
            axis = self.pick.randrange(1, len(shape))
            others = [
                b
                for b in self.pool
                if b.format == x.format
                and len(b.shape) == len(shape)
                and all(m == n for i, (m, n) in enumerate(zip(b.shape, shape, strict=True)) if i != axis)
            ]
            sources += self.pick.choices(others, k=self.pick.choice([1, 1, 2]))
            motions.append(Join(axis))
            shape = tuple(sum(b.shape[axis] for b in sources) if i == axis else n for i, n in enumerate(shape))
        for _ in range(self.pick.choice([0, 1, 2]) if motions else self.pick.choice([1, 2])):
            motion = self.motion(shape, x.format)
            motions.append(motion)
            shape = moved_shape([shape], [motion])
        if prod(shape) <= 6000:
            self.pool.append(self.build.move(sources, motions))

    def motion(self, shape: tuple[int, ...], format: Format) -> Motion:
        axis = self.pick.randrange(1, len(shape))
        match self.pick.choice(["reshape", "transpose", "slice", "repeat", "any", "fill"]):
            case "reshape":
                size = prod(shape)
                first = self.pick.choice([d for d in range(1, size + 1) if size % d == 0])
                return Reshape(self.pick.choice([(1, size), (1, first, size // first), (1, first, 1, size // first)]))
            case "transpose":
                rest = list(range(1, len(shape)))
                self.pick.shuffle(rest)
                return Transpose((0, *rest))
            case "slice":
                start = self.pick.randrange(shape[axis])
                return Take(axis, tuple(range(start, shape[axis], self.pick.choice([1, 1, 2]))))
            case "repeat":
                return Take(axis, tuple(i // 2 for i in range(2 * shape[axis])))
            case "any":
                return Take(axis, tuple(self.pick.randrange(shape[axis]) for _ in range(shape[axis] + 1)))
        around = [(0, *(self.pick.choice([0, 0, 1, 2]) for _ in shape[1:])) for _ in "ab"]
        return Fill(around[0], around[1], self.pick.randint(format.lo, format.hi))

    def add(self, form: object, inputs: list[Buffer], out: Buffer) -> None:
        self.build.step(form, inputs, [out])  # type: ignore[arg-type]
        self.pool.append(out)


def grow(seed: int) -> Program:
    """A program of ``STEPS`` random steps, whose outputs are what no step reads."""
    grown = Random(seed)
    for shape in ((1, 6, 7, 5), (1, 4, 9), (1, 12), (1, 2, 3, 4, 3)):
        grown.input(*shape)
    kinds = ("contract", "contract", "contract", "reduce", "map", "table", "move", "move", "move")
    for i in range(STEPS):
        mark = grown.build.mark()
        grown.build.enter(f"layer {i}", "Random", [])
        try:
            getattr(grown, grown.pick.choice(kinds))()
        except OverflowError:  # as lowering does where 64 bits do not suffice
            grown.build.rollback(mark)
    used = {name for step in grown.build.steps for name in step.inputs}
    unread = [b.name for b in grown.pool if b.name not in used and b.name not in grown.inputs]
    return grown.build.build(
        grown.inputs, unread or [grown.pool[-1].name], batchable=True, input_rounding=Rounding.HALF_AWAY
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_programs(seed: int, tmp_path: Path) -> None:
    program = grow(seed)
    samples = random_samples(program, 2, seed)
    inputs = {name: np.concatenate([s[name] for s in samples]) for name in program.inputs}
    checked = host.check(write(program, tmp_path), program, inputs, flags=host.SANITIZE)
    assert checked.buffers == len(program.steps) > STEPS // 2


def test_the_generator_makes_every_form_and_every_kernel(tmp_path: Path) -> None:
    made: set[str] = set()
    for seed in range(SEEDS):
        rows = write(grow(seed), tmp_path).report["layers"]
        made |= {"_".join(str(row["by"]).split("_")[:2]) for row in rows}
    assert {"loop nest", "copy", "nothing to do", "bw_conv", "bw_pointwise", "bw_depthwise"} <= made
