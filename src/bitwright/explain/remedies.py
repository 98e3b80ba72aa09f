"""What helps against each cause, in the order in which it is tried: repairs, schemes, other data, other rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bitwright.errors import printable
from bitwright.explain.finding import Cause, Finding
from bitwright.explain.subject import Subject
from bitwright.targets.rules import POOLS, FixedFormat

Kind = Literal["mend", "scheme", "calibrate", "target", "prepare"]
WIDE_ACTIVATION, WIDE_WEIGHT, WIDE_BIAS, WIDE_ACCUMULATOR = 16, 8, 32, 32


@dataclass(frozen=True, kw_only=True)
class Idea:
    """Something to try.

    Attributes:
        kind: A repair, a scheme, calibrating with these samples, or other rules of the target.
        text: What it is, in words that end a sentence beginning with a verb.
        value: The repair or the scheme.
        changes: What other rules say, as in a target file.
    """

    kind: Kind
    text: str
    value: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slow(self) -> int:
        """0 is one run, 1 a repair that ends by itself, :data:`SLOWEST` a search."""
        return 0 if self.kind != "mend" else SLOWEST if self.value.startswith("learn-ranges") else 1

    @property
    def key(self) -> str:
        """Equal for ideas that are one trial."""
        return f"{self.kind}:{self.value}:{sorted(self.changes.items(), key=str)}"


SLOWEST = 2
"""Repairs that take all the time that they get."""


def mend(spec: str, text: str) -> Idea:
    """A repair."""
    return Idea(kind="mend", value=spec, text=text)


EQUALIZE = mend("equalize", "equalize the channels of neighboring layers")
RECONSTRUCT = mend("reconstruct", "round the weights again, each to make up for the others")
CORRECT = mend("correct-bias", "shift biases by the mean error")
LEARN = mend("learn-ranges", "choose each format by the error of the outputs")
SCHEMES = mend("schemes", "try other ways from ranges to formats")
DEAD = mend("dead-channels", "take channels that are always zero out of the ranges")
CENTER = mend("center", "use the sign bit of activations that are never negative")
UNFOLD = mend("unfold-scale", "take the scales of batch normalizations out of the weights again")
SPLIT = mend("split-channels", "split the channels with outlying weights in two")
APART = mend("split-concat", "let each input of a concatenation keep its own step")
AVERAGE = mend("requantize-average", "average in a depthwise layer with a step of its own")
COPY = mend("requantize-join", "let what other layers read keep its own step beside a sum or concatenation")
MINMAX = Idea(kind="scheme", value="minmax", text="take ranges whole, so that nothing is cut off")
MSE = Idea(kind="scheme", value="mse", text="choose ranges by the squared error")
CALIBRATE = Idea(kind="calibrate", text="calibrate with more samples, and with samples like these")

REPAIRS: Mapping[Cause, Sequence[Idea]] = {
    Cause.WEIGHT_ROUNDING: (RECONSTRUCT, SCHEMES, CORRECT),
    Cause.WEIGHT_RANGE: (EQUALIZE, SPLIT, RECONSTRUCT),
    Cause.FOLD: (EQUALIZE, UNFOLD, RECONSTRUCT),
    Cause.BIAS_RESOLUTION: (DEAD, CORRECT, LEARN),
    Cause.ACTIVATION_CLIPPING: (MINMAX, SCHEMES, LEARN),
    Cause.ACTIVATION_ROUNDING: (MSE, CENTER, SCHEMES, EQUALIZE, LEARN),
    Cause.SHARED_FORMAT: (APART, COPY, AVERAGE, EQUALIZE, LEARN),
    Cause.SHIFT_LIMITS: (LEARN, EQUALIZE),
    Cause.POOLING_RULE: (AVERAGE, CORRECT, LEARN),
    Cause.TABLE_RULE: (LEARN, CORRECT),
    Cause.ARITHMETIC: (CORRECT,),
    Cause.CALIBRATION_DATA: (CALIBRATE,),
}


def ideas(subject: Subject, finding: Finding) -> tuple[Idea, ...]:
    """What to try against a finding: inside the target's rules first, other rules last."""
    return (*REPAIRS.get(finding.cause, ()), *_other_rules(subject, finding))


