"""Several frames in one program: the same integers, no more cycles, weights of dense layers read once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpga_programs
import zoo_programs
from bitwright.deploying import deploy
from bitwright.errors import DoesNotFit
from bitwright.estimating import estimate
from bitwright.export.c.writer import random_samples
from bitwright.fpga.config import load_config
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import Segment, compile_program
from bitwright.fpga.isa import Dest, Load
from bitwright.fpga.running import Functional, run_frames
from bitwright.simulate import reference


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), frames=st.integers(2, 4), config=st.sampled_from(["sim-tiny", "dlp576", "ecp5-85f"]))
def test_every_frame_gives_what_it_gives_alone(seed: int, frames: int, config: str) -> None:
    program = fpga_programs.random_program(seed)
    try:
        image = compile_program(program, load_config(config), frames=frames)
    except DoesNotFit:
        return
    samples = random_samples(program, frames)
    for sample, outputs in zip(samples, run_frames(image, Functional(image), samples), strict=True):
        for name, want in reference.run(program, sample).items():
            np.testing.assert_array_equal(outputs[name], want)


def test_the_host_takes_part_for_every_frame() -> None:
    program = zoo_programs.quantized("attention", "fpga")
    image = compile_program(program, load_config("sim-tiny"), frames=2)
    samples = random_samples(program, 2)
    for sample, outputs in zip(samples, run_frames(image, Functional(image), samples), strict=True):
        for name, want in reference.run(program, sample).items():
            np.testing.assert_array_equal(outputs[name], want)


def test_weights_of_dense_layers_at_the_end_are_read_once() -> None:
    program, config = fpga_programs.random_program(3), load_config("dlp576")

    def words(frames: int) -> int:
        image = compile_program(program, config, frames=frames)
        segment = next(part for part in reversed(image.parts) if isinstance(part, Segment))
        last = max(segment.jobs)
        loads = [i for i in segment.instructions if isinstance(i, Load) and i.stamp == last and i.dest == Dest.WEIGHT]
        return sum(i.words for i in loads)

    assert words(4) == words(1) > 0


def test_throughput_is_what_several_frames_take() -> None:
    program = zoo_programs.quantized("fire", "fpga")
    config = load_config("dlp576")
    one, four = (timing(compile_program(program, config, frames=n)).cycles for n in (1, 4))
    assert one < four < 4 * one
    cost = estimate(program, config="dlp576", frames=4)
    assert cost.frames_per_s == pytest.approx(150e6 / one)
    assert cost.throughput_per_s == pytest.approx(4 * 150e6 / four)
    profiler = next(table for table in cost.tables if table.title == "Profiler")
    assert profiler.rows[0][3:] == ("4", str(four), f"{4 * 150e6 / four:.1f}")
    measured = deploy(program, "sim:model", config="dlp576", frames=4)
    assert measured.mismatches == 0
    assert measured.cost.throughput_per_s == pytest.approx(4 * 150e6 / four)
    assert estimate(program, config="dlp576").to_json()["throughput_frames_per_s"] > 0
