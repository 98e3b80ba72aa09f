"""The compiler and the functional model: every tensor equal to the reference, on every configuration."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

import fpga_programs
import zoo
import zoo_programs
from bitwright.boards.processor import compare
from bitwright.errors import DoesNotFit
from bitwright.export.c.writer import random_samples
from bitwright.fpga.config import ProcessorConfig, list_configs, load_config
from bitwright.fpga.functional import execute
from bitwright.fpga.image import Image, Segment, compile_program
from bitwright.fpga.isa import Conv, Instruction, Load, Vec, disassemble
from bitwright.fpga.jobs import ConvJob, HostJob, VecJob
from bitwright.fpga.running import Functional, run_frame
from bitwright.number.expr import var
from bitwright.number.format import Rounding
from bitwright.program.forms import Axis, Epilogue, Reduce
from bitwright.program.program import Program
from bitwright.simulate import reference


def equal(program: Program, image: Image) -> int:
    """Run a sample and compare; the number of integers compared."""
    sample = random_samples(program, 1)[0]
    machine = Functional(image)
    outputs = run_frame(image, machine, sample)
    for name, want in reference.run(program, sample).items():
        np.testing.assert_array_equal(outputs[name], want)
    checked, mismatches, first = compare(image, machine, sample)
    assert not mismatches, first
    return checked


@pytest.mark.parametrize("network", sorted(zoo.ZOO))
@pytest.mark.parametrize("config", ["sim-tiny", "dlp576", "dlp512"])
def test_networks(network: str, config: str) -> None:
    program = zoo_programs.quantized(network, "fpga")
    image = compile_program(program, load_config(config), keep=True)
    equal(program, image)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), config=st.sampled_from(list_configs()))
def test_random_programs(seed: int, config: str) -> None:
    program = fpga_programs.random_program(seed)
    try:
        image = compile_program(program, load_config(config), keep=True)
    except DoesNotFit:
        assert load_config(config).macs <= 256  # little room for weights
        return
    assert equal(program, image) > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_reused_memory_changes_nothing(seed: int) -> None:
    program = fpga_programs.random_program(seed)
    config = load_config("sim-tiny")
    try:
        shared, apart = compile_program(program, config), compile_program(program, config, keep=True)
    except DoesNotFit:
        reject()
    assert shared.size_bytes <= apart.size_bytes
    sample = random_samples(program, 1)[0]
    a, b = (run_frame(image, Functional(image), sample) for image in (shared, apart))
    for name in program.outputs:
        np.testing.assert_array_equal(a[name], b[name])


def test_maxima_are_fused_and_can_be_left_apart() -> None:
    program = zoo_programs.quantized("fire", "fpga")
    config = load_config("dlp576")
    fused = [job for job in compile_program(program, config).graph.jobs if isinstance(job, ConvJob) and job.pool]
    plain = [j for j in compile_program(program, config, clear=True).graph.jobs if isinstance(j, ConvJob) and j.pool]
    assert not plain
    assert all(len(job.steps) == 2 for job in fused)


def test_image_holds_what_its_instructions_say() -> None:
    image = compile_program(zoo_programs.quantized("residual", "fpga"), load_config("sim-tiny"))
    for part in image.parts:
        assert isinstance(part, Segment)
        start = part.address - image.memory_offset
        code = image.memory[start : start + 64 * len(part.instructions)].tobytes()
        assert disassemble(code) == list(part.instructions)
        assert part.instructions[-1].last
        assert sum(i.last for i in part.instructions) == 1


def test_depthwise_runs_where_there_are_multipliers_for_it() -> None:
    program = zoo_programs.quantized("depthwise_relu6", "fpga")
    vector = compile_program(program, load_config("sim-tiny")).graph.jobs
    array = compile_program(program, load_config("ecp5-25f")).graph.jobs
    assert any(isinstance(job, VecJob) for job in vector)
    assert not any(isinstance(job, VecJob) for job in array)
    assert equal(program, compile_program(program, load_config("ecp5-25f"), keep=True)) > 0


def test_what_stays_on_the_host_says_why() -> None:
    jobs = compile_program(zoo_programs.quantized("attention", "fpga"), load_config("dlp576")).graph.jobs
    reasons = [job.reason for job in jobs if isinstance(job, HostJob)]
    assert reasons
    assert all(reasons)


def test_every_token_that_is_taken_was_given_before() -> None:
    for seed in range(20):
        image = compile_program(fpga_programs.random_program(seed), load_config("sim-tiny"))
        for part in image.parts:
            if not isinstance(part, Segment):
                continue
            counts = [0] * 16
            for instruction in part.instructions:
                for token in range(16):
                    counts[token] -= instruction.wait >> token & 1
                    assert counts[token] >= 0, (seed, instruction)
                    counts[token] += instruction.post >> token & 1
                    assert counts[token] < 64


def test_buffers_are_not_overwritten_while_they_are_read() -> None:
    """Two tiles are in each buffer: neighbors in program order never share words."""
    image = compile_program(zoo_programs.quantized("conv_bn_relu", "fpga"), load_config("sim-tiny"))
    act = image.config.memory.act // 2
    for part in image.parts:
        assert isinstance(part, Segment)
        halves = [i.base // act for i in part.instructions if isinstance(i, Load) and i.dest == 0 and i.width]
        assert all(a != b for a, b in pairwise(halves))


class Shuffled:
    """The functional model with queues that run ahead of each other as far as tokens allow, at random."""

    def __init__(self, image: Image, seed: int) -> None:
        self.inner, self.pick = Functional(image), random.Random(seed)
        self.read, self.write = self.inner.read, self.inner.write

    def run(self, segment: Segment) -> None:
        queues: dict[int, list[Instruction]] = {unit: [] for unit in range(4)}
        for instruction in segment.instructions:
            queues[instruction.unit].append(instruction)
        counts = [0] * 16
        # One queue is far more eager than the others, so that its lead grows as long as tokens allow.
        eager = self.pick.randrange(4)
        while any(queues.values()):
            able = [
                unit
                for unit, queue in queues.items()
                if queue and all(counts[t] > 0 for t in range(16) if queue[0].wait >> t & 1)
            ]
            assert able, "the queues wait for each other"
            unit = eager if eager in able and self.pick.random() < 0.9 else self.pick.choice(able)
            instruction = queues[unit].pop(0)
            for token in range(16):
                counts[token] -= instruction.wait >> token & 1
            execute(self.inner.state, [instruction])
            for token in range(16):
                counts[token] += instruction.post >> token & 1


def wide_program(seed: int) -> Program:
    """A convolution and a maximum in several chunks of unlike size, and a depthwise one: every buffer in halves."""
    grower = fpga_programs.Random(seed)
    build = grower.build
    x = build.buffer((1, grower.pick.choice([5, 16, 40]), 17, 13), fpga_programs.FORMAT, tensor="in0")
    build.enter("conv", "Conv", ())
    y = grower.add_contract(x, grower.pick.choice([20, 50, 90]), 1, (Axis(taps=3), Axis(taps=3)))
    build.enter("pool", "MaxPool", ())
    axis = Axis(taps=grower.pick.choice([2, 3]), stride=2)
    pooled = build.buffer(
        (1, y.shape[1], *(axis.outputs(n) for n in y.shape[2:])), fpga_programs.FORMAT, lo=y.lo, hi=y.hi
    )
    build.step(
        Reduce(combine="max", axes=(Axis(), axis, axis), epilogue=Epilogue(expr=var("acc", -128, 127))), [y], [pooled]
    )
    build.enter("depthwise", "Conv", ())
    z = grower.add_contract(pooled, pooled.shape[1], pooled.shape[1], (Axis(taps=3, before=1, after=1), Axis(taps=3)))
    build.enter("last", "Conv", ())
    last = grower.add_contract(z, 70, 1, (Axis(), Axis()))
    return build.build(["in0"], [last.name], batchable=True, input_rounding=Rounding.HALF_AWAY)


@settings(max_examples=30, deadline=None)
@example(seed=96965, wide=False, config="sim-tiny")  # a concatenation with holes, resized, with a border that is not 0
@given(seed=st.integers(0, 10**6), wide=st.booleans(), config=st.sampled_from(["sim-tiny", "dlp512", "dlp576"]))
def test_queues_may_run_ahead_as_far_as_tokens_let_them(seed: int, wide: bool, config: str) -> None:
    program = wide_program(seed) if wide else fpga_programs.random_program(seed)
    chosen = load_config(config)
    if wide:  # little room, so that there are many passes, the last one smaller than the others
        tiny = load_config("sim-tiny")
        chosen = replace(tiny, ocp=3 + seed % 2, memory=replace(tiny.memory, weight=512, mid=256))
    try:
        image = compile_program(program, chosen)
    except DoesNotFit:
        reject()  # a dense layer has more weights than there is room for
    sample = random_samples(program, 1)[0]
    outputs = run_frame(image, Shuffled(image, seed), sample)
    for name, want in reference.run(program, sample).items():
        np.testing.assert_array_equal(outputs[name], want)


def test_too_small_a_configuration_says_what_is_missing() -> None:
    program = fpga_programs.random_program(1, steps=1)
    small = load_config("sim-tiny")
    with pytest.raises(DoesNotFit, match="external memory"):
        compile_program(program, _with_memory(small, 1024))
    with pytest.raises(DoesNotFit, match=r"does not fit the processor .*: .* needs .* words") as caught:
        compile_program(program, _with_act(small, 8))
    assert caught.value.need_bytes > caught.value.have_bytes


def _with_memory(config: ProcessorConfig, size: int) -> ProcessorConfig:
    return replace(config, bus=replace(config.bus, memory_bytes=size))


def _with_act(config: ProcessorConfig, words: int) -> ProcessorConfig:
    return replace(config, memory=replace(config.memory, act=words))


def test_steps_of_the_array_are_the_closed_formula() -> None:
    image = compile_program(zoo_programs.quantized("conv_bn_relu", "fpga"), load_config("sim-tiny"))
    config = image.config
    for part in image.parts:
        assert isinstance(part, Segment)
        for i in part.instructions:
            if isinstance(i, Conv) and i.ocs:
                assert i.weight + i.ocs * i.kh * i.kw * i.ics <= config.memory.weight
            if isinstance(i, Vec):
                assert i.rows + i.kh <= config.memory.rows


def test_columns_gathered_for_two_widths_are_two_tensors() -> None:
    """Two first layers whose windows differ in the padding on the right only."""
    grower = fpga_programs.Random(0)
    build = grower.build
    x = build.buffer((1, 3, 6, 12), fpga_programs.FORMAT, tensor="in0")
    outputs = []
    for after in (1, 2):
        build.enter(f"conv{after}", "Conv", ())
        outputs.append(grower.add_contract(x, 9, 1, (Axis(taps=2), Axis(taps=4, dilation=2, after=after))).name)
    program = build.build(["in0"], outputs, batchable=True, input_rounding=Rounding.HALF_AWAY)
    assert equal(program, compile_program(program, load_config("sim-tiny"), keep=True)) > 0
