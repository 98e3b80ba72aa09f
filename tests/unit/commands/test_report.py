"""``bitwright report``, ``check`` and ``compare`` with reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitwright.quantized import Quantized
from bitwright.view.report import read_page
from command_line import CALIB, MODEL, VAL, Line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import bitwright as bw

    return bw.quantize(MODEL, CALIB, "fpga", samples=20).save(tmp_path_factory.mktemp("bw") / "digits.bw")


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(capsys)


def test_a_report_is_written_and_gated(file: Path, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    answer = line("report", file, "--data", VAL, "--samples", "30", "-o", path, "--quiet")
    assert answer.code == 0, answer.err
    assert str(path) in answer.out.replace("\n", "")
    page = read_page(path)
    assert page.figures[0].samples == 30
    assert dict(page.facts)["Command"] == f"bitwright report {file} --data {VAL} --samples 30"
    good = line("check", path, "--min-sqnr", "-50", "--min-top1", "0", "--max-drop", "100", "--min", "agreement=0")
    assert (good.code, good.out.count("✓")) == (0, 4)
    bad = line("check", path, "--min-sqnr", "500", "--min-integers", "0.5")
    assert bad.code == 1
    assert re.match(r"missed: sqnr is -?[\d.]+, less than 500\.", bad.err)
    assert line("check", path, "--min-sqnr", "500", "--json").json["kept"] is False


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "at least one threshold"),
        (("--min-top1", "60"), 2, "60 % is 0.6"),
        (("--min", "top1"), 2, "must be a number"),
        (("--min", "top1=x"), 2, "NAME=VALUE"),
        (("--min-sqnr", "nan"), 2, "must be a number"),
        (("--min", "miou=0.5"), 2, "without a measured miou"),
    ],
)
def test_demands_that_cannot_be_meant(
    options: tuple[str, ...], code: int, words: str, file: Path, line: Line, tmp_path: Path
) -> None:
    path = tmp_path / "r.html"
    Quantized.load(file).report(path)
    answer = line("check", path, *options)
    assert answer.code == code
    assert words in " ".join(answer.err.split())


def test_markdown_json_and_split(file: Path, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    markdown = line("report", file, "-o", path, "--md", "--quiet", "--split", "--compare", file)
    assert markdown.out.startswith("### digits in the integers of fpga")
    assert "Against digits for fpga: 0 of 27 tensors differ." in markdown.out
    assert {p.suffix for p in tmp_path.iterdir()} == {".html", ".css", ".js"}
    again = line("report", path, "--md")
    assert again.out.splitlines()[0] == markdown.out.splitlines()[0]
    assert line("report", path, "--json").json["side"]["target"] == "fpga"
    assert line("compare", path, file, "--json").json["totals"]["different_formats"] == 0
    assert "same formats" in line("compare", path, path).out


def test_wrong_usage(file: Path, line: Line, tmp_path: Path) -> None:
    assert "go with --data" in line("report", file, "--samples", "3").err
    path = tmp_path / "r.html"
    Quantized.load(file).report(path)
    assert line("report", path, "--data", VAL).code == 2
    assert line("report", tmp_path / "none.bw").code == 2
    assert "no folder" in line("report", file, "-o", tmp_path / "x" / "r.html").err


def test_the_default_name_stands_in_the_current_folder(
    file: Path, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line("report", file, "--quiet").code == 0
    assert (tmp_path / "digits.html").exists()
