from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.number.format import Format
from bitwright.program.check import check
from bitwright.program.codec import program_to_dict
from bitwright.program.forms import Axis, Fill, Join, Reshape, Take, Transpose
from bitwright.program.program import Program
from bitwright.program.prune import prune
from bitwright.simulate import reference
from small_programs import Maker, int8, random_program


def inputs(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(b.format.lo, b.format.hi + 1, (6, *b.shape[1:]))
        for name in program.inputs
        for b in [program.buffers[name]]
    }


def assert_equal(before: Program, after: Program, seed: int = 0) -> None:
    data = inputs(before, seed)
    expected, found = reference.run(before, data), reference.run(after, data)
    assert list(expected) == list(found)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@given(st.integers(0, 1 << 30))
def test_outputs_are_equal_and_twice_is_as_good_as_once(seed: int) -> None:
    program = random_program(seed)
    check(program)
    pruned, report = prune(program)
    check(pruned)
    assert_equal(program, pruned, seed)
    assert [pruned.buffers[n].shape for n in pruned.outputs] == [program.buffers[n].shape for n in program.outputs]
    assert pruned.learnable_bytes == report.learnable_bytes[1] <= program.learnable_bytes
    again, second = prune(pruned)
    assert program_to_dict(again)["buffers"] == program_to_dict(pruned)["buffers"]
    assert not any(second.removed.values())


def test_random_programs_lose_channels_of_every_kind() -> None:
    """Otherwise the test above would prove nothing."""
    lost: set[str] = set()
    for seed in range(150):
        program = random_program(seed)
        _, report = prune(program)
        for step in program.steps:
            if step.outputs[0] in report.kept or set(step.inputs) & report.kept.keys():
                groups = getattr(step.form, "groups", 1)
                kind = (
                    ""
                    if groups == 1
                    else ("depthwise" if groups == program.buffers[step.inputs[0]].shape[1] else "grouped")
                )
                lost.add(f"{kind} {step.op}".strip())
    assert {"Conv", "depthwise Conv", "Gemm", "Sigmoid", "Add", "Pool", "Concat", "Pad", "Slice", "Flatten"} <= lost, (
        lost
    )


def two_layers(bias: int, *, pad: int, bits: int = 32, second_bias: bool = True) -> Program:
    """Channel 1 of the first layer is constant: `bias` saturates it (or is the zero point)."""
    make = Maker(np.random.default_rng(1))
    x = make.input((1, 2, 4, 4))
    axis = Axis(taps=3, before=1, after=1)
    ones = np.ones((3, 2, 3, 3), np.int64)
    a = make.contract(x, 3, axes=(axis, axis), weights=ones, bias=np.array([0, bias, 0]), result=int8(), bias_bits=bits)
    edge = Axis(taps=3, before=pad, after=pad)
    second = np.arange(1, 28).reshape(1, 3, 3, 3)
    make.rng = np.random.default_rng(2)
    b = make.contract(
        a,
        1,
        axes=(edge, edge),
        weights=second,
        bias=np.array([5]) if second_bias else None,
        result=int8(),
        bias_bits=bits,
    )
    return make.finish(b)


def test_zero_goes_through_padding_and_other_constants_do_not() -> None:
    for bias, pad, goes in ((-1_000_000, 1, True), (1_000_000, 1, False), (1_000_000, 0, True)):
        program = two_layers(bias, pad=pad)
        low = program.buffers["layer1.value"].lo
        pruned, report = prune(program)
        assert_equal(program, pruned)
        assert report.layers[0].constant == 1
        assert report.layers[0].dead == (1 if bias < 0 and low == 0 else 0)
        expected = goes and (bias > 0 or low == 0)
        assert report.removed["layer1"] == int(expected), (bias, pad)
        assert ("layer1.value" in report.kept) == expected


