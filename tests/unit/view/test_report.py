"""The report: complete, harmless, small, the same every time, and read back, gated and compared."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest

import bitwright as bw
from bitwright.errors import BadModelFile, ExportError, NoData
from bitwright.explain.finding import Cause, Explanation, Finding, Gain, LayerLoss, Remedy, Totals
from bitwright.measured import Cost, LayerCost, MemoryBlock
from bitwright.quantized import Quantized
from bitwright.view.against import compare_files
from bitwright.view.gate import Threshold, judge
from bitwright.view.glance import glance
from bitwright.view.graph import block_graph, graph_section
from bitwright.view.look import look
from bitwright.view.markdown import plain
from bitwright.view.page import document, tensor_slice
from bitwright.view.pairs import pairs_seen
from bitwright.view.report import Report, page_of, read_page, report
from bitwright.view.seen import FigureSeen, GraphSeen, Page, SideSeen
from command_line import CALIB, MODEL, VAL
from hostile import NAMES, hostile_model

SOURCE = Path(bw.__file__).parent.parent


@pytest.fixture(scope="module")
def fpga() -> Quantized:
    return bw.quantize(MODEL, CALIB, "fpga")


@pytest.fixture(scope="module")
def mcu() -> Quantized:
    return bw.quantize(MODEL, CALIB, "mcu-cmsis-nn")


@pytest.fixture(scope="module")
def made(fpga: Quantized) -> Report:
    return report(fpga, data=str(VAL), samples=40)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("files")
    model = hostile_model(folder / "<img src=x onerror=alert(1)>.onnx")
    data = folder / '"><script>alert(1)</script>.npy'.replace("/", "∕")
    np.save(data, np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32))
    q = bw.quantize(model, data, "fpga")
    return report(q, data=str(data), command=f"bitwright report '{data}'", compare=q)


def tree(document: str) -> Any:
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    found = parser.parse(document)
    assert not parser.errors, parser.errors[:3]
    return found


def attributes(document: str) -> set[str]:
    return {name for node in tree(document).iter() for name in node.attrib}


# ------------------------------------------------------------------------------------------------------- the document


def test_the_document_is_valid_and_complete(made: Report) -> None:
    found = tree(made.html)
    rows = found.findall(".//table[@class='tensors']/tbody/tr")
    assert len(rows) == len(made.page.tensors) == 27
    shown = "".join(found.itertext())
    for box in (*made.page.optimized.boxes, *made.page.network.boxes):
        assert box.name in shown
    ids = [node.attrib["id"] for node in found.iter() if "id" in node.attrib]
    assert len(ids) == len(set(ids))
    links = {node.attrib["href"] for node in found.iter("a")}
    assert {link[1:] for link in links} <= set(ids), "every link leads somewhere"
    order = [node.attrib["id"] for node in found.iter("section") if "id" in node.attrib]
    assert order[:3] == ["summary", "findings", "tensors"]


def test_nothing_is_loaded_from_anywhere(made: Report) -> None:
    found = tree(made.html)
    for node in found.iter():
        for name in ("src", "href", "action", "srcset", "data", "poster", "background", "xlink:href"):
            value = node.attrib.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (node.tag, name, value)
    style = found.find(".//style").text
    assert "url(" not in style
    assert "@import" not in style
    assert "@font-face" not in style
    script = next(node.text for node in found.iter("script") if "type" not in node.attrib)
    for word in ("fetch", "XMLHttpRequest", "import(", "localStorage", "innerHTML", "eval", "document.cookie"):
        assert word not in script


def test_the_policy_allows_its_own_style_and_script_and_nothing_else(made: Report) -> None:
    found = tree(made.html)
    head = list(found.find(".//head"))
    policy = next(node for node in head if node.attrib.get("http-equiv") == "Content-Security-Policy")
    before = [node.tag for node in head[: head.index(policy)]]
    assert before == ["meta"], "the policy stands before everything that it governs"
    style = found.find(".//style").text
    script = next(node.text for node in found.iter("script") if "type" not in node.attrib)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attrib["content"].split(";"))
    for name, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "style" not in attributes(made.html), "the policy would refuse it"
    assert not any(name.startswith("on") for name in attributes(made.html))


def test_squeezenet_sized_reports_are_small(made: Report) -> None:
    # SqueezeNet has 92 tensors and 40 layers: three and a half of this one's, of which style and script are 24 kB.
    assert len(made.html.encode()) < 180_000


def test_names_do_no_harm(hostile: Report) -> None:
    found = tree(hostile.html)
    assert all(node.attrib["src"].startswith("data:image/png") for node in found.iter("img"))
    assert len(list(found.iter("script"))) == 2, "the page's JSON and its script"
    assert not any(name.startswith("on") for name in attributes(hostile.html))
    shown = "".join(t for node in found.iter("body") for t in node.itertext())
    for name in NAMES[:3]:
        assert name in shown, "but they are shown"
    assert "\u202e" not in hostile.html.replace("\\u202e", "")
    assert "x" * 3000 not in re.sub(r"<script.*?</script>", "", hostile.html, flags=re.DOTALL), (
        "and none fills the page"
    )
    assert len(hostile.html) < 600_000
    assert "no integer form of Hardmax" in shown


def test_names_come_back_from_the_json(hostile: Report, tmp_path: Path) -> None:
    path = hostile.save(tmp_path / "r.html")
    again = read_page(path)
    assert again == hostile.page
    assert any(NAMES[1] in t.name for t in again.tensors)


def test_equal_networks_give_equal_bytes(fpga: Quantized, tmp_path: Path) -> None:
    fpga.save(tmp_path / "digits.bw")
    script = f"import sys, bitwright as bw\nbw.report('digits.bw', sys.argv[1], data={str(VAL)!r}, samples=10)\n"
    written = []
    for seed in ("1", "77"):
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, f"{seed}.html"]
        subprocess.run(command, check=True, env=environment, timeout=120, cwd=tmp_path)
        written.append((tmp_path / f"{seed}.html").read_bytes())
    assert written[0] == written[1]


def test_split_files_stand_beside_it(made: Report, tmp_path: Path) -> None:
    path = made.save(tmp_path / "my report.html", split=True)
    assert {p.name for p in tmp_path.iterdir()} == {"my report.html", "my_report.css", "my_report.js"}
    found = tree(path.read_text("utf-8"))
    assert found.find(".//style") is None
    assert [n.attrib["href"] for n in found.iter("link")] == ["my_report.css"]
    assert read_page(path) == made.page


def test_a_report_that_cannot_be_written_says_so(made: Report, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Cannot write"):
        made.save(tmp_path / "nowhere" / "r.html")
    assert not list(tmp_path.iterdir())


def test_very_large_tables_draw_what_loses_most_and_tell_the_rest(made: Report) -> None:
    found = tree(document(made.page, drawn=10))
    assert len(found.findall(".//section[@id='tensors']//table[@class='tensors']/tbody/tr")) == 10
    assert len(found.findall(".//section[@id='tensors']//table[@class='plain']/tbody/tr")) == 17
    rows = html5lib.parseFragment(tensor_slice(made.page, 5, 9), namespaceHTMLElements=False)
    assert [node.attrib["id"] for node in rows.findall(".//tbody/tr")] == ["t5", "t6", "t7", "t8"]


# ------------------------------------------------------------------------------------------------------ what is seen


def test_the_page_is_what_the_network_says_of_itself(fpga: Quantized, made: Report) -> None:
    page, details = made.page, bw.details(fpga)
    assert page.side.learnable_bytes == details.learnable_bytes
    assert {t.name: t.type.text for t in page.tensors if t.kind == "Activations"} == dict(details.formats)
    assert [b.name for b in page.optimized.boxes if b.state != "input"] == list(details.quantized_layers)
    sources = {name for row in fpga.provenance["layers"] for name in row["sources"]}
    assert sources <= {box.name for box in page.network.boxes}
    for box in page.network.boxes:
        if box.state == "integer":
            assert box.name in page.optimized.boxes[box.layer].sources
    assert page.folds
    assert page.verdict
    assert page.figures[0].name == "top1"
    assert [t.label for t in page.tiles][-1] == "Bit-exact"


def test_the_page_goes_through_json(made: Report) -> None:
    text = json.dumps(made.page.to_json(), allow_nan=False)
    assert Page.from_json(json.loads(text)) == made.page


def test_an_explanation_and_a_cost_are_shown(fpga: Quantized) -> None:
    remedy = Remedy(
        sentence="Equalize.", command="bitwright quantize … --mend equalize", options={"mend": "equalize"},
        gain=Gain(before_db=5.0, after_db=25.0, metric="top1", before=0.6, after=0.9),
    )  # fmt: skip
    finding = Finding(
        rank=1, cause=Cause.FOLD, severity="severe", layer="depthwise_conv", sentence="It was folded.", remedy=remedy
    )
    layers = tuple(
        LayerLoss(
            layer=b.name, op=b.op, tensor="t", format="f", injected_db=40.0, arriving_db=35.0, cumulative_db=30.0 - k
        )
        for k, b in enumerate(look(fpga).optimized.boxes[1:])
    )
    explained = Explanation(
        network="digits", target="fpga", findings=(finding,), layers=layers, causes=(),
        totals=Totals(samples=4, output_db=5.0),
    )  # fmt: skip
    cost = Cost(
        device="board", unit="cycles", count=30, basis="measured", frames_per_s=1.0, frames_basis="",
        memory={"RAM": 600}, limits={"RAM": 1000},
        blocks=[MemoryBlock(name="x", offset=0, bytes=600, first=0, last=3)],
        layers=[LayerCost(step="s", layer="stem_conv", op="Conv", by="loop", count=30, macs=3)],
    )  # fmt: skip
    found = report(fpga, explanation=explained, cost=cost)
    assert found.page.findings[0].action == (("mend", "equalize"),)
    assert found.page.findings[0].gain == "+30.0 points"
    assert "included" in found.page.profile_of
    assert found.page.profile[0].sqnr_db == 30.0
    for words in ("It was folded.", "+30.0 points", "600 bytes", "measured", "--mend equalize"):
        assert words in found.html
    shown = explained._repr_html_()
    assert "It was folded." in shown
    assert next(iter(explained.to_pandas()["layer"])) == "stem_conv"


def test_without_explanation_the_fold_is_among_the_findings(made: Report) -> None:
    assert made.page.findings[0].title == "depthwise_conv"
    assert "stretched the weights" in made.page.findings[0].text


# ----------------------------------------------------------------------------------------------- reading and comparing


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<html></html>", "no report"),
        ('<script type="application/json" id="bitwright-page">{"schema":99}</script>', "version"),
        ('<script type="application/json" id="bitwright-page">{"schema":1,"side":3}</script>', "damaged"),
        ('<script type="application/json" id="bitwright-page">{"schema":1,</script>', "damaged"),
        ('<script type="application/json" id="bitwright-page">' + "[" * 100_000 + "</script>", "damaged"),
    ],
)
def test_what_is_no_report_is_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text(content)
    with pytest.raises(BadModelFile, match=words):
        read_page(path)
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_page(tmp_path / "none.html")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadModelFile, match="no text"):
        read_page(path)


def test_reports_compare_as_their_networks_do(fpga: Quantized, mcu: Quantized, tmp_path: Path) -> None:
    fpga.report(tmp_path / "a.html")
    mcu.report(tmp_path / "b.html")
    mcu.save(tmp_path / "b.bw")
    found = compare_files(tmp_path / "a.html", tmp_path / "b.html")
    wanted = bw.compare(fpga, mcu)
    assert found.a == wanted.a
    assert found.b == wanted.b
    assert {p.a.tensor: p.gain_db for p in found.tensors} == {p.a.tensor: p.gain_db for p in wanted.tensors}
    assert compare_files(tmp_path / "a.html", tmp_path / "b.bw").tensors == found.tensors
    both = report(fpga, compare=tmp_path / "b.html")
    assert "int8 per channel" in both.html
    assert 'id="comparison"' in both.html
    assert tree(both.html) is not None
    assert pairs_seen(page_of(fpga), page_of(fpga)).rows[0].gain_db == 0


def page(**more: Any) -> Page:
    return Page(side=SideSeen(name="n", target="t", integer_mac_share=0.5), **more)


def test_the_gate() -> None:
    figures = (
        FigureSeen(name="top1", value=0.7, before=0.75, samples=9),
        FigureSeen(name="sqnr", value=None, infinite=True),
    )
    found = page(figures=figures)

    def kept(name: str, limit: float, *, least: bool = True) -> bool:
        return judge(found, [Threshold(figure=name, limit=limit, least=least)])[0].kept

    assert kept("top1", 0.7)
    assert not kept("top1", 0.71)
    assert kept("sqnr", 99.0), "nothing is lost at all"
    assert kept("drop", 5.1, least=False)
    assert not kept("drop", 4.9, least=False)
    assert kept("integers", 0.5)
    assert not kept("integers", 0.6)
    with pytest.raises(NoData, match="top5"):
        kept("top5", 0.1)
    with pytest.raises(NoData, match="no metric"):
        judge(page(), [Threshold(figure="drop", limit=1, least=False)])
    lower = page(figures=(FigureSeen(name="mse", value=3.0, before=2.0, better="lower"),))
    assert not judge(lower, [Threshold(figure="mse", limit=2.5, least=False)])[0].kept
    assert judge(lower, [Threshold(figure="drop", limit=101, least=False)])[0].value == pytest.approx(100)


def test_the_summary_for_a_pull_request(made: Report, hostile: Report) -> None:
    text = made.markdown()
    assert text.startswith("### digits in the integers of fpga\n")
    assert "| top1 on 40 samples | " in text
    assert "What stands out" in text
    nasty = hostile.markdown()
    assert "<img" not in nasty.replace("\\<img", "")
    assert "http://" not in nasty
    assert "\n\n@" not in nasty
    assert plain("a|b\n`c`<d>@e") == "a\\|b\\\\n\\`c\\`\\<d\\>\\@e"


def test_the_class_of_a_report_reads_what_it_wrote(made: Report, tmp_path: Path) -> None:
    path = made.save(tmp_path / "r.html")
    again = Report.load(path)
    assert again.page == made.page
    assert again.markdown() == made.markdown()
    assert replace(again, heats=made.heats).html == made.html


def test_a_glance_has_the_parts_of_the_whole_page(fpga: Quantized) -> None:
    first, whole = glance(fpga), look(fpga)
    assert first.side == whole.side
    assert first.tiles == whole.tiles
    assert first.folds == whole.folds
    assert {t.name: t.type for t in first.tensors} == {t.name: t.type for t in whole.tensors}
    assert [(b.name, b.op, b.shape, b.state) for b in first.optimized.boxes] == [
        (b.name, b.op, b.shape, b.state) for b in whole.optimized.boxes
    ]
    assert set(first.optimized.edges) == set(whole.optimized.edges)
    assert tree(document(first)) is not None


def test_of_ten_thousand_tensors_a_first_view_is_written(made: Report) -> None:
    """A table of 200 rows on the axis of all, and the graph in blocks: what a reader sees first."""
    several = 10_000 // len(made.page.tensors) + 1
    tensors = tuple(replace(t, name=f"{t.name}.{k}") for k in range(several) for t in made.page.tensors)
    boxes = tuple(replace(b, name=f"s{k // 9}/{b.name}{k}") for k in range(230) for b in made.page.optimized.boxes[1:])
    graph = GraphSeen(boxes=boxes, edges=tuple((k, k + 1) for k in range(len(boxes) - 1)))
    large = replace(made.page, tensors=tensors, optimized=graph)
    rows = tensor_slice(large, 0, 200)
    overview = graph_section(graph, inner=False)
    assert (len(large.tensors), len(boxes)) >= (10_000, 2_700)
    assert rows.count("<tr id=") == 200
    assert overview.count('class="box') <= 120
    assert "<details" not in overview
    assert "block 3" in block_graph(graph, 2)
