"""The actions of the app, each as a job: what the command line does, with the session's files in the place of names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.app.jobs import Job, Worker
from bitwright.app.session import Session, write
from bitwright.app.settings import Settings, Step
from bitwright.errors import BitwrightError, CalibrationError, NoData, printable

if TYPE_CHECKING:
    from bitwright.api import Calibration
    from bitwright.calibrate.statistics import Statistics
    from bitwright.metrics.validation import Validation
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target

AT_ONCE = 0.001
"""Seconds for repairs that only reads what an earlier run kept."""


class Work:
    """Runs actions of sessions on a worker.

    Attributes:
        worker: Where they run.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._validations: dict[str, Validation] = {}
        self._explanations: dict[str, Any] = {}

    def submit(self, session: Session, kind: str, title: str, command: str, do: Callable[[Job], str]) -> Job:
        """Add an action; the page that it leaves is newer than those before."""

        def work(job: Job) -> str:
            try:
                return do(job)
            finally:
                session.live = ()
                session.changed()

        return self.worker.submit(session.name, kind, title, command, work)

    # ------------------------------------------------------------------ open

    def open(self, session: Session, command: str) -> Job:
        """Load the network and look at it for its target."""
        settings = session.settings

        def do(job: Job) -> str:
            job.progress(0, None, "reading the network")
            look_at(session, settings)
            return ""

        return self.submit(session, "open", "Opening", command, do)

    # ------------------------------------------------------------------ calibrate

    def calibrate(self, session: Session, command: str) -> Job:
        """Collect statistics, strips filling in, and choose formats at once where that is quick."""
        settings = session.settings

        def do(job: Job) -> str:
            found = collect(session, settings, job)
            said = f"{found.statistics.samples:,} samples"
            if found.statistics.partial:
                said += " so far are kept: calibrate again to go on, or use them as they are"
            if not settings.mend and settings.scheme != "auto":
                self.make(session, settings, job)
            return said

        return self.submit(session, "calibrate", "Calibrating", command, do)

    # ------------------------------------------------------------------ quantize

    def quantize(self, session: Session, command: str, *, judge: bool = False) -> Job:
        """Choose formats and write the integers; with ``judge`` validate them too, if there is data for that."""
        settings = session.settings
        title = "Mending" if settings.mend else "Quantizing"

        def do(job: Job) -> str:
            q = self.make(session, settings, job)
            if judge and settings.judge and not job.canceled:
                return self.measure(session, settings, q, job)
            repairs = [r for r in q.provenance["repairs"] if r["kept"]]
            kept = f", {len(repairs)} repairs kept" if settings.mend else ""
            return f"{len(q.provenance['layers'])} layers{kept}"

        return self.submit(session, "quantize", title, command, do)

    def make(self, session: Session, settings: Settings, job: Job, *, show: bool = True) -> Quantized:
        """The integers of ``settings``: those on disk, or new ones.

        Raises:
            CalibrationError: if nothing was calibrated.
        """
        from bitwright.quantized import Quantized
        from bitwright.view.look import look

        key = settings.key(Step.QUANTIZE)
        path = session.file("quantize", key, ".bw")
        cut = session.file("quantize", key, ".cut")
        if path.is_file() and not cut.is_file():
            q = Quantized.load(path)
        else:
            q, whole = new_integers(session, settings, job)
            job.progress(100, 100, "writing the integers")
            q.save(path)
            if whole:
                cut.unlink(missing_ok=True)
            else:
                write(cut, "canceled: the repairs that were found are kept\n")
        session.keep_page("page", key, look(q))
        if show:
            session.shown |= {"quantize": key, "page": key}
            session.forget("quantized", path.name)
            job.tell("result")
        return q

    def variant(self, session: Session, target: str, scheme: str) -> Job:
        """Integers for another target or scheme, made to be compared with.

        Raises:
            BitwrightError: if there is no such target or scheme.
        """
        from bitwright.app import lines
        from bitwright.calibrate.scheme import load as load_scheme
        from bitwright.targets.target import load_target

        load_target(target)
        if scheme not in {"", "auto"}:
            load_scheme(scheme)
        settings = replace(session.settings, target=target, scheme=scheme, formats=(), mend="")

        def do(job: Job) -> str:
            self.make(session, settings, job, show=False)
            session.shown["other"] = f"q:{settings.key(Step.QUANTIZE)}"
            return f"B is {target}, {scheme or 'its own schemes'}"

        return self.submit(session, "variant", "Quantizing B", lines.quantize_line(session, settings), do)

    def export_place(self, session: Session, to: str) -> Path:
        """Where an export goes.

        Raises:
            ExportError: if there is no such format.
        """
        return export_path(session, session.settings, to)

    # ------------------------------------------------------------------ validate

    def validate(self, session: Session, command: str) -> Job:
        """Measure the integers against the float network."""
        settings = session.settings

        def do(job: Job) -> str:
            q = self.make(session, settings, job)
            return self.measure(session, settings, q, job)

        return self.submit(session, "validate", "Validating", command, do)

    def measure(self, session: Session, settings: Settings, q: Quantized, job: Job) -> str:
        """Validate ``q`` and keep what there is to see."""
        from bitwright.validating import validate
        from bitwright.view.look import look

        if not settings.judge:
            raise NoData("Validating needs samples: give a file or a folder under Validate.")
        result = validate(
            q, settings.judge, settings.metric or None, samples=settings.judged, skip_bad=settings.skip_bad,
            progress=job.progress,
        )  # fmt: skip
        key = settings.key(Step.VALIDATE)
        self._validations[key] = result
        session.keep_page("validate", key, look(q, validation=result, data=settings.judge, command=job.command))
        write(session.file("validate", f"of-{settings.key(Step.QUANTIZE)}", ".txt"), key)
        return result.verdict.text

    # ------------------------------------------------------------------ explain

    def explain(self, session: Session, command: str) -> Job:
        """Measure what each layer and each cause costs, and try remedies."""
        settings = session.settings

        def do(job: Job) -> str:
            from bitwright.explain.entry import explain
            from bitwright.view.look import look

            q = self.make(session, settings, job)
            data = settings.judge or settings.data
            samples = settings.judged if settings.judge else settings.samples
            found = explain(
                q, data, samples=samples, seed=settings.seed, skip_bad=settings.skip_bad, progress=job.progress
            )
            key = settings.key(Step.VALIDATE)
            validation = self._validations.get(key)
            session.keep_page("explain", key, look(q, validation=validation, explanation=found))
            write(session.file("explain", f"of-{settings.key(Step.QUANTIZE)}", ".txt"), key)
            return f"{len(found.findings)} findings"

        return self.submit(session, "explain", "Explaining", command, do)

    # ------------------------------------------------------------------ cost

    def estimate(self, session: Session, command: str, core: str, config: str) -> Job:
        """What the integers would cost on a device: memory, instructions or cycles of each layer.

        Args:
            session: The session.
            command: The command line that does the same.
            core: A microcontroller's core; empty for a configuration.
            config: Configuration of a processor, in place of a core.
        """
        settings = session.settings

        def do(job: Job) -> str:
            from bitwright.estimating import estimate
            from bitwright.view.look import look

            q = self.make(session, settings, job)
            job.progress(0, None, f"estimating {config or core}")
            cost = estimate(q, core=core or None, config=config or None)
            session.keep_page("estimate", settings.key(Step.QUANTIZE), look(q, cost=cost))
            speed = "" if cost.frames_per_s is None else f", {cost.frames_per_s:.3g} frames a second"
            return f"{cost.count:,} {cost.unit} on {cost.device}{speed}, {cost.basis}"

        return self.submit(session, "estimate", "Estimating", command, do)

    # ------------------------------------------------------------------ export

    def export(self, session: Session, command: str, to: str, options: Mapping[str, str], *, verify: bool) -> Job:
        """Write the integers for another runtime, into the session's folder."""
        settings = session.settings

        def do(job: Job) -> str:
            from bitwright.export.registry import find_exporter
            from bitwright.export.verify import export

            exporter = find_exporter(to)
            q = self.make(session, settings, job)
            job.progress(0, None, f"writing {to}")
            place = export_path(session, settings, to)
            result = export(q, to, place, verify=verify, options=exporter.parse(options))
            reading = result.reading
            entry = {
                "to": to,
                "files": [str(f) for f in result.report.files],
                "notes": list(result.report.notes),
                "verified": reading.sentence if reading is not None else "",
                "certificate": str(result.certificate or ""),
            }
            write(session.file("export", settings.key(Step.EXPORT), ".done"), json.dumps(entry))
            return f"{len(result.report.files)} files" + (f"; {reading.sentence}" if reading is not None else "")

        return self.submit(session, "export", f"Exporting {to}", command, do)


