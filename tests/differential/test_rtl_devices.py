"""Configurations for devices: two products from one multiplier, deeper pipelines, small control; cycle for cycle too."""

from __future__ import annotations

import pytest

import fpga_programs
from bitwright.boards.processor import compare
from bitwright.export.c.writer import random_samples
from bitwright.fpga import cycles
from bitwright.fpga.config import load_config
from bitwright.fpga.image import Segment, compile_program
from bitwright.fpga.running import run_frame
from bitwright.fpga.sim.machine import Simulated


class Timed(Simulated):
    """The simulated hardware, its cycles compared with the model's after every segment."""

    def run(self, segment: Segment) -> None:
        before = self.cycles
        super().run(segment)
        total, ends, _ = cycles.simulate(self.image.config, segment.instructions)
        assert self.cycles - before == total
        assert {job: self.profile(job) for job in segment.jobs} == {job: ends[job] for job in segment.jobs}


@pytest.mark.parametrize("name", ["up5k", "ecp5-25f"])
def test_configurations_of_devices(name: str) -> None:
    program = fpga_programs.random_program(20)
    image = compile_program(program, load_config(name), keep=True)
    machine = Timed(image, "cxxrtl")
    sample = random_samples(program, 1)[0]
    run_frame(image, machine, sample)
    checked, mismatches, first = compare(image, machine, sample)
    assert checked > 100
    assert not mismatches, first
    assert machine.cycles > 1000
