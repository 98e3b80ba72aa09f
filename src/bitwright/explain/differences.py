"""Why two quantized networks differ: tensor by tensor, which rule, format, range or repair makes the difference.

What a tensor costs is measured where there are samples: both networks are taken apart as ``explain`` does it, and a
tensor weighs what its layer alone costs at the outputs in the one and in the other.  Without samples it weighs what its
format is estimated to cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import printable
from bitwright.explain.drift import step
from bitwright.explain.effects import Effects, decibel
from bitwright.explain.finding import Cause, number
from bitwright.explain.split import blown_up, channel_tops
from bitwright.explain.words import bits, percent, short
from bitwright.number.format import Format
from bitwright.targets.rules import METHOD_MEANING

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.explain.subject import Subject

SAME_DB = 0.5
"""Layers whose cost differs by less are taken for equal."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor that the two store or compute otherwise.

    Attributes:
        tensor: Its name; ``LAYER.Weights`` for weights.
        layer: The layer that makes or owns it.
        reasons: Short names: ``per-channel``, ``bits``, ``steps``, ``range``, ``calibration``, ``shared-format``,
            ``shift-limits``, ``rule``, ``rounding``, ``repair``, ``float``.
        sentence: In words with numbers.
        a_db: What the first costs: at the outputs where samples were given, else the tensor's own estimated signal to
            noise.
        b_db: The same of the second.
        weight: What differences are ranked by.
        numbers: By name.
    """

    tensor: str
    layer: str
    reasons: tuple[str, ...]
    sentence: str
    a_db: float | None = None
    b_db: float | None = None
    weight: float = 0.0
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tensor": self.tensor,
            "layer": self.layer,
            "reasons": list(self.reasons),
            "sentence": self.sentence,
            "a_db": number(self.a_db),
            "b_db": number(self.b_db),
            "numbers": {key: number(value) for key, value in self.numbers.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two.

    Attributes:
        name: ``"A"`` or ``"B"``.
        subject: The network.
        effects: What was measured, or None.
    """

    name: str
    subject: Subject
    effects: Effects | None = None


def differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """Every tensor that differs, what matters most first.

    Args:
        a: The first.
        b: The second, of the same float network; layers are paired by name.
    """
    found: list[Difference] = []
    layers_b = {spec.name: spec for spec in b.subject.spec.layers}
    for tensor in a.subject.spec.inputs:
        found += _activation(a, b, tensor, None, None)
    for spec in a.subject.spec.layers:
        other = layers_b.get(spec.name)
        if other is None:
            continue
        found += _weights(a, b, spec, other)
        for tensor in spec.outputs:
            found += _activation(a, b, tensor, spec, other)
    return tuple(sorted(found, key=lambda d: -d.weight))


def summary(found: Sequence[Difference], a: Side, b: Side) -> str:
    """The whole in a sentence."""
    if not found:
        return "They store and compute every tensor alike."
    weights: dict[str, float] = {}
    for one in found:
        for reason in one.reasons[:1]:
            weights[reason] = weights.get(reason, 0.0) + one.weight
    total = sum(weights.values()) or 1.0
    ranked = sorted(weights, key=lambda name: -weights[name])
    parts = [
        f"{MEANINGS[name]} ({percent(weights[name] / total)})" for name in ranked[:3] if weights[name] > 0.01 * total
    ]
    text = f"They differ by {', '.join(parts)}." if parts else f"They differ in {len(found)} tensors; none matters."
    if a.effects is not None and b.effects is not None:
        dbs = [effects.output_db for effects in (a.effects, b.effects)]
        text += f" Outputs have {_db(dbs[0])} in A and {_db(dbs[1])} in B."
    return text


MEANINGS: Mapping[str, str] = {
    "per-channel": "weights with a step for each channel or one for all",
    "bits": "numbers of bits",
    "steps": "steps of powers of two or any steps",
    "range": "ranges that schemes chose",
    "calibration": "ranges that calibration saw",
    "shared-format": "formats shared with other tensors",
    "shift-limits": "limits of the shifter",
    "rule": "rules of operators",
    "rounding": "rounding",
    "repair": "repairs",
    "float": "layers that run in float",
}


