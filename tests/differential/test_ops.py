"""Every operator on every family of targets: integers against the float operator in ONNX Runtime.

The float operator sees exactly the numbers that the integers stand for (inputs after quantization, weights that are
stored exactly), so what is left is the operator's own rounding: half a step, and what its method adds to that.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.calibrate.assign import Formats, RoleSchemes, assign
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.spec import NetworkSpec, read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.lower import lower
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.number.arithmetic import dpu_pool_factor
from bitwright.passes.prepare import prepare
from bitwright.program.forms import Island, Reduce
from bitwright.program.program import Program
from bitwright.simulate.reference import run
from bitwright.targets.target import Target, load_target
from operator_cases import CASES, Case

TARGETS = ("generic", "fpga", "dpu", "mcu-q7", "mcu-cmsis-nn", "cpu")
MINMAX = RoleSchemes(input=MinMax(), activation=MinMax(), weight=MinMax(), bias=MinMax())
AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")


def observed(net: Network, feeds: dict[str, np.ndarray], tensors: list[str]) -> dict[str, np.ndarray]:
    """Float values of tensors, sample by sample where the batch is fixed."""
    wanted = [t for t in tensors if t not in feeds]
    session = net.session(wanted)
    if net.batchable:
        found = session.run(wanted, feeds)
    else:
        rows = [session.run(wanted, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(2)]
        found = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return {**dict(zip(wanted, found, strict=True)), **{t: feeds[t] for t in tensors if t in feeds}}


def quantized(net: Network, feeds: dict[str, np.ndarray], target: Target) -> tuple[Program, Formats, NetworkSpec]:
    spec = read_layers(net, target)
    tensors = list(dict.fromkeys([*net.inputs, *(t for layer in spec.layers for t in layer.outputs)]))
    seen = observed(net, feeds, tensors)
    stats = {t: TensorStats.of(np.asarray(v, np.float32)) for t, v in seen.items()}
    formats = assign(spec, Statistics(activations=stats), target, MINMAX)
    return lower(net, spec, formats, target), formats, spec


def execute(program: Program, feeds: dict[str, np.ndarray], batched: bool) -> dict[str, np.ndarray]:
    """All buffers of a program, each checked against its proven range, its type and its shape."""
    codes = {
        name: program.buffers[name].format.quantize(x, program.input_rounding)
        for name, x in zip(program.inputs, feeds.values(), strict=True)
    }
    if batched:
        values = run(program, codes, keep=True)
    else:
        rows = [run(program, {k: v[i : i + 1] for k, v in codes.items()}, keep=True) for i in range(2)]
        values = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    for name, value in values.items():
        buffer = program.buffers[name]
        assert value.dtype == buffer.format.dtype, name
        assert value.shape[1:] == buffer.shape[1:], name
        assert buffer.lo <= value.min(), (name, value.min(), buffer)
        assert value.max() <= buffer.hi, (name, value.max(), buffer)
    return values


def extra_steps(
    case: Case, program: Program, formats: Formats, spec: NetworkSpec, target: Target, y: np.ndarray, scale: float
) -> np.ndarray:
    """Steps beyond half a step by which the target's own method may be off."""
    slack = np.full(y.shape, case.slack)
    if target.arithmetic.requantize == "multiplier-double":
        slack += 0.5  # the first rounding may create a tie
    for step in program.steps:
        rule = target.op(step.op)
        if step.op in AVERAGES and rule.method == "truncate":
            slack += 0.5
        if step.op in AVERAGES and rule.method == "dpu" and isinstance(step.form, Reduce):
            taps = [a.taps for a in step.form.axes if a.taps > 1] or [1]
            factor, shift = dpu_pool_factor(taps)
            slack += np.abs(y) / scale * abs(factor / 2**shift * np.prod(taps) - 1)
        if step.op == "LeakyRelu" and rule.method == "dpu":
            slack += np.abs(y) / scale * (26 / 256 / 0.1 - 1)
    for layer in spec.layers:
        stored, bias = formats.biases.get(layer.name), layer.bias()
        if stored is not None and bias is not None:
            # A bias of its own format may saturate by a step, and is cut to the accumulator's steps where it is finer.
            rule = target.bias_rule(layer.op, **layer.facts)
            slack += np.abs(stored.dequantize(stored.quantize(bias, rule.rounding)) - bias).max() / scale
            slack += float(np.max(stored.scale)) / 2 / scale
    return slack


def check(case: Case, name: str) -> Program:
    target = load_target(name)
    net = load(case.model)
    if case.pattern:
        net, _ = prepare(net)
    feeds = dict(case.feeds)
    program, formats, spec = quantized(net, feeds, target)
    values = execute(program, feeds, net.batchable)
    seen = {
        tensor: program.buffers[buffer].format.dequantize(values[buffer]).astype(np.float32)
        for tensor, buffer in zip(net.inputs, program.inputs, strict=True)
    }
    expected = observed(net, seen, list(net.outputs))
    for tensor, buffer in zip(net.outputs, program.outputs, strict=True):
        form = program.buffers[buffer].format
        got, want = form.dequantize(values[buffer]), expected[tensor].astype(np.float64)
        assert got.shape == want.shape
        known = np.isfinite(want)
        scale = float(form.scale)
        steps = np.abs(got - np.clip(want, *form.real_range))[known] / scale
        requantized = any(formats.activations.get(t) != form for t in spec.inputs) and tensor not in spec.integer
        if case.exact and not requantized:
            assert steps.max(initial=0) < 1e-3
        else:
            limit = 0.5 + extra_steps(case, program, formats, spec, target, want, scale)[known]
            worst = (steps - limit).argmax() if steps.size else 0
            assert (steps <= limit).all(), (
                steps[worst],
                limit[worst],
                got[known][worst],
                want[known][worst],
                str(form),
            )
    return program


def islands(program: Program) -> list[str]:
    return [step.form.reason for step in program.steps if isinstance(step.form, Island)]


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_on_generic(op: str, rng: random.Random) -> None:
    case = CASES[op](rng)
    program = check(case, "generic")
    assert bool(islands(program)) == bool(case.island), islands(program)


# Softmax by powers of two is not the float operator: see tests/unit/ops/test_softmax.py.
PAIRS = [
    (op, name)
    for op in CASES
    for name in TARGETS[1:]
    if not (op == "Softmax" and load_target(name).op(op).method == "q7")
]


@pytest.mark.parametrize(("op", "name"), PAIRS)
@settings(max_examples=3)
@given(rng=st.randoms(use_true_random=False))
def test_on(op: str, name: str, rng: random.Random) -> None:
    case = CASES[op](rng)
    check(case, name)
