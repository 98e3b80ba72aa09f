from __future__ import annotations

from typing import Any

import pytest

from bitwright.number.format import FormatRule, Rounding
from bitwright.targets.describe import format_words, match_words, op_words
from bitwright.targets.rules import FixedFormat, Match, OpRule
from bitwright.targets.target import load_target


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (FormatRule(), "int8 (-128..127), any step, one per tensor, symmetric; rounded half-away"),
        (FormatRule(bits=6, narrow=True, per_channel=True), "int6 (-31..31), any step, one per output channel"),
        (FormatRule(signed=False, symmetric=False), "uint8 (0..255), any step, one per tensor, with zero point"),
        (FormatRule(signed="auto"), "int8, unsigned where nothing is negative"),
        (FormatRule(bits=32), "int32, any step"),
        (
            FormatRule(scaling="power-of-two", exponent_rule="nnom"),
            "steps 2^e, one per tensor; rounded half-away; e by NNoM",
        ),
    ],
)
def test_formats(rule: FormatRule, words: str) -> None:
    assert words in format_words(rule)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (OpRule(), "in integers, its output in its own format"),
        (OpRule(supported=False, note="Why."), "not in integers: a float island, or an error with --strict. Why."),
        (OpRule(output="shared"), "output in the input's format"),
        (OpRule(output="shared", shared_from="output"), "output in the input's format (decided by the output)"),
        (
            OpRule(inputs="shared", output="shared", shared_from="coarsest"),
            "all inputs in one format (the coarsest among them); output in the inputs' format",
        ),
        (OpRule(inputs="requantize"), "inputs requantized to the output's format"),
        (OpRule(output=FixedFormat(exponent=-7)), "output always int8·2^-7"),
        (OpRule(rounding=Rounding.HALF_EVEN), "rounded half-even"),
        (
            OpRule(method="table", input_exponent=(-15, 0), output_exponent=(-64, -7), exponent_drop=(-17, 14)),
            (
                "exact table with one entry per input integer; input exponent -15..0; output exponent -64..-7; "
                "input exponent minus output exponent -17..14"
            ),
        ),
    ],
)
def test_operators(rule: OpRule, words: str) -> None:
    assert op_words(rule) == words


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (Match(op=("Conv", "Gemm"), kernel=(3, 3), group=1), "Conv, Gemm, kernel 3×3, group 1"),
        (Match(first=True, depthwise=False, layer="a.*"), "every operator, not depthwise, first, layer a.*"),
        (Match(op=("Conv",), stride=(1, 2), dilation=(2,)), "Conv, stride 1×2, dilation 2"),
    ],
)
def test_conditions(match: Match, words: str) -> None:
    assert match_words(match) == words


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("dpu", "right by 0..16"),
        ("dpu", "from min(0, -(24 - (8 + s))) on"),
        ("mcu-cmsis-nn", "right by -31..62, negative is left"),
        ("mcu-cmsis-nn", "high half rounded half-up; then shifted, rounded half-away"),
        ("generic", "times an integer of 31 bits, shifted, rounded once half-up"),
        ("cpu", "as float32 times a float32 scale, rounded half-even"),
        ("ncnn", "weight bits = 6"),
    ],
)
def test_targets(target: str, words: str) -> None:
    assert words in " ".join(load_target(target).describe().split())


def test_changes_of_every_kind_are_shown() -> None:
    changes: dict[str, Any] = {
        "match": {"layer": "x"},
        "weight": {"per_channel": True},
        "activation": {"exponent_range": [-5, 5]},
        "input_exponent": "none",
        "supported": False,
    }
    text = " ".join(load_target("fpga").with_overrides({"rule": [changes]}).describe().split())
    for words in (
        "weight per_channel = yes", "activation exponent_range = -5..5", "input_exponent = none", "supported = no"
    ):  # fmt: skip
        assert words in text


def test_a_bias_without_limits() -> None:
    free = load_target("mcu-q7").with_overrides({"arithmetic": {"bias_shift_bits": "none"}})
    assert "bias shift   no limit" in free.describe()
