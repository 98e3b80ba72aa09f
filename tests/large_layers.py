"""Layers of the sizes that networks have, on the shapes that kernels are chosen for."""

from __future__ import annotations

import random

import numpy as np

from bitwright.number.format import Format, Rounding
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis
from bitwright.program.program import Buffer, Program
from random_layers import PROFILES, add_contract


def large_layers(seed: int, count: int) -> Program:
    """``count`` contractions, each with an input and an output of its own."""
    pick, numbers = random.Random(seed), np.random.default_rng(seed)
    build = Builder(f"large{seed}", "test")
    inputs, outputs = [], []
    for i in range(count):
        kind = pick.choice(["dense", "pointwise", "conv", "depthwise"])
        source = _source(build, pick, kind, i)
        inputs.append(source.name)
        channels = source.shape[1]
        groups, many = 1, pick.choice([8, 10, 16, 24, 32, 64])
        axes: tuple[Axis, ...] = ()
        if kind == "pointwise":
            axes = (Axis(),) * 2
        elif kind == "conv":
            taps, stride = pick.choice([3, 3, 5]), pick.choice([1, 1, 2])
            axes = (Axis(taps=taps, stride=stride, before=taps // 2, after=taps // 2),) * 2
        elif kind == "depthwise":
            stride = pick.choice([1, 2])
            axes = (Axis(taps=3, stride=stride, before=1, after=1),) * 2
            groups = many = channels
        build.enter(f"layer{i}", kind, (f"node{i}",))
        outputs.append(add_contract(build, pick, numbers, source, many, groups, axes, PROFILES).name)
    return build.build(inputs, outputs, batchable=True, input_rounding=Rounding.HALF_EVEN)


def _source(build: Builder, pick: random.Random, kind: str, number: int) -> Buffer:
    form = Format(8, True, np.asarray(0.5), np.asarray(pick.choice([0, -128, 9])))
    if kind == "dense":
        return build.buffer((1, pick.choice([64, 128, 256, 640])), form, tensor=f"in{number}")
    side = pick.choice([4, 8, 12, 16])
    channels = pick.choice([3, 8, 16, 32, 64])
    return build.buffer((1, channels, side, side), form, tensor=f"in{number}")
