from __future__ import annotations

import pytest

from bitwright.targets.rules import METHOD_MEANING, METHODS, OPERATORS, FixedFormat, Match


@pytest.mark.parametrize(
    ("match", "op_type", "facts", "holds"),
    [
        (Match(), "Conv", {}, True),
        (Match(op=("Conv",)), "Conv", {}, True),
        (Match(op=("Conv", "Gemm")), "Gemm", {}, True),
        (Match(op=("Conv",)), "Gemm", {}, False),
        (Match(kernel=(3, 3)), "Conv", {"kernel": [3, 3]}, True),
        (Match(kernel=(3, 3)), "Conv", {"kernel": (3,)}, False),
        (Match(kernel=(3, 3)), "Conv", {}, False),
        (Match(stride=(1, 1)), "Conv", {"stride": (1, 2)}, False),
        (Match(dilation=(2, 2)), "Conv", {"dilation": (2, 2)}, True),
        (Match(group=1), "Conv", {"group": 1}, True),
        (Match(group=1), "Conv", {}, False),
        (Match(depthwise=False), "Conv", {"depthwise": False}, True),
        (Match(depthwise=False), "Conv", {}, False),
        (Match(depthwise=True), "Conv", {"depthwise": False}, False),
        (Match(first=True), "Conv", {"first": True}, True),
        (Match(last=True), "Conv", {"first": True}, False),
        (Match(layer="block[12].*"), "Conv", {"layer": "block2.conv"}, True),
        (Match(layer="block[12].*"), "Conv", {"layer": "Block2.conv"}, False),
        (Match(layer="block*"), "Conv", {}, False),
        (Match(op=("Conv",), group=1, first=True), "Conv", {"group": 1, "first": False}, False),
    ],
)
def test_all_that_is_given_must_hold(match: Match, op_type: str, facts: dict[str, object], holds: bool) -> None:
    assert match.holds(op_type, **facts) is holds  # type: ignore[arg-type]


def test_every_method_is_explained_and_used() -> None:
    assert set().union(*METHODS.values()) == METHOD_MEANING.keys()
    assert METHODS.keys() <= OPERATORS


def test_fixed_formats() -> None:
    assert str(FixedFormat(exponent=-7)) == "int8·2^-7"
    assert FixedFormat(bits=16, signed=False, scale=0.5, zero_point=9).format().zero_point == 9
    for wrong in ({}, {"exponent": 1, "scale": 1.0}):
        with pytest.raises(ValueError, match="either"):
            FixedFormat(**wrong)  # type: ignore[arg-type]
