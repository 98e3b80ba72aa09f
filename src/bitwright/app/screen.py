"""Which panels a page has, each made only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from bitwright.app import middle, shell, side
from bitwright.app.ask import ROWS, Ask, Names, sorted_rows
from bitwright.app.jobs import Worker
from bitwright.app.session import NAME, NAME_OF_KEY, Session, Sessions, read_page
from bitwright.app.settings import Step
from bitwright.app.steps import step_side
from bitwright.app.whatif import Bench, Change
from bitwright.errors import BitwrightError
from bitwright.tensors import rescaled
from bitwright.view.heat import HeatSeen, heat_seen
from bitwright.view.markup import Content, Markup, label, tag
from bitwright.view.pairs import PairsSeen, pairs_seen
from bitwright.view.seen import Page, SideSeen

PANELS = ("head", "failure", "graph", "summary", "middle", "side")
HEATS = 6


@cache
def target_titles() -> tuple[tuple[str, str], ...]:
    """The targets and their titles."""
    from bitwright.commands.catalog import target_titles as titles
    from bitwright.targets.target import list_targets

    known = titles()
    return tuple((name, known.get(name, "")) for name in list_targets())


@cache
def scheme_names() -> tuple[str, ...]:
    """The schemes."""
    from bitwright.commands.catalog import scheme_names as names

    return tuple(names())


@cache
def core_names() -> tuple[str, ...]:
    """The cores that an estimate knows."""
    from bitwright.mcu.instructions import table

    return tuple(sorted(table()))


class Screen:
    """The panels of one session at one address."""

    def __init__(self, session: Session, ask: Ask, worker: Worker, sessions: Sessions) -> None:
        self.session, self.ask, self.worker, self.sessions = session, ask, worker, sessions
        self.jobs = worker.of(session.name)
        found = session.page()
        empty = Page(side=SideSeen(name=session.title, target=session.settings.target))
        self.known = found is not None
        self.page, self.fresh = found if found is not None else (empty, True)
        live = session.live
        self.filling = bool(live)
        if live:
            self.page = replace(self.page, tensors=live)
        self.names = names_of(session, self.page)
        self.ask = self._resolved(ask)

    def _resolved(self, ask: Ask) -> Ask:
        """An address whose selection exists."""
        if ask.pick == ("all",):
            marks = tuple(self.names.marks[t.name] for t in self.page.tensors if not ask.kind or t.kind == ask.kind)
            ask = ask.but(pick=marks)
        if ask.step not in {"", *Step}:
            ask = ask.but(step="")
        return ask

    def panels(self, wanted: Iterable[str] = PANELS) -> dict[str, Content]:
        """The panels called so."""
        return {name: getattr(self, f"_{name}")() for name in wanted if name in PANELS}

    def document(self) -> str:
        """The whole page."""
        return shell.app_page(self.session, self.panels())

    def _head(self) -> Content:
        return shell.header(self.session, self.ask, self.jobs, target_titles())

    def _failure(self) -> Content:
        if self.session.flash:
            return tag("section", tag("h2", "That did not work"), tag("p", label(self.session.flash, 1900)),
                       class_="failure", role="alert")  # fmt: skip
        return shell.failure(self.session, self.ask, self.jobs)

    def _graph(self) -> Content:
        if not self.known:
            return tag("p", "Opening…" if any(j.active for j in self.jobs) else "Nothing to see.", class_="muted")
        return shell.graph_panel(self.session, self.ask, self.page, self.names)

    def _summary(self) -> Content:
        if not self.known:
            return None
        measured = self.session.mark(Step.VALIDATE) == "done"
        found = self.session.quantized()
        moved = found is not None and rescaled(found[0])
        return middle.summary(self.page, fresh=self.fresh, measured=measured, moved=moved)

    def _middle(self) -> Content:
        ask = self.ask
        match ask.tab:
            case "ranges":
                body: Content = middle.ranges(self.session, ask, self.names, self.page.tensors, filling=self.filling)
            case "channels":
                body = middle.channels(ask, self._heats(), self.names)
            case "folds":
                body = middle.folds(self.page)
            case "compare":
                found, said = self._pairs()
                body = middle.compare(self.session, ask, self._others(), found, said, target_titles(), scheme_names())
            case "memory":
                from bitwright.estimating import MODELS

                body = middle.memory(self.session, ask, self.page, core_names(), configurable="config" in MODELS)
            case "log":
                body = middle.log(self.session, self.jobs, self.page if self.known else None)
        return [
            middle.tabs(ask),
            tag("div", body, class_="tab-body scroll", id="tab", tabindex=0, role="region", aria_label="Contents"),
        ]

    def _side(self) -> Content:
        ask = self.ask
        if ask.step:
            return step_side(self.session, ask, targets=target_titles(), schemes=scheme_names())
        picked = self.names.picked(ask)
        if len(picked) > 1:
            return side.many_side(self.session, ask, picked)
        if picked:
            bench = bench_of(self.session) if not self.filling else None
            found = None
            if bench is not None:
                try:
                    found = bench.try_format(picked[0], Change())
                except BitwrightError:
                    found = None
            return side.tensor_side(self.session, ask, picked[0], found, bench)
        if ask.layer in self.names.layers:
            return side.layer_side(self.session, ask, self.page, self.names)
        return side.findings_side(self.session, ask, self.page)

    def rows(self) -> Markup:
        """The rows of the table from ``ask.first`` on, for a window that moves."""
        rows = sorted_rows(self.page.tensors, self.ask)
        part = rows[self.ask.first : self.ask.first + ROWS]
        return tag("tbody", *middle.table_rows(self.ask, self.names, part, self.names.axis), id="rows")

    def _heats(self) -> list[HeatSeen]:
        bench = bench_of(self.session)
        if bench is None:
            return []
        picked = [t for t in self.names.picked(self.ask) if t.kind == "Weights"]
        worst = sorted(
            (t for t in self.page.tensors if t.kind == "Weights" and t.sqnr_db is not None),
            key=lambda t: t.sqnr_db or 0.0,
        )
        found = []
        for tensor in (picked or worst)[:HEATS]:
            seen = heat_seen(bench.q, tensor.name)
            if seen is not None and len(seen.rows) > 1:
                found.append(seen)
        return found

    # ------------------------------------------------------------------ comparing

    def _others(self) -> list[tuple[str, str]]:
        """What there is to compare with: other integers of this session, files, other sessions."""
        found = []
        now = self.session.shown.get("quantize")
        for path in sorted(self.session.folder.glob("page-*.json"), key=lambda p: -p.stat().st_mtime)[:20]:
            key = path.stem.partition("-")[2]
            if key != now and NAME_OF_KEY.fullmatch(key):
                found.append((f"q:{key}", describe(self._read(path))))
        folder = self.session.folder / "other"
        if folder.is_dir():
            found += [(f"f:{p.name}", p.name) for p in sorted(folder.iterdir()) if p.suffix in {".html", ".bw"}]
        for other in self.sessions.recent(20):
            if other.name != self.session.name and other.mark(Step.QUANTIZE) == "done":
                found.append((f"s:{other.name}", f"{other.title[:40]}, {other.settings.target}"))
        return found

    def _read(self, path: Path) -> Page:
        return self.session.kept("page", f"{path}@{path.stat().st_mtime_ns}", lambda: read_page(path))

    def _pairs(self) -> tuple[PairsSeen | None, str]:
        if not self.ask.other:
            return None, ""
        try:
            other = self._other(self.ask.other)
        except BitwrightError as error:
            return None, str(error)
        if other is None:
            return None, "That is not there any more: choose another one."
        return pairs_seen(self.page, other), ""

    def _other(self, text: str) -> Page | None:
        kind, _, name = text.partition(":")
        if kind == "q" and NAME_OF_KEY.fullmatch(name):
            path = self.session.file("page", name, ".json")
            return self._read(path) if path.is_file() else None
        if kind == "s" and NAME.fullmatch(name):
            other = self.sessions.get(name)
            found = None if other is None else other.page()
            return None if found is None else found[0]
        folder = self.session.folder / "other"
        if kind == "f" and folder.is_dir() and name in {p.name for p in folder.iterdir()}:
            from bitwright.view.report import page_of

            return page_of(folder / name)
        return None


def describe(page: Page) -> str:
    """Integers in a few words."""
    from bitwright.view.pairs import schemes_text

    by_hand = sum(name.startswith("format of") for name, _ in page.settings)
    return f"{page.side.target}, {schemes_text(page.side)}" + (f", {by_hand} set by hand" if by_hand else "")


def names_of(session: Session, page: Page) -> Names:
    """The marks of a page; the last ones are kept."""
    known = session.names
    if isinstance(known, Names) and known.page is page:
        return known
    made = Names(page)
    session.names = made
    return made


def bench_of(session: Session) -> Bench | None:
    """The integers that are shown, ready for trying formats."""
    found = session.quantized()
    if found is None:
        return None
    q = found[0]
    if rescaled(q):
        return None
    known = session.bench
    if isinstance(known, Bench) and known.q is q:
        return known
    made = Bench(q)
    session.bench = made
    return made
