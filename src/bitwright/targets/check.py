"""What must hold in a target file beyond the types of its keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bitwright.errors import printable
from bitwright.number.format import FormatRule
from bitwright.targets.read import Where, build, check_keys, nearest, partial
from bitwright.targets.rules import DEFAULT_OP, METHODS, OPERATORS, Match, OpRule, Rule

if TYPE_CHECKING:
    from bitwright.targets.target import Target

ROLES = ("input", "activation", "weight", "bias")
RULE_FORMATS = ("weight", "activation", "bias")


def read_ops(tables: object, where: Where) -> dict[str, OpRule]:
    """The tables under ``[op]``: operator → rule."""
    tables = check_keys(tables, (*sorted(OPERATORS), DEFAULT_OP), where)
    rules = {}
    for name, table in tables.items():
        rules[name] = build(OpRule, table, where / name)
        _check_method(rules[name].method, (name,), where / name / "method")
    return rules


def _check_method(method: object, op_types: tuple[str, ...], where: Where) -> None:
    for op_type in op_types if method is not None else ():
        known = METHODS.get(op_type, frozenset())
        if method not in known:
            hint = nearest(str(method), known) if known else "Leave the key out."
            where.fail(f'{op_type} has no method "{printable(method, 40)}"', hint)


def read_rules(tables: object, where: Where) -> tuple[Rule, ...]:
    """The tables ``[[rule]]``, in order."""
    if not isinstance(tables, list | tuple):
        where.fail("rules are written as [[rule]]")
    rules = []
    for i, table in enumerate(tables):
        here = Where(where.path, (f"rule[{i}]",))
        op = partial(OpRule, table, here, also=("match", *RULE_FORMATS))
        if "match" not in table or not table["match"]:
            (here / "match").fail("a rule needs a condition", 'Such as match = { op = "Conv" }.')
        match = build(Match, table["match"], here / "match")
        for op_type in match.op:
            if op_type not in OPERATORS:
                (here / "match" / "op").fail(
                    f'"{printable(op_type, 40)}" is no known operator', nearest(op_type, OPERATORS)
                )
        _check_method(op.get("method"), match.op or tuple(METHODS), here / "method")
        changes = {name: partial(FormatRule, table[name], here / name) for name in RULE_FORMATS if name in table}
        if not op and not any(changes.values()):
            here.fail("the rule changes nothing", "Give it weight, activation, bias or a key of [op].")
        rules.append(Rule(match=match, op=tuple(op.items()), **{name: tuple(c.items()) for name, c in changes.items()}))
    return tuple(rules)


def check_consistent(target: Target, where: Where) -> None:
    """What no single key can say: rules must fit the tables they change, and the requantizer the formats."""
    for i, rule in enumerate(target.rules):
        here = Where(where.path, (f"rule[{i}]",))
        for name in RULE_FORMATS:
            try:
                replace(getattr(target, name), **dict(getattr(rule, name)))
            except ValueError as error:
                (here / name).fail(str(error))
        for op_type in rule.match.op or tuple(target.ops):
            try:
                replace(target.ops.get(op_type) or target.ops[DEFAULT_OP], **dict(rule.op))  # type: ignore[arg-type]
            except ValueError as error:
                here.fail(str(error))
    shifting = target.arithmetic.requantize == "shift"
    for role in ROLES:
        rule_: FormatRule = getattr(target, role)
        if rule_.exponent_range[0] > rule_.exponent_range[1]:
            (where / role / "exponent_range").fail("the lowest exponent stands first")
        if shifting and rule_.scaling != "power-of-two":
            (where / role / "scaling").fail(
                'a requantizer that shifts needs steps that are powers of two, not "multiplier"',
                'Write scaling = "power-of-two", or another arithmetic.requantize.',
            )
        if rule_.scaling == "power-of-two" and not rule_.symmetric:
            (where / role / "symmetric").fail(
                "power-of-two formats are symmetric: they have no zero point", "Write symmetric = true."
            )
    if target.bias_source == "own" and not shifting:
        (where / "bias_source").fail(
            'a bias with its own format is shifted into the accumulator, which needs requantize = "shift"',
            'Write bias_source = "accumulator".',
        )
    if target.weight.signed is not True or not target.weight.symmetric:
        (where / "weight").fail("weights are signed and symmetric", "Write signed = true, symmetric = true.")
