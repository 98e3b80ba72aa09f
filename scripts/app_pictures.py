"""Photographs the app at work on the demo's network, for the documentation; ``make_pictures.py`` calls it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
IDLE = "!document.querySelector('#progress progress') && document.documentElement.dataset.ready === 'yes'"


def photograph_app() -> list[Path]:
    """Take the pictures."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    from playwright.sync_api import sync_playwright

    from bitwright.app.ask import mark_of
    from running_app import running

    made: list[Path] = []
    folder = Path(tempfile.mkdtemp())
    try:
        with running(folder) as app, sync_playwright() as playwright:
            session = app.routes.opener.example()
            app.wait(session)
            for action in ("calibrate", "validate", "explain"):
                app.ask(f"/s/{session.name}/run/{action}", form={})
                app.wait(session, 600)
            path = shutil.which("chromium") or "/usr/bin/chromium"
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))

            def shot(
                name: str,
                query: str,
                act: Callable[[Any], None] | None = None,
                size: tuple[int, int] = (1600, 950),
                theme: str = "light",
            ) -> None:
                page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
                page.goto(app.address)
                page.wait_for_url(app.origin + "/")
                page.goto(f"{app.origin}{query}")
                settle(page)
                if act is not None:
                    act(page)
                    settle(page)
                page.screenshot(path=folder / "shot.png")
                page.close()
                keep(folder / "shot.png", FOLDER / name)
                made.append(FOLDER / name)

            here = f"/s/{session.name}"
            tensor = mark_of("depthwise_conv.Weights")
            shot("app-findings.png", here)
            shot("app-whatif.png", f"{here}?pick={tensor}", dragged)
            shot("app-dark.png", f"{here}?pick={mark_of('pointwise_relu_out')}&sort=sqnr", theme="dark")
            shot("app-narrow.png", here, size=(420, 900))
            app.ask(f"{here}/variant", form={"target": "generic", "scheme": ""})
            app.wait(session)
            shot("app-compare.png", f"{here}?tab=compare&other={session.shown['other']}")
            shot("app-start.png", "/", size=(1100, 700))
            browser.close()
    finally:
        shutil.rmtree(folder)
    return made


def settle(page: Any) -> None:
    """Until nothing moves."""
    for _ in range(200):
        page.wait_for_timeout(100)
        if page.evaluate(IDLE):
            break
    page.wait_for_timeout(500)


def dragged(page: Any) -> None:
    """Move the type two bits."""
    page.focus("#bracket")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(800)


def keep(source: Path, target: Path) -> None:
    """A page has few colors: a palette makes half of it."""
    from PIL import Image

    Image.open(source).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        target, optimize=True
    )


if __name__ == "__main__":
    for picture in photograph_app():
        print(picture)
