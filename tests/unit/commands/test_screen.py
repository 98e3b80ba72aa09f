"""Text on the screen: widths, foreign names, progress."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.cells import cell_len

from bitwright.commands import screen


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Sets the width and gives what was printed."""

    def at(width: int) -> object:
        monkeypatch.setenv("COLUMNS", str(width))
        screen.forget_streams()
        capsys.readouterr()
        return lambda: capsys.readouterr().out

    yield at
    screen.forget_streams()


COLUMNS = (
    screen.Column("Layer", shrinks=True),
    screen.Column("Op", drop=2),
    screen.Column("MACs", right=True, drop=1),
    screen.Column("dB", right=True),
)
LONG = "backbone/stage2/stage2.1/branch_main/branch_main.3/conv"
ROWS = [("conv1", "Conv", "1.2 M", "20.1"), (LONG, "ConvTranspose", "349 M", "5.0")]


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_tables_fit_and_are_aligned(width: int, shown) -> None:  # type: ignore[no-untyped-def]
    read = shown(width)
    screen.table(COLUMNS, ROWS)
    head, rule, *rows = read().splitlines()
    assert all(cell_len(row) <= width for row in (head, rule, *rows))
    assert len({len(row) for row in rows}) == 1, "the last column stands at the right"
    assert head.endswith("dB")
    assert len(rule.strip()) == len(head) - 1
    assert rows[1].endswith("5.0")
    assert "conv1" in rows[0]


def test_columns_are_left_out_by_their_number(shown) -> None:  # type: ignore[no-untyped-def]
    seen = {}
    for width in (120, 56, 50):
        read = shown(width)
        screen.table(COLUMNS, ROWS)
        seen[width] = read().splitlines()
    assert LONG in seen[120][3]
    assert "Op" in seen[120][0]
    assert "Op" not in seen[56][0]
    assert "MACs" in seen[56][0]
    assert "…" in seen[56][3]
    assert "MACs" not in seen[50][0]


def test_wide_characters_keep_columns_aligned(shown) -> None:  # type: ignore[no-untyped-def]
    read = shown(80)
    screen.table(COLUMNS, [("畳み込み", "Conv", "1", "2"), ("conv", "Conv", "1", "2")])
    _, _, first, second = read().splitlines()
    assert cell_len(first) == cell_len(second)


@pytest.mark.parametrize("name", [LONG, "畳み込み" * 9, "x" * 40])
@pytest.mark.parametrize("width", range(1, 24))
def test_cut_keeps_both_ends(name: str, width: int) -> None:
    short = screen.cut(name, width)
    assert cell_len(short) <= width
    if width > 4:
        assert "…" in short
        assert short.startswith(name[0])
        assert short.endswith(name[-1])


def test_names_are_taken_literally(shown) -> None:  # type: ignore[no-untyped-def]
    read = shown(80)
    screen.table((screen.Column("Name"),), [(screen.safe("[red]x[/red]"),), (screen.safe("a\x1b[2Jb\nc"),)])
    out = read()
    assert "[red]x[/red]" in out
    assert "a\\x1b[2Jb\\nc" in out


def test_right_to_left_names_cannot_reorder_their_row() -> None:
    assert screen.safe("שלום") == "\u2068שלום\u2069"
    assert screen.safe("\u202ename") == "\\u202ename"
    assert screen.safe("conv1") == "conv1"


def test_paragraphs_keep_names_whole() -> None:
    text = screen.paragraph("word " * 30 + "a-name/that-must-stay", first="error: ", width=60)
    rows = text.splitlines()
    assert rows[0].startswith("error: word")
    assert all(len(row) <= 60 for row in rows)
    assert "a-name/that-must-stay" in text


def test_facts_and_results_wrap(shown) -> None:  # type: ignore[no-untyped-def]
    read = shown(40)
    screen.fact("Formats", "by input minmax, activation mse, weight mse, from 100 samples")
    rows = read().splitlines()
    assert len(rows) > 1
    assert all(row.startswith(" " * 12) for row in rows[1:])
    screen.done("network for fpga", saved="a/rather/long/path/network.bw")
    assert read().splitlines() == ["✓ network for fpga", "  saved a/rather/long/path/network.bw"]
    screen.done("n", saved="n.bw")
    assert read() == "✓ n   saved n.bw\n"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.93119, "0.9312"), (-17.25, "-17.25"), (123456.0, "123500"), (1e-9, "1e-09")]
)
def test_numbers(value: float, text: str) -> None:
    assert screen.number(value) == text or float(screen.number(value)) == pytest.approx(value, rel=1e-3)
    assert len(screen.number(value)) <= 10


def test_sizes_and_counts() -> None:
    assert (screen.size(733_908), screen.size(2_900_244), screen.size(12)) == ("734 kB", "2.9 MB", "12 bytes")
    assert (screen.big(349_151_936), screen.big(640), screen.big(4.1e9)) == ("349 M", "640", "4.1 G")
    assert (screen.many(1, "layer"), screen.many(2_000, "layer")) == ("1 layer", "2,000 layers")
    assert screen.shape_text((1, 3, 224, 224)) == "3×224×224"


def test_json_is_one_document_of_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    screen.emit_json({"a": np.float32(0.5), "b": np.arange(2), "c": "é", "d": ()})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": 0.5, "b": [0, 1], "c": "é", "d": []}
    assert out.endswith("}\n")


def test_progress_off_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.forget_streams()
    clock = iter([0.0, 1.0, 3.0, 3.5, 6.0])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    with screen.progress("Calibrating", "images") as report:
        assert report is not None
        for done in (10, 30, 40, 60):
            report(done, 100, "calibrating" if done < 60 else "trying schemes")
    rows = capsys.readouterr().err.splitlines()
    assert rows == [
        "Calibrating: 30/100 images, about 7 s left",
        "Calibrating: 60/100 images, about 4 s left, trying schemes",
    ]
    screen.forget_streams()


def test_quiet_means_no_progress() -> None:
    with screen.progress("Calibrating", quiet=True) as report:
        assert report is None


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    screen.forget_streams()
    with screen.progress("Validating", "images") as report:
        assert report is not None
        report(31, 50, "comparing [x]")
    err = capsys.readouterr().err
    assert "31/50 images" in err
    assert "comparing [x]" in err
    assert capsys.readouterr().out == ""
    screen.forget_streams()
