"""One format for every tensor: statistics, schemes and the target's rules, solved together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.given import Given, activation_rule
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.sharing import share_formats, sources_of_group
from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import CalibrationError, printable
from bitwright.number.format import Format, FormatRule
from bitwright.targets.target import FixedFormat, Target

INDEX = Format(32, True, np.ones(()))


class Scheme(Protocol):
    """How a range becomes a format; the dataclasses of ``calibrate/schemes`` have this shape."""

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[np.floating] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :class:`bitwright.calibrate.scheme.Scheme`."""
        ...


@dataclass(frozen=True, kw_only=True)
class RoleSchemes:
    """The scheme of each role."""

    input: Scheme
    activation: Scheme
    weight: Scheme
    bias: Scheme


@dataclass(frozen=True, kw_only=True)
class Formats:
    """The format of every tensor.

    Attributes:
        activations: Tensor → format.
        weights: Layer → format, per-channel along axis 0 of the contracted layout.
        biases: Layer → own format of the bias; layers whose bias is in accumulator steps are not listed.
        group: Tensor → name of the tensor that it shares its format with (itself if it shares with none).
        notes: What was moved because of which rule, in sentences.
    """

    activations: Mapping[str, Format]
    weights: Mapping[str, Format]
    biases: Mapping[str, Format] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_activation(self, tensor: str, format: Format) -> Formats:
        """The formats with another one for ``tensor`` and all tensors that share it."""
        root = self.group.get(tensor, tensor)
        changed = {t: format for t in self.activations if self.group.get(t, t) == root}
        return replace(self, activations={**self.activations, **changed})

    def with_weight(self, layer: str, format: Format) -> Formats:
        """The formats with another one for the weights of ``layer``."""
        return replace(self, weights={**self.weights, layer: format})


def assign(
    net: NetworkSpec,
    statistics: Statistics,
    target: Target,
    schemes: RoleSchemes,
    *,
    weights: Mapping[str, Format] | None = None,
    given: Given | None = None,
) -> Formats:
    """Choose every format.

    Args:
        net: The layers for ``target``.
        statistics: Of all activations.
        target: Whose rules hold.
        schemes: How a range becomes a format.
        weights: Layer → format of its weights, where that is chosen already.
        given: Formats that a person has set, which the others must go with.

    Raises:
        CalibrationError: if a tensor has no statistics, or a given format does not go with a rule of the target.
    """
    groups = share_formats(net)
    members = groups.members()
    activations: dict[str, Format] = {}
    for root, tensors in members.items():
        chosen = _group_format(net, root, tensors, statistics, target, schemes)
        activations |= dict.fromkeys(tensors, chosen)
    known = weights or {}
    chosen_weights = {
        spec.name: known[spec.name] if spec.name in known else weight_format(spec, target, schemes)
        for spec in net.layers
        if spec.is_linear and not spec.reason
    }
    group = {tensor: groups.find(tensor) for tensor in activations}
    formats = Formats(activations=activations, weights=chosen_weights, group=group)
    return settle(net, formats, target, schemes, given)


def settle(
    net: NetworkSpec, formats: Formats, target: Target, schemes: RoleSchemes, given: Given | None = None
) -> Formats:
    """Bring formats into the limits that the target sets for several of them together, biases last.

    Args:
        net: The layers for ``target``.
        formats: Of activations and weights.
        target: Whose limits hold.
        schemes: For biases with a format of their own.
        given: Formats to lay over them first, which must stay.

    Raises:
        CalibrationError: if a limit would move a given format.
    """
    if target.arithmetic.requantize == "multiplier-double":
        formats = in_single_precision(formats)
    formats = formats if given is None else given.on(formats)
    if target.bias_source == "accumulator":
        formats = fit_biases(net, formats, target)
    if target.arithmetic.requantize == "shift":
        formats = obey_exponent_limits(net, formats)
        formats = obey_shift_limits(net, formats, target)
    formats = replace(formats, biases=own_biases(net, formats, target, schemes, given))
    if given is not None:
        given.check(formats, target)
    return formats


def in_single_precision(formats: Formats) -> Formats:
    """Scales as float32 holds them: what TFLite's files and runtimes compute their multipliers from.

    A scale with more digits gives another multiplier in the runtime, and about one integer in 100,000 another value.
    """

    def rounded(format: Format) -> Format:
        return replace(format, scale=format.scale.astype(np.float32).astype(np.float64))

    return replace(
        formats,
        activations={name: rounded(format) for name, format in formats.activations.items()},
        weights={name: rounded(format) for name, format in formats.weights.items()},
    )


