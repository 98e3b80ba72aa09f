"""The app for everybody: without a script, by keyboard alone, for screen readers, in both themes and at any width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from bitwright.app.settings import Step
from browser.conftest import Look
from running_app import Running

Axe = Callable[[Any], list[str]]
VIEWS = {
    "opening": "",
    "tensor": "?pick={tensor}",
    "layer": "?layer={layer}",
    "folding": "?tab=folds&color=bits",
    "channels": "?tab=channels",
    "memory": "?tab=memory",
    "log": "?tab=log",
    "calibrate": "?step=calibrate",
    "target": "?step=target&view=network",
    "quantize": "?step=quantize&color=where",
    "export": "?step=export",
}


def address(app: Running, ready: str, view: str) -> str:
    from bitwright.app.ask import mark_of

    return ready + VIEWS[view].format(tensor=mark_of("depthwise_conv.Weights"), layer=mark_of("depthwise_conv"))


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(look: Look, app: Running, ready: str, axe: Axe, dark: bool) -> None:
    seen = look(ready, dark=dark)
    found = {}
    for view in ("opening", "tensor", "layer", "folding", "calibrate") if dark else VIEWS:
        seen.page.goto(seen.origin + address(app, ready, view))
        seen.until("document.documentElement.dataset.ready === 'yes'")
        if violations := axe(seen.page):
            found[view] = violations
    seen.page.goto(seen.origin)
    if violations := axe(seen.page):
        found["start"] = violations
    assert not found, found


def test_axe_finds_nothing_in_comparison_and_report(look: Look, app: Running, ready: str, axe: Axe) -> None:
    app.ask(f"{ready}/variant", form={"target": "generic", "scheme": ""})
    session = app.routes.sessions.get(ready.removeprefix("/s/"))
    assert session is not None
    app.wait(session)
    seen = look(f"{ready}?tab=compare&other={session.shown['other']}", dark=True)
    assert axe(seen.page) == []
    seen = look(f"{ready}?tab=compare&other={session.shown['other']}", width=420)
    assert axe(seen.page) == []


def test_without_a_script_pages_are_read_and_forms_work(look: Look, app: Running) -> None:
    seen = look(script=False)
    page = seen.page
    page.click("text=Open the example")
    session = app.routes.sessions.get(page.url.rpartition("/s/")[2])
    assert session is not None
    app.wait(session)
    page.reload()
    expect(page.locator("#rows tr")).to_have_count(7)
    page.click("#head .actions button.primary")
    app.wait(session)
    page.reload()
    expect(page.locator("#rows tr")).to_have_count(27)
    page.click("#head .actions button.primary")
    app.wait(session)
    page.reload()
    assert "images" in page.inner_text(".verdict")
    page.click("#rows tr:nth-child(3) a")
    expect(page.locator("#tried svg")).to_have_count(1)
    old = page.input_value("#tried input[name=fraction]")
    page.fill("#tried input[name=fraction]", str(int(old) + 1))
    page.click("#tried button[value=apply]")
    app.wait(session)
    page.reload()
    assert page.input_value("#tried input[name=fraction]") == str(int(old) + 1)
    page.click("#undo")
    assert session.settings.given == {}
    page.click("thead a:has-text('SQNR')")
    expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)
    page.fill("#filter", "wide")
    page.click("text=Show >> nth=0")
    expect(page.locator("#rows tr")).to_have_count(3)
    for tab in ("Channels", "Folding", "Compare", "Memory", "Log"):
        page.click(f".tabs >> text={tab}")
        expect(page.locator(f".tabs [aria-current] >> text={tab}")).to_be_visible()
        assert page.locator("#tab").inner_text().strip()
    page.click(".steps >> text=Export")
    page.click("#side button.primary")
    app.wait(session)
    page.reload()
    assert "0 differ" in page.inner_text("#side")
    page.click("#graph .graph-box a >> nth=4")
    expect(page.locator("#side .layer-side")).to_have_count(1)
    seen.clean()


def test_by_keyboard_alone(look: Look, app: Running) -> None:
    seen = look()
    page = seen.page

    def tab_to(words: str, most: int = 90) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if words in page.evaluate(
                "(document.activeElement.innerText || document.activeElement.ariaLabel || '').trim()"
            ):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"Tab never came to {words!r}")

    tab_to("Open the example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#graph svg.graph")
    seen.idle()
    tab_to("Skip to the table", 2)
    page.keyboard.press("Enter")
    tab_to("Ranges")
    page.reload()
    seen.idle()
    tab_to("Calibrate")
    page.focus("#head .actions button.primary")
    page.keyboard.press("Enter")
    seen.idle()
    seen.until("document.querySelectorAll('#rows tr').length === 27")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.wait_for_selector("#bracket")
    seen.until("document.querySelector('#side h2').innerText === 'depthwise_conv.Weights'")
    page.keyboard.press("k")
    seen.until("document.querySelector('#side h2').innerText === 'stem_conv.Bias'")
    page.keyboard.press("k")
    seen.until("document.querySelector('#side h2').innerText === 'stem_conv.Weights'")
    page.wait_for_selector("#bracket")
    page.keyboard.press("ArrowLeft")
    seen.until("document.querySelector('#tried .figures').innerText.includes(' was ')")
    assert page.evaluate("document.activeElement.id") == "bracket"
    assert "dB" in page.get_attribute("#bracket", "aria-valuetext")
    page.keyboard.press("Enter")
    seen.idle()
    session = app.routes.sessions.get(page.url.rpartition("/s/")[2].partition("?")[0])
    assert session is not None
    assert list(session.settings.given) == ["stem_conv.Weights"]
    assert session.mark(Step.VALIDATE) == "done", "Apply measured it"
    page.keyboard.press("Control+z")
    seen.idle()
    assert session.settings.given == {}
    page.keyboard.press("Control+y")
    seen.idle()
    assert list(session.settings.given) == ["stem_conv.Weights"]
    page.keyboard.press("Escape")
    seen.until("document.querySelector('#side h2').innerText === 'Findings'")
    page.keyboard.press("/")
    page.keyboard.type("wide")
    seen.until("document.querySelectorAll('#rows tr').length === 3")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    seen.until("document.querySelector('.tabs [aria-current]').innerText === 'Compare'")
    page.keyboard.press("g")
    assert page.evaluate("document.activeElement.classList.contains('graph-box')")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    page.keyboard.press("o")
    page.wait_for_selector("#drop")
    seen.clean()


@pytest.mark.parametrize("width", [360, 760, 1100, 1280, 1920])
def test_nothing_is_wider_than_the_window(look: Look, app: Running, ready: str, width: int) -> None:
    seen = look(ready, width=width)
    for view in ("opening", "tensor", "calibrate", "memory"):
        seen.page.goto(seen.origin + address(app, ready, view))
        seen.until("document.documentElement.dataset.ready === 'yes'")
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_the_theme_follows_the_system_until_it_is_chosen(look: Look, ready: str) -> None:
    seen = look(ready, dark=True)
    ground = "getComputedStyle(document.body.parentElement).backgroundColor"
    dark = seen.page.evaluate(ground)
    seen.page.click(".theme")
    light = seen.page.evaluate(ground)
    assert dark != light == "rgb(255, 255, 255)"
    seen.page.reload()
    seen.until("document.documentElement.dataset.ready === 'yes'")
    assert seen.page.evaluate(ground) == light
    seen.clean()


def test_the_strict_policy_of_a_server_that_shows_reports(
    browser: Any, app: Running, ready: str, tmp_path: Path
) -> None:
    """Where a build server blocks styles and scripts, a report is still read whole and its drawings keep their colors."""
    path = tmp_path / "report.html"
    path.write_text(app.ask(f"{ready}/report.html").text, "utf-8")
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def served(route: Any) -> None:
        policy = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
        route.fulfill(
            path=str(path), headers={"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
        )

    page.route("http://reports.invalid/**", served)
    page.goto("http://reports.invalid/report.html")
    text = page.inner_text("body")
    assert "depthwise_conv" in text
    assert "images lost" in text
    assert page.locator("table.tensors tbody tr").count() == 27
    assert page.evaluate("getComputedStyle(document.querySelector('svg.strip path')).fill") != "rgb(0, 0, 0)"
    assert asked == ["http://reports.invalid/report.html"]
    context.close()


def test_a_report_opens_from_disk_and_asks_for_nothing(
    browser: Any, app: Running, ready: str, axe: Axe, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(app.ask(f"{ready}/report.html").text, "utf-8")
    for script in (True, False):
        context = browser.new_context(java_script_enabled=script, color_scheme="dark" if script else "light")
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.locator("table.tensors tbody tr").count() == 27
        assert asked == [path.as_uri()]
        if script:
            assert axe(page) == []
            page.fill("#filter", "wide")
            assert page.locator("table.tensors tbody tr:visible").count() == 3
        context.close()
