"""The laws of passes, on every registered pass and every network of the zoo."""

from __future__ import annotations

import dataclasses
import re
from importlib.metadata import EntryPoint

import numpy as np
import onnx
import pytest

import zoo
from bitwright.errors import PassError
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import Needs, Pass, run
from bitwright.passes.prepare import prepare
from bitwright.passes.registry import BUILT_IN, find_pass, passes

PASSES = sorted(passes())


def build(name: str) -> Network:
    return load(zoo.ZOO[name](), name=name)


def all_sources(net: Network) -> set[str]:
    names = {source for node in net.nodes() for source in net.sources(node)}
    return names | {r.name for r in net.removed}


def groups(net: Network) -> list[tuple[str, str, int]]:
    return [(layer.name, layer.op, len(layer.nodes)) for layer in net.layers()]


def outputs(net: Network, name: str, batch: int) -> list[np.ndarray]:
    return net.session(optimize=False).run(None, zoo.feeds(zoo.ZOO[name](), batch))


def assert_close(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("net_name", zoo.ZOO)
@pytest.mark.parametrize("pass_name", PASSES)
class TestLaws:
    def test_laws(self, pass_name: str, net_name: str) -> None:
        one = passes()[pass_name]()
        assert isinstance(one, Pass)
        before = build(net_name)
        # Passes meet networks at every stage: fresh from the file, and folded already.
        for source in (before, prepare(before)[0]):
            fingerprint, listing = source.fingerprint, source.serialize()
            after, (change,) = run(source, [one])
            assert source.serialize() == listing, "the given network was changed"
            onnx.checker.check_model(onnx.load_from_string(after.serialize()), full_check=True)
            assert all_sources(after) == all_sources(source)
            assert change.by == pass_name
            assert change.modified == (after.fingerprint != fingerprint or groups(after) != groups(source))
            if not one.changes_function:
                for batch in (1, 3):
                    assert_close(outputs(after, net_name, batch), outputs(source, net_name, batch))
            again, (second,) = run(after, [one])
            assert not second.modified, second.notes
            assert again.serialize() == after.serialize()

    def test_needs(self, pass_name: str, net_name: str) -> None:
        net = build(net_name)
        needs = passes()[pass_name]().needs(net)
        assert isinstance(needs, Needs)
        for tensor in (*needs.statistics, *needs.channels, *needs.samples):
            net.value(tensor)


@pytest.mark.parametrize("pass_name", PASSES)
def test_shape_of_a_pass(pass_name: str) -> None:
    kind = passes()[pass_name]
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", kind.name)
    assert kind.summary.endswith(".")
    assert kind.__doc__
    kind()  # every option has a default
    assert find_pass(pass_name) is kind


@pytest.mark.parametrize("net_name", zoo.ZOO)
def test_prepare(net_name: str) -> None:
    before = build(net_name)
    after, changes = prepare(before)
    assert all_sources(after) == all_sources(before)
    onnx.checker.check_model(onnx.load_from_string(after.serialize()), full_check=True)
    for batch in (1, 4):
        want = zoo.run(zoo.ZOO[net_name](), zoo.feeds(zoo.ZOO[net_name](), batch))
        assert_close(outputs(after, net_name, batch), want)
    assert after.batchable
    again, more = prepare(after)
    assert not any(change.modified for change in more)
    assert again.fingerprint == after.fingerprint
    assert {c.by for c in changes} <= set(PASSES)


@pytest.mark.parametrize("net_name", zoo.ZOO)
def test_layers_cover_every_node_once(net_name: str) -> None:
    for net in (build(net_name), prepare(build(net_name))[0]):
        layers = net.layers()
        names = [node.name for layer in layers for node in layer.nodes]
        assert sorted(names) == sorted(node.name for node in net.nodes())
        assert len({layer.name for layer in layers}) == len(layers)
        made = set(net.inputs)
        for layer in layers:
            assert set(layer.inputs) <= made, "layers are in topological order"
            made |= set(layer.outputs)
            assert layer.main in layer.nodes
            assert layer.sources
        assert set(net.outputs) <= made


class TestRegistry:
    def test_clash_is_an_error(self) -> None:
        point = EntryPoint("mine", "bitwright.passes.fold_pad:FoldPad", "bitwright.passes")
        with pytest.raises(PassError, match=r"Two passes are called 'fold-pad'.*rename"):
            passes([point])

    def test_broken_entry_points(self) -> None:
        with pytest.raises(PassError, match="cannot be imported"):
            passes([EntryPoint("gone", "no_such_module_here:X", "bitwright.passes")])
        with pytest.raises(PassError, match="is no pass"):
            passes([EntryPoint("odd", "json:dumps", "bitwright.passes")])

    def test_unknown_name(self) -> None:
        with pytest.raises(PassError, match="Did you mean 'fold-pad'"):
            find_pass("fold-pda")

    def test_built_in(self) -> None:
        assert {kind.name for kind in BUILT_IN} <= set(passes())


def test_a_failing_pass_is_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Breaks:
        name = "breaks"
        summary = "Breaks."
        changes_function = False

        def needs(self, net: Network) -> Needs:
            return Needs()

        def apply(self, net: Network, got: object = None, target: object = None) -> None:
            raise ZeroDivisionError("oh")

    with pytest.raises(PassError, match=r"breaks failed on mlp after fold-pad: ZeroDivisionError: oh"):
        run(build("mlp"), [find_pass("fold-pad")(), Breaks()])