def _weights(a: Side, b: Side, spec: LayerSpec, other: LayerSpec) -> list[Difference]:
    if not spec.is_linear or not other.is_linear:
        return []
    first, second = a.subject.formats.weights.get(spec.name), b.subject.formats.weights.get(spec.name)
    if first is None or second is None:
        return []
    values, values_b = spec.weights(), other.weights()
    rewritten = values.shape == values_b.shape and not np.allclose(values, values_b, rtol=1e-5, atol=1e-12)
    if first == second and not rewritten and not _differently_stored(a, b, spec.name):
        return []
    reasons: list[str] = []
    parts: list[str] = []
    tops = channel_tops(spec)
    if (first.axis is None) != (second.axis is None):
        whole, side = (second, b) if first.axis is not None else (first, a)
        reasons.append("per-channel")
        worst = int(np.argmax(tops))
        alive = tops[tops > 0]
        median = float(np.median(alive)) if alive.size else 0.0
        kept = max(0.0, math.log2(max(median / step(whole), 1e-9)) + 1)
        parts.append(
            f"{'A' if side is b else 'B'} has a step for each of {len(tops)} channels, {side.name} one step of "
            f"{step(whole):.3g} for all: channel {worst} reaches {tops[worst]:.3g}, the median channel {median:.3g} and "
            f"keeps {kept:.1f} of {whole.bits} bits"
        )
        fold = blown_up(side.subject).get(spec.name)
        if fold is not None:
            sources = ", ".join(f"'{printable(s, 40)}'" for s in list(fold.get("sources") or ())[:1])
            parts.append(
                f"folding {sources} multiplied channel {fold.get('worst_channel')} by "
                f"{float(fold.get('worst_scale') or 1):.4g}"
            )
    if first.bits != second.bits:
        reasons.append("bits")
        parts.append(f"A has {first.bits} bits and B {second.bits}")
    if rewritten:
        reasons.append("repair")
        parts.append("repairs changed the weights themselves")
    if not reasons or (first.axis is None) == (second.axis is None):
        more, said = _steps(first, second, "range")
        reasons += more
        parts += said
    if not reasons and _differently_stored(a, b, spec.name):
        reasons.append("repair")
        parts.append("the same format, rounded otherwise by a repair")
    if not reasons:
        return []
    causes = (Cause.WEIGHT_ROUNDING, Cause.WEIGHT_RANGE, Cause.FOLD)
    own = {side.name: _weight_db(side, spec.name) for side in (a, b)}
    return [
        _difference(
            a, b, spec.outputs[0], f"{spec.name}.Weights", spec.name, reasons, f"the weights of '{printable(spec.name, 60)}'", parts, causes,
            own, {"a": str(first)[:80], "b": str(second)[:80]},
        )
    ]  # fmt: skip


