"""A real browser, started once, and pages that count what they ask for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from running_app import Running, running

# Without these Chromium asks for its maker's services at every start.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
IDLE = "!document.querySelector('#progress progress') && document.documentElement.dataset.ready === 'yes'"


@dataclass
class Seen:
    """A page, and what happened on it.

    Attributes:
        page: Playwright's page.
        outside: Addresses that are not the app's.
        errors: What the console and uncaught errors said.
    """

    page: Any
    origin: str
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def until(self, script: str, seconds: float = 60) -> None:
        """Wait until a script is true; the policy forbids Playwright's own waiting, which evaluates text in the page."""
        for _ in range(int(seconds * 20)):
            if self.page.evaluate(script):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it never came: {script}\n{self.page.inner_text('body')[:2000]}\n{self.errors}")

    def idle(self, seconds: float = 90) -> None:
        """Until no job runs and the panels are there."""
        self.page.wait_for_timeout(250)
        self.until(IDLE, seconds)
        self.page.wait_for_timeout(150)

    def clean(self) -> None:
        """Nothing was asked of others, and nothing went wrong."""
        assert not self.outside, self.outside
        assert not self.errors, self.errors


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or "/usr/bin/chromium"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sessions")) as found:
        yield found


Look = Callable[..., Seen]


@pytest.fixture
def look(browser: Any, app: Running) -> Iterator[Look]:
    """Open a page of the app: ``look("/s/…", width=…, dark=…, script=…)``."""
    contexts = []

    def opened(
        path: str = "/", *, width: int = 1500, height: int = 900, dark: bool = False, script: bool = True
    ) -> Seen:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        seen = Seen(page, app.origin)

        def asked(request: Any) -> None:
            if not request.url.startswith((app.origin, "data:", "blob:")):
                seen.outside.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
        page.set_default_timeout(20_000)
        page.goto(app.address)
        page.wait_for_url(app.origin + "/")  # the token has become a cookie
        page.goto(app.origin + path)
        if script:
            seen.until("document.documentElement.dataset.ready === 'yes'")
        return seen

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def ready(app: Running) -> str:
    """A session of the example, validated; its path."""
    from bitwright.app.settings import Step

    session = app.routes.opener.example()
    app.wait(session)
    for step in ("calibrate", "validate"):
        app.ask(f"/s/{session.name}/run/{step}", form={})
        app.wait(session)
    assert session.mark(Step.VALIDATE) == "done"
    return f"/s/{session.name}"


@pytest.fixture(scope="session")
def axe() -> Callable[[Any], list[str]]:
    """What axe-core finds against WCAG A and AA on a page."""
    import axe_playwright_python

    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")

    def found(page: Any) -> list[str]:
        page.evaluate(script)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [f"{v['id']}: {[n['html'][:160] for n in v['nodes'][:3]]}" for v in result["violations"]]

    return found
