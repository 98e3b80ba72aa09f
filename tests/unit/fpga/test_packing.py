"""Two products of one multiplier: where that is exact, and that the compiler keeps to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import fpga_programs
from bitwright.boards.processor import compare
from bitwright.errors import DoesNotFit
from bitwright.export.c.writer import random_samples
from bitwright.fpga.config import load_config
from bitwright.fpga.image import compile_program
from bitwright.fpga.jobs import ConvJob
from bitwright.fpga.layout import HOLE
from bitwright.fpga.packing import exact, exact_order
from bitwright.fpga.running import Functional, run_frame
from bitwright.fpga.tiles import kernel

PACKED = replace(load_config("sim-tiny"), multiplier="ecp5-pack2")


def test_where_two_products_are_exact() -> None:
    """Every weight of both lanes with every activation, in the 18 and 26 bits that the hardware has."""
    low, activation = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    for high in range(-128, 128):
        both = ((high << 10) + low + (1 << 17)) % (1 << 18) - (1 << 17)
        wide = both * activation
        small = (high & 63) * (activation & 63) & 63
        borrow = ((wide >> 10) - small + 32) % 64 - 32
        first, second = (borrow << 10) + (wide & 1023), (wide >> 10) - borrow
        right = (first == low * activation) & (second == high * activation)
        assert (right | ((high == -128) & (low < 0) & (activation != 0))).all()
        if high > -128:
            assert right.all()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    outputs=st.integers(1, 20),
    ocp=st.sampled_from([2, 4, 6]),
    share=st.sampled_from([0.02, 0.3, 0.9]),
)
def test_channels_are_paired_so_that_it_is_exact(seed: int, outputs: int, ocp: int, share: float) -> None:
    numbers = np.random.default_rng(seed)
    weights = numbers.integers(-128, 128, (outputs, 12))
    weights[numbers.random(weights.shape) < share] = -128
    config = replace(PACKED, icp=8, ocp=ocp)
    order = exact_order(weights, config)
    if order is None:
        assert exact(weights, config)
        return
    assert sorted(o for o in order if o != HOLE) == list(range(outputs))
    placed = np.array([weights[o] if o != HOLE else np.zeros(12, int) for o in order])
    assert exact(placed, config)
    assert len(order) <= 2 * outputs


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_programs_with_the_lowest_weight_stay_exact(seed: int) -> None:
    program = fpga_programs.random_program(seed)
    try:
        image = compile_program(program, PACKED, keep=True)
    except DoesNotFit:
        reject()  # its dense layer has more weights than there is room for
    sample = random_samples(program, 1)[0]
    machine = Functional(image)
    run_frame(image, machine, sample)
    _, mismatches, first = compare(image, machine, sample)
    assert not mismatches, first
    for job in image.graph.jobs:
        if isinstance(job, ConvJob):
            for piece in job.pieces:
                values = kernel(piece, PACKED).values
                assert exact(values.reshape(values.shape[0] * values.shape[1], -1).astype(np.int64), PACKED)


def test_an_order_that_is_not_exact_is_never_emitted() -> None:
    image = compile_program(fpga_programs.random_program(3), PACKED)
    job = next(job for job in image.graph.jobs if isinstance(job, ConvJob))
    weights = job.weights.copy()
    weights[:] = -128
    bad = replace(job, weights=np.concatenate([weights, weights]), bias=np.zeros(2 * len(weights), np.int64))
    with pytest.raises(AssertionError, match="not exact"):
        kernel(bad, PACKED)
