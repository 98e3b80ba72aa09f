"""The processor's RTL: the same bytes as the functional model, in exactly the cycles of the cycle model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fpga_programs
import zoo_programs
from bitwright.boards.processor import compare
from bitwright.errors import Mismatch
from bitwright.export.c.writer import random_samples
from bitwright.fpga import cycles
from bitwright.fpga.config import load_config
from bitwright.fpga.image import Image, Segment, compile_program
from bitwright.fpga.running import run_frame, run_frames
from bitwright.fpga.sim.build import Simulator
from bitwright.fpga.sim.machine import Simulated, check_fingerprint
from bitwright.number.format import Rounding
from bitwright.program.program import Program
from bitwright.simulate import reference

CONFIG = load_config("sim-tiny")


class Timed:
    """The simulated hardware, its cycles compared with the model's after every segment."""

    def __init__(self, image: Image, simulator: Simulator = "verilator") -> None:
        self.config = image.config
        self.rtl = Simulated(image, simulator)
        self.write, self.read = self.rtl.write, self.rtl.read
        self.layers = 0

    def run(self, segment: Segment) -> None:
        before = self.rtl.cycles
        self.rtl.run(segment)
        total, ends, _ = cycles.simulate(self.config, segment.instructions)
        assert self.rtl.cycles - before == total
        for job in segment.jobs:
            assert self.rtl.profile(job) == ends[job]
            self.layers += 1


def check(program: Program, image: Image, machine: Timed | Simulated) -> None:
    sample = random_samples(program, 1)[0]
    outputs = run_frame(image, machine, sample)
    for name, want in reference.run(program, sample).items():
        np.testing.assert_array_equal(outputs[name], want)
    _, mismatches, first = compare(image, machine, sample)
    assert not mismatches, first


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_byte_for_byte_and_cycle_for_cycle(seed: int) -> None:
    program = fpga_programs.random_program(seed)
    image = compile_program(program, CONFIG, keep=True)
    machine = Timed(image)
    check(program, image, machine)
    assert machine.layers > 0


def test_another_rounding() -> None:
    config = replace(CONFIG, pp=1, rounding=Rounding.HALF_EVEN)
    for seed in range(3):
        program = fpga_programs.random_program(seed, rounding=Rounding.HALF_EVEN)
        image = compile_program(program, config, keep=True)
        check(program, image, Timed(image))


# Configurations for devices: multipliers and stages of their own; up5k has small control as well.
@pytest.mark.parametrize("name", ["up5k", "ecp5-25f"])
@pytest.mark.parametrize("seed", range(3))
def test_configurations_of_devices(name: str, seed: int) -> None:
    config = load_config(name)
    program = fpga_programs.random_program(seed + 20)
    image = compile_program(program, config, keep=True)
    machine = Timed(image, "cxxrtl")
    check(program, image, machine)
    assert machine.layers > 0


@pytest.mark.parametrize("network", ["fire", "residual", "depthwise_relu6", "pools", "shuffle", "silu"])
def test_networks(network: str) -> None:
    program = zoo_programs.quantized(network, "fpga")
    image = compile_program(program, CONFIG, keep=True)
    check(program, image, Timed(image))


@pytest.mark.parametrize(("seed", "percent"), [(0, 10), (1, 50), (2, 80), (3, 30)])
def test_stalls_of_the_memory_change_no_bit(seed: int, percent: int) -> None:
    program = fpga_programs.random_program(seed + 100)
    image = compile_program(program, CONFIG, keep=True)
    machine = Simulated(image, "verilator")
    machine.stall(percent, seed)
    check(program, image, machine)
    without = sum(cycles.simulate(CONFIG, p.instructions)[0] for p in image.parts if isinstance(p, Segment))
    assert machine.cycles > without


@pytest.mark.parametrize("seed", range(3))
def test_several_frames_in_one_program(seed: int) -> None:
    program = fpga_programs.random_program(seed)
    image = compile_program(program, CONFIG, frames=3)
    machine = Timed(image)
    samples = random_samples(program, 3)
    for sample, outputs in zip(samples, run_frames(image, machine, samples), strict=True):
        for name, want in reference.run(program, sample).items():
            np.testing.assert_array_equal(outputs[name], want)
    assert machine.layers > 0


def test_a_second_frame_gives_the_same_as_the_first() -> None:
    program = fpga_programs.random_program(7)
    image = compile_program(program, CONFIG)
    machine = Simulated(image, "verilator")
    sample = random_samples(program, 1)[0]
    first, second = run_frame(image, machine, sample), run_frame(image, machine, sample)
    for name in program.outputs:
        np.testing.assert_array_equal(first[name], second[name])


def test_another_configuration_is_refused() -> None:
    check_fingerprint(CONFIG, CONFIG.fingerprint)
    other = replace(CONFIG, queue=CONFIG.queue + 1)
    with pytest.raises(Mismatch, match="has the configuration"):
        check_fingerprint(CONFIG, other.fingerprint)
