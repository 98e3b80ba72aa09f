"""The form of each step: what it needs to know, and the button that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitwright.app import lines
from bitwright.app.ask import Ask
from bitwright.app.session import Session
from bitwright.app.settings import Settings, Step
from bitwright.errors import BitwrightError
from bitwright.view.markup import Content, Markup, Value, label, tag

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract

TITLES: Mapping[Step, str] = {
    Step.NETWORK: "Network",
    Step.TARGET: "Target",
    Step.CALIBRATE: "Calibrate",
    Step.QUANTIZE: "Quantize",
    Step.VALIDATE: "Validate",
    Step.EXPORT: "Export",
}
MARKS = {"done": "✓", "stale": "!", "partial": "◐", "todo": ""}
TOLD = {
    "done": "done",
    "stale": "stale: settings were changed since",
    "partial": "done in part",
    "todo": "not done yet",
}


def form(session: Session, path: str, ask: Ask, *content: Content, **more: Value) -> Markup:
    """A form that works with and without a script, and comes back to where it was."""
    back = tag("input", type="hidden", name="back", value=ask.query)
    return tag("form", back, *content, method="post", action=f"/s/{session.name}/{path}", **more)


def button(text: Content, *, primary: bool = False, **more: Value) -> Markup:
    """A button that sends its form."""
    return tag("button", text, type="submit", class_="primary" if primary else None, **more)


def field(text: str, name: str, value: Content = "", *, kind: str = "text", hint: str = "", **more: Value) -> Markup:
    """A labelled input."""
    shown = str(value) if value is not None else ""
    inner = tag("input", type=kind, name=name, value=shown, autocomplete="off", spellcheck="false", **more)
    return tag(
        "label", tag("span", text, class_="label"), inner, tag("span", hint, class_="hint") if hint else None,
        class_="field",
    )  # fmt: skip


def choice(text: str, name: str, options: Sequence[tuple[str, str]], value: str, **more: Value) -> Markup:
    """A labelled choice; a value that is none of the options is offered too."""
    known = [v for v, _ in options]
    every = options if value in known else [*options, (value, value)]
    inner = [tag("option", shown, value=v, selected=v == value) for v, shown in every]
    return tag("label", tag("span", text, class_="label"), tag("select", *inner, name=name, **more), class_="field")


def check(text: str, name: str, value: bool) -> Markup:
    """A labelled box; the hidden field beside it tells that the box was there."""
    return tag(
        "label",
        tag("input", type="hidden", name=f"has-{name}", value="1"),
        tag("input", type="checkbox", name=name, value="yes", checked=value),
        tag("span", text),
        class_="check",
    )


def command(text: str) -> Markup:
    """The command line that does the same, to be copied."""
    return tag(
        "details",
        tag("summary", "The same on the command line"),
        tag("pre", tag("code", label(text, 1900)), class_="command", tabindex=0),
        tag("button", "Copy", type="button", class_="copy", data_copy=text if len(text) < 60_000 else "", hidden=True),
        class_="line",
    )


def step_side(session: Session, ask: Ask, *, targets: Sequence[tuple[str, str]], schemes: Sequence[str]) -> Markup:
    """The form of the step that is open."""
    step = Step(ask.step)
    s = session.settings
    match step:
        case Step.NETWORK:
            body = _network(session, ask, s)
        case Step.TARGET:
            body = _target(session, ask, s, targets)
        case Step.CALIBRATE:
            body = _calibrate(session, ask, s)
        case Step.QUANTIZE:
            body = _quantize(session, ask, s, schemes)
        case Step.VALIDATE:
            body = _validate(session, ask, s)
        case Step.EXPORT:
            body = _export(session, ask, s)
    state = session.mark(step)
    close = tag("a", "Close", href=ask.but(step="").query, class_="close", data_go="side,head")
    head = tag(
        "div", tag("h2", TITLES[step]), tag("span", TOLD[state], class_=f"chip state-{state}"), close, class_="head"
    )
    return tag("div", head, *body, class_="step-form")


def _network(session: Session, ask: Ask, s: Settings) -> list[Content]:
    shapes = " ".join(s.shapes)
    return [
        tag("p", label(s.model, 300), class_="mono path"),
        form(
            session, "edit", ask,
            tag("input", type="hidden", name="run", value="open"),
            field("Sizes that the file leaves free", "shapes", shapes, hint="data=1,3,224,224 or height=224"),
            tag("p", button("Use these sizes"), class_="buttons"),
        ),
        _contract(session, ask),
        tag("p", tag("a", "Open another network", href="/")),
        command(lines.open_line(session, s)),
    ]  # fmt: skip


def _contract(session: Session, ask: Ask) -> Content:
    """Preprocessing: how a sample becomes the network's input."""
    try:
        contract = session.model().contract
    except BitwrightError as error:
        return tag("p", label(str(error), 600), class_="bad")
    from bitwright.data.contract import COLORS, LAYOUTS, TASKS

    raw = contract.layout == "raw"
    return form(
        session, "edit", ask,
        tag("h3", "Preprocessing"),
        tag("p", "How a sample becomes the network's input. Changing it asks for a new calibration.", class_="muted"),
        tag("input", type="hidden", name="contract", value="1"),
        choice("Layout", "layout", [(v, v) for v in LAYOUTS], contract.layout),
        choice("Color", "color", [(v, v) for v in COLORS], contract.color) if not raw else None,
        field("Resize", "resize", _size(contract.resize), hint="224 (shorter side) or 224,224") if not raw else None,
        field("Crop", "crop", _size(contract.crop), hint="224,224") if not raw else None,
        field("Mean", "mean", _numbers(contract.mean), hint="per channel, pixels 0…255"),
        field("Standard deviation", "std", _numbers(contract.std)),
        choice("Task", "task", [(v, v) for v in TASKS], contract.task),
        field("First class", "offset", contract.offset, kind="number", min=0),
        tag("p", button("Use this"), class_="buttons"),
        class_="contract",
    )  # fmt: skip