def export_path(session: Session, settings: Settings, to: str) -> Path:
    """The file or folder that an export writes; its name tells which integers they are."""
    from bitwright.export.registry import find_exporter

    exporter = find_exporter(to)
    folder = session.folder / f"export-{settings.key(Step.QUANTIZE)}"
    folder.mkdir(exist_ok=True)
    name = exporter.name if exporter.path == "folder" else f"network-{exporter.name}{exporter.suffix}"
    return folder / name


def chosen_target(settings: Settings) -> Target:
    """The target that the settings name.

    Raises:
        TargetError: if there is none.
    """
    from bitwright.targets.target import load_target

    return load_target(settings.target)


def look_at(session: Session, settings: Settings) -> None:
    """Make the page of a network that is not calibrated, unless it is there."""
    from bitwright.app.opening import opened

    key = settings.key(Step.TARGET)
    if not session.file("opened", key, ".json").is_file():
        session.keep_page("opened", key, opened(session.model(settings), chosen_target(settings)))
    session.shown["opened"] = key


def collect(session: Session, settings: Settings, job: Job) -> Calibration:
    """Calibrate; what an earlier run kept is gone on from.

    Raises:
        NoData: if there is nothing to calibrate with.
        KeyboardInterrupt: if the job was canceled before anything was counted.
    """
    from bitwright.api import calibrate

    if not settings.data:
        raise NoData("Calibrating needs samples: give a file or a folder under Calibrate.")
    key = settings.key(Step.CALIBRATE)
    path, cut = session.file("calibrate", key, ".bwcal"), session.file("calibrate", key, ".cut")
    model = session.model(settings)
    look_at(session, settings)
    watch = Watcher(session, settings, job)
    found = calibrate(
        model, settings.data, samples=settings.samples, seed=settings.seed, skip_bad=settings.skip_bad,
        progress=job.progress, checkpoint=session.file("calibrate", key, ".part"), watch=watch,
    )  # fmt: skip
    found.save(path)
    if found.statistics.partial:
        write(cut, f"{found.statistics.samples}\n")
    else:
        cut.unlink(missing_ok=True)
    # Integers that were made from fewer samples are of this key too.
    for old in session.folder.glob("quantize-*.from"):
        if old.read_text("utf-8").strip() == key:
            old.with_suffix(".bw").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
    session.forget("calibration", path.name)
    session.shown["calibrate"] = key
    return found


