"""The first page: drop a network, type its path, go on with an earlier session, or open the example."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bitwright.app.session import Session
from bitwright.app.settings import Step
from bitwright.app.shell import document, keys_dialog, theme_button
from bitwright.app.steps import field
from bitwright.app.uploads import NETWORKS
from bitwright.view.markup import Content, Markup, label, tag


def start_page(recent: Sequence[Session], error: str = "") -> str:
    """The page of somebody who has opened nothing yet."""
    kinds = [tag("strong", suffix) for suffix in (".onnx", ".tflite", ".pt2", ".keras")]
    said = tag("section", tag("h2", "That did not open"), tag("p", label(error, 1900)), class_="failure", role="alert")
    drop = tag(
        "form",
        tag(
            "p",
            "Drop an ",
            kinds[0],
            ", ",
            kinds[1],
            ", ",
            kinds[2],
            " or ",
            kinds[3],
            " file here",
            class_="only-script",
        ),
        tag("p", "or go on with a ", tag("strong", ".bw"), " that the command line wrote", class_="muted only-script"),
        tag(
            "p",
            tag(
                "label",
                "Choose a file ",
                tag(
                    "input", type="file", name="files", id="file", multiple=True, accept=",".join((*NETWORKS, ".toml"))
                ),
            ),
            tag("button", "Open", type="submit", class_="primary"),
            class_="buttons",
        ),
        method="post",
        action="/upload",
        enctype="multipart/form-data",
        class_="drop large",
        data_drop="network",
        id="drop",
    )
    path = tag(
        "form",
        field(
            "Or the path of a file on this machine", "path", hint="/home/me/model.onnx", list_="paths", data_paths="yes"
        ),
        tag("p", tag("button", "Open", type="submit"), class_="buttons"),
        method="post",
        action="/open",
        class_="path-form",
    )
    example = tag(
        "form",
        tag("input", type="hidden", name="example", value="1"),
        tag("p", "No network at hand? ", tag("button", "Open the example", type="submit", class_="link"),
            ": a small network that reads handwritten digits, with images to calibrate and validate with."),
        method="post",
        action="/open",
    )  # fmt: skip
    return document(
        "",
        tag("header", tag("div", tag("div", tag("span", "bitwright", class_="brand"), class_="title-box"),
            tag("div", theme_button(), class_="actions"), class_="bar"), id="head"),
        tag(
            "main",
            said if error else None,
            tag("h1", "Open a network"),
            tag("p", "Everything stays on this machine.", class_="muted"),
            drop,
            path,
            recents(recent),
            example,
        ),
        keys_dialog(),
        tag("datalist", id="paths"),
        classes="app start",
    )  # fmt: skip


def recents(sessions: Sequence[Session]) -> Content:
    """Sessions to go on with."""
    if not sessions:
        return None
    rows = [
        tag(
            "li",
            tag("a", label(s.title, 60), href=f"/s/{s.name}"),
            tag("span", state_text(s), class_="muted"),
            tag("time", when(s.touched), class_="muted"),
        )
        for s in sessions
    ]
    return tag("section", tag("h2", "Recent"), tag("ol", *rows, class_="recent"))


def state_text(session: Session) -> str:
    """How far a session is."""
    words = {Step.VALIDATE: "validated", Step.QUANTIZE: "quantized", Step.CALIBRATE: "calibrated"}
    for step, word in words.items():
        if session.mark(step) in {"done", "partial"}:
            return f"{word}, {session.settings.target}"
    return f"opened, {session.settings.target}"


def when(seconds: float, now: float | None = None) -> str:
    """When something was, as people say it."""
    passed = (time.time() if now is None else now) - seconds
    if passed < 90:
        return "just now"
    if passed < 5400:
        return f"{passed / 60:.0f} min ago"
    if passed < 86_400:
        return f"{passed / 3600:.0f} h ago"
    return time.strftime("%d %b %Y", time.localtime(seconds))


def refusal_page(title: str, text: str) -> str:
    """A page that says why there is nothing."""
    inner: Markup = tag(
        "main", tag("h1", title), tag("p", label(text, 1900)), tag("p", tag("a", "Open a network", href="/"))
    )
    return document(title, inner, classes="app start")