def test_the_constant_part_moves_into_the_bias() -> None:
    program = two_layers(1_000_000, pad=0)
    pruned, report = prune(program)
    form = pruned.contracts()[1][1]
    assert form.bias is not None
    assert pruned.tensors[form.bias].tolist() == [5 + 127 * sum(range(10, 19))]
    assert report.kept["layer1.value"] == (0, 2)
    assert pruned.buffers["layer1.value"].shape == (1, 2, 4, 4)
    assert pruned.buffers["layer1.value"].tensor is None


def test_a_bias_that_the_device_stores_in_few_bits_takes_nothing() -> None:
    program = two_layers(1_000_000, pad=0, bits=8)
    pruned, report = prune(program)
    assert_equal(program, pruned)
    assert report.removed["layer1"] == 0
    assert report.layers[0].constant == 1


def test_macs_and_bytes_shrink_with_the_weights() -> None:
    program = two_layers(1_000_000, pad=0)
    pruned, report = prune(program)
    assert pruned.macs == {"layer1": 2 * 2 * 9 * 16, "layer2": 2 * 9 * 4}
    assert report.macs == (3 * 2 * 9 * 16 + 3 * 9 * 4, 2 * 2 * 9 * 16 + 2 * 9 * 4)
    assert pruned.learnable_bytes == 2 * 2 * 9 + 2 * 9 + 4 * 3
    assert "1 of 4 channels are constant; 1 channels were taken out" in report.sentences[0]
    assert report.sentences[0] in pruned.notes
    weights = next(item for item in pruned.learnables if item.parameter == "Weights")
    assert weights.format == Format(8, True, np.ones(2), axis=0)


def test_nothing_to_prune_changes_nothing() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input((1, 4))
    program = make.finish(make.contract(x, 3, weights=np.eye(3, 4, dtype=np.int64) + 1, bias=np.zeros(3, np.int64)))
    pruned, report = prune(program)
    assert program_to_dict(pruned) == program_to_dict(program)
    assert report.sentences == ()


def test_all_channels_constant_keeps_one() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input((1, 2, 3, 3))
    zeros = np.zeros((4, 2, 1, 1), np.int64)
    a = make.contract(x, 4, axes=(Axis(), Axis()), weights=zeros, bias=np.full(4, 8))
    program = make.finish(make.contract(a, 2, axes=(Axis(), Axis()), bias=np.zeros(2, np.int64)))
    pruned, report = prune(program)
    assert pruned.buffers[a.name].shape == (1, 1, 3, 3)
    assert_equal(program, pruned)
    assert report.layers[0].constant == 4


@pytest.mark.parametrize(
    ("motions", "goes"),
    [
        ([Reshape((1, 3 * 16))], True),
        ([Transpose((0, 2, 3, 1)), Reshape((1, 48))], True),
        ([Join(1), Take(1, (2, 1, 1, 0)), Fill((0, 1, 0, 0), (0, 0, 0, 0), 0), Reshape((1, 80))], True),
        ([Reshape((1, 6, 8)), Transpose((0, 2, 1)), Reshape((1, 48))], False),  # channels taken apart
    ],
)
def test_moves_carry_whole_channels(motions: list[object], goes: bool) -> None:
    make = Maker(np.random.default_rng(3))
    x = make.input((1, 2, 4, 4))
    a = make.contract(
        x, 3, axes=(Axis(), Axis()), weights=np.ones((3, 2, 1, 1), np.int64), bias=np.array([0, 1_000_000, 0])
    )
    make.enter("Flatten")
    flat = make.build.move(a, motions)  # type: ignore[arg-type]
    program = make.finish(
        make.contract(flat, 2, weights=np.arange(2 * flat.shape[1]).reshape(2, -1) - 9, bias=np.zeros(2, np.int64))
    )
    pruned, report = prune(program)
    assert_equal(program, pruned)
    assert (report.removed["layer1"] == 1) == goes
    assert report.layers[0].constant == 1
