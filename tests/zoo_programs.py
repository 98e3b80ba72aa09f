"""Networks of the zoo as integer programs."""

from __future__ import annotations

import zoo
from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.spec import read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.lower import lower
from bitwright.network.load import load
from bitwright.passes.prepare import prepare
from bitwright.program.program import Program
from bitwright.targets.target import load_target


def quantized(network: str, target_name: str) -> Program:
    """A network of the zoo for a target, calibrated with four random samples."""
    net, _ = prepare(load(zoo.ZOO[network]()))
    target = load_target(target_name)
    spec = read_layers(net, target)
    tensors = [*net.inputs, *(x for layer in spec.layers for x in layer.outputs)]
    seen = net.session(tensors).run(tensors, zoo.feeds(zoo.ZOO[network](), 4 if net.batchable else 1))
    stats = {name: TensorStats.of(values) for name, values in zip(tensors, seen, strict=True)}
    schemes = RoleSchemes(input=MinMax(), activation=MinMax(), weight=MinMax(), bias=MinMax())
    return lower(net, spec, assign(spec, Statistics(activations=stats), target, schemes), target)
