"""Numbers of other tools on the tensors of a network, and in the formats of a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bitwright.calibrate.foreign import Numbers, Range
from bitwright.calibrate.given import Given, activation_rule
from bitwright.calibrate.ranges import format_for_range
from bitwright.calibrate.sharing import share_formats, sources_of_group
from bitwright.calibrate.spec import NetworkSpec
from bitwright.errors import CalibrationError, printable
from bitwright.number.format import Floats, Format, FormatRule
from bitwright.program.builder import identifier
from bitwright.targets.target import FixedFormat, Target

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What another tool says of a network's tensors.

    Attributes:
        kind: The tool.
        activations: Tensor → format or range.
        weights: Layer → format, per channel along axis 0.
        unused: Names of the file that the network does not have.
    """

    kind: str
    activations: Mapping[str, Format | Range] = field(default_factory=dict)
    weights: Mapping[str, Format] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was used and what was not, in sentences."""
        used = f"{self.kind}: {len(self.activations)} tensors and the weights of {len(self.weights)} layers are given."
        if not self.unused:
            return (used,)
        some = ", ".join(f"'{printable(n, 40)}'" for n in self.unused[:3]) + (" …" if len(self.unused) > 3 else "")
        return used, f"{len(self.unused)} names of the {self.kind} file are not in this network: {some}."


def place(numbers: Numbers, net: Network) -> Placed:
    """Find the tensors that a file's names mean: by name of tensor, of layer, of module, or as a C identifier.

    Raises:
        CalibrationError: if none is found.
    """
    layers = net.layers()
    outputs = {t: t for layer in layers for t in layer.outputs} | {t: t for t in net.inputs}
    makers: dict[str, str] = {}
    for layer in layers:
        if layer.outputs:
            for name in (layer.name, *layer.sources):
                makers.setdefault(name, layer.outputs[-1])
    identifiers = {identifier(n).upper(): t for n, t in (*makers.items(), *outputs.items())}
    tensors = {**identifiers, **makers, **outputs}
    if len(net.inputs) == 1:
        tensors.setdefault("INPUT", net.inputs[0])
    owners: dict[str, str] = {}
    readers: dict[str, str] = {}
    for layer in layers:
        weight = layer.main.inputs[1] if len(layer.main.inputs) > 1 else None
        names = [layer.name, *layer.sources, identifier(layer.name).upper()]
        if weight is not None:
            stem = str(weight.name).split("~folded", maxsplit=1)[0]
            names += [stem, stem.removesuffix(".weight"), stem.removesuffix("/kernel")]
        for name in names:
            owners.setdefault(name, layer.name)
            if layer.inputs:
                readers.setdefault(name, layer.inputs[0])
    activations: dict[str, Format | Range] = {}
    weights: dict[str, Format] = {}
    stated: dict[str, Format | Range] = {**numbers.formats, **numbers.ranges}
    unused = []
    for name, format in numbers.inputs.items():
        if name in readers:
            activations[readers[name]] = format
        else:
            unused.append(name)
    for name, entry in stated.items():
        if name in tensors:
            activations[tensors[name]] = entry
        else:
            unused.append(name)
    for name, format in numbers.weights.items():
        if name in owners:
            weights[owners[name]] = format
        else:
            unused.append(name)
    if not activations and not weights:
        some = ", ".join(f"'{printable(n, 40)}'" for n in unused[:3])
        raise CalibrationError(
            f"None of the {len(unused)} names of the {numbers.kind} file is a tensor or layer of {printable(net.name)}: "
            f"{some}. Is it of this network?"
        )
    return Placed(kind=numbers.kind, activations=activations, weights=weights, unused=tuple(dict.fromkeys(unused)))


def spread_ranges(net: Network, placed: Placed) -> dict[str, Range]:
    """The range of every tensor that the numbers tell, also of those whose elements only move from or to one of them."""
    from bitwright.ops.registry import operators

    found = {tensor: real_range(entry) for tensor, entry in placed.activations.items()}
    moves = [
        layer
        for layer in net.layers()
        if layer.inputs and (op := operators().get(layer.op)) is not None and op.relation == "input"
    ]
    for layer in moves:
        if layer.inputs[0] in found:
            for output in layer.outputs:
                found.setdefault(output, found[layer.inputs[0]])
    for layer in reversed(moves):
        for output in layer.outputs:
            if output in found:
                found.setdefault(layer.inputs[0], found[output])
    return found


def real_range(entry: Format | Range) -> Range:
    """The numbers that a tensor is said to hold; of a format with zero point 0 as many below zero as above."""
    if not isinstance(entry, Format):
        return entry
    low, high = (float(np.min(v)) if i == 0 else float(np.max(v)) for i, v in enumerate(entry.real_range))
    return (-high if entry.signed and not entry.zero_point.any() else low), high


def fitted(entry: Format | Range, rule: FormatRule, channels: int | None = None) -> Format:
    """The format of a target's rule that is nearest to a given one: the same where the rule allows it.

    Args:
        entry: What the file says.
        rule: What the target allows.
        channels: Output channels of weights, None for activations.
    """
    if not isinstance(entry, Format):
        return format_for_range(*entry, rule)
    exact = _as_signed(entry, rule)
    per_channel = rule.per_channel and channels is not None
    mantissa, _ = np.frexp(exact.scale)
    allowed = (
        exact.bits == rule.bits
        and rule.signed in {"auto", exact.signed}
        and not (rule.symmetric and exact.zero_point.any())
        and (rule.scaling != "power-of-two" or bool((mantissa == 0.5).all()))
    )
    low, high = real_range(entry)
    if not allowed and exact.axis is not None and per_channel:
        ends = exact.scale * exact.hi
        return format_for_range(-ends if exact.signed else np.zeros_like(ends), ends, rule, axis=0)
    if not allowed:
        made = format_for_range(low, high, rule)
        return _spread(made, channels) if per_channel and channels is not None else made
    if exact.axis is not None and not per_channel:  # the coarsest channel holds them all
        exact = replace(exact, scale=exact.scale.max(), zero_point=np.zeros((), np.int64), axis=None)
    if per_channel and exact.axis is None and channels is not None:
        exact = _spread(exact, channels)
    return replace(exact, narrow=rule.narrow)


def _with_bits(format: Format, rule: FormatRule, weights: Floats) -> Format:
    """The same steps in the rule's width, where the weights fit it: ncnn's tables do not say that 3×3 ones have 6 bits."""
    reach = np.abs(weights.reshape(len(weights), -1)).max(1, initial=0) / format.scale
    if format.bits == rule.bits or format.zero_point.any() or float(reach.max()) > (1 << (rule.bits - 1)) - 0.5:
        return format
    return replace(format, bits=rule.bits)


def _spread(format: Format, channels: int) -> Format:
    return replace(
        format,
        scale=np.full(channels, float(format.scale)),
        zero_point=np.full(channels, int(format.zero_point)),
        axis=0,
    )


def _as_signed(format: Format, rule: FormatRule) -> Format:
    """The same steps in integers with, or without, a sign, as the rule wants them and the zero point allows."""
    if rule.signed in {"auto", format.signed}:
        return format
    moved = format.zero_point + (-1 if format.signed is False else 1) * (1 << (format.bits - 1))
    return Format(format.bits, bool(rule.signed), format.scale, moved, format.axis)


def given_formats(net: NetworkSpec, target: Target, placed: Placed) -> Given:
    """The formats for a target: one for all tensors that must share one, the coarsest that the file gives them.

    Formats that the device prescribes are left alone.
    """
    groups = share_formats(net)
    activations: dict[str, Format] = {}
    for members in groups.members().values():
        known = [t for t in members if t in placed.activations and t not in net.integer]
        prescribed = any(
            isinstance(spec.rule.output, FixedFormat) and not spec.reason and set(spec.outputs) & set(members)
            for spec in net.layers
        )
        if not known or prescribed:
            continue
        roots = [t for t in sources_of_group(net, members) if t in known] or known
        rule, _ = activation_rule(net, target, members)
        candidates = [fitted(placed.activations[t], rule) for t in roots]
        activations[known[0]] = max(candidates, key=lambda f: float(np.max(f.scale)))
    weights: dict[str, Format] = {}
    for spec in net.layers:
        given = placed.weights.get(spec.name)
        if given is None or not spec.is_linear or spec.reason:
            continue
        channels = len(spec.weights())
        if given.axis is not None and given.scale.size != channels:
            continue
        rule = target.weight_rule(spec.op, **spec.facts)
        weights[spec.name] = fitted(_with_bits(given, rule, spec.weights()), rule, channels)
    return Given(activations=activations, weights=weights)
