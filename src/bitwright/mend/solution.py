"""A quantized network while it is being mended: what a repair takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bitwright.calibrate.assign import (
    Formats,
    RoleSchemes,
    fit_biases,
    obey_exponent_limits,
    obey_shift_limits,
    own_biases,
)
from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.calibrate.statistics import Statistics
from bitwright.lower import Constants, lower
from bitwright.number.format import Floats
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.targets.target import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """Everything that the integer program is written from.

    Attributes:
        network: The float network, after repairs that rewrite it.
        spec: Its layers for the target.
        statistics: Of its activations.
        schemes: How ranges become formats.
        formats: The format of every tensor; they obey the target.
        constants: Weights and biases that replace the network's own.
    """

    network: Network
    spec: NetworkSpec
    statistics: Statistics
    schemes: RoleSchemes
    formats: Formats
    constants: Constants = field(default_factory=Constants)

    def program(self, target: Target) -> Program:
        """The integer program."""
        return lower(self.network, self.spec, self.formats, target, constants=self.constants)

    def bias(self, layer: LayerSpec) -> Floats | None:
        """The real bias that ``layer`` has now, ``[out]``."""
        return self.constants.biases.get(layer.name, layer.bias())

    def with_layer(self, layer: str, *, weights: np.ndarray | None = None, bias: Floats | None = None) -> Solution:
        """With other stored weights or another real bias of a layer."""
        stored, biases = dict(self.constants.weights), dict(self.constants.biases)
        if weights is not None:
            stored[layer] = np.asarray(weights, np.int64)
        if bias is not None:
            biases[layer] = np.asarray(bias, np.float64)
        return replace(self, constants=Constants(weights=stored, biases=biases))

    def with_formats(self, formats: Formats, target: Target) -> Solution:
        """With other formats, brought into the target's rules again.

        Weights that were rounded for another step are rounded anew from the network's.
        """
        legal = obey(self.spec, formats, target, self.schemes, self.constants.biases)
        kept = {
            name: values
            for name, values in self.constants.weights.items()
            if legal.weights.get(name) == self.formats.weights.get(name)
        }
        return replace(self, formats=legal, constants=replace(self.constants, weights=kept))


def with_biases(spec: NetworkSpec, biases: Mapping[str, Floats]) -> NetworkSpec:
    """The layers with other real biases ``[out]``; those of operators that have no place for one are left out."""

    def changed(layer: LayerSpec) -> LayerSpec:
        if layer.name not in biases or not layer.is_linear or layer.op == "MatMul":
            return layer
        values = np.asarray(biases[layer.name], np.float64)
        attributes = {**layer.attributes, "beta": 1.0} if layer.op == "Gemm" else layer.attributes
        return replace(layer, inputs=(*layer.inputs[:2], values), attributes=attributes)

    return replace(spec, layers=tuple(changed(layer) for layer in spec.layers)) if biases else spec


def obey(
    spec: NetworkSpec, formats: Formats, target: Target, schemes: RoleSchemes, biases: Mapping[str, Floats]
) -> Formats:
    """``formats`` moved as little as the target's limits ask for, with the formats of biases chosen anew."""
    spec = with_biases(spec, biases)
    notes = formats.notes
    if target.bias_source == "accumulator":
        formats = fit_biases(spec, formats, target)
    if target.arithmetic.requantize == "shift":
        formats = obey_exponent_limits(spec, formats)
        formats = obey_shift_limits(spec, formats, target)
    return replace(formats, biases=own_biases(spec, formats, target, schemes), notes=notes)
