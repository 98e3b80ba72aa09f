"""Formats given by hand: read from text, held to the target's rules, laid over what the schemes chose."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from bitwright.calibrate.sharing import Groups, share_formats, sources_of_group
from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.errors import CalibrationError, printable
from bitwright.number.format import Format, FormatRule
from bitwright.targets.target import FixedFormat, Target

if TYPE_CHECKING:
    from bitwright.calibrate.assign import Formats

Role = Literal["activation", "weight", "bias"]
MOST_CHANNELS = 1 << 20
TEXT = re.compile(
    r"\s*(u?)int(\d{1,2})\s*[·*]\s*(2\^)?\s*(\[[^\]]*\]|[^\s\[\]()]+)\s*(?:\(zero point (\d{1,10})\))?\s*"
)


def parse_format(text: str) -> Format:
    """The format that ``text`` says, as formats are printed: ``int8·2^-5``, ``uint8·0.0235 (zero point 12)``.

    One step per channel is a list: ``int8·2^[-5, -7]``, ``int8·[0.01, 0.02]``; ``*`` may stand for ``·``.

    Raises:
        CalibrationError: if it says none.
    """
    match = TEXT.fullmatch(text)
    try:
        if match is None:
            raise ValueError("")
        unsigned, bits, power, step, zero = match.groups()
        listed = step.startswith("[")
        numbers = step.strip("[]").split(",", MOST_CHANNELS) if listed else [step]
        steps = [np.float64(math.ldexp(1.0, int(n))) if power else np.float64(float(n)) for n in numbers]
        scale = np.asarray(steps if listed else steps[0])
        point = np.broadcast_to(np.int64(zero or 0), scale.shape)
        return Format(int(bits), not unsigned, scale, point, axis=0 if listed else None)
    except (ValueError, OverflowError) as error:
        why = f" ({error})" if str(error) else ""
        raise CalibrationError(
            f"{printable(text, 60)!r} is no format{why}. Write it as formats are printed: int8·2^-5, int8*2^-5, "
            "uint8·0.0235 (zero point 12), or a list of steps for channels, int8·2^[-5, -7]."
        ) from error


def format_text(format: Format) -> str:
    """``format`` in full, so that :func:`parse_format` reads it back."""
    name = f"{'' if format.signed else 'u'}int{format.bits}"
    mantissa, exponent = np.frexp(format.scale)
    power = bool((mantissa == 0.5).all())
    steps = exponent - 1 if power else format.scale
    numbers = ", ".join(str(int(n)) if power else repr(float(n)) for n in np.atleast_1d(steps))
    points = set(np.atleast_1d(format.zero_point).tolist())
    zero = points.pop() if len(points) == 1 else 0
    step = f"{'2^' if power else ''}{f'[{numbers}]' if format.axis is not None else numbers}"
    return f"{name}·{step}" + (f" (zero point {zero})" if zero else "")


@dataclass(frozen=True, kw_only=True)
class Given:
    """Formats that nothing may change.

    Attributes:
        activations: Tensor → format.
        weights: Layer → format.
        biases: Layer → format.
    """

    activations: Mapping[str, Format] = field(default_factory=dict)
    weights: Mapping[str, Format] = field(default_factory=dict)
    biases: Mapping[str, Format] = field(default_factory=dict)

    def on(self, formats: Formats) -> Formats:
        """``formats`` with these in their place, tensors that share a format together."""
        for tensor, format in self.activations.items():
            formats = formats.with_activation(tensor, format)
        for layer, format in self.weights.items():
            formats = formats.with_weight(layer, format)
        return replace(formats, biases={**formats.biases, **self.biases})

    def check(self, formats: Formats, target: Target) -> None:
        """Refuse what a rule about several tensors has moved again.

        Raises:
            CalibrationError: naming the first such tensor and the rule.
        """
        wanted = (
            *((t, f, formats.activations[t]) for t, f in self.activations.items()),
            *((f"{layer}.Weights", f, formats.weights[layer]) for layer, f in self.weights.items()),
            *((f"{layer}.Bias", f, formats.biases[layer]) for layer, f in self.biases.items()),
        )
        for name, format, got in wanted:
            if format != got:
                layer = name.removesuffix(".Weights").removesuffix(".Bias")
                told = [note for note in formats.notes if note.startswith((f"{name}:", f"{layer}:"))]
                why = told[-1] if told else f"the shifts that the target can do allow no other than {got}"
                raise CalibrationError(
                    f"{printable(name)!r} cannot be {format} on target {target.name} beside the formats around it: "
                    f"{printable(why, 400)}. Take {got}, or change its neighbors as well."
                )


def read_given(net: NetworkSpec, target: Target, texts: Mapping[str, str | Format]) -> Given:
    """Read formats given by hand and hold each to the target's rules for its tensor.

    Args:
        net: The layers for ``target``.
        target: Whose rules hold.
        texts: Tensor, ``LAYER.Weights`` or ``LAYER.Bias`` → format, or its text (:func:`parse_format`).

    Raises:
        CalibrationError: for a tensor that is not there, a text that is no format, a format that the target has not,
            or two formats for tensors that must share one.
    """
    layers = {spec.name: spec for spec in net.layers}
    groups = share_formats(net) if texts else None
    found: dict[Role, dict[str, Format]] = {"activation": {}, "weight": {}, "bias": {}}
    for name, text in texts.items():
        format = parse_format(text) if isinstance(text, str) else text
        role, layer = _role(net, layers, name)
        if role == "activation":
            assert groups is not None
            found[role][name] = _activation(net, target, groups, name, format, found[role])
        else:
            found[role][layer] = _learnable(target, layers[layer], name, role, format)
    return Given(activations=found["activation"], weights=found["weight"], biases=found["bias"])


def _role(net: NetworkSpec, layers: Mapping[str, LayerSpec], name: str) -> tuple[Role, str]:
    if name in net.inputs or any(name in spec.outputs for spec in net.layers):
        return "activation", ""
    ends: dict[str, Role] = {".Weights": "weight", ".Bias": "bias"}
    for end, role in ends.items():
        spec = layers.get(name.removesuffix(end)) if name.endswith(end) else None
        if spec is not None and spec.is_linear and not spec.reason:
            if role == "bias" and spec.bias() is None:
                raise CalibrationError(f"Layer {printable(spec.name)!r} has no bias, so it can have no format.")
            return role, spec.name
    known = [*net.inputs, *(t for spec in net.layers for t in spec.outputs)]
    known += [f"{spec.name}{end}" for spec in net.layers if spec.is_linear and not spec.reason for end in ends]
    near = difflib.get_close_matches(name[:200], [one[:200] for one in known], 1, 0.6)
    hint = f" Did you mean {printable(near[0])!r}?" if near else ""
    raise CalibrationError(
        f"There is no tensor {printable(name)!r} to give a format to.{hint} Tensors have the names that `bitwright "
        "details` shows; weights and biases are LAYER.Weights and LAYER.Bias."
    )


def activation_rule(net: NetworkSpec, target: Target, tensors: list[str]) -> tuple[FormatRule, bool]:
    """The rule for tensors that share a format, and whether they are an input of the network."""
    roots = sources_of_group(net, tensors)
    is_input = any(t in net.inputs for t in roots)
    producers = [spec for t in roots if (spec := net.producer(t)) is not None]
    if is_input or not producers:
        return target.input, is_input
    return target.activation_rule(producers[0].op, **producers[0].facts), False


def _activation(
    net: NetworkSpec, target: Target, groups: Groups, name: str, format: Format, others: Mapping[str, Format]
) -> Format:
    if name in net.integer:
        raise CalibrationError(f"{printable(name)!r} holds indices, which have no format to choose.")
    root = groups.find(name)
    members = groups.members()[root]
    for spec in net.layers:
        fixed = spec.rule.output
        if isinstance(fixed, FixedFormat) and not spec.reason and set(spec.outputs) & set(members):
            if format != fixed.format():
                raise _refused(name, format, target, f"{spec.op} gives {fixed} there, whatever goes in")
            return fixed.format()
    rule, is_input = activation_rule(net, target, members)
    held = held_to(format, rule, None, name, target, "input" if is_input else "activation")
    for other, chosen in others.items():
        if other in members and chosen != held:
            raise CalibrationError(
                f"{printable(name)!r} and {printable(other)!r} must have one format on target {target.name}, because a "
                f"layer moves or joins their integers as they are: {format} and {chosen} were given."
            )
    return held


def _learnable(target: Target, spec: LayerSpec, name: str, role: Role, format: Format) -> Format:
    if role == "weight":
        channels = len(spec.weights())
        return held_to(format, target.weight_rule(spec.op, **spec.facts), channels, name, target, "weight")
    if target.bias_source != "own":
        raise CalibrationError(
            f"{printable(name)!r} has no format of its own on target {target.name}: a bias is held in steps of the "
            "accumulator there (input step times weight step). Change those."
        )
    return held_to(format, target.bias_rule(spec.op, **spec.facts), None, name, target, "bias")


def held_to(format: Format, rule: FormatRule, channels: int | None, name: str, target: Target, role: str) -> Format:
    """``format`` as the rule has it: per channel and without the lowest code where the rule says so.

    Args:
        format: What is wanted.
        rule: What the target allows.
        channels: Output channels, for weights.
        name: The tensor, for messages.
        target: The target, for messages.
        role: The rule's name in a target file, for messages.

    Raises:
        CalibrationError: naming what the rule forbids.
    """
    if format.bits != rule.bits:
        raise _refused(name, format, target, f"it has {rule.bits} bits there ({role}.bits)")
    if rule.signed not in {"auto", format.signed}:
        kind = "signed" if rule.signed else "unsigned"
        raise _refused(name, format, target, f"it is {kind} there ({role}.signed)")
    if rule.symmetric and format.zero_point.any():
        raise _refused(name, format, target, f"its zero point is 0 there ({role}.symmetric)")
    if rule.scaling == "power-of-two":
        low, high = rule.exponent_range
        mantissa, exponent = np.frexp(format.scale)
        if (mantissa != 0.5).any():
            raise _refused(name, format, target, f"steps are powers of two there ({role}.scaling)")
        if int(exponent.min()) - 1 < low or int(exponent.max()) - 1 > high:
            raise _refused(name, format, target, f"steps lie in 2^{low} to 2^{high} there ({role}.exponent_range)")
    if format.axis is not None and (channels is None or not rule.per_channel):
        raise _refused(name, format, target, f"it has one step for the whole tensor there ({role}.per_channel)")
    if format.axis is not None and format.scale.shape != (channels,):
        raise _refused(name, format, target, f"it has {channels} channels, and {len(format.scale)} steps were given")
    if rule.per_channel and channels is not None and format.axis is None:
        every = np.full(channels, float(format.scale))
        format = replace(format, scale=every, zero_point=np.full(channels, int(format.zero_point)), axis=0)
    return replace(format, narrow=rule.narrow)


def _refused(name: str, format: Format, target: Target, why: str) -> CalibrationError:
    return CalibrationError(
        f"{printable(name)!r} cannot be {format} on target {target.name}: {why}. `bitwright targets {target.name}` has "
        "all its rules."
    )
