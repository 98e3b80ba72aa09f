from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bitwright.number.format import Format, Rounding
from bitwright.ops.operator import NoIntegerForm
from bitwright.ops.table import FUNCTIONS, softplus, table_entries
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile, rounded, saturated

SHAPE = (1, 256)
EVERY = np.arange(-128, 128, dtype=np.int8)[None]


def test_one_entry_per_code_rounded_half_away() -> None:
    entries = table_entries(lambda x: x / 2, int8(1.0), int8(1.0))
    assert entries.tolist() == [rounded(Fraction(c, 2), Rounding.HALF_AWAY) for c in range(-128, 128)]


def test_unsigned_and_wide_inputs_start_at_their_lowest_code() -> None:
    source = Format(16, False, np.asarray(0.5), np.asarray(100))
    entries = table_entries(np.abs, source, Format(32, True, np.asarray(0.5)))
    assert len(entries) == 65536
    assert entries[:3].tolist() == [100, 99, 98]
    assert entries[100:102].tolist() == [0, 1]


def test_what_is_not_a_number_is_zero_and_what_is_infinite_saturates() -> None:
    source, result = int8(1.0), int8(1.0, 7)
    with np.errstate(all="raise"):
        root = table_entries(np.sqrt, source, result)
        inverse = table_entries(np.reciprocal, source, result)
        grown = table_entries(np.exp, int8(1e3), result)
    assert root[0] == 7
    assert root[128 + 9] == 10
    assert inverse[128] == 127
    assert grown[-1] == 127
    assert grown[0] == 7


def test_a_fused_activation_and_the_reachable_codes_bound_the_output() -> None:
    program = layer("Tanh", [Given(SHAPE, int8(0.1))], Given(SHAPE, int8(1 / 128)), clamp=(0.0, 0.5))
    got = outcome(program, {"in0": EVERY})
    assert (got.min(), got.max()) == (0, 64)
    out = program.buffers[program.outputs[0]]
    assert (out.lo, out.hi) == (0, 64)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_every_function_accepts_every_number(op: str) -> None:
    x = np.concatenate([np.linspace(-300, 300, 1001), [0.0, 1e300, -1e300]])
    with np.errstate(all="ignore"):
        assert FUNCTIONS[op](x, {}).shape == x.shape


def test_softplus_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        assert softplus(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, np.log(2), 1e4]


@pytest.mark.parametrize("drop", [0, 1, -2])
def test_leaky_relu_of_the_dpu_is_26_of_256_rounded_once(drop: int) -> None:
    source, result = Format.power_of_two(8, -4), Format.power_of_two(8, -4 + drop)
    program = layer("LeakyRelu", [Given(SHAPE, source)], Given(SHAPE, result), method="dpu", attributes={"alpha": 0.1})
    for x, y in zip(EVERY[0].astype(int), outcome(program, {"in0": EVERY})[0], strict=True):
        real = Fraction(int(x)) * (Fraction(26, 256) if x < 0 else 1) / Fraction(2) ** drop
        assert y == saturated(rounded(real, Rounding.HALF_UP))


def test_leaky_relu_of_the_dpu_has_one_slope() -> None:
    with pytest.raises(NoIntegerForm, match="26/256"):
        layer("LeakyRelu", [Given(SHAPE, int8(1.0))], Given(SHAPE, int8(1.0)), method="dpu", attributes={"alpha": 0.2})


def test_leaky_relu_as_a_table() -> None:
    program = layer("LeakyRelu", [Given(SHAPE, int8(1.0))], Given(SHAPE, int8(1.0)), attributes={"alpha": 0.3})
    assert outcome(program, {"in0": EVERY})[0, [0, 128, 138]].tolist() == [-38, 0, 10]


def test_powers_and_remainders() -> None:
    program = layer(
        "Pow", [Given(SHAPE, int8(0.125)), np.asarray(2.0)], Given(SHAPE, Format(16, False, np.asarray(2.0**-6)))
    )
    assert np.array_equal(outcome(program, {"in0": EVERY}), EVERY.astype(int) ** 2)
    for fmod, want in ((1, [-2.0, 1.0]), (0, [1.0, 1.0])):
        program = layer(
            "Mod", [Given(SHAPE, int8(1.0)), np.asarray(3.0)], Given(SHAPE, int8(1.0)), attributes={"fmod": fmod}
        )
        assert outcome(program, {"in0": EVERY})[0, [126, 129]].tolist() == want
    with pytest.raises(NoIntegerForm, match="not one number"):
        layer("Pow", [Given(SHAPE, int8(1.0)), np.array([1.0, 2.0])], Given(SHAPE, int8(1.0)))


def test_a_table_over_many_bits_is_refused() -> None:
    with pytest.raises(NoIntegerForm, match="17-bit codes"):
        layer("Exp", [Given((1, 2), Format.power_of_two(17, 0))], Given((1, 2), int8(1.0)))


def test_tables_do_not_depend_on_the_requantizer() -> None:
    programs = [
        layer("Sigmoid", [Given(SHAPE, int8(0.06, 3))], Given(SHAPE, int8(1 / 256, -128)), arithmetic=profile(name))
        for name in ("pow2-halfup", "tflite-double", "ort-cpu")
    ]
    inputs = codes(programs[0], 0)
    first, *others = (outcome(p, inputs) for p in programs)
    assert all(np.array_equal(first, other) for other in others)