def _size(size: Any) -> str:
    return "" if size is None else ",".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def contract_of(contract: InputContract, given: Mapping[str, str]) -> str:
    """The contract that a form says, as JSON.

    Raises:
        DataError: if it is none.
    """
    from bitwright.data.contract import InputContract
    from bitwright.errors import InputMismatch

    table = contract.to_dict()
    into = {k: v for k, v in table["input"].items() if k not in {"shape", "dtype", "resize", "crop"}}
    out = dict(table["output"])
    for key in ("layout", "color"):
        if key in given:
            into[key] = given[key]
    try:
        for key in ("resize", "crop"):
            if given.get(key, "").strip():
                sides = [int(n) for n in given[key].replace("x", ",").split(",")]
                into[key] = sides[0] if len(sides) == 1 and key == "resize" else sides * 2 if len(sides) == 1 else sides
        for key in ("mean", "std"):
            if key in given:
                into[key] = [float(n) for n in given[key].replace(";", ",").split(",")]
        if "offset" in given:
            out["offset"] = int(given["offset"] or 0)
    except ValueError as error:
        raise InputMismatch(
            "Preprocessing: sizes are whole numbers, mean and deviation numbers with commas."
        ) from error
    out["task"] = given.get("task", out["task"])
    if into["layout"] == "raw":
        into = {k: v for k, v in into.items() if k not in {"resize", "crop"}}
    made = {"input": into, "output": out}
    InputContract.from_dict(made)
    return json.dumps(made, sort_keys=True)


def _target(session: Session, ask: Ask, s: Settings, targets: Sequence[tuple[str, str]]) -> list[Content]:
    from bitwright.app.work import chosen_target

    rules: Content = None
    try:
        rules = tag("details", tag("summary", "All its rules"), tag("pre", label(chosen_target(s).describe(), 20_000)))
    except BitwrightError as error:
        rules = tag("p", label(str(error), 400), class_="bad")
    return [
        form(
            session, "edit", ask,
            tag("input", type="hidden", name="run", value="target"),
            tag("fieldset", tag("legend", "Which machine computes the integers?"),
                *(tag("label", tag("input", type="radio", name="target", value=name, checked=name == s.target),
                      tag("span", tag("strong", name), " ", label(title, 200)), class_="check") for name, title in targets),
                class_="options"),
            field("Or a target file", "target_file", "" if s.target in dict(targets) else s.target, hint="/path/to/mine.toml"),
            tag("p", button("Use this target", primary=True), class_="buttons"),
        ),
        rules,
        command(lines.open_line(session, s)),
    ]  # fmt: skip


def _source(session: Session, name: str, value: str, purpose: str) -> list[Content]:
    return [
        field(purpose, name, value, hint="A folder of images, a CSV (file,label), an .npz or .npy", list_="paths",
              data_paths="yes"),
    ]  # fmt: skip


def upload(session: Session, ask: Ask, purpose: str, text: str) -> Markup:
    """A place to drop samples on; a plain form without a script."""
    return form(
        session, f"upload?for={purpose}", ask,
        tag("label", tag("span", text, class_="label"), tag("input", type="file", name="files", multiple=True), class_="field"),
        tag("p", button("Upload"), class_="buttons"),
        enctype="multipart/form-data", class_="drop small", data_drop=purpose,
    )  # fmt: skip


