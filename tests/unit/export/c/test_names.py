from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.export.c.names import Names, array_body, c_int, comment, plain, string

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@given(st.text(max_size=80))
def test_any_name_becomes_an_identifier(name: str) -> None:
    assert IDENTIFIER.match(plain(name))
    assert "__" not in plain(name)


@given(st.lists(st.text(max_size=12), unique=True, max_size=20))
def test_different_names_never_become_one(names: list[str]) -> None:
    table = Names()
    given_names = [table.identifier(n) for n in names]
    assert len({g.lower() for g in given_names}) == len(names)
    assert [table.identifier(n) for n in names] == given_names


@pytest.mark.parametrize(("name", "text"), [("int", "int_net"), ("9 lives", "n9_lives"), ("", "n"), ("a-b", "a_b")])
def test_keywords_digits_and_nothing(name: str, text: str) -> None:
    assert plain(name) == text


@given(st.text(max_size=200))
def test_comments_stay_comments(name: str) -> None:
    text = comment(name)
    assert text.isascii()
    assert "*" not in text
    assert "??" not in text
    assert "\\" not in text
    assert "\n" not in text


@given(st.text(max_size=100))
def test_strings_are_one_literal(name: str) -> None:
    text = string(name)
    assert text.isascii()
    assert text.count('"') == 2
    assert "\n" not in text
    assert "?" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-(1 << 31), "INT32_MIN"), (-(1 << 63), "INT64_MIN"), (1 << 31, "INT64_C(2147483648)"), (-5, "-5")],
)
def test_constants(value: int, text: str) -> None:
    assert c_int(value) == text


def test_arrays_hold_every_value() -> None:
    values = np.arange(-300, 300, dtype=np.int16)
    text = "".join(array_body(values))
    assert [int(v) for v in text.replace(" ", "").strip(",").split(",")] == values.tolist()
    assert list(array_body(np.zeros(0, np.int8))) == ["    0"]
