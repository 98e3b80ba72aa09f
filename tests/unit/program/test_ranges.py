from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.number.expr import Expr, minimum, saturate, scale_float32, var
from bitwright.number.format import Format, Rounding
from bitwright.number.render import numpy_value
from bitwright.program.builder import moved_shape
from bitwright.program.constants import count_constants, summary
from bitwright.program.forms import Axis, Epilogue, Fill, Join, Motion, Reduce, Reshape, Table, Take, Transpose
from bitwright.program.intervals import Interval, Unproven, bound
from bitwright.program.program import Program
from bitwright.program.ranges import moved, prove, tap_counts
from bitwright.simulate import reference
from bitwright.simulate.reference import apply_motion
from small_programs import Maker, int8, random_program


@given(st.integers(0, 1 << 30))
def test_every_value_of_every_channel_lies_in_its_interval(seed: int) -> None:
    program = random_program(seed)
    bounds = prove(program)
    x = program.buffers["x"]
    data = np.random.default_rng(seed).integers(x.format.lo, x.format.hi + 1, (8, *x.shape[1:]))
    data[0], data[1] = x.format.lo, x.format.hi
    for name, values in reference.run(program, {"x": data}, keep=True).items():
        by_channel = np.moveaxis(values.astype(np.int64), 1, 0).reshape(values.shape[1], -1)
        assert (by_channel.min(1) >= bounds[name].lo).all(), name
        assert (by_channel.max(1) <= bounds[name].hi).all(), name


