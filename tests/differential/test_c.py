"""Generated C against the reference, in every integer of every step, under the address and undefined behavior sanitizers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import zoo
from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.spec import read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import UnsupportedOp
from bitwright.export.c.writer import random_samples, write
from bitwright.lower import lower
from bitwright.mcu import host
from bitwright.mcu.library import Library
from bitwright.network.load import load
from bitwright.passes.prepare import prepare
from bitwright.program.forms import Island
from bitwright.program.program import Program
from bitwright.simulate import reference
from bitwright.targets.target import load_target

TARGETS = ("generic", "fpga", "dpu", "mcu-q7", "mcu-cmsis-nn", "cpu")
# What has no integer form on some target; everything else must be written.
ISLANDS = {
    *(("attention", target) for target in TARGETS),
    *((network, "dpu") for network in ("pools", "silu", "activations")),
}


def quantized(network: str, target_name: str) -> Program:
    net, _ = prepare(load(zoo.ZOO[network]()))
    target = load_target(target_name)
    spec = read_layers(net, target)
    tensors = [*net.inputs, *(x for layer in spec.layers for x in layer.outputs)]
    seen = net.session(tensors).run(tensors, zoo.feeds(zoo.ZOO[network](), 4 if net.batchable else 1))
    stats = {name: TensorStats.of(values) for name, values in zip(tensors, seen, strict=True)}
    schemes = RoleSchemes(input=MinMax(), activation=MinMax(), weight=MinMax(), bias=MinMax())
    return lower(net, spec, assign(spec, Statistics(activations=stats), target, schemes), target)


@dataclass(frozen=True)
class Inputs:
    program: Program
    count: int = 2

    def batch(self) -> dict[str, np.ndarray]:
        samples = random_samples(self.program, self.count, seed=1)
        return {name: np.concatenate([s[name] for s in samples]) for name in self.program.inputs}


def cases() -> Iterator[tuple[str, str]]:
    for i, network in enumerate(zoo.ZOO):
        for j, target in enumerate(TARGETS):
            # Each network on two targets and each target on a third of the networks, to keep the compiler's time short.
            if (i + j) % 3 == 0:
                yield network, target


@pytest.mark.parametrize(("network", "target"), list(cases()))
def test_every_integer_is_that_of_the_reference(network: str, target: str, tmp_path: Path) -> None:
    program = quantized(network, target)
    if (network, target) in ISLANDS:
        assert any(isinstance(step.form, Island) for step in program.steps)
        with pytest.raises(UnsupportedOp, match="runs in float"):
            write(program, tmp_path)
        return
    tree = write(program, tmp_path)
    checked = host.check(tree, program, Inputs(program).batch(), flags=host.SANITIZE)
    assert checked.samples == 2
    assert checked.values == 2 * sum(program.buffers[s.outputs[0]].size for s in program.steps)
    assert tree.plan.arena_bytes == tree.plan.bound_bytes


@pytest.mark.parametrize("network", ["fire", "residual", "pools"])
def test_the_self_test_passes_and_sees_a_changed_weight(network: str, tmp_path: Path) -> None:
    program = quantized(network, "mcu-cmsis-nn")
    tree = write(program, tmp_path)
    assert host.self_test(tree).startswith("PASS 1 vectors")
    weights = tmp_path / f"{tree.prefix}_weights.c"
    head, brace, rest = weights.read_text().partition("= {\n    ")
    first, comma, others = rest.partition(",")
    weights.write_text(f"{head}{brace}{int(first) ^ 64}{comma}{others}")
    with pytest.raises(host.Mismatch, match="differs"):
        host.self_test(tree)


def test_the_shared_library_gives_the_outputs_of_a_batch(tmp_path: Path) -> None:
    program = quantized("residual", "generic")
    library = Library(write(program, tmp_path), program)
    inputs = Inputs(program, 5).batch()
    got = library.run(inputs)
    want = reference.run(program, inputs)
    for name in program.outputs:
        np.testing.assert_array_equal(got[name], want[name])
        assert got[name].dtype == want[name].dtype
