"""Bias correction from batch normalizations alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.passes import normal
from bitwright.passes.linear import read_linear
from bitwright.program.forms import Contract

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Reals = NDArray[np.float64]

_PASSING = frozenset({"AveragePool", "GlobalAveragePool", "Identity", "Dropout"})


def clipped_mean(mean: Reals, deviation: Reals, low: float, high: float) -> Reals:
    """Expectation of ``clip(x, low, high)`` for normally distributed ``x``; all ``[channels]``.

    With ``a = (low - μ) / σ`` and ``b = (high - μ) / σ``: ``low Φ(a) + high (1 - Φ(b)) + μ (Φ(b) - Φ(a)) + σ (φ(a) - φ(b))``
    (Nagel et al. 2019, arXiv:1906.04721, appendix C; for ReLU with ``low = 0`` and no upper bound).

    Args:
        mean: ``μ``.
        deviation: ``σ``; where it is 0 the mean itself is clipped.
        low: May be minus infinity.
        high: May be infinity.
    """
    sigma = np.where(deviation > 0, deviation, 1.0)
    a, b = (low - mean) / sigma, (high - mean) / sigma
    below, above = _distribution(a), 1.0 - _distribution(b)
    found = mean * (1.0 - below - above) + sigma * (_density(a) - _density(b))
    if np.isfinite(low):
        found = found + low * below
    if np.isfinite(high):
        found = found + high * above
    return np.where(deviation > 0, found, np.clip(mean, low, high))


def _density(x: Reals) -> Reals:
    return np.asarray(np.exp(-0.5 * np.minimum(np.square(x), 1e4)) / math.sqrt(2 * math.pi))


_distribution = np.vectorize(lambda x: 0.5 * (1.0 + math.erf(x / math.sqrt(2.0))), otypes=[np.float64])


def expectations(net: Network) -> Mapping[str, Reals]:
    """Mean of each channel of each tensor that follows from batch normalizations, ``[channels]``."""
    found: dict[str, Reals] = {}
    moments: dict[str, normal.Normal] = {}
    for node in net.nodes():
        if node.domain or len(node.outputs) != 1:
            continue
        output = str(node.outputs[0].name)
        known = normal.read(node)
        layer = read_linear(net, node)
        if layer is not None and known is not None and len(known.mean) == layer.outputs:
            found[output], moments[output] = known.mean, known
            continue
        inputs = [str(v.name) for v in node.inputs if v is not None]
        if layer is not None:
            if inputs[0] in found and not layer.padded and layer.axis == 1 and len(found[inputs[0]]) == layer.inputs:
                found[output] = linear_mean(layer.weight, layer.bias, layer.groups, found[inputs[0]])
        elif node.op_type in ("Relu", "Clip") and inputs[0] in moments:
            low, high = _bounds(net, node)
            of = moments[inputs[0]]
            found[output] = clipped_mean(of.mean, of.deviation, low, high)
        elif node.op_type in _PASSING and inputs[0] in found and not _padded(net, node):
            found[output] = found[inputs[0]]
        elif node.op_type in ("Add", "Sum") and all(t in found for t in inputs):
            if len({len(found[t]) for t in inputs}) == 1:
                found[output] = np.asarray(sum(found[t] for t in inputs))
        elif node.op_type == "Concat" and all(t in found for t in inputs):
            if int(str(net.attributes(node)["axis"])) == 1:
                found[output] = np.concatenate([found[t] for t in inputs])
        elif node.op_type in ("Flatten", "Reshape", "Squeeze") and inputs[0] in found and net.has_shape(output):
            places, rest = divmod(int(np.prod(net.shape(output)[1:])), len(found[inputs[0]]))
            if rest == 0 and len(net.shape(output)) == 2:
                found[output] = np.repeat(found[inputs[0]], places)
    return found


def linear_mean(weight: Reals, bias: Reals | None, groups: int, mean: Reals) -> Reals:
    """Mean of a linear layer's outputs ``[out]`` for inputs with ``mean`` ``[in]``; ``weight`` ``[out, in / groups, ...]``."""
    each = weight.reshape(*weight.shape[:2], -1).sum(axis=2).reshape(groups, -1, weight.shape[1])
    made = np.einsum("goi,gi->go", each, mean.reshape(groups, -1)).reshape(-1)
    return np.asarray(made if bias is None else made + bias)


def _bounds(net: Network, node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, math.inf
    values = [None if v is None else net.constant(str(v.name)) for v in list(node.inputs)[1:3]]
    low = -math.inf if not values or values[0] is None else float(np.ravel(values[0])[0])
    return low, math.inf if len(values) < 2 or values[1] is None else float(np.ravel(values[1])[0])


def _padded(net: Network, node: ir.Node) -> bool:
    pads = net.attributes(node).get("pads")
    return isinstance(pads, (list, tuple)) and any(pads)


@dataclass(frozen=True, kw_only=True)
class CorrectBiasAnalytically:
    """Take out of each bias what the rounding of weights adds on average, computed without looking at a sample.

    A batch normalization says which mean and deviation each channel has, so the mean behind a ReLU or a clip follows,
    and with it the mean error ``E[(Q(W) - W) x]`` of the next layer (Nagel et al. 2019, arXiv:1906.04721, section
    4.2.1).  Layers whose inputs do not come from batch normalizations are left alone.
    """

    name: ClassVar[str] = "analytic-bias"
    summary: ClassVar[str] = (
        "Shift biases by the mean error of rounded weights, from batch normalizations without data."
    )

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        means = expectations(solution.network)
        program = solution.program(bench.target)
        stored = {step.layer: step.form.weight for step in program.steps if isinstance(step.form, Contract)}
        found, shifted, linear = solution, 0, 0
        for spec in solution.spec.layers:
            if spec.name not in stored or spec.op not in ("Conv", "Gemm") or not spec.tensors:
                continue
            linear += 1
            mean = means.get(spec.tensors[0])
            weights = spec.weights()
            groups = int(spec.attributes.get("group") or 1) if spec.op == "Conv" else 1
            if mean is None or len(mean) != weights.shape[1] * groups:
                continue
            format = solution.formats.weights[spec.name]
            real = format.dequantize(program.tensors[stored[spec.name]].reshape(weights.shape))
            error = linear_mean(real - weights, None, groups, mean)
            bias = solution.bias(spec)
            found = found.with_layer(spec.name, bias=(0.0 if bias is None else np.asarray(bias)) - error)
            shifted += 1
        if not shifted:
            return solution, "no layer reads what batch normalizations describe"
        return found.with_formats(
            found.formats, bench.target
        ), f"{shifted} of {linear} biases shifted, no sample looked at"