def exhaustive(expr: Expr, values: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    grid = np.meshgrid(*(np.arange(lo, hi + 1) for lo, hi in values.values()), indexing="ij")
    found = numpy_value(expr, dict(zip(values, grid, strict=True)))
    return int(found.min()), int(found.max())


def test_an_interpolation_stays_between_its_ends() -> None:
    x, y, share = var("x", -128, 127), var("y", -128, 127), var("share", 0, 16)
    expr = (x << 4) + (y - x) * share
    given = {"x": (-100, 20), "y": (-90, 50), "share": (0, 16)}
    found = bound(expr, {k: Interval.of(*v) for k, v in given.items()})
    assert (int(found.lo[0]), int(found.hi[0])) == exhaustive(expr, given) == (-1600, 800)


@given(st.integers(0, 1 << 30))
def test_intervals_are_sound_and_exact_for_sums_of_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = "xyz"[: rng.integers(1, 4)]
    given = {n: tuple(sorted(int(v) for v in rng.integers(-6, 7, 2))) for n in names}
    leaves = [var(n, -9, 9) for n in names]
    x, y = leaves[0], leaves[-1]
    exact = [x - y, (x << 2) - x, x * 3 + y - x * 2] + ([x * y - x + y, (x + 1) * (y - 2) + x] if x is not y else [])
    sound = [
        x * x - x,
        minimum(x, y) - x,
        saturate(x * 5, -7, 7) + x,
        ((x * y) >> 1) - y,
        x // (minimum(y, 0) * -1 + 1),
    ]
    for expr in exact:
        lo, hi = exhaustive(expr, given)
        found = bound(expr, {k: Interval.of(*v) for k, v in given.items()})
        assert (int(found.lo[0]), int(found.hi[0])) == (lo, hi), expr
    for expr in sound:
        lo, hi = exhaustive(expr, given)
        found = bound(expr, {k: Interval.of(*v) for k, v in given.items()})
        assert found.lo[0] <= lo <= hi <= found.hi[0], expr


def test_each_channel_has_its_own_constants() -> None:
    expr = var("acc", -100, 100) >> var("right", 0, 5)
    found = bound(expr, {"acc": Interval.of([-64, 0], [64, 32]), "right": Interval.of([5, 1], [5, 1])})
    assert found.lo.tolist() == [-2, 0]
    assert found.hi.tolist() == [2, 16]


def test_float32_products_are_bounded_by_their_ends() -> None:
    bits = int(np.float32(0.3).view(np.uint32))
    expr = scale_float32(var("acc", -1000, 1000), var("m", bits, bits), 0.3, 0.3, Rounding.HALF_EVEN)
    found = bound(expr, {"acc": Interval.of(-1000, 1000), "m": Interval.of(bits, bits)})
    assert (int(found.lo[0]), int(found.hi[0])) == (-300, 300)
    for wrong in (0, 0x7F80_0000, 0xBF80_0000):
        any_bits = scale_float32(var("acc", -1000, 1000), var("m", 0, 0xFFFF_FFFF), 0.3, 0.3, Rounding.HALF_EVEN)
        with pytest.raises(Unproven, match="positive and finite"):
            bound(any_bits, {"acc": Interval.of(-1, 1), "m": Interval.of(wrong, wrong)})
    big = int(np.float32(3.0).view(np.uint32))
    lying = scale_float32(var("acc", -1000, 1000), var("m", bits, big), 0.3, 0.3, Rounding.HALF_EVEN)
    with pytest.raises(Unproven, match="states"):
        bound(lying, {"acc": Interval.of(-1000, 1000), "m": Interval.of(big, big)})


def softmax(divisor_lo: int) -> Program:
    make = Maker(np.random.default_rng(0))
    x = make.input((1, 5, 3))
    make.enter("Softmax")
    axes = (Axis(taps=5), Axis())
    top = make.build.buffer((1, 1, 3), x.format)
    make.build.step(Reduce(combine="max", axes=axes, epilogue=Epilogue(expr=var("acc", -128, 127))), [x], [top])
    below = make.build.buffer(x.shape, Format(9, True, x.format.scale), lo=-255, hi=0)
    below = make.build.map(minimum(var("x0", -128, 127) - var("x1", -128, 127), 0), [x, top], below)
    powers = make.build.buffer(x.shape, Format(10, True, x.format.scale), lo=0, hi=256)
    table = np.floor(256 * np.exp(np.minimum(np.arange(-256, 256), 0) / 16)).astype(np.int64)
    make.build.step(Table(table=make.build.tensor("exp", table)), [below], [powers])
    total = make.build.buffer((1, 1, 3), Format(32, True, x.format.scale), lo=divisor_lo, hi=1280)
    make.build.step(Reduce(combine="sum", axes=axes, epilogue=Epilogue(expr=var("acc", 0, 1280))), [powers], [total])
    out = make.build.buffer(x.shape, int8())
    make.build.map(
        saturate((var("x0", 0, 256) * 127) // var("x1", max(divisor_lo, 1), 1280), 0, 127), [powers, total], out
    )
    return make.finish(out)


def test_the_divisor_of_a_softmax_is_at_least_the_exponential_of_zero() -> None:
    bounds = prove(softmax(256))
    assert min(int(v.lo.min()) for v in bounds.values() if v.hi.max() == 1280) == 256
    with pytest.raises(Unproven, match="may write"):
        prove(softmax(257))


def test_taps_that_fall_inside() -> None:
    assert tap_counts([Axis(taps=3, before=1, after=1)], [4]) == (2, 3)
    assert tap_counts([Axis(taps=2, before=1, after=1, spread=2)], [3]) == (1, 1)
    assert tap_counts([Axis(taps=4), Axis(taps=2)], [4, 3]) == (8, 8)


MOTIONS: list[list[Motion]] = [
    [Reshape((1, 24))],
    [Transpose((0, 2, 1, 3)), Reshape((1, 2, 12))],
    [Take(1, (2, 0, 0)), Fill((0, 0, 1, 0), (0, 0, 0, 2), 50)],
    [Fill((0, 1, 0, 0), (0, 2, 0, 0), -50)],
    [Reshape((1, 6, 4)), Transpose((0, 2, 1)), Take(2, (5, 1))],
    [Take(3, (1, 1)), Reshape((1, 3, 4)), Take(1, (1,))],
    [Reshape((24,))],
]


@given(st.integers(0, 1 << 30), st.sampled_from(MOTIONS))
def test_moved_bounds_are_the_bounds_of_what_is_moved(seed: int, motions: list[Motion]) -> None:
    rng = np.random.default_rng(seed)
    per_channel = rng.integers(-9, 9, 3)
    values = np.broadcast_to(per_channel.reshape(1, 3, 1, 1), (1, 3, 2, 4))
    for motion in motions:
        values = apply_motion([values], motion)
    assert values.shape == moved_shape([(1, 3, 2, 4)], motions)
    for pick in (np.minimum, np.maximum):
        rest = tuple(i for i in range(values.ndim) if i != 1)
        expected = pick.reduce(values, axis=rest) if values.ndim > 1 else pick.reduce(values).reshape(1)
        assert moved([per_channel], [(1, 3, 2, 4)], motions, pick).tolist() == expected.tolist()


def test_joined_bounds() -> None:
    parts, shapes = [np.array([1, 2]), np.array([5, 6])], [(1, 2, 3), (1, 2, 4)]
    assert moved(parts, shapes, [Join(2)], np.maximum).tolist() == [5, 6]
    assert moved(parts, [(1, 2, 3)] * 2, [Join(1)], np.minimum).tolist() == [1, 2, 5, 6]


def test_constant_and_dead_channels_are_counted_with_their_cost() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input((1, 2, 4, 4))
    axes = (Axis(), Axis())
    a = make.contract(
        x, 4, axes=axes, weights=np.ones((4, 2, 1, 1), np.int64), bias=np.array([0, -(10**6), 10**6, 0]), result=int8()
    )
    zero = a.lo == 0  # a ReLU is fused: the lowest code is the zero point
    make.enter("Sigmoid")
    table = make.table(a)
    b = make.contract(table, 2, axes=axes, weights=np.ones((2, 4, 1, 1), np.int64), bias=np.zeros(2, np.int64))
    first, second = count_constants(make.finish(b))
    assert (first.channels, first.constant, first.dead, first.macs, first.constant_macs) == (4, 2, int(zero), 128, 64)
    assert second.constant_macs == second.macs * 2 // 4
    assert first.sentence.startswith("layer1: 2 of 4 channels are constant")
    assert summary((first, second)).startswith(f"{2 + second.constant} of 6 channels")


def test_a_table_that_never_changes_makes_every_channel_constant() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input((1, 3))
    make.enter("Sign")
    out = make.build.buffer(x.shape, int8())
    make.build.step(Table(table=make.build.tensor("table", np.full(256, 9))), [x], [out])
    found = prove(make.finish(out))[out.name]
    assert found.constant.all()
    assert found.lo.tolist() == [9, 9, 9]
