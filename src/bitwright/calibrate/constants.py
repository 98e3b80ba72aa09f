"""The statistics of weights and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import NonFinite, printable

if TYPE_CHECKING:
    from bitwright.network.layer import Layer
    from bitwright.network.network import Network

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Constants(TypedDict):
    """Statistics by the name of the constant."""

    weights: dict[str, TensorStats]
    biases: dict[str, TensorStats]


def is_linear(layer: Layer) -> bool:
    """Whether the layer multiplies by weights."""
    return layer.op in LINEAR


def constant_inputs(net: Network, layer: Layer) -> tuple[str | None, str | None]:
    """Names of the constant weights and bias of a layer that has them, else None."""
    if not is_linear(layer):
        return None, None
    names = [str(v.name) if v is not None and net.is_constant(str(v.name)) else None for v in layer.main.inputs]
    names += [None] * (3 - len(names))
    return names[1], names[2]


def weight_axis(net: Network, layer: Layer, weights: str) -> int | None:
    """The axis of a weight tensor that runs over output channels; None if no single one does."""
    attributes = net.attributes(layer.main)
    match layer.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if attributes.get("group", 1) == 1 else None
        case "Gemm":
            return 0 if attributes.get("transB") else 1
        case _:
            return len(net.shape(weights)) - 1


def constant_statistics(net: Network) -> Constants:
    """The statistics of every constant weight (with ranges per output channel) and bias.

    Raises:
        NonFinite: if one holds NaN or infinity.
    """
    found: Constants = {"weights": {}, "biases": {}}
    for layer in net.layers():
        weights, bias = constant_inputs(net, layer)
        if weights is not None and weights not in found["weights"]:
            found["weights"][weights] = _checked(net, layer, weights, weight_axis(net, layer, weights))
        if bias is not None and bias not in found["biases"]:
            found["biases"][bias] = _checked(net, layer, bias, None)
    return found


def _checked(net: Network, layer: Layer, name: str, axis: int | None) -> TensorStats:
    values = net.constant(name)
    assert values is not None
    stats = TensorStats.of(values, axis)
    if stats.nonfinite:
        raise NonFinite(
            f"Constant '{printable(name)}' of layer '{printable(layer.name)}' holds {stats.nonfinite} values that are "
            "NaN or infinite: the file is damaged, or training had diverged. Export the network again.",
            tensor=name,
        )
    return stats
