"""A session: what was chosen, and the files that came of it, in one folder that the command line can use as well.

Every result lies under the key of the settings that it came from (:meth:`Settings.key`).  So undoing an edit finds the
result of before, and a step is stale when there are results, but none for the settings of now.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bitwright.app.settings import History, Settings, Step
from bitwright.errors import BadModelFile, BitwrightError, UnknownShape, printable

if TYPE_CHECKING:
    from bitwright.api import Calibration
    from bitwright.model import Model
    from bitwright.quantized import Quantized
    from bitwright.view.seen import Page

T = TypeVar("T")
VERSION = 1
LARGEST_FILE = 16 << 20
NAME = re.compile(r"[0-9a-f]{12}")
KEPT_VALUES = 12
"""Networks, calibrations and pages that stay in memory, of one session."""

Mark = Literal["todo", "stale", "done", "partial"]


class Session:
    """One network on its road.

    Attributes:
        name: Twelve hexadecimal digits; also its folder and its part of the address.
        title: What people call it: the network's file.
        folder: Where its files are.
        history: What was chosen, before, now and undone.
        shown: Kind of result → key of the one that was made or looked at last.
        touched: When it was changed last, seconds since the epoch.
    """

    def __init__(self, name: str, folder: Path, title: str, history: History) -> None:
        self.name, self.folder, self.title, self.history = name, folder, title, history
        self.shown: dict[str, str] = {}
        self.touched = time.time()
        self.version = 0
        self.live: tuple[Any, ...] = ()
        """Tensors as calibration sees them just now; empty when none runs."""
        self.flash = ""
        """What went wrong with the last form; shown until the next one."""
        self.names: object = None
        self.bench: object = None
        self._values: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def settings(self) -> Settings:
        """What is chosen now."""
        return self.history.now

    def edit(self, text: str, settings: Settings) -> bool:
        """Choose something else; whether that changed anything."""
        with self._lock:
            before = self.history
            self.history = before.edited(text, settings)
            return self._moved(before)

    def undo(self) -> bool:
        """Take the last edit back; whether there was one."""
        with self._lock:
            before = self.history
            self.history = before.undo()
            return self._moved(before)

    def redo(self) -> bool:
        """Do again what was taken back; whether there was something."""
        with self._lock:
            before = self.history
            self.history = before.redo()
            return self._moved(before)

    def _moved(self, before: History) -> bool:
        if self.history is before:
            return False
        self.changed()
        return True

    def changed(self) -> None:
        """Pages that were drawn before are old; and keep the state on disk."""
        self.version += 1
        self.touched = time.time()
        self.save()

    # ------------------------------------------------------------------ results

    def file(self, kind: str, key: str, suffix: str) -> Path:
        """Where the result ``kind`` of the settings ``key`` lies."""
        return self.folder / f"{kind}-{key}{suffix}"

    def made(self, kind: str, step: Step, suffix: str) -> Path | None:
        """The result of the settings of now, if it was made."""
        path = self.file(kind, self.settings.key(step), suffix)
        return path if path.is_file() else None

    def nearest(self, kind: str, step: Step, suffix: str) -> tuple[Path, bool] | None:
        """The result of now, or else the last one that was shown; and whether it is of now."""
        path = self.made(kind, step, suffix)
        if path is not None:
            self.shown[kind] = self.settings.key(step)
            return path, True
        old = self.shown.get(kind)
        if old is not None and self.file(kind, old, suffix).is_file():
            return self.file(kind, old, suffix), False
        return None

    def mark(self, step: Step) -> Mark:
        """How far a step is."""
        if step in {Step.NETWORK, Step.TARGET}:
            seen = any(self.folder.glob("opened-*.json")) or any(self.folder.glob("quantize-*.bw"))
            return "done" if seen else "todo"
        kinds = {Step.CALIBRATE: ".bwcal", Step.QUANTIZE: ".bw", Step.VALIDATE: ".json", Step.EXPORT: ".done"}
        suffix = kinds[step]
        if self.made(step.value, step, suffix):
            return "partial" if self.file(step.value, self.settings.key(step), ".cut").is_file() else "done"
        return "stale" if any(self.folder.glob(f"{step.value}-*{suffix}")) else "todo"

    def kept(self, kind: str, key: str, make: Callable[[], T]) -> T:
        """A value that is costly to make: the one in memory, or a new one."""
        with self._lock:
            if (kind, key) in self._values:
                self._values.move_to_end((kind, key))
                found: T = self._values[kind, key]
                return found
        value = make()
        with self._lock:
            self._values[kind, key] = value
            while len(self._values) > KEPT_VALUES:
                self._values.popitem(last=False)
        return value

    def forget(self, kind: str, key: str) -> None:
        """Make a value anew when it is wanted next."""
        with self._lock:
            self._values.pop((kind, key), None)

    def model(self, settings: Settings | None = None) -> Model:
        """The network, loaded and prepared.

        Raises:
            ModelError: if it cannot be used.
        """
        chosen = settings or self.settings
        return self.kept("model", chosen.key(Step.NETWORK), lambda: load_model(chosen))

    def calibration(self) -> Calibration | None:
        """The calibration of the settings of now, if there is one that fits the network as it is now."""
        from bitwright.api import Calibration

        path = self.made("calibrate", Step.CALIBRATE, ".bwcal")
        if path is None:
            return None
        model = self.model()
        try:
            return self.kept("calibration", path.name, lambda: Calibration.load(model, path))
        except BitwrightError:  # the network's file was changed meanwhile: calibrate again
            return None

    def quantized(self) -> tuple[Quantized, bool] | None:
        """The integer network that is shown, and whether it is of the settings of now."""
        from bitwright.quantized import Quantized

        found = self.nearest("quantize", Step.QUANTIZE, ".bw")
        if found is None:
            return None
        path, fresh = found
        return self.kept("quantized", path.name, lambda: Quantized.load(path)), fresh

    def page(self) -> tuple[Page, bool] | None:
        """What there is to see, and whether all of it belongs to the settings of now."""
        found = self.nearest("page", Step.QUANTIZE, ".json") or self.nearest("opened", Step.TARGET, ".json")
        if found is None:
            return None
        path, fresh = found
        key = path.stem.partition("-")[2]
        parts = [path]
        for kind in ("validate", "explain", "estimate"):
            other = self.newest(kind, key)
            if other is not None:
                parts.append(other)
        name = "+".join(f"{p.name}@{p.stat().st_mtime_ns}" for p in parts)
        return self.kept("page", name, lambda: merged(*parts)), fresh

    def newest(self, kind: str, quantized: str) -> Path | None:
        """The validation, explanation or estimate that belongs to the integer network of key ``quantized``."""
        if kind == "estimate":
            path = self.file(kind, quantized, ".json")
            return path if path.is_file() else None
        made = self.made(kind, Step.VALIDATE, ".json")
        if made is not None and self.settings.key(Step.QUANTIZE) == quantized:
            return made
        link = self.file(kind, f"of-{quantized}", ".txt")
        try:
            key = link.read_text("utf-8").strip()
        except OSError:
            return None
        if not NAME_OF_KEY.fullmatch(key):
            return None
        path = self.file(kind, key, ".json")
        return path if path.is_file() else None

    def keep_page(self, kind: str, key: str, page: Page) -> None:
        """Write a page, whole or not at all."""
        write(self.file(kind, key, ".json"), json.dumps(page.to_json(), ensure_ascii=False))

    # ------------------------------------------------------------------ the session's own file

    def save(self) -> None:
        """Write the session's file, whole or not at all."""
        table = {
            "version": VERSION,
            "title": self.title,
            "touched": self.touched,
            "history": self.history.to_json(),
            "shown": self.shown,
        }
        write(self.folder / "session.json", json.dumps(table, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> Session:
        """Read a session's file.

        Raises:
            BadModelFile: if it is damaged or too large.
        """
        path = folder / "session.json"
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise BadModelFile(f"{printable(path)} is larger than a session's file can be.")
            table = json.loads(path.read_text("utf-8"))
            if not isinstance(table, dict) or table.get("version") != VERSION:
                raise BadModelFile(f"{printable(path)} is not a session of this version of bitwright.")
            found = cls(folder.name, folder, str(table["title"])[:4096], History.from_json(table["history"]))
            found.touched = float(table.get("touched", 0.0))
            shown = table.get("shown", {})
            found.shown = {str(k): str(v) for k, v in shown.items() if NAME_OF_KEY.fullmatch(str(v))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadModelFile(
                f"The session in {printable(folder)} cannot be read: {printable(error, 200)}."
            ) from error
        return found


NAME_OF_KEY = re.compile(r"[0-9a-f]{16}")


def write(path: Path, text: str) -> None:
    """Write a file under another name first, so that nobody ever reads half of it."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_text(text, "utf-8")
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def merged(first: Path, *others: Path) -> Page:
    """The page of the integers, with what validation and explanation add to it.

    Raises:
        BadModelFile: if a file is damaged.
    """
    page = read_page(first)
    for path in others:
        more = read_page(path)
        if path.name.startswith("validate-"):
            page = replace(
                page, verdict=more.verdict, verdict_kind=more.verdict_kind, tiles=more.tiles, figures=more.figures,
                facts=more.facts, notes=more.notes,
            )  # fmt: skip
        elif path.name.startswith("estimate-"):
            page = replace(page, memory=more.memory, cycles=more.cycles, lanes=more.lanes)
        else:
            page = replace(
                page, findings=more.findings, profile=more.profile, profile_of=more.profile_of,
                optimized=more.optimized, network=more.network,
            )  # fmt: skip
    return page


def read_page(path: Path) -> Page:
    """A page that was written before.

    Raises:
        BadModelFile: if it is damaged.
    """
    from bitwright.view.seen import Page

    try:
        return Page.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise BadModelFile(f"{printable(path)} cannot be read: {printable(error, 200)}.") from error


def load_model(settings: Settings) -> Model:
    """The network that the settings name, with their contract and shapes.

    Raises:
        ModelError: if it cannot be used.
        DataError: if the contract cannot.
    """
    import click

    from bitwright.commands.options import parse_shapes
    from bitwright.model import load

    contract = json.loads(settings.contract) if settings.contract else None
    try:
        shapes = parse_shapes(settings.shapes)
    except click.UsageError as error:
        raise UnknownShape(error.message) from error
    return load(settings.model, input_spec=contract, shapes=shapes)


class Sessions:
    """All sessions of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def new(self, title: str, settings: Settings) -> Session:
        """A session of its own folder."""
        name = secrets.token_hex(6)
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        session = Session(name, folder, title, History(settings))
        session.save()
        with self._lock:
            self._open[name] = session
        return session

    def get(self, name: str) -> Session | None:
        """The session called ``name``, or None."""
        if not NAME.fullmatch(name):
            return None
        with self._lock:
            if name not in self._open:
                folder = self.folder / name
                if not (folder / "session.json").is_file():
                    return None
                try:
                    self._open[name] = Session.load(folder)
                except BadModelFile:
                    return None
            return self._open[name]

    def recent(self, most: int = 8) -> list[Session]:
        """The sessions that were touched last."""
        found = [s for s in map(self.get, self._names()) if s is not None]
        return sorted(found, key=lambda s: -s.touched)[:most]

    def _names(self) -> Iterator[str]:
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            files = [e for e in entries if NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
            newest = sorted(files, key=lambda e: -e.stat(follow_symlinks=False).st_mtime)[:100]
            yield from (e.name for e in newest)