def weight_format(spec: LayerSpec, target: Target, schemes: RoleSchemes) -> Format:
    """The format of a layer's weights."""
    rule = target.weight_rule(spec.op, **spec.facts)
    values = spec.weights()
    axis = 0 if rule.per_channel else None
    return schemes.weight.choose(TensorStats.of(values, axis), rule, values=values, axis=axis)


def fit_biases(net: NetworkSpec, formats: Formats, target: Target) -> Formats:
    """Coarsen the weight step of channels whose bias would overflow the accumulator.

    A dead channel has next to no weights, so a step made for them is so fine that its bias does not fit.  A quarter
    of the accumulator's range is left to the sum of products.
    """
    notes: list[str] = []
    limit = 2.0 ** (target.arithmetic.accumulator_bits - 3)
    for spec in net.layers:
        weight = formats.weights.get(spec.name)
        bias = None if weight is None else spec.bias()
        if weight is None or bias is None:
            continue
        step = np.asarray(formats.activations[spec.tensors[0]].scale * weight.scale)
        needed = np.abs(bias) / limit
        needed = needed if step.ndim else needed.max(initial=0.0)
        if not (needed > step).any():
            continue
        factor = np.where(needed > step, needed / step, 1.0)
        if target.weight.scaling == "power-of-two":
            factor = np.exp2(np.ceil(np.log2(factor)))
        scale = weight.scale * factor
        if target.arithmetic.requantize == "multiplier-double":
            scale = scale.astype(np.float32).astype(np.float64)
        formats = formats.with_weight(spec.name, replace(weight, scale=scale))
        notes.append(
            f"{spec.name}: weight step of {int((factor > 1).sum())} of {factor.size} channels made coarser, because the "
            f"bias (up to {np.abs(bias).max():.4g}) would not fit {target.arithmetic.accumulator_bits} bits beside it"
        )
    return replace(formats, notes=(*formats.notes, *notes))


def _statistics(statistics: Statistics, tensor: str) -> TensorStats:
    stats = statistics.activations.get(tensor)
    if stats is None or not stats.finite:
        raise CalibrationError(
            f"No statistics of tensor '{printable(tensor)}' were collected, so no format can be chosen for it. "
            "Calibrate this network again."
        )
    return stats


def _group_format(
    net: NetworkSpec, root: str, tensors: list[str], statistics: Statistics, target: Target, schemes: RoleSchemes
) -> Format:
    if root in net.integer:
        return INDEX
    prescribed = [
        spec.rule.output.format()
        for spec in net.layers
        for t in spec.outputs
        if t in tensors and not spec.reason and isinstance(spec.rule.output, FixedFormat)
    ]
    if prescribed:
        return prescribed[0]
    roots = sources_of_group(net, tensors)
    rule, is_input = activation_rule(net, target, tensors)
    scheme = schemes.input if is_input else schemes.activation
    coarsest = any(
        spec.rule.shared_from == "coarsest" and set(spec.tensors) & set(tensors)
        for spec in net.layers
        if not spec.reason
    )
    if coarsest:
        candidates = [scheme.choose(_statistics(statistics, t), rule) for t in roots]
        return max(candidates, key=lambda f: float(np.max(f.scale)))
    merged = sum((_statistics(statistics, t) for t in roots), TensorStats())
    merged = replace(merged, axis=None, channel_lo=None, channel_hi=None)
    chosen = scheme.choose(merged, rule)
    allowed = CLIPPED_OUTPUTS * max(1, statistics.samples)
    clipped = [t for t in tensors if t in net.outputs and clips(_statistics(statistics, t), chosen) > allowed]
    if not clipped:
        return chosen
    needed = MinMax().choose(sum((_statistics(statistics, t) for t in clipped), TensorStats()), rule)
    return max(chosen, needed, key=lambda f: float(np.max(f.scale)))


# A clipped output value is harmless alone, but two of them in one sample are a tie, and the answer is lost.
CLIPPED_OUTPUTS = 0.1


def clips(stats: TensorStats, format: Format) -> float:
    """How many of the observed values lie outside the range of ``format``, half a step allowed."""
    low, high = (float(v) for v in format.real_range)
    half = float(format.scale) / 2
    left, right, count = stats.bins()
    return float(count[(left > high + half) | (right < low - half)].sum())


def exponent(format: Format) -> int:
    """The exponent of a per-tensor power-of-two format."""
    exponents = format.exponent
    if exponents is None or exponents.ndim:
        raise ValueError(f"{format} has no single exponent")
    return int(exponents)


def at_exponent(format: Format, value: int) -> Format:
    """``format`` with another exponent."""
    return replace(format, scale=np.exp2(np.float64(value)))


