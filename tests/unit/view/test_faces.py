"""Values in a notebook: pictures, tables, plots, bars."""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import html5lib
import pytest

import bitwright as bw
from bitwright.errors import ToolMissing
from bitwright.quantized import Quantized
from bitwright.view.faces import PICTURES, ROWS, rows_of
from command_line import CALIB, MODEL, VAL


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    calibration = bw.calibrate(MODEL, CALIB, samples=20)
    a, b = (bw.quantize(MODEL, calibration, name) for name in ("fpga", "generic"))
    return {
        "Calibration": calibration,
        "Details": bw.details(a),
        "Inspection": bw.inspect(MODEL, "fpga"),
        "Model": calibration.model,
        "Network": a.network,
        "NetworkComparison": bw.compare(a, b),
        "Quantized": a,
        "Report": a.report(),
        "Validation": bw.validate(a, VAL, samples=20),
    }


NAMES = sorted(set(PICTURES) - {"Explanation", "Measured"})  # these two are shown by the tests of their own parts


@pytest.mark.parametrize("name", NAMES)
def test_every_value_shows_itself_without_script_or_address(name: str, values: dict[str, Any]) -> None:
    shown = values[name]._repr_html_()
    tree = html5lib.parseFragment(shown, namespaceHTMLElements=False)
    assert [node.tag for node in tree] == ["div"]
    assert not list(tree.iter("script"))
    assert not [node for node in tree.iter() if "href" in node.attrib or "src" in node.attrib]
    assert "digits" in "".join(tree.itertext()) or name == "Validation"
    assert len(shown) < 120_000


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_a_table(name: str, values: dict[str, Any]) -> None:
    rows = rows_of(values[name])
    pandas, polars = values[name].to_pandas(), values[name].to_polars()
    assert list(pandas.columns) == list(polars.columns) == list(rows[0])
    assert len(pandas) == len(polars) == len(rows)


def test_there_are_rows_of_everything_that_has_a_picture() -> None:
    assert set(PICTURES) == set(ROWS)
    with pytest.raises(TypeError, match="nothing to see of a int"):
        bw.faces(3)


def test_tables_hold_what_the_page_shows(values: dict[str, Any]) -> None:
    frame = values["Quantized"].to_pandas().set_index("tensor")
    page = values["Report"].page
    assert len(frame) == len(page.tensors)
    for tensor in page.tensors:
        row = frame.loc[tensor.name]
        assert row["format"] == tensor.type.text
        assert row["sqnr_db"] == (math.inf if tensor.lossless else tensor.sqnr_db)
        assert tensor.bits is not None
        assert row["zeros"] == tensor.bits.zeros


@pytest.mark.parametrize("name", NAMES)
def test_show_writes_a_page(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    path = values[name].show(tmp_path / "page.html")
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree = parser.parse(path.read_text("utf-8"))
    assert not parser.errors, parser.errors[:3]
    policy = [n.attrib["content"] for n in tree.iter("meta") if "http-equiv" in n.attrib]
    assert policy[0].startswith("default-src 'none'")
    frame = values[name].show()._repr_html_()
    assert 'sandbox="allow-scripts"' in frame


@pytest.mark.parametrize(("tool", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_what_is_missing_says_how_to_get_it(
    tool: str, method: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[notebook\]'"):
        getattr(values["Quantized"], method)()


def test_plots_without_matplotlib(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="matplotlib"):
        _ = values["Quantized"].plot


@pytest.fixture
def axes() -> Iterator[Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    yield plt.subplots()[1]
    plt.close("all")


def test_plots(values: dict[str, Any], axes: Any) -> None:
    q: Quantized = values["Quantized"]
    page = values["Report"].page
    found = q.plot.profile(ax=axes)
    assert found is axes
    assert list(found.lines[0].get_ydata()) == [p.sqnr_db for p in page.profile]
    histogram = q.plot.histogram("depthwise_conv.Weights")
    bits = page.tensor("depthwise_conv.Weights").bits
    assert sum(bar.get_height() for bar in histogram.patches if bar.get_width() == pytest.approx(0.9)) == sum(
        bits.totals
    )
    strips = q.plot.strips(5)
    assert strips.get_yticklabels()[0].get_text() == "depthwise_conv.Weights"
    gains = q.plot.compare(bw.quantize(MODEL, values["Calibration"], "generic"))
    assert max(bar.get_width() for bar in gains.patches) > 10
    name = values["Calibration"].rows[0]["optimized_layer"]
    assert values["Calibration"].plot.histogram(name).get_ylabel() == "values"
    with pytest.raises(KeyError, match="no tensor"):
        q.plot.histogram("nothing")
    with pytest.raises(TypeError, match="cannot be plotted"):
        values["Validation"].plot.profile()


class Bar:
    """What tqdm gives, written down."""

    made: list[Bar]

    def __init__(self, total: int | None, desc: str, leave: bool) -> None:
        self.total, self.n, self.said, self.closed = total, 0, [desc], False
        Bar.made.append(self)

    def reset(self, total: int | None) -> None:
        self.total, self.n = total, 0

    def set_description_str(self, text: str, refresh: bool) -> None:
        self.said.append(text)

    def update(self, more: int) -> None:
        self.n += more

    def close(self) -> None:
        self.closed = True


class ZMQInteractiveShell:
    """The shell of a notebook's kernel has this name."""


@pytest.mark.parametrize("shell", [ZMQInteractiveShell, object], ids=["notebook", "elsewhere"])
def test_a_bar_in_notebooks_only(shell: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
    Bar.made = []
    bw.calibrate(MODEL, CALIB, samples=12)
    if shell is object:
        assert not Bar.made
        return
    (bar,) = Bar.made
    assert (bar.n, bar.total, bar.closed) == (12, 12, True)
    assert bar.said[0] == "Calibrating"
    seen: list[int] = []
    bw.calibrate(MODEL, CALIB, samples=12, progress=lambda done, total, what: seen.append(done))
    assert len(Bar.made) == 1, "who gives progress gets no bar"
    assert seen[-1] == 12
