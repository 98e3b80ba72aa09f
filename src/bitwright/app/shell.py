"""The document around the panels: head with the steps, graph, middle, side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitwright.app.ask import Ask, Names
from bitwright.app.jobs import Job
from bitwright.app.session import Session
from bitwright.app.settings import Step
from bitwright.app.steps import MARKS, TITLES, TOLD, button, choice, form
from bitwright.view.blocks import MOST, blocks, collapsed, inside
from bitwright.view.graph import COLORINGS, draw_graph, graph_key
from bitwright.view.markup import Content, Markup, label, tag
from bitwright.view.page import COLOR_NAMES
from bitwright.view.seen import BoxSeen, GraphSeen, Page

KEYS = (
    ("/", "filter the table"),
    ("j, k or ↓, ↑", "next or previous row"),
    ("Space", "select a row more"),
    ("←, →", "move the type"),
    ("Shift ←, →", "change its width"),
    ("Enter", "apply the type"),
    ("Esc", "back to the findings"),
    ("Ctrl Z, Ctrl Y", "undo, redo"),
    ("g", "the graph"),
    ("c", "compare"),
    ("o", "open another network"),
    ("?", "this list"),
)


def document(title: str, *body: Content, session: str = "", version: int = 0, classes: str = "app") -> str:
    """A whole page of the app."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", label(title, 100) if title else None, " · bitwright" if title else "bitwright"),
        tag("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/static/marks.css"),
        tag("link", rel="stylesheet", href="/static/app.css"),
        tag("script", type="module", src="/static/app.js"),
    )
    return "<!doctype html>\n" + tag(
        "html",
        head,
        tag("body", *body, data_session=session or None, data_version=version),
        lang="en",
        class_=f"bw {classes}",
    )


def theme_button() -> Markup:
    """Light or dark, with a script."""
    return tag(
        "button", "◐", type="button", class_="theme", aria_label="Light or dark", hidden=True, title="Light or dark"
    )


def header(session: Session, ask: Ask, jobs: Sequence[Job], targets: Sequence[tuple[str, str]]) -> Markup:
    """Name, steps, target, the next thing to do, progress."""
    marks = {step: session.mark(step) for step in Step}
    todo = next_step(session)
    items = []
    for number, step in enumerate(Step, 1):
        mark = marks[step]
        word = " stale" if mark == "stale" else " in part" if mark == "partial" else ""
        items.append(
            tag(
                "li",
                tag(
                    "a",
                    tag("span", MARKS[mark] or number, class_="dot", aria_hidden="true"),
                    TITLES[step],
                    tag("span", word, class_="stale-word") if word else None,
                    tag("span", f" ({TOLD[mark]})", class_="visually-hidden"),
                    href=ask.but(step="" if ask.step == step else step.value, pick=(), layer="").query,
                    class_=f"state-{mark}" + (" next" if step == todo else ""),
                    aria_current="step" if ask.step == step else None,
                    data_go="side,head",
                ),
            )
        )
    history = session.history
    undo = form(
        session, "undo", ask,
        tag("button", "↶", type="submit", disabled=not history.past, id="undo",
            title=f"Undo: {history.past[-1][0][:80]}" if history.past else "Nothing to undo", aria_label="Undo"),
        class_="inline",
    )  # fmt: skip
    redo = form(
        session, "redo", ask,
        tag("button", "↷", type="submit", disabled=not history.undone, id="redo",
            title=f"Redo: {history.undone[-1][0][:80]}" if history.undone else "Nothing to redo", aria_label="Redo"),
        class_="inline",
    )  # fmt: skip
    target = form(
        session, "edit", ask,
        tag("input", type="hidden", name="run", value="target"),
        choice("Target", "target", [(n, n) for n, _ in targets], session.settings.target, data_submit="yes"),
        tag("button", "Use", type="submit", class_="plain-only"),
        class_="inline target",
    )  # fmt: skip
    return tag(
        "div",
        tag("div", tag("a", "bitwright", href="/", class_="brand", title="Open another network"),
            tag("h1", label(session.title, 48)), class_="title-box"),
        tag("nav", tag("ol", *items), class_="steps", aria_label="Steps"),
        tag("div", undo, redo, target, next_button(session, ask, todo), progress(session, ask, jobs), theme_button(),
            class_="actions"),
        class_="bar",
    )  # fmt: skip


