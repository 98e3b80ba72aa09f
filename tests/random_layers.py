"""Random contractions that kernels for a core take, many in one program: odd sizes, all requantizers, clamps and types."""

from __future__ import annotations

import random

import numpy as np

from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.expr import saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import Scaled, rescale
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Contract
from bitwright.program.program import Buffer, Program

PROFILES = ("pow2-halfup", "tflite-double", "tflite-single")


def window(pick: random.Random, size: int) -> Axis:
    for _ in range(20):
        axis = Axis(
            taps=pick.choice([1, 2, 3, 3, 4]),
            stride=pick.choice([1, 1, 2, 3]),
            dilation=pick.choice([1, 1, 1, 2]),
            before=pick.choice([0, 1, 2]),
            after=pick.choice([0, 1, 2]),
        )
        if axis.outputs(size) >= 1:
            return axis
    return Axis()


def small_window(pick: random.Random, stride: int) -> Axis:
    return Axis(taps=3, stride=stride, before=pick.choice([0, 1]), after=pick.choice([0, 1, 2]))


def random_layers(seed: int, count: int, profiles: tuple[str, ...] = PROFILES, *, wide: bool = False) -> Program:
    """``count`` contractions, each with an input and an output of its own; ``wide``: enough channels for long vectors."""
    pick, numbers = random.Random(seed), np.random.default_rng(seed)
    build = Builder(f"layers{seed}", "test")
    inputs: list[str] = []
    outputs: list[str] = []
    for i in range(count):
        kind = pick.choice(["dense", "pointwise", "conv", "conv", "depthwise", "depthwise"])
        source = _buffer(build, pick, kind, len(inputs), wide)
        inputs.append(source.name)
        channels = source.shape[1]
        groups, many = 1, pick.choice([1, 2, 3, 4, 7, 8, 13])
        axes: tuple[Axis, ...] = ()
        if kind == "pointwise":
            axes = (Axis(stride=pick.choice([1, 1, 2])),) * 2
        elif kind == "conv":
            axes = tuple(window(pick, n) for n in source.shape[2:])
        elif kind == "depthwise":
            stride = pick.choice([1, 1, 2])
            axes = (small_window(pick, stride), small_window(pick, stride))
            groups = many = channels
        build.enter(f"layer{i}", kind, (f"node{i}",))
        outputs.append(add_contract(build, pick, numbers, source, many, groups, axes, profiles).name)
    return build.build([f"in{i}" for i in range(count)], outputs, batchable=True, input_rounding=Rounding.HALF_EVEN)


def _format(pick: random.Random) -> Format:
    signed = pick.random() < 0.7
    zero = pick.choice([0, -128, 9] if signed else [0, 128, 3])
    return Format(8, signed, np.asarray(0.5), np.asarray(zero))


def _buffer(build: Builder, pick: random.Random, kind: str, number: int, wide: bool) -> Buffer:
    few, filters = [1, 3, 4, 5, 8, 11], [16, 17, 24, 37, 64] if wide else [4, 5, 8, 10, 13]
    channels = pick.choice(filters if kind == "depthwise" else few)
    size = (pick.randint(3, 9), pick.randint(3, 9)) if kind != "dense" else ()
    if kind == "dense":
        channels = pick.choice([1, 6, 16, 37])
    return build.buffer((1, channels, *size), _format(pick), tensor=f"in{number}")


def add_contract(
    build: Builder,
    pick: random.Random,
    numbers: np.random.Generator,
    source: Buffer,
    outputs: int,
    groups: int,
    axes: tuple[Axis, ...],
    profiles: tuple[str, ...],
) -> Buffer:
    """A contraction of random numbers that fills its output's format."""
    weights = numbers.integers(-128, 128, (outputs, source.shape[1] // groups, *(a.taps for a in axes)))
    bias = numbers.integers(-3000, 3000, outputs)
    zero = int(source.format.zero_point)
    most = max(source.format.hi - zero, zero - source.format.lo)
    bound = int((np.abs(weights).reshape(outputs, -1).sum(1) * most + np.abs(bias)).max()) + 1
    form = _format(pick)
    semantics = pick.choice(profiles)
    requantize, rounding = SEMANTICS[semantics]
    spread = numbers.uniform(-2, 2, outputs if pick.random() < 0.7 else ())
    # So that most results lie inside the format and some are cut off.
    exponent = np.log2(400.0 / bound) + 1.5 + spread
    ratio = np.exp2(np.floor(np.minimum(exponent, -2)) if requantize == "shift" else np.minimum(exponent, -2))
    arithmetic = Arithmetic(requantize=requantize, rounding=rounding, semantics=semantics)
    scaled = rescale(var("acc", -bound, bound), ratio, arithmetic)
    result_zero = int(form.zero_point)
    lo, hi = pick.choice([(form.lo, form.hi), (result_zero, form.hi), (result_zero, min(form.hi, result_zero + 60))])
    expr = saturate(scaled.expr + result_zero, lo, hi)
    out = build.buffer(
        (1, outputs, *(a.outputs(n) for a, n in zip(axes, source.shape[2:], strict=True))), form, lo=expr.lo, hi=expr.hi
    )
    form_ = Contract(
        weight=build.learnable("Weights", "w", weights, Format(8, True, np.ones(()))),
        bias=build.learnable("Bias", "b", bias, Format(32, True, np.ones(()))),
        groups=groups,
        axes=axes,
        input_zero=zero,
        epilogue=build.epilogue(Scaled(expr, {k: v for k, v in scaled.params.items() if k in expr.variables()})),
        acc_lo=-bound,
        acc_hi=bound,
    )
    build.step(form_, [source], [out])
    return out
