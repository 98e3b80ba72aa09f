"""What every scheme promises, whatever the tensor and the target.  A new scheme is tested here without a new line."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from bitwright.calibrate.scheme import load, schemes
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

RULES = {
    "fpga": FormatRule(scaling="power-of-two"),
    "dpu": FormatRule(scaling="power-of-two", exponent_rule="vitis"),
    "q7": FormatRule(scaling="power-of-two", exponent_rule="nnom"),
    "auto": FormatRule(scaling="power-of-two", signed="auto"),
    "s8": FormatRule(),
    "narrow": FormatRule(narrow=True),
    "u8": FormatRule(signed=False, symmetric=False),
    "s8a": FormatRule(symmetric=False),
    "s4": FormatRule(bits=4),
    "s16": FormatRule(bits=16),
}
normal = np.random.default_rng(0).normal(size=4000).astype(np.float32)
TENSORS = {
    "normal": normal,
    "relu": np.maximum(normal, 0),
    "negative": -np.abs(normal) - 1,
    "away from zero": np.abs(normal) + 5,
    "zero": np.zeros(100, np.float32),
    "constant": np.full(100, 0.7, np.float32),
    "negative constant": np.full(100, -3, np.float32),
    "one value": np.float32([2.0]),
    "outlier": np.append(normal, 1e30).astype(np.float32),
    "denormal": normal * np.float32(1e-41),
    "largest": np.float32([3.4e38, -3.4e38, 1.0]),
    "power of two": np.float32([1.0, 0.5, 0.25, -1.0]),
    "mostly zero": np.where(np.arange(4000) == 7, 1.5, 0).astype(np.float32),
    "integers": np.arange(-128, 128, dtype=np.float32),
}
every_scheme = pytest.mark.parametrize("name", list(schemes()))
every_rule = pytest.mark.parametrize("rule", list(RULES))


def check(format_: Format, rule: FormatRule) -> None:
    assert (format_.bits, format_.narrow) == (rule.bits, rule.narrow)
    assert rule.signed in {"auto", format_.signed}
    assert (format_.scale >= 2.0 ** rule.exponent_range[0]).all()
    assert (format_.scale <= 2.0 ** rule.exponent_range[1]).all()
    if rule.scaling == "power-of-two":
        assert format_.exponent is not None
    if rule.symmetric:
        assert not format_.zero_point.any()
    shape = (1, format_.scale.size) if format_.axis == 1 else (format_.scale.size, 1)
    assert not format_.dequantize(format_.quantize(np.zeros(shape))).any()


@every_scheme
def test_it_is_a_described_frozen_dataclass(name: str) -> None:
    scheme = schemes()[name]
    assert is_dataclass(scheme)
    assert scheme.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert scheme.summary.endswith(".")
    assert scheme.__doc__
    for field in fields(scheme):
        assert f"{field.name}:" in scheme.__doc__, "every option is explained"
    assert load(name) == scheme()


def test_no_name_is_used_twice() -> None:
    names = [n for scheme in schemes().values() for n in (scheme.name, *scheme.aliases)]
    assert len(set(names)) == len(names)


@every_scheme
@every_rule
@pytest.mark.parametrize("tensor", list(TENSORS))
def test_every_tensor_gets_a_sound_format(name: str, rule: str, tensor: str) -> None:
    x = TENSORS[tensor]
    stats, scheme = TensorStats.of(x), load(name)
    check(scheme.choose(stats, RULES[rule]), RULES[rule])
    check(scheme.choose(stats, RULES[rule], values=x), RULES[rule])


@every_scheme
@every_rule
def test_nothing_at_all_and_only_nan_get_the_harmless_format(name: str, rule: str) -> None:
    zero = load(name).choose(TensorStats.of(np.zeros(5)), RULES[rule])
    assert float(zero.scale) == 2.0 ** (1 - RULES[rule].bits)
    assert load(name).choose(TensorStats(), RULES[rule]) == zero
    assert load(name).choose(TensorStats.of([np.nan, np.inf]), RULES[rule]) == zero


@every_scheme
@every_rule
def test_channels_are_chosen_each_for_itself_and_dead_ones_are_harmless(name: str, rule: str) -> None:
    x = np.stack([normal, normal * 30, np.zeros_like(normal), -normal / 7], 1)
    per_channel, scheme = replace(RULES[rule], per_channel=True), load(name)
    got = scheme.choose(TensorStats.of(x), per_channel, values=x, axis=1)
    check(got, RULES[rule])
    assert got.axis == 1
    for c in (0, 1, 3):
        alone = scheme.choose(TensorStats.of(x[:, c]), RULES[rule], values=x[:, c])
        if alone.signed == got.signed:
            assert got.scale[c] == alone.scale
            assert got.zero_point[c] == alone.zero_point
    assert got.scale[2] == np.delete(got.scale, 2).max()
    # The same from a histogram per channel: close, the histogram does not know the values.
    from_bins = scheme.choose(TensorStats.of(x, 1, channel_hist=True), per_channel, axis=1)
    check(from_bins, RULES[rule])
    assert from_bins.scale.shape == (4,)


@every_scheme
@every_rule
@pytest.mark.parametrize("shift", [-9, 5])
def test_a_tensor_times_a_power_of_two_gets_the_same_format_times_it(name: str, rule: str, shift: int) -> None:
    x = np.random.default_rng(1).laplace(size=3000).astype(np.float32)
    scheme = load(name)
    plain = scheme.choose(TensorStats.of(x), RULES[rule])
    moved = scheme.choose(TensorStats.of(np.ldexp(x, shift)), RULES[rule])
    np.testing.assert_array_equal(moved.scale, plain.scale * 2.0**shift)
    np.testing.assert_array_equal(moved.zero_point, plain.zero_point)


@every_scheme
@every_rule
def test_the_order_of_the_data_does_not_matter(name: str, rule: str) -> None:
    parts = [TensorStats.of(normal[i::7]) for i in range(7)]
    forward, backward = sum(parts), sum(reversed(parts))
    assert isinstance(forward, TensorStats)
    assert isinstance(backward, TensorStats)
    assert load(name).choose(forward, RULES[rule]) == load(name).choose(backward, RULES[rule])


@every_scheme
def test_auto_takes_unsigned_for_positive_tensors(name: str) -> None:
    for rule in (RULES["auto"], FormatRule(signed="auto")):
        assert not load(name).choose(TensorStats.of(np.abs(normal)), rule).signed
        assert load(name).choose(TensorStats.of(normal), rule).signed


@every_scheme
def test_it_is_never_much_worse_than_the_whole_range(name: str) -> None:
    """On a well-behaved tensor no scheme may lose more than a bit against min-max."""
    rule, minmax = FormatRule(), load("minmax")
    stats = TensorStats.of(normal)

    def error(format_: Format) -> float:
        return float(((format_.dequantize(format_.quantize(normal)) - normal) ** 2).mean())

    assert error(load(name).choose(stats, rule)) < 4 * error(minmax.choose(stats, rule))
