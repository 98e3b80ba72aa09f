"""Requantization read out of expressions: every rounding, and programs for another one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import fpga_programs
from bitwright.boards.processor import compare
from bitwright.errors import DoesNotFit, ExportError
from bitwright.export.c.writer import random_samples
from bitwright.fpga.config import load_config
from bitwright.fpga.epilogue import contraction, other_rounding
from bitwright.fpga.image import compile_program
from bitwright.fpga.jobs import ConvJob
from bitwright.fpga.running import Functional, run_frame
from bitwright.number.expr import round_shift, saturate, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value

ROUNDINGS = list(Rounding)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_shift_is_found_in_its_rounding_and_in_no_other(rounding: Rounding, by_name: bool) -> None:
    for shift in (1, 5, 17):
        amount = var("shift", 0, 31) if by_name else shift
        expr = saturate(round_shift(var("acc", -(1 << 31), (1 << 31) - 1), amount, rounding), -128, 127)
        params = {"shift": np.full(3, shift)} if by_name else {}
        found = contraction(expr, params, rounding)
        assert found is not None
        assert found.shift == shift
        acc = np.arange(-5000, 5000)
        want = numpy_value(expr, {"acc": acc, **{k: np.asarray(v[0]) for k, v in params.items()}})
        np.testing.assert_array_equal(found.apply(rounding, acc), want)
        for other in ROUNDINGS:
            if other is not rounding and shift == 5:
                assert contraction(expr, params, other) is None
                assert other_rounding(expr, params, other) is rounding


def test_shifts_that_differ_by_channel_are_none() -> None:
    expr = saturate(round_shift(var("acc", -(1 << 20), 1 << 20), var("shift", 0, 31), Rounding.HALF_UP), -128, 127)
    assert contraction(expr, {"shift": np.array([3, 4])}, Rounding.HALF_UP) is None
    assert other_rounding(expr, {"shift": np.array([3, 4])}, Rounding.HALF_UP) is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rounding=st.sampled_from(ROUNDINGS))
def test_random_programs_in_every_rounding(seed: int, rounding: Rounding) -> None:
    program = fpga_programs.random_program(seed, rounding=rounding)
    try:
        image = compile_program(program, replace(load_config("sim-tiny"), rounding=rounding), keep=True)
    except DoesNotFit:
        reject()
    assert any(isinstance(job, ConvJob) for job in image.graph.jobs)
    sample = random_samples(program, 1)[0]
    machine = Functional(image)
    run_frame(image, machine, sample)
    _, mismatches, first = compare(image, machine, sample)
    assert not mismatches, first


def test_a_program_that_rounds_otherwise_is_refused() -> None:
    program = fpga_programs.random_program(1, rounding=Rounding.HALF_EVEN)
    with pytest.raises(ExportError, match=r"half-even.*half-up"):
        compile_program(program, load_config("sim-tiny"))