def next_step(session: Session) -> Step | None:
    """The first step that is not done."""
    order = (Step.CALIBRATE, Step.QUANTIZE, Step.VALIDATE)
    return next((step for step in order if session.mark(step) in {"todo", "stale"}), None)


def next_button(session: Session, ask: Ask, todo: Step | None) -> Content:
    """The button of the next step; a link to its form where it needs something first."""
    if todo is None:
        return tag(
            "a", "Export", href=ask.but(step="export", pick=(), layer="").query, class_="as-button", data_go="side,head"
        )
    needs = {Step.CALIBRATE: session.settings.data, Step.VALIDATE: session.settings.judge}
    if todo in needs and not needs[todo]:
        link = ask.but(step=todo.value, pick=(), layer="").query
        return tag("a", TITLES[todo], href=link, class_="as-button", data_go="side,head")
    return form(session, f"run/{todo.value}", ask, button(TITLES[todo], primary=True), class_="inline")


def progress(session: Session, ask: Ask, jobs: Sequence[Job]) -> Markup:
    """How far the work is, in words for everybody, and the button that ends it."""
    job = next((j for j in jobs if j.active), jobs[-1] if jobs else None)
    if job is None:
        return tag("div", tag("span", id="progress-text", role="status"), class_="progress", id="progress")
    cancel = None
    meter = None
    if job.active:
        cancel = form(
            session, "cancel", ask,
            tag("input", type="hidden", name="job", value=job.number),
            button("Cancel", title="What was collected is kept"), class_="inline",
        )  # fmt: skip
        meter = tag("progress", max=job.total or 1, value=job.done if job.total else None, aria_label=job.title)
    return tag(
        "div",
        meter,
        tag("span", label(progress_text(job), 120), id="progress-text", role="status"),
        cancel,
        class_=f"progress is-{job.state}",
        id="progress",
        data_job=job.number,
    )


