from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitwright.errors import NonFinite
from bitwright.number.format import Format, Rounding
from bitwright.simulate.inputs import dequantize_output, quantize_input

ROUNDINGS = [Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.TOWARD_ZERO, Rounding.FLOOR]


@st.composite
def formats(draw: st.DrawFn) -> Format:
    bits, signed = draw(st.sampled_from([4, 8, 16, 24])), draw(st.booleans())
    power = st.integers(-12, 8).map(lambda e: 2.0**e)
    scale = draw(power | st.floats(1e-4, 1e3))
    plain = Format(bits, signed, np.asarray(scale), narrow=draw(st.booleans()) and signed)
    zero = draw(st.just(max(0, plain.lo)) | st.integers(plain.lo, plain.hi))
    return Format(bits, signed, np.asarray(scale), np.asarray(zero), narrow=plain.narrow)


@given(data=st.data(), format=formats(), rounding=st.sampled_from(ROUNDINGS))
def test_codes_are_those_of_the_format(data: st.DataObject, format: Format, rounding: Rounding) -> None:
    scale = float(format.scale)
    ties = st.integers(-300, 300).map(lambda k: float(np.float32((k + 0.5) * scale)))
    near = ties.flatmap(
        lambda t: st.sampled_from([float(np.nextafter(np.float32(t), np.float32(way))) for way in (-np.inf, np.inf)])
    )
    anything = st.floats(width=32, allow_nan=False)
    x = data.draw(hnp.arrays(np.float32, st.integers(1, 40), elements=ties | near | anything))
    expected = format.quantize(x, rounding)
    got = quantize_input(x, format, rounding)
    assert got.dtype == expected.dtype
    assert (got == expected).all()


def test_all_roundings_differ_where_they_should() -> None:
    x = np.asarray([[-1.5, -0.5, 0.5, 1.5, 0.7, -0.7]], np.float32)
    form = Format(8, True, np.asarray(1.0))
    got = {r: quantize_input(x, form, r)[0].tolist() for r in ROUNDINGS}
    assert got == {
        Rounding.HALF_AWAY: [-2, -1, 1, 2, 1, -1],
        Rounding.HALF_UP: [-1, 0, 1, 2, 1, -1],
        Rounding.HALF_EVEN: [-2, 0, 0, 2, 1, -1],
        Rounding.TOWARD_ZERO: [-1, 0, 0, 1, 0, 0],
        Rounding.FLOOR: [-2, -1, 0, 1, 0, -1],
    }


@pytest.mark.parametrize("bits", [8, 24])
def test_nan_is_refused_with_its_sample(bits: int) -> None:
    x = np.zeros((4, 3, 2), np.float32)
    x[2, 1, 0] = np.nan
    with pytest.raises(NonFinite) as caught:
        quantize_input(x, Format(bits, True, np.asarray(0.5)), Rounding.HALF_AWAY, "data")
    assert caught.value.sample == 2
    assert "'data'" in str(caught.value)


def test_token_numbers_pass_and_read_only_arrays_are_welcome() -> None:
    tokens = np.asarray([[3, 500, -4]], np.int64)
    assert quantize_input(tokens, Format(16, False, np.asarray(1.0)), Rounding.FLOOR).tolist() == [[3, 500, 0]]
    x = np.ones((1, 2), np.float64)
    x.flags.writeable = False
    assert quantize_input(x, Format(8, True, np.asarray(0.5)), Rounding.FLOOR).tolist() == [[2, 2]]


@given(format=formats(), seed=st.integers(0, 99))
def test_reals_are_those_of_the_format(format: Format, seed: int) -> None:
    q = np.random.default_rng(seed).integers(format.lo, format.hi, (3, 4), endpoint=True).astype(format.dtype)
    for codes in (q, q.T):
        got = dequantize_output(codes, format)
        assert got.dtype == np.float64
        assert (got == format.dequantize(codes)).all()
