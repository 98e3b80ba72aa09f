"""The whole road in a real browser: open, calibrate, drag a type, validate, apply a remedy, export, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.app.settings import Step
from bitwright.view.report import Report
from browser.conftest import IDLE, Look
from hostile import hostile_model
from running_app import Running

DEMO = Path(bitwright.__file__).parent / "demo"


def test_the_whole_road(look: Look, app: Running, tmp_path: Path) -> None:
    seen = look()
    page = seen.page
    # Open: drop a file, with its input contract beside it.
    page.set_input_files("#file", [str(DEMO / "digits.onnx"), str(DEMO / "digits.toml")])
    page.wait_for_selector("#graph svg.graph")
    seen.idle()
    session = app.routes.sessions.get(page.url.rpartition("/s/")[2].partition("?")[0])
    assert session is not None
    assert page.locator("#rows tr").count() == 7, "weights are seen before anything was run"
    page.select_option("#head select[name=target]", "fpga")
    seen.idle()
    # Data, with a preview of the first batch, then calibrate.
    page.click(".steps >> text=Calibrate")
    page.fill("#side input[name=data]", str(DEMO / "digits-calib.npz"))
    page.click("#side >> text=See the first batch")
    seen.until("document.querySelectorAll('#preview img').length === 8")
    page.click("#side button.primary >> text=Calibrate")
    seen.idle()
    seen.until("document.querySelectorAll('#rows tr').length === 27")
    # What-if: drag the bracket two columns to the right.
    page.keyboard.press("Escape")
    page.click("#rows tr:nth-child(5) td.kind")
    page.wait_for_selector("#bracket .bracket")
    before = page.inner_text("#tried .figures")
    box = page.locator("#bracket svg").bounding_box()
    cell = page.evaluate(
        "(() => { const g = document.querySelector('#bracket .bracket'), s = document.querySelector('#bracket svg');"
        "return Number(g.dataset.cell) * s.getBoundingClientRect().width / s.viewBox.baseVal.width; })()"
    )
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + cell * 1.1, box["y"] + 40, steps=3)
    page.mouse.move(box["x"] + box["width"] / 2 + cell * 2.1, box["y"] + 40, steps=3)
    page.mouse.up()
    seen.until("document.querySelector('#tried .figures').innerText.includes(' was ')")
    dragged = page.inner_text("#tried .figures")
    assert dragged != before
    # Validate with data, then Apply measures again by itself.
    page.click(".steps >> text=Validate")
    page.fill("#side input[name=judge]", str(DEMO / "digits-val.npz"))
    page.click("#side button.primary >> text=Validate")
    seen.idle()
    seen.until("!!document.querySelector('#summary .verdict')")
    first = page.inner_text("#summary .tiles")
    page.keyboard.press("Escape")
    page.click("#rows tr:nth-child(5) td.kind")
    page.wait_for_selector("#bracket .bracket")
    page.focus("#bracket")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    seen.until("document.querySelector('#tried .figures').innerText.includes(' was ')")
    seen.until(f"document.querySelector('#tried .figures').innerText === {json.dumps(dragged)}")  # as dragging did
    page.click("#tried button[value=apply]")
    seen.idle()
    assert page.inner_text("#summary .tiles") != first
    assert len(session.settings.given) == 1
    page.click("#undo")
    seen.idle()
    assert page.inner_text("#summary .tiles") == first
    # Explain, and apply the remedy of the first finding.
    page.keyboard.press("Escape")
    page.click("text=Explain the loss")
    seen.idle(180)
    page.click("text=Apply this remedy >> nth=0")
    seen.idle(180)
    found = session.quantized()
    assert found is not None
    assert any(r["kept"] for r in found[0].provenance["repairs"])
    after = page.inner_text("#summary .verdict")
    assert "noise" in after or "gained" in after, after
    # Export, and the report.
    page.click(".steps >> text=Export")
    page.click("#side button.primary >> text=Export")
    seen.idle()
    assert "0 differ" in page.inner_text("#side")
    with page.expect_download() as got:
        page.click("text=The report, one HTML file")
    path = tmp_path / "report.html"
    got.value.save_as(path)
    report = Report.load(path)
    assert report.page.verdict
    assert report.page.side.target == "fpga"
    with page.expect_download() as got:
        page.click("text=The integer network, .bw")
    got.value.save_as(tmp_path / "net.bw")
    assert bitwright.Quantized.load(tmp_path / "net.bw").program.target == "fpga"
    # Every action is told as a command line.
    page.click(".tabs >> text=Log")
    seen.until("document.querySelector('#middle').innerText.includes('bitwright inspect')")
    log = page.inner_text("#middle")
    for word in ("inspect", "calibrate", "quantize", "validate", "explain", "export"):
        assert f"bitwright {word}" in log, word
    assert "--mend equalize" in log
    seen.clean()


def test_a_tab_that_is_closed_stops_nothing_and_one_that_is_opened_goes_on(
    look: Look, app: Running, tmp_path: Path
) -> None:
    session = app.routes.opener.example()
    app.wait(session)
    with np.load(DEMO / "digits-calib.npz") as arrays:
        np.savez(tmp_path / "many.npz", x=np.tile(arrays["x"], (60, 1, 1)))
    app.ask(f"/s/{session.name}/edit", form={"data": str(tmp_path / "many.npz")})
    one = look(f"/s/{session.name}")
    one.page.click("#head .actions button.primary")
    one.until("!!document.querySelector('#progress progress')")
    one.page.close()
    two = look(f"/s/{session.name}")
    app.wait(session)
    two.idle()
    assert session.mark(Step.CALIBRATE) == "done"
    assert two.page.locator("#rows tr").count() == 27
    assert "6,000 samples" in two.page.inner_text("#progress-text")
    two.clean()


def test_strips_fill_in_and_cancel_keeps_them(
    look: Look, app: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitwright.calibrate.observe.WATCH_SECONDS", 0.05)
    session = app.routes.opener.example()
    app.wait(session)
    with np.load(DEMO / "digits-calib.npz") as arrays:
        np.savez(tmp_path / "many.npz", x=np.tile(arrays["x"], (900, 1, 1)))
    app.ask(f"/s/{session.name}/edit", form={"data": str(tmp_path / "many.npz")})
    seen = look(f"/s/{session.name}")
    page = seen.page
    assert page.locator("#rows tr").count() == 7
    page.click("#head .actions button.primary")
    seen.until("document.querySelector('#shown').innerText.includes('filling in')")
    assert page.locator("#rows tr").count() == 20
    assert page.locator("[role=status]#progress-text").inner_text().startswith("Calibrating ")
    page.click("text=Cancel")
    seen.until(IDLE)
    seen.idle()
    assert "so far are kept" in page.inner_text("#progress-text")
    assert "in part" in page.inner_text(".steps")
    assert page.locator("#rows tr").count() == 27, "types were chosen from what was collected"
    seen.clean()


def test_one_click_shows_which_layers_became_one(look: Look, ready: str) -> None:
    seen = look(ready)
    page = seen.page
    page.click("#graph .switch >> text=network")
    seen.until("document.querySelectorAll('#graph .box').length > 15")
    page.click("#graph svg a:has-text('depthwise_norm')")
    seen.until("document.querySelectorAll('#graph .box.selected').length === 3")
    told = page.inner_text("#side")
    assert "3 layers of the network became this one" in told
    assert "7 bits lost" in told
    assert "took in depthwise_norm" in told
    page.click("#graph .switch >> text=as computed")
    seen.until("document.querySelectorAll('#graph .box.selected').length === 1")
    page.click("#graph .colors >> text=bits lost")
    seen.until("document.querySelector('.graph-box').dataset.color === 'bits'")
    assert "color=bits" in page.url
    seen.clean()


def test_an_address_shows_the_same_again(look: Look, ready: str) -> None:
    seen = look(ready)
    page = seen.page
    page.click("thead a:has-text('SQNR')")
    seen.until("document.querySelector('th[aria-sort]') !== null")
    page.fill("#filter", "conv")
    seen.until("document.querySelector('#shown').innerText.includes(' of ')")
    page.click("#rows tr:nth-child(2) a")
    page.wait_for_selector("#bracket")
    rows, side = page.inner_text("#rows"), page.inner_text("#side h2")
    again = look(page.url.replace(seen.origin, ""))
    assert again.page.inner_text("#rows") == rows
    assert again.page.inner_text("#side h2") == side
    page.go_back()
    seen.until("!document.querySelector('#bracket')")
    seen.clean()


def test_several_rows_are_selected_and_moved(look: Look, app: Running, ready: str) -> None:
    seen = look(ready)
    page = seen.page
    page.click("#rows tr:nth-child(1) td.kind")
    seen.until("document.querySelector('#side h2').innerText === 'stem_conv.Weights'")
    page.click("#rows tr:nth-child(3) td.kind", modifiers=["Control"])
    seen.until("document.querySelector('#side h2').innerText === '2 tensors'")
    page.click("#rows tr:nth-child(7) td.kind", modifiers=["Shift"])
    seen.until("document.querySelector('#side h2').innerText === '5 tensors'")
    assert page.locator("#rows tr.selected").count() == 5
    page.click("#rows tr:nth-child(1) td.kind")
    page.click("#rows tr:nth-child(3) td.kind", modifiers=["Control"])
    seen.until("document.querySelector('#side h2').innerText === '2 tensors'")
    page.click("text=One bit coarser")
    seen.idle()
    session = app.routes.sessions.get(ready.removeprefix("/s/"))
    assert session is not None
    assert len(session.settings.given) == 2
    page.click("#undo")
    seen.idle()
    assert session.settings.given == {}
    seen.clean()


def test_what_a_target_forbids_is_said_where_it_is_tried(look: Look, ready: str) -> None:
    seen = look(ready)
    page = seen.page
    page.click("#rows tr:nth-child(1) a")
    page.wait_for_selector("#bracket")
    page.focus("#bracket")
    page.keyboard.press("Shift+ArrowRight")
    seen.until("!!document.querySelector('#tried .refusal')")
    assert "it has 8 bits there (weight.bits)" in page.inner_text("#tried .refusal")
    page.click("#tried button[value=apply]")
    seen.idle()
    assert "That did not work" in page.inner_text("#failure")
    seen.clean()


def test_errors_name_the_file_and_offer_ways_on(look: Look, app: Running, tmp_path: Path) -> None:
    from PIL import Image

    for k in range(6):
        Image.fromarray(np.full((16, 16), 40 * k, np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    session = app.routes.opener.example()
    app.wait(session)
    app.ask(f"/s/{session.name}/edit", form={"data": str(tmp_path)})
    seen = look(f"/s/{session.name}")
    page = seen.page
    page.click("#head .actions button.primary")
    seen.until("document.querySelector('#failure').innerText.includes('Calibrating stopped')")
    seen.idle()
    told = page.inner_text("#failure")
    assert "3.png" in told
    page.click("text=Leave out such samples and go on")
    seen.idle()
    assert "5 samples" in page.inner_text("#progress-text")
    assert page.locator("#failure .failure").count() == 0
    seen.clean()


def test_hostile_names_do_nothing(look: Look, app: Running, tmp_path: Path) -> None:
    model = hostile_model(tmp_path / "hostile.onnx")
    seen = look()
    page = seen.page
    page.set_input_files(
        "#file", {"name": "<img src=x onerror=document.title='hit'>.onnx", "mimeType": "", "buffer": model.read_bytes()}
    )
    page.wait_for_selector("#graph svg.graph")
    seen.idle()
    session = app.routes.sessions.get(page.url.rpartition("/s/")[2].partition("?")[0])
    assert session is not None
    chance = np.random.default_rng(1)
    np.savez(tmp_path / "<b>&'x.npz", x=chance.normal(size=(8, 4, 4, 3)).astype(np.float32))
    page.click(".steps >> text=Calibrate")
    page.fill("#side input[name=data]", str(tmp_path / "<b>&'x.npz"))
    page.click("#side button.primary >> text=Calibrate")
    seen.idle()
    count = page.locator("#rows tr").count()
    assert count > 12
    for k in range(1, min(count, 10) + 1, 2):
        page.click(f"#rows tr:nth-child({k}) td.bits")
        page.wait_for_selector("#tried")
        page.focus("#bracket")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(120)
    page.click("#tried button[value=apply]")
    seen.idle()
    for query in (
        "?tab=log",
        "?tab=channels",
        "?tab=folds",
        "?tab=compare",
        "?tab=memory",
        "?view=network",
        "?step=quantize",
        "?step=network",
    ):
        page.goto(f"{seen.origin}/s/{session.name}{query}")
        seen.until("document.documentElement.dataset.ready === 'yes'")
        assert page.title() != "hit"
        assert page.evaluate("document.querySelectorAll('img[src=x],svg[onload],script:not([src])').length") == 0
    page.goto(f"{seen.origin}/s/{session.name}")
    for k in range(1, page.locator("#graph a").count() - 6, 3):
        page.locator("#graph .graph-box a").nth(min(k, page.locator("#graph .graph-box a").count() - 1)).click()
        page.wait_for_timeout(80)
    assert page.title() != "hit"
    assert "\u202e" not in page.content()
    page.goto(f"{seen.origin}/s/{session.name}/report")
    assert page.title() != "hit"
    page.goto(seen.origin)
    assert "onerror" in page.inner_text(".recent")
    assert json.dumps(session.settings.to_json())
    seen.clean()