def progress_text(job: Job) -> str:
    """One line about a job."""
    if job.state == "waiting":
        return f"{job.title} waits"
    if job.state == "running":
        parts = [f"{job.title} {job.done:,} of {job.total:,}" if job.total and job.total != 100 else job.title]
        if job.total == 100:
            parts = [f"{job.title} {job.done} %"]
        if job.text and job.text not in {"calibrating", "validating"}:
            parts.append(job.text)
        left = job.remaining
        if left is not None and left >= 1:
            parts.append(f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left")
        return ", ".join(parts)
    if job.state == "failed":
        return f"{job.title} failed"
    if job.state == "canceled":
        return f"{job.title} canceled" + (f": {job.said}" if job.said else "")
    return f"{job.title}: {job.said}" if job.said else f"{job.title}: done"


def failure(session: Session, ask: Ask, jobs: Sequence[Job]) -> Content:
    """What went wrong last, what is kept, and ways on."""
    if not jobs or jobs[-1].state != "failed":
        return None
    job = jobs[-1]
    ways: list[Content] = []
    if job.code == "BW202" and not session.settings.skip_bad:
        ways.append(
            form(
                session, "edit", ask,
                tag("input", type="hidden", name="has-skip_bad", value="1"),
                tag("input", type="hidden", name="skip_bad", value="yes"),
                tag("input", type="hidden", name="run", value=job.kind),
                button("Leave out such samples and go on", primary=True), class_="inline",
            )
        )  # fmt: skip
    step = {"calibrate": "calibrate", "validate": "validate", "quantize": "quantize", "export": "export"}.get(job.kind)
    if step is not None:
        link = ask.but(step=step, pick=(), layer="").query
        ways.append(tag("a", f"Change {TITLES[Step(step)].lower()}", href=link, data_go="side,head"))
    ways.append(tag("a", "Details and log", href=ask.but(tab="log").query, data_go="middle"))
    where = (
        f"{job.title} stopped at {job.done:,} of {job.total:,}" if job.total and job.done else f"{job.title} stopped"
    )
    return tag(
        "section",
        tag("h2", where),
        tag("p", label(job.error, 1900)),
        tag("div", *ways, class_="ways"),
        class_="failure",
        role="alert",
    )


# ---------------------------------------------------------------------- the graph


def graph_panel(session: Session, ask: Ask, page: Page, names: Names) -> Markup:
    """The layers, as computed or as in the source network, in blocks where there are many."""
    graph = page.optimized if ask.view == "optimized" else page.network
    count = sum(box.state not in {"input", "output"} for box in graph.boxes)
    marks = list(names.layers)
    views = tag(
        "p",
        *(
            tag("a", text, href=ask.but(view=value, block=-1).query, data_go="graph",
                aria_current="true" if ask.view == value else None)
            for value, text in (("network", "network"), ("optimized", "as computed"))
        ),
        class_="switch",
    )  # fmt: skip
    colors = tag(
        "p",
        tag("span", "color by ", class_="muted"),
        *(
            tag("a", COLOR_NAMES[name], href=ask.but(color=name).query, data_go="graph", data_color_to=name,
                aria_current="true" if ask.color == name else None)
            for name in COLORINGS
        ),
        class_="switch colors",
    )  # fmt: skip
    return tag(
        "div",
        tag("div", tag("h2", "Layers ", tag("span", f"{count:,}", class_="muted")), views, class_="head"),
        colors,
        graph_key(ask.color),
        tag("div", drawing(ask, graph, marks), class_="scroll graph-box", tabindex=0, role="region", aria_label="Layer graph",
            data_color=ask.color),
        id="graph-inner",
    )  # fmt: skip


def drawing(ask: Ask, graph: GraphSeen, marks: Sequence[str]) -> Content:
    """The graph, or its blocks, or one of them."""

    def link(index: int, box: BoxSeen) -> str | None:
        at = index if ask.view == "optimized" else box.layer
        return ask.but(layer=marks[at], pick=(), step="").query if 0 <= at < len(marks) else None

    parts = blocks(graph, MOST)
    if len(parts) == len(graph.boxes):
        return draw_graph(graph, link=link, by=ask.color)
    if 0 <= ask.block < len(parts):
        part = parts[ask.block]
        back = tag("p", tag("a", "← all blocks", href=ask.but(block=-1).query, data_go="graph"),
                   tag("strong", " ", label(part.name, 40)), class_="block-head")  # fmt: skip
        inner = draw_graph(
            inside(graph, part),
            link=lambda k, box: link(k + part.first, box),
            by=ask.color,
            label="Layers of this block",
        )
        return [back, inner]

    def open_block(index: int, box: BoxSeen) -> str | None:
        part = parts[index]
        if part.end - part.first == 1:
            return link(part.first, graph.boxes[part.first])
        return ask.but(block=index).query

    return draw_graph(collapsed(graph, parts), link=open_block, by=ask.color, label="Blocks of layers")


def keys_dialog() -> Markup:
    """The keys, in a dialog that a script opens."""
    rows = [tag("tr", tag("th", tag("kbd", key), scope="row"), tag("td", text)) for key, text in KEYS]
    return tag(
        "dialog",
        tag("h2", "Keys"),
        tag("table", tag("tbody", *rows), class_="plain"),
        tag("form", tag("button", "Close"), method="dialog"),
        id="keys",
        aria_label="Keys",
    )


def app_page(session: Session, panels: Mapping[str, Content]) -> str:
    """The page of a session."""
    return document(
        session.title,
        tag("a", "Skip to the table", href="#middle", class_="skip"),
        tag("header", panels["head"], id="head"),
        tag(
            "main",
            tag("section", panels["failure"], id="failure", class_="failure-box"),
            tag("section", panels["graph"], id="graph", aria_label="Layers"),
            tag("section", panels["summary"], id="summary", aria_label="Summary"),
            tag("section", panels["middle"], id="middle", aria_label="Tensors"),
            tag("aside", panels["side"], id="side", aria_label="Details"),
        ),
        keys_dialog(),
        tag("datalist", id="paths"),
        session=session.name,
        version=session.version,
    )
