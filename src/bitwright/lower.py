"""Network + formats + target → program: the one place where float meaning becomes integer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import INDEX, Formats
from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.errors import ModelError, UnsupportedOp, printable
from bitwright.network.extract import extract
from bitwright.number.format import Floats, Rounding
from bitwright.ops.operator import Input, NoIntegerForm, Result, Site
from bitwright.program.builder import Builder
from bitwright.program.forms import Island
from bitwright.program.program import Buffer, Program
from bitwright.targets.target import Target

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Learnables that replace the network's own, from repairs.

    Attributes:
        weights: Layer → stored integers in the contracted layout.
        biases: Layer → real bias ``[out]``.
    """

    weights: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    biases: Mapping[str, Floats] = field(default_factory=dict)


@dataclass
class _Pending:
    """Consecutive layers without an integer form, to become one island."""

    specs: list[LayerSpec] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    # Layers whose results have no format, so that no island can hand them on: whoever reads them computes them too.
    floating: dict[str, tuple[LayerSpec, str]] = field(default_factory=dict)

    @property
    def made(self) -> set[str]:
        return {t for spec in self.specs for t in spec.outputs}


def lower(
    net: Network,
    spec: NetworkSpec,
    formats: Formats,
    target: Target,
    *,
    constants: Constants | None = None,
    strict: bool = False,
) -> Program:
    """Write the integer program of a prepared network.

    Args:
        net: The network.
        spec: Its layers, read for ``target``.
        formats: The format of every tensor.
        target: Whose arithmetic is used.
        constants: Learnables from repairs.
        strict: Refuse float islands.

    Raises:
        UnsupportedOp: with ``strict``, naming the first layer that has no integer form and why.
        ModelError: if the network has no layers.
    """
    if not spec.layers:
        raise ModelError(f"{printable(net.name)} computes nothing: it has no layers.")
    build = Builder(net.name, target.name)
    buffers: dict[str, Buffer] = {}
    for name in spec.inputs:
        chosen = INDEX if name in spec.integer else formats.activations[name]
        buffers[name] = build.buffer(net.shape(name), chosen, tensor=name)
    pending = _Pending()
    partial = any(_formatless(layer, spec, formats) for layer in spec.layers)
    for layer in spec.layers:
        if layer.macs:
            build.macs[layer.name] = layer.macs
        reason = layer.reason or _mixed(layer, spec) or _formatless(layer, spec, formats)
        # A layer that reads what waits in float must see it quantized first, unless it is float itself.  Where a file
        # says which tensors are float, even float layers see those quantized that have a format.
        waiting = pending.made & set(layer.tensors)
        if (waiting and not reason) or (partial and waiting & formats.activations.keys()):
            _flush(net, spec, formats, build, buffers, pending)
        if not reason:
            reason = _lower_layer(layer, spec, formats, target, constants or Constants(), build, buffers)
        if reason:
            if strict:
                raise UnsupportedOp(
                    f"Layer '{printable(layer.name)}' ({printable(layer.op)}) stays in float on target {target.name}: "
                    f"{reason}. Leave out --strict to run it as a float island, or replace the layer.",
                    op=layer.op,
                    layer=layer.name,
                    target=target.name,
                )
            pending.specs.append(layer)
            pending.reasons.append(reason)
    _flush(net, spec, formats, build, buffers, pending)
    return build.build(
        [buffers[t].name for t in spec.inputs],
        [buffers[t].name for t in spec.outputs],
        batchable=net.batchable,
        input_rounding=target.input.rounding,
    )


def _mixed(layer: LayerSpec, spec: NetworkSpec) -> str:
    """Why a layer on indices or truth values is not for the integer machine, or nothing."""
    if layer.op != "ArgMax" and any(t in spec.integer for t in (*layer.tensors, *layer.outputs)):
        return "it computes with indices, not with numbers"
    return ""


def _formatless(layer: LayerSpec, spec: NetworkSpec, formats: Formats) -> str:
    """Why a layer stays in float if a tensor of it has no format, which only networks that came quantized know."""
    for tensor in (*layer.tensors, *layer.outputs):
        if tensor not in spec.integer and tensor not in formats.activations:
            return f"the file leaves '{printable(tensor)}' in float"
    return ""


