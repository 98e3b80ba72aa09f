"""Reports in a real browser: complete without scripts, harmless, legible under a strict policy, usable by everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright as bw
from command_line import CALIB, MODEL, VAL
from hostile import hostile_model

# What Jenkins sends with files that it archived.
STRICT = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    fpga, mcu = (bw.quantize(MODEL, CALIB, name) for name in ("fpga", "mcu-cmsis-nn"))
    found = {"digits": folder / "digits.html", "split": folder / "split.html", "hostile": folder / "hostile.html"}
    made = fpga.report(found["digits"], data=VAL, samples=40, compare=mcu)
    made.save(found["split"], split=True)
    model = hostile_model(folder / "<img src=x onerror=alert(1)>.onnx")
    values = np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32)
    bw.quantize(model, values, "fpga").report(found["hostile"], data=values)
    return found


@pytest.fixture
def seen(browser: Any, reports: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Open a report; the page gets ``asked`` (addresses) and ``said`` (errors)."""
    contexts = []

    def opened(name: str, *, width: int = 1500, dark: bool = False, script: bool = True, policy: str = "") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        address = reports[name].as_uri()
        if policy:
            address = f"http://localhost/{name}.html"
            body = reports[name].read_text("utf-8")
            headers = {"Content-Security-Policy": policy}
            page.route("**/*", lambda route: route.fulfill(body=body, headers=headers, content_type="text/html"))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["digits", "split", "hostile"])
def test_nothing_is_asked_of_anybody_and_nothing_goes_wrong(name: str, seen: Callable[..., Any]) -> None:
    page = seen(name)
    page.wait_for_timeout(200)
    assert not page.said, page.said
    own = 3 if name == "split" else 1
    assert len([a for a in page.asked if not a.startswith("data:")]) == own, page.asked
    assert page.title().endswith("bitwright"), "no name took the title"
    assert page.locator("#tensors table.tensors").first.locator("tbody tr").count() > 15


def test_without_a_script_it_is_complete(seen: Callable[..., Any]) -> None:
    page = seen("digits", script=False)
    assert page.locator("#tensors tbody tr").count() == 27
    for part in ("summary", "findings", "tensors", "comparison", "layers", "channels", "folds", "settings", "facts"):
        assert page.locator(f"#{part}").is_visible(), part
    assert not page.locator("#filter").is_visible(), "what needs a script is not offered"
    # The two views of the layers and the three colorings work by style alone.
    assert page.locator(".see-optimized").is_visible()
    assert not page.locator(".see-network").is_visible()
    page.get_by_label("source network").check()
    assert page.locator(".see-network").is_visible()
    assert page.locator(".see-network text", has_text="stem_norm").first.is_visible()
    page.get_by_label("bits lost by folding").check()
    assert page.locator(".keys.by-bits").is_visible()
    assert not page.locator(".keys.by-sqnr").is_visible()


def test_under_a_policy_that_refuses_style_and_script_it_is_legible(seen: Callable[..., Any]) -> None:
    page = seen("digits", policy=STRICT)
    assert page.get_by_role("heading", name="Findings").is_visible()
    assert page.locator("#tensors tbody tr").count() == 27
    path = page.locator("#tensors tbody tr").first.locator("path").nth(2)
    assert path.get_attribute("fill").startswith("#")
    box = path.bounding_box()
    assert box is not None
    assert box["width"] > 0
    order = page.locator("section[id]").evaluate_all("all => all.map(one => [one.id, one.getBoundingClientRect().top])")
    assert order == sorted(order, key=lambda one: one[1]), "the order of the text is the order of reading"


def test_sorting_filtering_and_the_theme(seen: Callable[..., Any]) -> None:
    page = seen("digits")
    rows = page.locator("#tensors table.tensors tbody tr")
    page.get_by_role("button", name="SQNR dB").click()
    assert rows.first.get_attribute("data-tensor") == "depthwise_conv.Weights"
    page.get_by_role("button", name="Tensor").click()
    assert rows.first.get_attribute("data-tensor") == "average_out"
    page.keyboard.press("/")
    page.keyboard.type("wide_conv")
    assert page.locator("#shown").inner_text() == "2 of 27 tensors"
    assert page.locator("#tensors table.tensors tbody tr:visible").count() == 2
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    assert page.locator("#shown").inner_text() == "27 of 27 tensors"
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light


def test_a_box_leads_to_its_row(seen: Callable[..., Any]) -> None:
    page = seen("digits")
    page.locator(".see-optimized a", has_text="depthwise_conv").first.click()
    assert page.evaluate("document.querySelector('tr:target').dataset.tensor") == "depthwise_relu_out"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["digits", "hostile"])
def test_everybody_can_use_it(name: str, dark: bool, seen: Callable[..., Any], axe: Callable[[Any], list[str]]) -> None:
    assert axe(seen(name, dark=dark)) == []


@pytest.mark.parametrize("name", ["digits", "hostile"])
def test_a_narrow_screen_does_not_scroll_sideways(name: str, seen: Callable[..., Any]) -> None:
    page = seen(name, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_strips_are_equally_wide_on_the_screen(seen: Callable[..., Any]) -> None:
    page = seen("digits")
    places = page.locator("#tensors td.bits svg").evaluate_all(
        "all => all.map(one => { const b = one.getBoundingClientRect(); return `${b.left} ${b.width}`; })"
    )
    assert len(places) == 27
    assert len(set(places)) == 1


def test_paper_has_everything_that_the_screen_has(seen: Callable[..., Any]) -> None:
    page = seen("digits", dark=True)
    page.emulate_media(media="print")
    assert page.locator("#tensors tbody tr").count() == 27
    assert not page.get_by_role("button", name="Light or dark").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.f-text')).fill") == "rgb(28, 33, 40)", (
        "dark on white"
    )
    assert len(page.pdf(format="A4", print_background=True)) > 30_000


def test_the_frame_of_a_notebook_works_and_reaches_nothing(
    browser: Any, tmp_path: Path, reports: dict[str, Path]
) -> None:
    from bitwright.view.report import Report

    frame = Report.load(reports["digits"]).show()._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>book</title>{frame}", "utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "notebook.html").as_uri())
    inner = page.frame_locator("iframe")
    inner.get_by_role("button", name="SQNR dB").click()
    assert inner.locator("#tensors tbody tr").first.get_attribute("data-tensor") == "depthwise_conv.Weights"
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    page.close()