def _activation(a: Side, b: Side, tensor: str, spec: LayerSpec | None, other: LayerSpec | None) -> list[Difference]:
    first, second = a.subject.formats.activations.get(tensor), b.subject.formats.activations.get(tensor)
    if first is None or second is None or tensor in a.subject.spec.integer:
        return []
    reasons: list[str] = []
    parts: list[str] = []
    if spec is not None and other is not None:
        if bool(spec.reason) != bool(other.reason):
            side, why = ("A", spec.reason) if spec.reason else ("B", other.reason)
            reasons.append("float")
            parts.append(f"{side} computes it in float ({printable(why, 120)})")
        elif spec.rule.method != other.rule.method:
            reasons.append("rule")
            methods = [METHOD_MEANING.get(m or "", m or "its one way") for m in (spec.rule.method, other.rule.method)]
            parts.append(f"A computes {spec.op} as {methods[0]}, B as {methods[1]}")
    if first != second:
        parts += _format_reasons(a, b, tensor, first, second, reasons)
    rounding = [side.subject.target.arithmetic.rounding for side in (a, b)]
    linear = spec is not None and spec.is_linear
    if not reasons and linear and rounding[0] != rounding[1]:
        reasons.append("rounding")
        parts.append(f"the same format, A rounds sums {rounding[0]} and B {rounding[1]}")
    if not reasons:
        return []
    name = printable(spec.name if spec is not None else tensor, 60)
    what = f"the output of '{name}'" if spec is not None else f"the input '{name}'"
    causes = tuple(c for c in Cause if c not in (Cause.WEIGHT_ROUNDING, Cause.WEIGHT_RANGE, Cause.FOLD))
    own = {side.name: _activation_db(side, tensor) for side in (a, b)}
    layer = spec.name if spec is not None else ""
    return [
        _difference(a, b, tensor, tensor, layer, reasons, what, parts, causes, own, {"a": str(first), "b": str(second)})
    ]


def _format_reasons(a: Side, b: Side, tensor: str, first: Format, second: Format, reasons: list[str]) -> list[str]:
    """Why the formats differ, in the order in which it decides."""
    parts: list[str] = []
    if first.bits != second.bits:
        reasons.append("bits")
        parts.append(f"A has {first.bits} bits and B {second.bits}")
    for side in (a, b):
        formats = side.subject.formats
        root = formats.group.get(tensor, tensor)
        group = [t for t, r in formats.group.items() if r == root]
        elsewhere = b if side is a else a
        root_b = elsewhere.subject.formats.group.get(tensor, tensor)
        group_b = [t for t, r in elsewhere.subject.formats.group.items() if r == root_b]
        if set(group) - set(group_b):
            reasons.append("shared-format")
            names = ", ".join(f"'{printable(t, 40)}'" for t in sorted(set(group) - set(group_b))[:2])
            parts.append(f"{side.name} makes it share the format of {names}")
        moved = [n for n in formats.notes if n.split(":", 1)[0] in (tensor, root)]
        if moved:
            reasons.append("shift-limits")
            parts.append(f"in {side.name} the {printable(moved[-1].split(':', 1)[1].strip(), 160)}")
    seen = [side.subject.statistics.activations.get(tensor) for side in (a, b)]
    if seen[0] is not None and seen[1] is not None and seen[0].finite and seen[1].finite:
        tops = [s.absmax for s in seen if s is not None]
        same = abs(math.log2(max(tops[1], 1e-30) / max(tops[0], 1e-30)))
        if same > 0.1:
            reasons.append("calibration")
            samples = [side.subject.statistics.samples for side in (a, b)]
            parts.append(
                f"calibration saw up to {tops[0]:.4g} in A ({samples[0]} samples) and up to {tops[1]:.4g} in B ({samples[1]})"
            )
    more, said = _steps(first, second, "range")
    reasons += [reason for reason in more if reason not in reasons]
    return parts + said


def _steps(first: Format, second: Format, fallback: str) -> tuple[list[str], list[str]]:
    """What is to be said of two steps."""
    reasons: list[str] = []
    said: list[str] = []
    powers = [format.exponent is not None for format in (first, second)]
    ratio = step(second) / step(first)
    if powers[0] != powers[1]:
        side = "A" if powers[0] else "B"
        reasons.append("steps")
        said.append(f"{side} takes powers of two only")
    signs = [format.signed or bool(np.any(np.asarray(format.zero_point))) for format in (first, second)]
    if powers[0] == powers[1] and signs[0] == signs[1] and abs(math.log2(ratio)) > 1e-9:
        reasons.append(fallback)
    if np.any(np.asarray(first.zero_point)) != np.any(np.asarray(second.zero_point)):
        side = "A" if np.any(np.asarray(first.zero_point)) else "B"
        reasons.append("steps")
        said.append(f"{side} shifts the range by a zero point, which spares it a sign that is never used")
    if abs(math.log2(ratio)) > 0.01:
        coarse = "B" if ratio > 1 else "A"
        said.append(f"{short(first)} in A, {short(second)} in B: {coarse} is {bits(abs(math.log2(ratio)))} coarser")
    elif not reasons and first != second:
        reasons.append(fallback)
        said.append(f"{short(first)} in A, {short(second)} in B")
    return list(dict.fromkeys(reasons)), said


