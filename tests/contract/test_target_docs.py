"""What the documentation says about targets, formats and rounding is true, and complete."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bitwright.calibrate.scheme import load as load_scheme
from bitwright.number.arithmetic import DPU_LEAKY_SLOPE, SEMANTICS, Arithmetic, dpu_pool_factor
from bitwright.number.format import FormatRule, Rounding, round_real
from bitwright.targets.rules import METHODS, FixedFormat, Match, OpRule
from bitwright.targets.target import FOLDER, Schemes, Target, list_targets, load_target

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference/targets.md").read_text("utf-8")


def section(title: str) -> str:
    """The text under a heading of the reference, up to the next one."""
    start = REFERENCE.index(f"# {title}\n")
    end = REFERENCE.find("\n#", start)
    return REFERENCE[start : end if end > 0 else None]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows but headings' rulers, with − as a minus and without code marks."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[re.sub(r"[`*]", "", cell).replace("−", "-").strip() for cell in line.split("|")] for line in lines]


def keys(title: str) -> set[str]:
    """The keys that the tables of a section explain, in their first columns."""
    return {key for row in rows(section(title)) for key in row[0].split(", ")}


def names(cls: type[object]) -> set[str]:
    return {f.name for f in fields(cls)}  # type: ignore[arg-type]


def test_every_target_is_in_the_reference() -> None:
    listed = {row[0] for row in rows(section("Shipped targets"))} - {"name"}
    assert listed == {f.stem for f in FOLDER.glob("*.toml")} - {"base"}


@pytest.mark.parametrize(
    ("title", "cls"),
    [
        ("`[arithmetic]`", Arithmetic),
        ("`[input]`, `[activation]`, `[weight]`, `[bias]`", FormatRule),
        ("`[schemes]`", Schemes),
        ("`[op]`", OpRule),
        ("`[[rule]]`", Match),
    ],
)
def test_every_key_is_in_the_reference(title: str, cls: type[object]) -> None:
    assert names(cls) <= keys(title)


def test_every_top_level_key_is_in_the_reference() -> None:
    assert keys("Top level") >= names(Target) - {"path", "ops", "rules"} | {"op", "rule"}
    assert all(f"`{name}`" in section("`[op]`") for name in names(FixedFormat))


def test_every_method_is_in_the_reference() -> None:
    listed = set()
    for method, operators, *_ in (row for row in rows(section("`[op]`")) if len(row) == 3):
        used = "AveragePool, GlobalAveragePool, ReduceMean" if operators == "the same" else operators
        listed |= {(op, method) for op in used.split(", ")}
    assert listed - {("of", "method")} == {(op, method) for op, methods in METHODS.items() for method in methods}


def test_the_profiles_are_as_the_reference_says() -> None:
    listed = {tuple(row) for row in rows(section("`[arithmetic]`")) if len(row) == 3}
    assert listed - {("semantics", "requantize", "rounding")} == {(n, *pair) for n, pair in SEMANTICS.items()}


@pytest.mark.parametrize("value", ["pow2-halfup", *Rounding])
def test_values_of_enumerations_are_in_the_reference(value: str) -> None:
    assert value in REFERENCE


@pytest.mark.parametrize("name", list_targets())
def test_default_schemes_exist(name: str) -> None:
    schemes = load_target(name).schemes
    for role in names(Schemes):
        assert load_scheme(getattr(schemes, role)).name in getattr(schemes, role)


@pytest.mark.parametrize("page", ["how-to/add-a-target.md", "decisions/0003-fpga-rounding.md"])
def test_examples_load(page: str, tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert examples
    for text in examples:
        name = re.search(r'name = "([^"]+)"', text)
        assert name
        (tmp_path / f"{name[1]}.toml").write_text(text, "utf-8")
        assert load_target(tmp_path / f"{name[1]}.toml").describe().startswith(name[1])


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    test_examples_load("how-to/add-a-target.md", tmp_path)
    board = load_target(tmp_path / "my-board-c.toml")
    assert (board.input.bits, board.arithmetic.accumulator_bits) == (16, 24)
    assert board.weight_rule("Gemm", last=True).bits == board.weight_rule("Conv", first=True).bits == 12
    assert board.weight_rule("Conv", first=False, last=False).bits == 8
    assert board.activation_rule("Conv", depthwise=True).bits == 6
    assert not board.op("Softmax").supported


@pytest.mark.parametrize("page", sorted(p.name for p in DOCS.glob("*/*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for path in DOCS.glob(f"*/{page}"):
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path}: {link}"


def test_the_table_of_roundings() -> None:
    header, *lines = rows((DOCS / "explanation/rounding.md").read_text("utf-8"))
    values = np.array([float(v) for v in header[2:]])
    assert {line[0] for line in lines} == set(Rounding)
    for name, _, *results in lines:
        assert round_real(values, Rounding(name)).tolist() == [float(r) for r in results]


def test_the_example_of_double_rounding() -> None:
    acc, m = 5, round(Fraction(1, 2) * 2**31)  # 1/4 = 1/2 · 2^-1
    high = (acc * m + 2**30) >> 31
    assert (high, math.floor(Fraction(high, 2) + Fraction(1, 2))) == (3, 2)
    assert (acc * m + 2**31) >> 32 == 1


def floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if x >= Fraction(2) ** e else e - 1


def ceil_log2(x: Fraction) -> int:
    return -floor_log2(1 / x)


def test_the_table_of_exponents() -> None:
    """The formulas of the page, in exact arithmetic, give the table of the page."""
    header, *lines = rows((DOCS / "explanation/exponents.md").read_text("utf-8"))
    assert header == ["range", "mathworks", "vitis", "nnom"]
    assert len(lines) == 6
    for interval, *printed in lines:
        lo, hi = (Fraction(v) for v in interval.strip("[]").split(", "))
        top = max(-lo, hi)
        mathworks = floor_log2(top) - 6
        vitis = ceil_log2(max(lo / Fraction(-257, 2), hi / Fraction(255, 2)))
        nnom = ceil_log2(top * Fraction(255, 256)) - 7
        assert [mathworks, vitis, nnom] == [int(v) for v in printed], interval


def test_constants_of_the_dpu() -> None:
    assert DPU_LEAKY_SLOPE == (26, 8)
    k, n = dpu_pool_factor((3, 3))
    assert (k, 1 << n) == (7, 64)
    assert round(100 * (1 - Fraction(9 * k, 1 << n)), 1) == Fraction(16, 10)


@pytest.mark.parametrize("s", range(1, 8))
def test_the_four_requantizers_of_the_decision(s: int) -> None:
    """The integer forms that the decision compares round as it says, and err as it says on average."""
    sums = range(-(1 << (s + 3)), 1 << (s + 3))
    real = np.array([x / (1 << s) for x in sums])
    folded = [x + (1 << (s - 1)) for x in sums]
    forms = {
        Rounding.HALF_UP: [t >> s for t in folded],
        Rounding.HALF_EVEN: [(t >> s) & ~int(t & ((1 << s) - 1) == 0) for t in folded],
        Rounding.HALF_AWAY: [(t - (x < 0)) >> s for t, x in zip(folded, sums, strict=True)],
        Rounding.FLOOR: [x >> s for x in sums],
    }
    for rounding, integers in forms.items():
        assert integers == round_real(real, rounding).astype(int).tolist(), rounding
    mean = {r: float(np.mean(np.array(integers) - real)) for r, integers in forms.items()}
    assert mean[Rounding.HALF_UP] == 2.0 ** -(s + 1)
    assert mean[Rounding.HALF_EVEN] == 0
    assert mean[Rounding.FLOOR] == -0.5 + 2.0 ** -(s + 1)
    assert mean[Rounding.HALF_AWAY] == 0
    away = np.array(forms[Rounding.HALF_AWAY]) - real
    assert float(np.mean(away[real >= 0])) == 2.0 ** -(s + 1)