class Watcher:
    """Turns what calibration has counted so far into tensors that the table can show."""

    def __init__(self, session: Session, settings: Settings, job: Job) -> None:
        from bitwright.api import role_schemes

        self._session, self._job = session, job
        self._target = chosen_target(settings)
        self._spec = session.model(settings).spec(self._target)
        self._schemes = role_schemes(self._target, None).made
        page = session.page()
        self._weights = () if page is None else tuple(t for t in page[0].tensors if t.kind == "Weights")
        self._formats: dict[str, Any] = {}

    def __call__(self, statistics: Statistics) -> None:
        """Show them."""
        from bitwright.app.filling import activations_seen
        from bitwright.calibrate.assign import assign

        try:
            formats = assign(self._spec, statistics, self._target, self._schemes, weights=self._formats)
        except (BitwrightError, ValueError):  # too little was seen yet for some tensor; the end will tell
            return
        self._formats = dict(formats.weights)
        self._session.live = (*self._weights, *activations_seen(self._spec, statistics, formats))
        self._session.version += 1
        self._job.tell("rows")


def new_integers(session: Session, settings: Settings, job: Job) -> tuple[Quantized, bool]:
    """Quantize by the settings; a canceled run of repairs gives what it had found, and says so.

    Raises:
        CalibrationError: if nothing was calibrated.
    """
    from bitwright.api import quantize

    calibration = calibration_of(session, settings)
    if calibration is None:
        raise CalibrationError("Nothing was calibrated with these settings yet: calibrate first.")
    key = settings.key(Step.QUANTIZE)
    kept = session.file("mend", key, ".part")
    runs = settings.mend or settings.scheme == "auto"

    def made(seconds: float, progress: Callable[[int, int | None, str], None] | None) -> Quantized:
        return quantize(
            session.model(settings), calibration, settings.target, scheme=settings.scheme or None,
            formats=settings.given, mend=settings.mend or None, mend_seconds=seconds,
            checkpoint=kept if settings.mend else None, data=settings.data if runs else None,
            samples=settings.samples if runs else None, seed=settings.seed, prune=settings.prune,
            skip_bad=settings.skip_bad, progress=progress,
        )  # fmt: skip

    job.progress(0, None, "choosing formats")
    whole = True
    try:
        q = made(settings.seconds, job.progress)
    except KeyboardInterrupt:
        if not settings.mend or not kept.is_file():
            raise
        q, whole = made(AT_ONCE, None), False
    write(session.file("quantize", key, ".from"), settings.key(Step.CALIBRATE))
    return q, whole


def calibration_of(session: Session, settings: Settings) -> Calibration | None:
    """The calibration of ``settings``, if there is one that fits."""
    from bitwright.api import Calibration

    path = session.file("calibrate", settings.key(Step.CALIBRATE), ".bwcal")
    if not path.is_file():
        return None
    try:
        return session.kept("calibration", path.name, lambda: Calibration.load(session.model(settings), path))
    except BitwrightError as error:
        raise CalibrationError(f"{printable(error, 400)}") from error