def _difference(
    a: Side,
    b: Side,
    place: str,
    tensor: str,
    layer: str,
    reasons: Sequence[str],
    what: str,
    parts: Sequence[str],
    causes: Sequence[Cause],
    own: Mapping[str, float | None],
    numbers: Mapping[str, Any],
) -> Difference:
    """Weigh a difference and put it into words."""
    if a.effects is not None and b.effects is not None:
        noise = [_noise(side.effects, place, causes) for side in (a, b) if side.effects is not None]
        dbs = [decibel(1.0, part) for part in noise]
        weight = abs(noise[0] - noise[1])
        cost = f"; at the outputs it leaves {_db(dbs[0])} in A and {_db(dbs[1])} in B"
    else:
        dbs = [own["A"], own["B"]]
        noise = [0.0 if db is None or math.isinf(db) else 10 ** (-db / 10) for db in dbs]
        weight = abs(noise[0] - noise[1])
        cost = "" if None in dbs else f"; it has {_db(dbs[0])} in A and {_db(dbs[1])} in B"
    body = "; ".join(parts)
    sentence = f"{what[:1].upper()}{what[1:]}: {body}{cost}."
    return Difference(
        tensor=tensor,
        layer=layer,
        reasons=tuple(dict.fromkeys(reasons)),
        sentence=sentence,
        a_db=dbs[0],
        b_db=dbs[1],
        weight=weight,
        numbers=numbers,
    )


def _noise(effects: Effects, tensor: str, causes: Sequence[Cause]) -> float:
    """Noise at the outputs of some causes at a tensor, over the signal."""
    if tensor not in effects.sums:
        return 0.0
    return sum(effects.alone(tensor, cause) for cause in causes) / max(effects.signal, 1e-300)


def _weight_db(side: Side, layer: str) -> float | None:
    spec = next((s for s in side.subject.spec.layers if s.name == layer), None)
    item = next((x for x in side.subject.program.learnables if x.layer == layer and x.parameter == "Weights"), None)
    if spec is None or item is None or tuple(item.shape) != spec.weights().shape:
        return None
    real = spec.weights()
    error = item.format.dequantize(side.subject.program.tensors[item.tensor]) - real
    return decibel(float((real**2).sum()), float((error**2).sum()))


def _activation_db(side: Side, tensor: str) -> float | None:
    from bitwright.calibrate.expected import expected_squared_error

    stats = side.subject.statistics.activations.get(tensor)
    format = side.subject.formats.activations[tensor]
    if stats is None or not stats.finite or np.ndim(format.scale):
        return None
    left, right, count = stats.bins()
    zero = int(format.zero_point)
    codes = np.array([float(format.lo - zero)]), np.array([float(format.hi - zero)])
    noise = float(expected_squared_error(left, right, count, np.array([float(format.scale)]), *codes)[0])
    signal = float((count * (left * left + left * right + right * right) / 3).sum())
    return decibel(signal, noise)


def _differently_stored(a: Side, b: Side, layer: str) -> bool:
    found = []
    for side in (a, b):
        item = next((x for x in side.subject.program.learnables if x.layer == layer and x.parameter == "Weights"), None)
        found.append(None if item is None else side.subject.program.tensors[item.tensor])
    if found[0] is None or found[1] is None:
        return False
    return not np.array_equal(found[0], found[1])


def _db(value: float | None) -> str:
    return "an unknown error" if value is None else "no error" if math.isinf(value) else f"{value:.1f} dB"
