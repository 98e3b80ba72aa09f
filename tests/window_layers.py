"""Programs of depthwise layers and of maxima over windows of many shapes."""

from __future__ import annotations

import random

import numpy as np

from bitwright.number.expr import maximum, var
from bitwright.number.format import Format, Rounding
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Epilogue, Reduce
from bitwright.program.program import Program
from random_layers import PROFILES, add_contract

WINDOWS = ((1, 1), (2, 2), (5, 1), (1, 7), (10, 1), (15, 1), (5, 5), (3, 2), (3, 3), (7, 7))


def depthwise(seed: int) -> Program:
    """Depthwise layers of all ``WINDOWS``, with strides, dilations, paddings and numbers of channels at random."""
    pick, numbers = random.Random(seed), np.random.default_rng(seed)
    build = Builder(f"windows{seed}", "test")
    outputs = []
    for i, window in enumerate(WINDOWS):
        signed = pick.random() < 0.7
        format = Format(8, signed, np.asarray(0.5), np.asarray(pick.choice([0, -128, 9] if signed else [0, 128, 3])))
        channels = pick.choice([4, 5, 8, 9, 16, 19, 24])
        sizes = tuple(taps + pick.randint(2, 4) for taps in window)
        source = build.buffer((1, channels, *sizes), format, tensor=f"in{i}")
        strides = pick.choice([(1, 1), (1, 2), (2, 1), (3, 2)])
        axes = tuple(
            Axis(taps=t, stride=s, before=pick.choice([0, t // 2]), after=pick.choice([0, t // 2]))
            for t, s in zip(window, strides, strict=True)
        )
        build.enter(f"layer{i}", "depthwise", (f"node{i}",))
        made = add_contract(build, pick, numbers, source, channels, channels, axes, PROFILES)
        outputs.append(made.name)
    names = [f"in{i}" for i in range(len(WINDOWS))]
    return build.build(names, outputs, batchable=True, input_rounding=Rounding.HALF_EVEN)


def maxima(seed: int) -> Program:
    """Maxima over windows: types, sizes, paddings, and a clamp from below."""
    pick = random.Random(seed)
    build = Builder(f"maxima{seed}", "test")
    outputs = []
    for i in range(8):
        signed = i % 2 == 0
        format = Format(8, signed, np.asarray(0.5), np.asarray(0))
        channels = pick.choice([1, 3, 4, 7, 16, 18, 35])
        source = build.buffer((1, channels, pick.randint(3, 7), pick.randint(3, 7)), format, tensor=f"in{i}")
        axes = (
            Axis(),
            *(Axis(taps=3, stride=pick.choice([1, 2]), before=pick.choice([0, 1]), after=1) for _ in range(2)),
        )
        build.enter(f"layer{i}", "MaxPool", (f"node{i}",))
        least = pick.choice([format.lo, 5])
        expr = maximum(var("acc", format.lo, format.hi), least)
        shape = (1, channels, *(a.outputs(n) for a, n in zip(axes[1:], source.shape[2:], strict=True)))
        out = build.buffer(shape, format, lo=expr.lo, hi=expr.hi)
        build.step(Reduce(combine="max", axes=axes, epilogue=Epilogue(expr=expr)), [source], [out])
        outputs.append(out.name)
    return build.build([f"in{i}" for i in range(8)], outputs, batchable=True, input_rounding=Rounding.HALF_EVEN)