def _other_rules(subject: Subject, finding: Finding) -> Sequence[Idea]:
    spec = next((s for s in subject.spec.layers if s.name == finding.layer), None)
    target = subject.target
    where = f" in '{printable(finding.layer, 60)}'" if finding.layer else ""

    def rule(text: str, suffix: str, **change: Any) -> Idea:
        match = {"layer": escape(finding.layer)}
        return Idea(kind="target", text=text, changes=_named(target, suffix, {"rule": [{"match": match, **change}]}))

    found: list[Idea] = []
    match finding.cause:
        case Cause.WEIGHT_RANGE | Cause.FOLD if not target.weight.per_channel:
            found.append(
                Idea(
                    kind="target",
                    text="give each output channel a step of its own, if the device can",
                    changes=_named(target, "per-channel", {"weight": {"per_channel": True}}),
                )
            )
        case Cause.WEIGHT_ROUNDING if spec is not None:
            have = target.weight_rule(spec.op, **spec.facts).bits
            if have < WIDE_WEIGHT:
                found.append(
                    rule(f"store the weights{where} in {WIDE_WEIGHT} bits", "w8", weight={"bits": WIDE_WEIGHT})
                )
        case Cause.BIAS_RESOLUTION if spec is not None:
            have = target.bias_rule(spec.op, **spec.facts).bits
            if have < WIDE_BIAS:
                wide = 2 * have if 2 * have >= 16 else 16
                changes = {"bias": {"bits": wide}}
                text = f"store biases in {wide} bits, if the device can"
                found.append(Idea(kind="target", text=text, changes=_named(target, "wide-bias", changes)))
        case Cause.SHARED_FORMAT:
            found += _unshared(subject, finding)
        case Cause.POOLING_RULE:
            ops: dict[str, Any] = {op: {"method": "exact", "output": "own"} for op in POOLS}
            text = "average with one rounding, in a format of its own, if the device can"
            found.append(Idea(kind="target", text=text, changes=_named(target, "exact-pool", {"op": ops})))
        case Cause.TABLE_RULE if spec is not None:
            exact = {"Softmax": "integer", "LeakyRelu": "table"}.get(spec.op)
            change: dict[str, Any] = {} if exact is None or spec.rule.method == exact else {"method": exact}
            if isinstance(spec.rule.output, FixedFormat) or spec.rule.output == "shared":
                change["output"] = "own"
            if change:
                text = f"compute {spec.op} by an exact table, if the device can"
                found.append(
                    Idea(kind="target", text=text, changes=_named(target, "exact-table", {"op": {spec.op: change}}))
                )
        case Cause.ACCUMULATOR:
            text = f"use accumulators of {WIDE_ACCUMULATOR} bits, if the device can"
            wide_sums = {"arithmetic": {"accumulator_bits": WIDE_ACCUMULATOR}}
            lack = int(finding.numbers.get("bits_needed", 0)) - int(finding.numbers.get("bits", 0))
            have = target.weight.bits if spec is None else target.weight_rule(spec.op, **spec.facts).bits
            if have - lack >= 2:
                fewer = have - lack
                found.append(
                    rule(f"store the weights{where} in {fewer} bits, so that sums fit", "fits", weight={"bits": fewer})
                )
            found.append(Idea(kind="target", text=text, changes=_named(target, "wide-sums", wide_sums)))
        case Cause.SHIFT_LIMITS:
            limits = {"arithmetic": {"shift_bits": [-31, 31]}}
            text = "allow shifts to both sides, if the device can"
            found.append(Idea(kind="target", text=text, changes=_named(target, "shifts", limits)))
        case Cause.ACTIVATION_ROUNDING | Cause.ACTIVATION_CLIPPING if spec is not None:
            have = target.activation_rule(spec.op, **spec.facts).bits
            if have < WIDE_ACTIVATION:
                text = f"give the output of '{printable(finding.layer, 60)}' {WIDE_ACTIVATION} bits, if the device can"
                found.append(rule(text, "a16", activation={"bits": WIDE_ACTIVATION}))
        case Cause.FLOAT_ISLAND:
            found += _integers(subject, finding)
        case _:
            pass
    return found


def _unshared(subject: Subject, finding: Finding) -> Sequence[Idea]:
    """The operators that ask for the shared format align or requantize their inputs instead."""
    formats = subject.formats
    root = formats.group.get(finding.tensor, finding.tensor)
    group = {t for t, r in formats.group.items() if r == root}
    ops: dict[str, dict[str, Any]] = {}
    for spec in subject.spec.layers:
        if spec.reason or not set(spec.tensors) & group:
            continue
        if spec.rule.inputs == "shared" or (spec.operator is not None and spec.operator.relation == "all"):
            ops[spec.op] = {"inputs": "requantize" if spec.op == "Concat" else "own", "output": "own"}
            if spec.rule.exponent_drop is not None and spec.op in ("Add", "Sub"):
                ops[spec.op]["exponent_drop"] = [-64, 64]
        elif spec.rule.output == "shared" and spec.op in POOLS:
            ops[spec.op] = {"output": "own"}
    if not ops:
        return ()
    text = f"let {' and '.join(ops)} take inputs of different formats, if the device can"
    return (Idea(kind="target", text=text, changes=_named(subject.target, "unshared", {"op": ops})),)


def _integers(subject: Subject, finding: Finding) -> Sequence[Idea]:
    """The operators that the target leaves to float are computed in integers."""
    left = {s.op for s in subject.spec.layers if s.reason and s.operator is not None and not s.rule.supported}
    if not left:
        return ()
    ops = {op: {"supported": True} for op in sorted(left)}
    text = f"compute {', '.join(sorted(left))} in integers, if the device can, or replace it before training"
    return (Idea(kind="target", text=text, changes=_named(subject.target, "all-integers", {"op": ops})),)


def _named(target: Any, suffix: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": f"{target.name}-{suffix}"[:64], **changes}


def escape(name: str) -> str:
    """A layer's name as a pattern that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
