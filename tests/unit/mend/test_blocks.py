"""Blocks between tensors that everything passes through, errors carried back through them, and their repair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import NetworkSpec, read_layers
from bitwright.mend.bench import Bench, quantized_inputs, run_float
from bitwright.mend.blocks import carried_back, find_blocks, inside, summed, transposed
from bitwright.mend.reconstruct_blocks import ReconstructBlocks
from bitwright.mend.repair import Clock
from bitwright.mend.search import mend, split
from bitwright.mend.solution import Solution
from bitwright.mend.walk import advance, layers
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.number.expr import var
from bitwright.number.format import Format
from bitwright.passes.prepare import prepare
from bitwright.program.forms import Axis, Contract, Epilogue
from bitwright.simulate.reference import accumulate
from bitwright.targets.target import Target, load_target

from .test_search import schemes


def network(name: str) -> Network:
    return prepare(load(getattr(zoo, name)(), name=name))[0]


def chain() -> Network:
    """A residual block, a fire module and a classifier: what blocks are made of."""
    g = zoo.Graph("chain")
    x = g.relu(g.conv(g.input("x", ["N", 3, 10, 10]), 3, 8))
    y = g.conv(g.relu(g.conv(x, 8, 8)), 8, 8)
    x = g.relu(g.node("Add", x, y))
    s = g.relu(g.conv(x, 8, 4, 1))
    x = g.node("Concat", g.relu(g.conv(s, 4, 6, 1)), g.relu(g.conv(s, 4, 6, 3)), axis=1)
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    return prepare(load(g.build(g.gemm(x, 12, 5)), name="chain"))[0]


def images(net: Network, count: int = 48) -> np.ndarray:
    shape = net.shape(net.inputs[0])
    return np.random.default_rng(5).normal(size=(count, *shape[1:])).astype(np.float32)


def prepared(net: Network, target: Target) -> tuple[Solution, Bench]:
    bench = split(net, [{net.inputs[0]: images(net)}], target, classes=True)
    spec, statistics = read_layers(net, target), bench.observe(net)
    formats = assign(spec, statistics, target, schemes(target))
    made = Solution(network=net, spec=spec, statistics=statistics, schemes=schemes(target), formats=formats)
    return made, bench


class TestBlocks:
    def spec(self, net: Network) -> NetworkSpec:
        return read_layers(net, load_target("fpga"))

    def test_where_they_end(self) -> None:
        spec = self.spec(chain())
        found = find_blocks(spec)
        assert [len(block.linear) for block in found] == [3, 4]  # the classifier goes with the fire module
        assert found[0].layers[-1].op == "Add"
        assert found[0].source == spec.inputs[0]
        assert found[1].source == found[0].output
        assert found[1].output == spec.outputs[0]
        names = [layer.name for block in found for layer in block.layers]
        assert names == [layer.name for layer in spec.layers if layer.name in names]

    def test_size(self) -> None:
        spec = self.spec(chain())
        (whole,) = find_blocks(spec, fewest=20)
        assert len(whole.linear) == 7
        assert find_blocks(spec, fewest=20, most=3) == ()

    def test_maxima_end_a_block(self) -> None:
        found = find_blocks(self.spec(network("fire")))
        assert [[layer.op for layer in block.layers] for block in found] == [["Conv", "Conv", "Conv", "Concat", "GlobalAveragePool", "Flatten"]]  # fmt: skip

    def test_a_branch_around_maxima_is_no_block(self) -> None:
        assert find_blocks(self.spec(network("unet"))) == ()


@st.composite
def contractions(draw: st.DrawFn) -> tuple[tuple[Axis, ...], int, np.ndarray, np.ndarray]:
    groups = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    axes = tuple(
        Axis(
            taps=draw(st.integers(1, 3)),
            stride=draw(st.integers(1, 2)),
            dilation=draw(st.integers(1, 2)),
            before=draw(st.integers(-1, 2)),
            after=draw(st.integers(0, 2)),
            spread=draw(st.integers(1, 2)),
        )
        for _ in range(draw(st.integers(0, 2)))
    )
    inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    w = random.integers(-5, 6, (groups * outer, inner, *(axis.taps for axis in axes)))
    return axes, groups, w, random.integers(-5, 6, (2, groups * inner, *[6 for _ in axes]))


@settings(max_examples=40, deadline=None)
@given(contractions())
def test_transposed_is_the_transpose(case: tuple[tuple[Axis, ...], int, np.ndarray, np.ndarray]) -> None:
    axes, groups, w, x = case
    form = Contract(
        weight="w", bias=None, groups=groups, axes=axes, epilogue=Epilogue(expr=var("acc", -9, 9)), acc_lo=-9, acc_hi=9
    )
    y = accumulate(form, w, None, x)
    slope = np.random.default_rng(1).integers(-5, 6, y.shape)
    back = transposed(axes, groups, w.astype(np.float32), slope.astype(np.float32), x.shape)
    assert back.shape == x.shape
    assert float((back * x).sum()) == pytest.approx(float((slope * y).sum()))


def test_inside_and_summed() -> None:
    format = Format(8, True, np.asarray(0.5))
    codes = np.array([-128, -1, 0, 1, 12, 127])
    assert list(inside(codes, format, None)) == [0, 1, 1, 1, 1, 0]
    assert list(inside(codes, format, (0.0, 6.0))) == [0, 0, 0, 1, 0, 0]
    slope = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert summed(slope, (2, 3, 4)) is slope
    assert np.array_equal(summed(slope, (2, 3, 1)), slope.sum(axis=2, keepdims=True))


@pytest.mark.parametrize("name", ["residual", "conv_bn_relu", "grouped"])
def test_carried_back_is_the_slope(name: str) -> None:
    """With steps so fine that rounding is nothing, what is carried back is the slope of the float network."""
    net = network(name)
    target = load_target("fpga").with_overrides(
        {"activation": {"bits": 16}, "weight": {"bits": 16}, "input": {"bits": 16}}
    )
    solution, bench = prepared(net, target)
    program = solution.program(target)
    (block, *_) = find_blocks(solution.spec, fewest=20)
    feeds = {net.inputs[0]: bench.fit[net.inputs[0]][:4]}
    values = dict(quantized_inputs(program, net.inputs, feeds))
    steps = dict(layers(program))
    for _, items in layers(program):
        values |= advance(program, items, values)
    named = {b.tensor: values[b.name] for b in program.buffers.values() if b.tensor and b.name in values}
    wanted = run_float(net, [block.output], feeds)[0]
    error = np.random.default_rng(2).normal(size=wanted.shape).astype(np.float32)
    found = carried_back(block, program, steps, named, error)
    assert set(found) == {spec.name for spec in block.linear}
    for spec in block.linear:
        bias, eps = spec.layer.main.inputs[2], 1e-3
        assert bias is not None
        start = net.constant(str(bias.name))
        assert start is not None
        for channel in (0, len(start) - 1):
            sums = []
            for sign in (1, -1):
                moved = net.clone()
                node = next(n for n in moved.nodes() if n.name == spec.layer.main.name)
                other = start.copy()
                other[channel] += sign * eps
                moved.set_input(node, 2, moved.new_constant("moved", other))
                sums.append(float((run_float(moved, [block.output], feeds)[0].astype(np.float64) * error).sum()))
            slope = (sums[0] - sums[1]) / (2 * eps)
            size = float(np.abs(found[spec.name][:, channel]).sum())
            assert float(found[spec.name][:, channel].sum()) == pytest.approx(slope, abs=0.03 * size + 1e-3)


class TestRepair:
    def test_blocks_end_nearer_to_the_float_network(self) -> None:
        target = load_target("fpga-w4")
        solution, bench = prepared(chain(), target)
        found, text = ReconstructBlocks(rows=2000).apply(solution, bench, Clock())
        assert "changes more in 2 blocks" in text
        assert bench.score(found).sqnr > bench.score(solution).sqnr + 3
        again, same = ReconstructBlocks(rows=2000).apply(solution, bench, Clock())
        assert same == text
        for name, stored in found.constants.weights.items():
            assert np.array_equal(stored, again.constants.weights[name])
        for name, bias in found.constants.biases.items():
            assert np.array_equal(bias, again.constants.biases[name])

    @pytest.mark.parametrize("target", ["mcu-q7", "generic"])
    def test_it_obeys_the_target(self, target: str) -> None:
        chosen, net = load_target(target), chain()
        result = mend(
            net, [{net.inputs[0]: images(net)}], chosen, schemes(chosen), repairs="reconstruct-blocks{drop=0, rounds=1}"
        )
        assert result.history[0].kept == result.after.beats(result.before)
        assert result.program().integer_mac_share == 1.0

    def test_time_is_up(self) -> None:
        solution, bench = prepared(chain(), load_target("fpga-w4"))
        found, text = ReconstructBlocks().apply(solution, bench, Clock(until=0.0))
        assert found is solution
        assert "stopped by the clock" in text

    def test_nothing_to_look_at(self) -> None:
        solution, bench = prepared(network("unet"), load_target("fpga"))
        found, text = ReconstructBlocks().apply(solution, bench, Clock())
        assert found is solution
        assert "no block" in text
        few = replace(bench, fit={name: x[:1] for name, x in bench.fit.items()})
        assert ReconstructBlocks().apply(solution, few, Clock())[0] is solution