def obey_exponent_limits(net: NetworkSpec, formats: Formats) -> Formats:
    """Move exponents into the limits that the target sets for an operator's input and output."""
    notes: list[str] = []
    for spec in net.layers:
        if spec.reason or not spec.tensors or spec.tensors[0] in net.integer:
            continue
        sides = ((spec.tensors[0], spec.rule.input_exponent), (spec.outputs[0], spec.rule.output_exponent))
        for tensor, limits in sides:
            old = exponent(formats.activations[tensor])
            new = old if limits is None else min(max(old, limits[0]), limits[1])
            formats, notes = _moved(formats, notes, tensor, old, new, f"{spec.op} takes exponents {limits}")
        if spec.rule.exponent_drop is not None:
            source = exponent(formats.activations[spec.tensors[0]])
            old = exponent(formats.activations[spec.outputs[0]])
            low, high = spec.rule.exponent_drop
            new = min(max(old, source - high), source - low)
            formats, notes = _moved(formats, notes, spec.outputs[0], old, new, f"{spec.op} drops {low} to {high} bits")
    return replace(formats, notes=(*formats.notes, *notes))


def _moved(formats: Formats, notes: list[str], tensor: str, old: int, new: int, why: str) -> tuple[Formats, list[str]]:
    if new == old:
        return formats, notes
    note = f"{tensor}: step moved from 2^{old} to 2^{new} because {why}"
    return formats.with_activation(tensor, at_exponent(formats.activations[tensor], new)), [*notes, note]


def obey_shift_limits(net: NetworkSpec, formats: Formats, target: Target) -> Formats:
    """Bring every requantizing shift into the target's limits.

    A shift below the lowest means that the output's step is finer than the accumulator can tell: the output is made
    coarser, which loses nothing.  A shift above the highest means weights finer than the hardware can use: they are
    made coarser.
    """
    lowest, highest = target.arithmetic.shift_bits
    notes: list[str] = []
    for _ in range(len(net.layers) + 1):  # a coarser output is a coarser input of the next layer
        before = formats
        for spec in net.layers:
            if spec.name not in formats.weights:
                continue
            weight = formats.weights[spec.name]
            source, result = (exponent(formats.activations[t]) for t in (spec.tensors[0], spec.outputs[0]))
            exponents = weight.exponent
            assert exponents is not None
            shifts = result - source - exponents
            if int(shifts.min()) < lowest:
                new = result + lowest - int(shifts.min())
                why = f"{spec.name} would need a right shift of {int(shifts.min())}, the lowest is {lowest}"
                formats, notes = _moved(formats, notes, spec.outputs[0], result, new, why)
            elif int(shifts.max()) > highest:
                raised = np.maximum(exponents, result - source - highest)
                formats = formats.with_weight(spec.name, replace(weight, scale=np.exp2(raised.astype(np.float64))))
                notes.append(
                    f"{spec.name}: weight step raised to 2^{int(raised.max())} because a right shift of "
                    f"{int(shifts.max())} passes the highest, {highest}"
                )
        if formats is before:
            break
    return replace(formats, notes=(*formats.notes, *notes))


def own_biases(
    net: NetworkSpec, formats: Formats, target: Target, schemes: RoleSchemes, given: Given | None = None
) -> dict[str, Format]:
    """Formats of biases that are stored with a step of their own."""
    if target.bias_source != "own":
        return {}
    biases = {}
    for spec in net.layers:
        bias = spec.bias() if spec.name in formats.weights else None
        if bias is None:
            continue
        rule = target.bias_rule(spec.op, **spec.facts)
        set_by_hand = given is not None and spec.name in given.biases
        chosen = (
            formats.biases[spec.name]
            if set_by_hand
            else schemes.bias.choose(TensorStats.of(bias), rule, values=np.asarray(bias))
        )
        if target.arithmetic.requantize == "shift":
            chosen = _reachable_bias(spec, chosen, formats, target)
        biases[spec.name] = chosen
    return biases


def _reachable_bias(spec: LayerSpec, chosen: Format, formats: Formats, target: Target) -> Format:
    weight = formats.weights[spec.name].exponent
    assert weight is not None
    step = exponent(formats.activations[spec.tensors[0]]) + weight  # of the accumulator
    shift = exponent(formats.activations[spec.outputs[0]]) - step
    limits = target.arithmetic.bias_shift_limits(int(shift.min()))
    if limits is None:
        return chosen
    lowest, highest = int(step.max()) + limits[0], int(step.min()) + limits[1]
    return at_exponent(chosen, min(max(exponent(chosen), lowest), max(highest, lowest)))
