"""Opening: from a path, a dropped file or the example to a session; and adding files to one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from bitwright.app import lines, uploads
from bitwright.app.session import Session, Sessions
from bitwright.app.settings import Settings, Step
from bitwright.app.work import Work
from bitwright.errors import BadModelFile, InputMismatch, NoData, printable
from bitwright.targets.target import load_target

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

EXAMPLE = Path(__file__).parent.parent / "demo"
EXAMPLE_TARGET = "fpga"


class Upload(Protocol):
    """A file from the browser."""

    @property
    def filename(self) -> str | None:
        """What it is called there."""

    @property
    def file(self) -> BinaryIO:
        """Its bytes."""


class Opener:
    """Makes sessions."""

    def __init__(self, sessions: Sessions, work: Work) -> None:
        self.sessions, self.work = sessions, work

    def path(self, text: str, given: Mapping[str, str] | None = None) -> Session:
        """Open a file of this machine.

        Args:
            text: Its path.
            given: Target, data and validation data that were named with it.

        Raises:
            BitwrightError: if it is no network, or something else is not there.
        """
        if not text.strip():
            raise BadModelFile("Give the path of a network, or drop its file on the page.")
        path = uploads.network_path(text)
        if path.endswith(".bw"):
            return self.quantized(Path(path), Path(path).name)
        settings = Settings(model=path)
        for name, value in (given or {}).items():
            if name == "target":
                load_target(value)
                settings = replace(settings, target=value)
            elif name == "data":
                settings = replace(settings, data=uploads.data_path(value))
            else:
                settings = replace(settings, judge=uploads.data_path(value))
        session = self.sessions.new(Path(path).name, settings)
        self.look(session)
        return session

    def uploaded(self, files: Sequence[Upload]) -> Session:
        """Open a file that was dropped; an input contract (.toml) or .data beside it comes along.

        Raises:
            BitwrightError: if there is none, or it is no network.
        """
        named = [(f.filename or "", f) for f in files]
        networks = [(n, f) for n, f in named if Path(n).suffix.lower() in uploads.NETWORKS]
        if not networks:
            raise BadModelFile(f"Drop a network: a file whose name ends in {', '.join(uploads.NETWORKS)}.")
        name, first = networks[0]
        title = name.replace("\\", "/").rpartition("/")[2]
        session = self.sessions.new(title, Settings())
        folder = session.folder / "files"
        path = uploads.keep(folder, name, first.file)
        for other, file in named:
            if Path(other).suffix.lower() in {".toml", ".data"}:
                kept = uploads.keep(folder, other, file.file)
                if kept.suffix == ".toml":
                    kept.rename(path.with_suffix(".toml"))
        if path.suffix == ".bw":
            return self.quantized(path, title, session)
        session.history = replace(session.history, now=Settings(model=str(path)))
        self.look(session)
        return session

    def example(self) -> Session:
        """The network that comes with bitwright, with its images."""
        settings = Settings(
            model=str(EXAMPLE / "digits.onnx"),
            target=EXAMPLE_TARGET,
            data=str(EXAMPLE / "digits-calib.npz"),
            judge=str(EXAMPLE / "digits-val.npz"),
        )
        session = self.sessions.new("digits.onnx (example)", settings)
        self.look(session)
        return session

    def look(self, session: Session) -> None:
        """Load the network in the background."""
        session.save()
        self.work.open(session, lines.open_line(session, session.settings))

    def quantized(self, path: Path, title: str, session: Session | None = None) -> Session:
        """Go on from what the command line wrote: its network, contract, calibration, target and formats.

        Raises:
            BitwrightError: if the file is damaged.
        """
        from bitwright.quantized import Quantized

        q = Quantized.load(path)
        made = session or self.sessions.new(title, Settings())
        settings = settings_of(q, made)
        made.history = replace(made.history, now=settings)
        key = settings.key(Step.QUANTIZE)
        made.shown |= {"quantize": key, "page": key, "calibrate": settings.key(Step.CALIBRATE)}
        q.save(made.file("quantize", key, ".bw"))
        made.save()
        self.work.quantize(made, lines.open_line(made, settings))
        return made

    def add(self, session: Session, purpose: str, files: Sequence[Upload]) -> None:
        """Take samples, or something to compare with.

        Raises:
            BitwrightError: if there are no files, or they are of a kind that serves no purpose.
        """
        if not files:
            raise NoData("No file came: choose one.")
        if purpose == "other":
            kept = [uploads.keep(session.folder / "other", f.filename or "", f.file) for f in files]
            session.shown["other"] = f"f:{kept[0].name}"
            session.changed()
            return
        if purpose not in {"data", "judge"}:
            raise InputMismatch(
                f"Files are for calibrating, validating or comparing, not for {printable(purpose, 40)!r}."
            )
        folder = session.folder / "files" / f"{purpose}-{secrets.token_hex(3)}"
        places = [uploads.keep(folder, f.filename or "", f.file) for f in files]
        single = len(places) == 1 and places[0].suffix in {".npz", ".npy"}
        where = str(places[0]) if single else str(folder)
        settings = (
            replace(session.settings, data=where) if purpose == "data" else replace(session.settings, judge=where)
        )
        session.edit("calibration samples" if purpose == "data" else "validation samples", settings)


def settings_of(q: Quantized, session: Session) -> Settings:
    """The settings that lead to ``q``, as far as its file tells; its network and calibration become files."""
    import json

    from bitwright.errors import BitwrightError

    network = q.artefact.network
    model = session.folder / "files" / f"{uploads.safe_name(f'{q.name}.onnx')}"
    model.parent.mkdir(parents=True, exist_ok=True)
    if network is not None:
        model.write_bytes(network)
    else:
        found = dict(q.provenance.get("network_file") or {}).get("path", "")
        if not Path(str(found)).is_file():
            raise BadModelFile(f"The float network of this file is not in it, and {printable(found)} is not there.")
        model = Path(str(found))
    target = q.target.name
    from bitwright.explain.toml import toml
    from bitwright.targets.target import list_targets

    if target not in list_targets() or load_target(target) != q.target:
        path = session.folder / "target.toml"
        path.write_text(toml(q.target.to_dict()), "utf-8")
        target = str(path)
        try:
            load_target(target)
        except BitwrightError as error:
            raise BadModelFile(f"The target in this file cannot be used: {error}") from error
    schemes = dict(q.provenance.get("schemes", {}))
    same = schemes.get("activation", "")
    own = q.target.schemes
    scheme = "" if (own.activation, own.weight) == (same, schemes.get("weight", "")) else str(same)
    given = dict(dict(q.provenance.get("formats") or {}).get("given") or {})
    kept = [str(r["repair"]) for r in q.provenance.get("repairs", ()) if r.get("kept")]
    settings = Settings(
        model=str(model),
        contract=json.dumps(q.contract.to_dict(), sort_keys=True),
        target=target,
        scheme=scheme,
        formats=tuple((str(t), str(f)) for t, f in given.items()),
        mend=",".join(kept),
    )
    if q.artefact.calibration is not None:
        session.file("calibrate", settings.key(Step.CALIBRATE), ".bwcal").write_bytes(q.artefact.calibration)
    return settings
