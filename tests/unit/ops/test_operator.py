from __future__ import annotations

import numpy as np
import pytest

from bitwright.number.expr import var
from bitwright.number.format import Format
from bitwright.number.requantize import Scaled, parameter
from bitwright.ops.operator import Result, code_bounds, finish
from bitwright.ops.registry import operators
from one_layer import Given, int8, layer, outcome


@pytest.mark.parametrize(
    ("clamp", "want"),
    [
        (None, (-128, 127)),
        ((0.0, np.inf), (-20, 127)),
        ((0.0, 6.0), (-20, 40)),
        ((-np.inf, 0.04), (-128, -20)),
        ((-1e300, 1e300), (-128, 127)),
        ((-0.16, 0.16), (-22, -18)),
        ((100.0, 200.0), (127, 127)),
        ((-200.0, -100.0), (-128, -128)),
    ],
)
def test_bounds_in_codes(clamp: tuple[float, float] | None, want: tuple[int, int]) -> None:
    assert code_bounds(int8(0.1, -20), clamp) == want


def test_finish_adds_the_zero_point_and_drops_constants_that_saturation_made_needless() -> None:
    result = Result(tensor="y", shape=(1,), format=int8(1.0, 5))
    values = np.array([1000, 2000])
    scaled = finish(Scaled(var("acc", 0, 3) + parameter("offset", values), {"offset": values}), result, None)
    assert (scaled.expr.lo, scaled.expr.hi) == (127, 127)
    assert scaled.params == {}


def test_the_registry_is_one_table() -> None:
    found = operators()
    assert found is operators()
    assert found["Conv"] is not found["ConvTranspose"]
    assert found["Relu"] is found["Clip"]


def test_a_per_channel_activation_is_not_for_contractions() -> None:
    from bitwright.ops.operator import NoIntegerForm

    with pytest.raises(NoIntegerForm, match="scale per channel"):
        layer(
            "Gemm", [Given((1, 2), Format(8, True, np.ones(2), axis=1)), np.ones((2, 1))], Given((1, 1), int8(1.0)),
            weight=int8(1.0),
        )  # fmt: skip


def test_a_program_runs_on_any_number_of_samples() -> None:
    program = layer("Relu", [Given((1, 2), int8(1.0))], Given((1, 2), int8(1.0)), clamp=(0.0, np.inf))
    for n in (1, 3, 7):
        assert outcome(program, {"in0": np.full((n, 2), -4, np.int8)}).tolist() == [[0, 0]] * n