def _lower_layer(
    layer: LayerSpec,
    spec: NetworkSpec,
    formats: Formats,
    target: Target,
    constants: Constants,
    build: Builder,
    buffers: dict[str, Buffer],
) -> str:
    """Emit the steps of one layer; returns why it has no integer form, or nothing."""
    assert layer.operator is not None  # a layer without a declaration has a reason
    inputs: list[Input] = [buffers[x] if isinstance(x, str) else x for x in layer.inputs]
    site = Site(
        layer=layer.name,
        op=layer.op,
        attributes=layer.attributes,
        inputs=tuple(inputs),
        outputs=tuple(
            Result(tensor=t, shape=spec.shapes[t], format=INDEX if t in spec.integer else formats.activations[t])
            for t in layer.outputs
        ),
        clamp=layer.clamp,
        rule=layer.rule,
        arithmetic=target.arithmetic,
        weight=formats.weights.get(layer.name),
        bias=formats.biases.get(layer.name),
        weight_rounding=target.weight_rule(layer.op, **layer.facts).rounding,
        bias_rounding=target.bias_rule(layer.op, **layer.facts).rounding,
        accumulator_bias_bits=target.bias_rule(layer.op, **layer.facts).bits,
        weight_values=constants.weights.get(layer.name),
        bias_values=constants.biases.get(layer.name),
    )
    mark = build.mark()
    build.enter(layer.name, layer.op, layer.layer.sources)
    try:
        results = layer.operator.lower(site, build)
    except NoIntegerForm as why:
        build.rollback(mark)
        return str(why)
    except OverflowError as why:
        build.rollback(mark)
        return f"its arithmetic does not fit 64 bits ({why})"
    for tensor, buffer in zip(layer.outputs, results, strict=True):
        buffers[tensor] = buffer
    return ""


def _flush(
    net: Network,
    spec: NetworkSpec,
    formats: Formats,
    build: Builder,
    buffers: dict[str, Buffer],
    pending: _Pending,
) -> None:
    """Turn the waiting layers into one island."""
    if not pending.specs:
        return
    _recall(pending)
    made = pending.made
    inside = {layer.name for layer in pending.specs}
    feeds = dict.fromkeys(t for layer in pending.specs for t in layer.layer.inputs if t not in made)
    fetches = [
        t
        for layer in pending.specs
        for t in layer.outputs
        if t in spec.outputs or any(user.name not in inside for user in spec.consumers.get(t, ()))
    ]
    for layer, reason in zip(pending.specs, pending.reasons, strict=True):
        for t in layer.outputs:
            if t in fetches and t not in spec.integer and t not in formats.activations:
                pending.floating[t] = (layer, reason)
                fetches.remove(t)
    if not fetches:
        pending.specs.clear()
        pending.reasons.clear()
        return
    first = pending.specs[0]
    ops = ", ".join(dict.fromkeys(layer.op for layer in pending.specs))
    build.enter(first.name, ops, [s for layer in pending.specs for s in layer.layer.sources])
    nodes = [node for layer in pending.specs for node in layer.layer.nodes]
    model = extract(net, nodes, list(feeds), fetches)
    outputs = []
    for tensor in fetches:
        chosen = INDEX if tensor in spec.integer else formats.activations[tensor]
        buffers[tensor] = build.buffer(_shape(spec, tensor), chosen, tensor=tensor)
        outputs.append(buffers[tensor])
    reasons = dict.fromkeys(f"{layer.name}: {why}" for layer, why in zip(pending.specs, pending.reasons, strict=True))
    form = Island(
        model=build.tensor("island", np.frombuffer(model, np.uint8)),
        reason="; ".join(reasons),
        feeds=tuple(feeds),
        fetches=tuple(fetches),
        rounding=Rounding.HALF_EVEN,
    )
    build.step(form, [buffers[t] for t in feeds], outputs)
    # All multiplications of the island count as float under the name of its step.
    for layer in pending.specs[1:]:
        if macs := build.macs.pop(layer.name, 0):
            build.macs[first.name] = build.macs.get(first.name, 0) + macs
    pending.specs.clear()
    pending.reasons.clear()


def _recall(pending: _Pending) -> None:
    """Put the layers that made formatless tensors before those that read them."""
    wanted = list(zip(pending.specs, pending.reasons, strict=True))
    for layer, _ in wanted:
        for tensor in layer.layer.inputs:
            known = pending.floating.get(tensor)
            if known is not None and all(known[0] is not other for other, _ in wanted):
                wanted.append(known)
    # The later a layer was found here, the earlier it computes, but for those that waited in their order.
    count = len(pending.specs)
    ordered = [*reversed(wanted[count:]), *wanted[:count]]
    pending.specs[:] = [layer for layer, _ in ordered]
    pending.reasons[:] = [reason for _, reason in ordered]


def _shape(spec: NetworkSpec, tensor: str) -> Sequence[int]:
    if tensor not in spec.shapes:
        raise ModelError(f"The shape of tensor '{printable(tensor)}' is not known, so it cannot be stored in integers.")
    return spec.shapes[tensor]
