"""A target in plain words: every rule, as it stands after ``extends``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.format import FormatRule
from bitwright.targets.rules import DEFAULT_OP, METHOD_MEANING, FixedFormat, Match, OpRule, Rule
from bitwright.targets.target import Target

WIDTH = 100

EXPONENT_RULE = {"mathworks": "MathWorks' rule", "vitis": "Vitis AI's rule", "nnom": "NNoM's rule"}
INPUTS = {
    "own": "",
    "shared": "all inputs in one format",
    "requantize": "inputs requantized to the output's format",
    "best": "inputs in one format or requantized, whichever measures better",
}
SHARED_FROM = {
    "output": "decided by the output",
    "input": "decided by the input",
    "coarsest": "the coarsest among them",
}


def describe(target: Target) -> str:
    """Every rule of ``target`` in plain words: several lines, at most ``WIDTH`` columns."""
    blocks = [_head(target), _numbers(target), _arithmetic(target), _operators(target)]
    if target.rules:
        blocks.append(_table("Rules with conditions, the last that holds wins", _rules(target.rules)))
    schemes = target.schemes
    rows = [(role, getattr(schemes, role)) for role in ("input", "activation", "weight", "bias")]
    blocks.append(_table("Schemes, unless others are asked for", rows))
    return "\n\n".join(blocks)


def _head(target: Target) -> str:
    lines = [f"{target.name}: {target.title}", *_wrap(target.summary, WIDTH)]
    if target.extends:
        lines.append(
            f"Extends {target.extends}. Integers as in profile {target.profile or target.arithmetic.semantics}."
        )
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)  # "half-up" is one word


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    width = min(max(len(name) for name, _ in rows), 28)
    lines = [title]
    for name, text in rows:
        # A long name (several operators with one rule) runs down its own column.
        columns = _wrap(name, width), _wrap(text, WIDTH - width - 4)
        lines += [f"  {left:<{width}}  {right}".rstrip() for left, right in zip_longest(*columns, fillvalue="")]
    return "\n".join(lines)


def _numbers(target: Target) -> str:
    rows = [(role, format_words(getattr(target, role))) for role in ("input", "activation", "weight")]
    if target.bias_source == "own":
        bias = f"{format_words(target.bias)}; shifted into the accumulator"
    else:
        bias = f"{_integer(target.bias)}, in steps of input scale × weight scale; rounded {target.bias.rounding}"
    return _table("Numbers", [*rows, ("bias", bias)])


def format_words(rule: FormatRule) -> str:
    """A rule for formats in one line."""
    parts = [_integer(rule)]
    parts.append("steps 2^e" if rule.scaling == "power-of-two" else "any step")
    parts.append("one per output channel" if rule.per_channel else "one per tensor")
    if rule.scaling == "multiplier":
        parts.append("symmetric" if rule.symmetric else "with zero point")
    text = f"{', '.join(parts)}; rounded {rule.rounding}"
    if rule.scaling == "power-of-two":
        text += f"; e by {EXPONENT_RULE[rule.exponent_rule]}, {_interval(rule.exponent_range)}"
    return text


def _integer(rule: FormatRule) -> str:
    if rule.signed == "auto":
        return f"int{rule.bits}, unsigned where nothing is negative"
    if not rule.signed:
        return f"uint{rule.bits} (0..{(1 << rule.bits) - 1})"
    top = 1 << (rule.bits - 1)
    limits = f" ({-top + rule.narrow}..{top - 1})" if rule.bits <= 16 else ""
    return f"int{rule.bits}{limits}"


def _interval(limits: tuple[int, int]) -> str:
    return f"{limits[0]}..{limits[1]}"


def _arithmetic(target: Target) -> str:
    a = target.arithmetic
    rows = [
        ("accumulator", f"{a.accumulator_bits} bits, proven not to overflow"),
        ("requantizer", _requantizer(a)),
        ("profile", a.semantics),
    ]
    if a.requantize != "float32":
        rows.insert(
            2, ("shift", f"right by {_interval(a.shift_bits)}" + (", negative is left" * (a.shift_bits[0] < 0)))
        )
    if target.bias_source == "own":
        limits = "no limit" if a.bias_shift_bits is None else f"left by {_interval(a.bias_shift_bits)}"
        if a.bias_shift_rule == "vitis":
            limits += "; from min(0, -(24 - (8 + s))) on, where s is the layer's right shift (Vitis AI)"
        rows.insert(3, ("bias shift", limits))
    return _table("Arithmetic", rows)


def _requantizer(a: Arithmetic) -> str:
    how = a.rounding
    match a.requantize:
        case "shift":
            return f"one shift, rounded {how}; saturated"
        case "multiplier-single":
            return f"times an integer of {a.multiplier_bits} bits, shifted, rounded once {how}; saturated"
        case "multiplier-double":
            return (
                f"times an integer of {a.multiplier_bits} bits, high half rounded half-up; then shifted, "
                f"rounded {how}; saturated"
            )
        case "float32":
            return f"as float32 times a float32 scale, rounded {how}; saturated"


def _operators(target: Target) -> str:
    groups: dict[OpRule, list[str]] = {}
    for name, rule in target.ops.items():
        if name != DEFAULT_OP:
            groups.setdefault(rule, []).append(name)
    rows = [(", ".join(names), op_words(rule)) for rule, names in groups.items()]
    default = target.ops[DEFAULT_OP]
    plain = "if bitwright has an integer form" if default == OpRule() else op_words(default)
    return _table("Operators", [*rows, ("all others", plain)])


def op_words(rule: OpRule) -> str:
    """A rule for an operator in one line."""
    parts = []
    if not rule.supported:
        parts.append("not in integers: a float island, or an error with --strict")
    else:
        parts += _op_parts(rule)
    text = "; ".join(parts) or "in integers, its output in its own format"
    return f"{text}. {rule.note}" if rule.note else text


def _op_parts(rule: OpRule) -> Iterator[str]:
    if rule.method:
        yield METHOD_MEANING[rule.method]
    if INPUTS[rule.inputs]:
        yield INPUTS[rule.inputs] + _decided(rule)
    if isinstance(rule.output, FixedFormat):
        yield f"output always {rule.output}"
    elif rule.output == "shared":
        yield (
            "output in the inputs' format"
            if rule.inputs == "shared"
            else f"output in the input's format{_decided(rule)}"
        )
    if rule.rounding:
        yield f"rounded {rule.rounding}"
    if rule.input_exponent:
        yield f"input exponent {_interval(rule.input_exponent)}"
    if rule.output_exponent:
        yield f"output exponent {_interval(rule.output_exponent)}"
    if rule.exponent_drop:
        yield f"input exponent minus output exponent {_interval(rule.exponent_drop)}"


def _decided(rule: OpRule) -> str:
    if rule.inputs != "shared" and (rule.output != "shared" or rule.shared_from == "input"):
        return ""
    return f" ({SHARED_FROM[rule.shared_from]})"


def _rules(rules: Sequence[Rule]) -> list[tuple[str, str]]:
    rows = []
    for rule in rules:
        changes = [
            f"{role} {name} = {_value(value)}"
            for role in ("weight", "activation", "bias")
            for name, value in getattr(rule, role)
        ]
        changes += [f"{name} = {_value(value)}" for name, value in rule.op]
        rows.append((match_words(rule.match), "; ".join(changes)))
    return rows


def match_words(match: Match) -> str:
    """A condition in one line."""
    parts = [", ".join(match.op) or "every operator"]
    for name in ("kernel", "stride", "dilation"):
        extents = getattr(match, name)
        if extents is not None:
            parts.append(f"{name} {'×'.join(map(str, extents))}")
    if match.group is not None:
        parts.append(f"group {match.group}")
    for name in ("depthwise", "first", "last"):
        wanted = getattr(match, name)
        if wanted is not None:
            parts.append(name if wanted else f"not {name}")
    if match.layer is not None:
        parts.append(f"layer {match.layer}")
    return ", ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "..".join(map(str, value))
    return "none" if value is None else str(value)