def _calibrate(session: Session, ask: Ask, s: Settings) -> list[Content]:
    went_on = session.mark(Step.CALIBRATE) == "partial"
    return [
        tag("p", "Runs the float network once over some samples and keeps the range and histogram of every tensor. "
            "Labels are not needed.", class_="muted"),
        form(
            session, "edit", ask,
            tag("input", type="hidden", name="run", value="calibrate"),
            *_source(session, "data", s.data, "Samples"),
            field("How many", "samples", s.samples, kind="number", min=1, hint="empty: all of them"),
            field("Seed", "seed", s.seed, kind="number", min=0, hint="empty: spread evenly"),
            check("Leave out samples that cannot be read", "skip_bad", s.skip_bad),
            tag("p", button("Go on" if went_on else "Calibrate", primary=True),
                button("See the first batch", name="run", value="preview"), class_="buttons"),
        ),
        upload(session, ask, "data", "Or drop images or an .npz here"),
        tag("div", id="preview", data_src=f"/s/{session.name}/preview" if s.data else None),
        _contract(session, ask),
        command(lines.calibrate_line(session, s)),
    ]  # fmt: skip


def _quantize(session: Session, ask: Ask, s: Settings, schemes: Sequence[str]) -> list[Content]:
    options = [("", "the target's own"), *((name, name) for name in schemes), ("auto", "auto: try them, take the best")]
    by_hand: Content = None
    if s.formats:
        rows = [
            tag("tr", tag("th", label(tensor, 60), scope="row"), tag("td", label(text, 60), class_="mono"))
            for tensor, text in s.formats
        ]
        by_hand = tag(
            "section",
            tag("h3", f"Set by hand ({len(s.formats)})"),
            tag("table", tag("tbody", *rows), class_="plain"),
            form(session, "formats", ask, button("Take all back", name="reset", value="all")),
        )
    return [
        form(
            session, "edit", ask,
            tag("input", type="hidden", name="run", value="quantize"),
            choice("Scheme: how ranges become formats", "scheme", options, s.scheme),
            field("Repairs", "mend", s.mend, hint="auto, or names: correct-bias,equalize; empty: none"),
            field("Time for repairs, seconds", "seconds", s.seconds, kind="number", min=1),
            check("Take out channels proven constant", "prune", s.prune),
            tag("p", button("Quantize", primary=True), class_="buttons"),
        ),
        by_hand,
        command(lines.quantize_line(session, s)),
    ]  # fmt: skip


def _validate(session: Session, ask: Ask, s: Settings) -> list[Content]:
    from bitwright.commands.catalog import METRICS

    metrics = [("", "the usual one of the task"), *((m, m) for m in METRICS)]
    return [
        tag("p", "Runs the float network and the very integers of the device over the same samples, and compares them.",
            class_="muted"),
        form(
            session, "edit", ask,
            tag("input", type="hidden", name="run", value="validate"),
            *_source(session, "judge", s.judge, "Samples, with labels where the metric needs them"),
            field("How many", "judged", s.judged, kind="number", min=1, hint="empty: all of them"),
            choice("Metric", "metric", metrics, s.metric),
            tag("p", button("Validate", primary=True), button("Explain the loss", name="run", value="explain"),
                class_="buttons"),
        ),
        upload(session, ask, "judge", "Or drop an .npz here"),
        command(lines.validate_line(s)),
    ]  # fmt: skip


def _export(session: Session, ask: Ask, s: Settings) -> list[Content]:
    from bitwright.commands.export import format_summaries

    formats = [(name, f"{name}: {text}") for name, text in format_summaries().items()]
    made = session.made("export", Step.EXPORT, ".done")
    done: Content = None
    if made is not None:
        entry = json.loads(made.read_text("utf-8"))
        done = tag(
            "section",
            tag("h3", f"Written: {entry['to']}"),
            tag("p", label(entry["verified"], 500)) if entry["verified"] else None,
            tag("ul", *(tag("li", label(str(f).rpartition("/")[2], 100)) for f in entry["files"][:12])),
            *(tag("p", label(n, 400), class_="muted") for n in entry["notes"][:6]),
            tag("p", tag("a", "Download all (.zip)", href=f"/s/{session.name}/export.zip", download=True)),
        )
    base = f"/s/{session.name}"
    ready = session.made("quantize", Step.QUANTIZE, ".bw") is not None
    files = [
        tag("li", tag("a", "The integer network, .bw", href=f"{base}/network.bw", download=True)),
        tag("li", tag("a", "The report, one HTML file", href=f"{base}/report.html", download=True)),
        tag("li", tag("a", "See the report", href=f"{base}/report", target="_blank", rel="noopener")),
    ]
    return [
        tag("ul", *files, class_="files") if ready else tag("p", "Quantize first; then everything is here.", class_="muted"),
        form(
            session, "export", ask,
            choice("For another runtime or device", "to", formats, "onnx-int"),
            check("Read it back with another program and compare every integer", "verify", True),
            tag("p", button("Export", primary=True, disabled=not ready), class_="buttons"),
        ),
        done,
        command(lines.export_line(s, "onnx-int", {}, verify=True, output="network.onnx")),
        command(lines.report_line(s)),
    ]  # fmt: skip
