"""What the choice of formats and the lowering need to know of each layer, read off the network once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.format import Floats
from bitwright.ops.operator import Operator
from bitwright.ops.registry import operators
from bitwright.targets.target import Facts, OpRule, Target

if TYPE_CHECKING:
    from bitwright.network.layer import Layer
    from bitwright.network.network import Network

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One layer.

    Attributes:
        name: Its name.
        op: Its operator, or the pattern that its nodes form.
        layer: The nodes.
        inputs: Tensor names in the order of the operator's inputs; constants as arrays; None where left out.
        outputs: Tensors it produces.
        attributes: Of the main node.
        clamp: Real bounds of the activation fused onto it, or None.
        operator: Its declaration, or None if there is none.
        reason: Why it has no integer form, if that is known before lowering.
        facts: What target rules can ask about.
        rule: What the target says about the operator.
        macs: Multiply-accumulates of one sample.
    """

    name: str
    op: str
    layer: Layer
    inputs: tuple[str | NDArray[Any] | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    clamp: tuple[float, float] | None
    operator: Operator | None
    reason: str
    facts: Facts
    rule: OpRule
    macs: int

    @property
    def tensors(self) -> tuple[str, ...]:
        """The inputs that the network computes."""
        return tuple(x for x in self.inputs if isinstance(x, str))

    @property
    def is_linear(self) -> bool:
        """Whether it has constant weights to quantize."""
        return (
            self.op in LINEAR
            and self.operator is not None
            and len(self.inputs) > 1
            and isinstance(self.inputs[1], np.ndarray)
        )

    def weights(self) -> Floats:
        """Weights in the contracted layout ``[out, in/groups, *taps]``, float64.

        Raises:
            ValueError: if the layer has none.
        """
        if not self.is_linear or self.operator is None or self.operator.weights is None:
            raise ValueError(f"layer {self.name} has no constant weights")
        return self.operator.weights(np.asarray(self.inputs[1], np.float64), self.attributes)

    def bias(self) -> Floats | None:
        """Real bias ``[out]`` with Gemm's beta multiplied in, or None."""
        value = self.inputs[2] if len(self.inputs) > 2 else None
        if not self.is_linear or not isinstance(value, np.ndarray):
            return None
        beta = float(self.attributes.get("beta", 1.0)) if self.op == "Gemm" else 1.0
        return np.broadcast_to(np.asarray(value, np.float64).reshape(-1) * beta, (len(self.weights()),))


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """All layers of a network for one target, and where each tensor is used.

    Attributes:
        layers: In execution order.
        inputs: Inputs of the network.
        outputs: Outputs of the network.
        consumers: Tensor → layers that read it.
        shapes: Tensor → shape with batch 1.
        integer: Tensors that hold integers (indices, class numbers) in the float network already.
        last: Tensors that are held with their channels second, while the user's network has them last.
    """

    layers: tuple[LayerSpec, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    consumers: Mapping[str, tuple[LayerSpec, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    integer: frozenset[str] = field(default_factory=frozenset)
    last: frozenset[str] = field(default_factory=frozenset)

    def user_shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of ``tensor`` as the user's network has it."""
        shape = self.shapes[tensor]
        return (shape[0], *shape[2:], shape[1]) if tensor in self.last and len(shape) > 2 else shape

    def producer(self, tensor: str) -> LayerSpec | None:
        """The layer that produces ``tensor``, or None for an input."""
        return next((spec for spec in self.layers if tensor in spec.outputs), None)


def activation_bounds(net: Network, layer: Layer) -> tuple[float, float] | None:
    """Real bounds of the ReLUs and clips in a layer: those fused onto its main node, or the node itself."""
    lo, hi = -np.inf, np.inf
    for node in layer.nodes:
        if node.op_type == "Relu":
            lo, hi = max(lo, 0.0), max(hi, 0.0)
        elif node.op_type == "Clip":
            bounds = [None if v is None else net.constant(str(v.name)) for v in list(node.inputs)[1:3]]
            low = float(np.ravel(bounds[0])[0]) if bounds and bounds[0] is not None else -np.inf
            high = float(np.ravel(bounds[1])[0]) if len(bounds) > 1 and bounds[1] is not None else np.inf
            lo, hi = min(max(lo, low), high), max(min(hi, high), low)
    return None if lo == -np.inf and hi == np.inf else (lo, hi)


def count_macs(op: str, weights: Sequence[int], output: Sequence[int], attributes: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one sample of a linear layer.

    Args:
        op: Operator.
        weights: Shape of the operator's second input.
        output: Shape of its output.
        attributes: Its attributes.
    """
    if op == "Conv":
        return prod(weights[1:]) * prod(output)
    if op == "ConvTranspose":  # counted as the hardware does it: every tap of every output, none skipped
        spread = int(prod(attributes.get("strides") or [1]))
        return prod(weights[2:]) * weights[0] // int(attributes.get("group") or 1) * prod(output) // spread
    if op == "Gemm":
        return prod(weights)
    if op == "MatMul":
        return weights[0] * prod(output)
    return 0


def read_layers(net: Network, target: Target) -> NetworkSpec:
    """Describe every layer of a prepared network for ``target``."""
    registry = operators()
    layers = net.layers()
    linear = [layer.name for layer in layers if layer.op in LINEAR]
    specs = []
    for layer in layers:
        main = layer.main
        operator = registry.get(layer.op)
        pattern = layer.op != main.op_type
        names = layer.inputs if pattern else tuple("" if v is None else str(v.name) for v in main.inputs)
        inputs: list[str | NDArray[Any] | None] = []
        for name in names:
            inputs.append(None if not name else net.constant(name) if net.is_constant(name) else name)
        attributes = dict(net.attributes(main))
        shapes = {name: net.shape(name) for name in (*layer.inputs, *layer.outputs) if net.has_shape(name)}
        weight = inputs[1] if len(inputs) > 1 and isinstance(inputs[1], np.ndarray) else None
        facts = _facts(layer, attributes, weight, linear, inputs, shapes)
        rule = target.op(layer.op, **facts)
        macs = 0
        if layer.op in LINEAR and layer.outputs:
            second = weight.shape if weight is not None else shapes.get(str(inputs[1]), ()) if len(inputs) > 1 else ()
            if len(second) >= 2:
                macs = count_macs(
                    layer.op, second[-2:] if layer.op == "MatMul" else second, shapes[layer.outputs[0]], attributes
                )
        reason = ""
        if operator is None:
            reason = f"no integer form of {layer.op} is known"
        elif not rule.supported:
            reason = f"target {target.name} has no {layer.op}" + (f" ({rule.note})" if rule.note else "")
        specs.append(
            LayerSpec(
                name=layer.name,
                op=layer.op,
                layer=layer,
                inputs=tuple(inputs),
                outputs=layer.outputs,
                attributes=attributes,
                clamp=None if pattern else activation_bounds(net, layer),
                operator=operator,
                reason=reason,
                facts=facts,
                rule=rule,
                macs=macs,
            )
        )
    consumers: dict[str, tuple[LayerSpec, ...]] = {}
    for spec in specs:
        for name in dict.fromkeys(spec.layer.inputs):
            consumers[name] = (*consumers.get(name, ()), spec)
    tensors = {*net.inputs, *net.outputs, *(t for s in specs for t in (*s.layer.inputs, *s.outputs))}
    return NetworkSpec(
        layers=tuple(specs),
        inputs=net.inputs,
        outputs=net.outputs,
        consumers=consumers,
        shapes={t: net.shape(t) for t in tensors if net.has_shape(t)},
        integer=frozenset(t for t in tensors if not np.issubdtype(net.dtype(t), np.floating)),
        last=net.channels_last,
    )


def _facts(
    layer: Layer,
    attributes: Mapping[str, Any],
    weight: NDArray[Any] | None,
    linear: Sequence[str],
    inputs: Sequence[object],
    shapes: Mapping[str, tuple[int, ...]],
) -> Facts:
    facts: Facts = {"layer": layer.name}
    kernel = attributes.get("kernel_shape") or (
        weight.shape[2:] if weight is not None and layer.op in LINEAR[:2] else None
    )
    if layer.op.startswith("Global") and isinstance(inputs[0], str) and inputs[0] in shapes:
        kernel = shapes[inputs[0]][2:]
    if kernel:
        facts["kernel"] = [int(k) for k in kernel]
        facts["stride"] = [int(s) for s in attributes.get("strides") or [1] * len(kernel)]
        facts["dilation"] = [int(d) for d in attributes.get("dilations") or [1] * len(kernel)]
    if layer.op in LINEAR[:2] and weight is not None:
        group = int(attributes.get("group") or 1)
        facts["group"] = group
        facts["depthwise"] = group > 1 and weight.shape[1 if layer.op == "Conv" else 0] == (
            1 if layer.op == "Conv" else group
        )
    if layer.name in linear:
        facts["first"] = layer.name == linear[0]
        facts["last"] = layer.name == linear[-1]
    return facts
