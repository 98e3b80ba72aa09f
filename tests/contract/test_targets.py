"""What every shipped target must satisfy; a new file in src/bitwright/targets is tested at once."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import fields

import pytest

from bitwright.number.arithmetic import SEMANTICS
from bitwright.number.format import FormatRule
from bitwright.ops.registry import operators
from bitwright.targets.rules import DEFAULT_OP, METHODS, OPERATORS, FixedFormat
from bitwright.targets.target import FOLDER, Target, list_targets, load_target

SHIPPED = sorted(f.stem for f in FOLDER.glob("*.toml") if f.stem != "base")


@pytest.fixture(params=SHIPPED)
def target(request: pytest.FixtureRequest) -> Target:
    return load_target(request.param)


def words(text: str) -> str:
    """``text`` without its line breaks and columns, to find phrases that were wrapped."""
    return re.sub(r"\s+", " ", text)


def test_the_promised_targets_are_there() -> None:
    promised = {"generic", "fpga", "dpu", "mcu-q7", "mcu-cmsis-nn", "mcu-cmsis-nn-single", "cpu", "gpu", "ncnn"}
    assert promised <= set(list_targets())
    assert set(SHIPPED) <= set(list_targets())


def test_is_called_as_its_file(target: Target) -> None:
    assert target.path is not None
    assert target.path.stem == target.name


def test_says_what_it_is(target: Target) -> None:
    assert 10 <= len(target.title) <= 90
    assert target.summary.endswith(".")


def test_survives_the_artefact(target: Target) -> None:
    again = Target.from_dict(json.loads(json.dumps(target.to_dict())))
    assert again == target
    assert again.path is None
    assert again.to_dict() == target.to_dict()
    assert pickle.loads(pickle.dumps(target)) == target  # noqa: S301
    assert hash(again) == hash(target)


def test_the_artefact_knows_no_path_of_the_machine(target: Target) -> None:
    assert str(FOLDER) not in json.dumps(target.to_dict())


def test_description_names_every_rule(target: Target) -> None:
    text = target.describe()
    one_line = words(text)
    assert target.name in text
    assert target.arithmetic.semantics in text
    for name in target.ops.keys() - {DEFAULT_OP}:
        assert re.search(rf"\b{name}\b", text), name
    for rule in target.ops.values():
        assert words(rule.note) in re.sub(r"\s+", " ", _right_column(text)), rule.note
        if isinstance(rule.output, FixedFormat):
            assert str(rule.output) in one_line
    for rule in target.rules:
        for name, _ in (*rule.weight, *rule.activation, *rule.bias, *rule.op):
            assert name in one_line
    for role in ("input", "activation", "weight", "bias"):
        assert re.search(rf"^  {role}  .*int{getattr(target, role).bits}\b", text, re.MULTILINE)
        assert getattr(target.schemes, role) in one_line


def _right_column(text: str) -> str:
    """The text of the operators' table, without the column of names."""
    table = text.partition("\nOperators\n")[2].partition("\n\n")[0]
    return "\n".join(line[32:] for line in table.splitlines())


def test_description_fits_a_terminal_and_is_aligned(target: Target) -> None:
    for line in target.describe().splitlines():
        assert len(line) <= 100
        assert line == line.rstrip()


def test_methods_are_documented_ones(target: Target) -> None:
    for name, rule in target.ops.items():
        assert name == DEFAULT_OP or name in OPERATORS
        if rule.method is not None:
            assert rule.method in METHODS[name]


def test_operators_with_several_ways_say_which(target: Target) -> None:
    for name in METHODS:
        if target.op(name).supported:
            assert target.op(name).method in METHODS[name]


def test_every_operator_with_an_integer_form_can_be_named_in_a_file() -> None:
    assert operators().keys() <= OPERATORS
    assert METHODS.keys() <= operators().keys()


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Relu"])
def test_what_every_network_needs_is_supported(target: Target, op_type: str) -> None:
    assert target.op(op_type).supported


def test_profile_and_fields_agree(target: Target) -> None:
    assert SEMANTICS[target.arithmetic.semantics] == (target.arithmetic.requantize, target.arithmetic.rounding)


def test_prescribed_formats_suit_the_activations(target: Target) -> None:
    for rule in target.ops.values():
        if isinstance(rule.output, FixedFormat):
            fixed = rule.output.format()
            assert (fixed.bits, fixed.signed) == (target.activation.bits, target.activation.signed)
            if target.activation.scaling == "power-of-two":
                assert fixed.exponent is not None
            if target.activation.symmetric:
                assert not fixed.zero_point.any()


def test_shifting_targets_have_powers_of_two_everywhere(target: Target) -> None:
    if target.arithmetic.requantize == "shift":
        assert {getattr(target, role).scaling for role in ("input", "activation", "weight", "bias")} == {"power-of-two"}


def test_every_operator_gets_rules_for_its_formats(target: Target) -> None:
    facts = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "group": 1, "depthwise": False, "layer": "a"}
    for op_type in OPERATORS:
        for rule in (target.weight_rule, target.activation_rule, target.bias_rule):
            assert isinstance(rule(op_type, **facts), FormatRule)  # type: ignore[arg-type]


def test_rules_of_a_parent_come_first(target: Target) -> None:
    if target.extends:
        inherited = load_target(target.extends).rules
        assert target.rules[: len(inherited)] == inherited


def test_an_override_makes_another_target(target: Target) -> None:
    other = target.with_overrides({"weight": {"bits": 4}, "schemes": {"weight": "minmax"}})
    assert other.weight.bits == 4
    assert other.name == f"{target.name}-modified"
    unchanged = [f.name for f in fields(Target) if f.name not in {"name", "path", "weight", "schemes"}]
    assert all(getattr(other, name) == getattr(target, name) for name in unchanged)
    assert load_target(target.name) == target
