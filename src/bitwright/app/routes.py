"""What the app answers to which address.  Everything that a button does is a form that works without a script too."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from bitwright.app import lines, uploads
from bitwright.app.ask import Ask
from bitwright.app.edits import change_of, edited, formats_set, remedied
from bitwright.app.jobs import Worker
from bitwright.app.opener import Opener
from bitwright.app.preview import preview
from bitwright.app.screen import PANELS, Screen, bench_of, names_of, scheme_names, target_titles
from bitwright.app.session import Session, Sessions
from bitwright.app.settings import Step
from bitwright.app.side import tried
from bitwright.app.start import refusal_page, start_page
from bitwright.app.work import Work
from bitwright.errors import BitwrightError, InputMismatch, NoData, printable
from bitwright.view.markup import label, tag

STATIC = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES_AT_ONCE = 2000
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)
BEAT = 15.0
"""Seconds between two signs of life of a stream."""


class Routes:
    """The addresses of one running app."""

    def __init__(self, sessions: Sessions, worker: Worker) -> None:
        self.sessions, self.worker, self.work = sessions, worker, Work(worker)
        self.opener = Opener(sessions, self.work)
        self.error = ""

    def warm(self) -> None:
        """Load what the first page needs while the browser is still coming."""
        import bitwright.view.look  # noqa: F401

        target_titles()
        scheme_names()

    def app(self) -> Starlette:
        """The ASGI application, without its guard."""
        get, post = ["GET"], ["POST"]
        s = "/s/{session}"
        return Starlette(
            routes=[
                Route("/", self.start, methods=get),
                Route("/open", self.open, methods=post),
                Route("/upload", self.upload_network, methods=post),
                Route("/paths", self.paths, methods=get),
                Route("/static/{name}", static, methods=get),
                Route(s, self.page, methods=get),
                Route(s + "/rows", self.rows, methods=get),
                Route(s + "/whatif", self.whatif, methods=get),
                Route(s + "/preview", self.preview, methods=get),
                Route(s + "/events", self.events, methods=get),
                Route(s + "/edit", self.edit, methods=post),
                Route(s + "/formats", self.formats, methods=post),
                Route(s + "/remedy", self.remedy, methods=post),
                Route(s + "/variant", self.variant, methods=post),
                Route(s + "/run/{action}", self.run, methods=post),
                Route(s + "/estimate", self.estimate, methods=post),
                Route(s + "/export", self.export, methods=post),
                Route(s + "/cancel", self.cancel, methods=post),
                Route(s + "/undo", self.undo, methods=post),
                Route(s + "/redo", self.redo, methods=post),
                Route(s + "/upload", self.upload, methods=post),
                Route(s + "/network.bw", self.network_file, methods=get),
                Route(s + "/report.html", self.report_file, methods=get),
                Route(s + "/report.md", self.markdown_file, methods=get),
                Route(s + "/report", self.report_shown, methods=get),
                Route(s + "/export.zip", self.export_file, methods=get),
            ],
            exception_handlers={404: _missing, BitwrightError: _failed},
        )

    # ------------------------------------------------------------------ opening

    def start(self, request: Request) -> Response:
        """The first page."""
        error, self.error = self.error, ""
        return HTMLResponse(start_page(self.sessions.recent(), error))

    async def open(self, request: Request) -> Response:
        """Open a path or the example."""
        fields = _texts(await request.form())
        return await run_in_threadpool(self._opened, lambda: self.opener.example() if fields.get("example") else
                                       self.opener.path(fields.get("path", "")))  # fmt: skip

    async def upload_network(self, request: Request) -> Response:
        """Open a file that was dropped."""
        form = await request.form(max_files=4, max_fields=20)
        files = [v for v in form.getlist("files") if isinstance(v, UploadFile) and v.filename]
        try:
            return await run_in_threadpool(self._opened, lambda: self.opener.uploaded(files))
        finally:
            await form.close()

    def _opened(self, open_: Callable[[], Session]) -> Response:
        try:
            session = open_()
        except BitwrightError as error:
            self.error = str(error)
            return RedirectResponse("/", 303)
        return RedirectResponse(f"/s/{session.name}", 303)

    def paths(self, request: Request) -> Response:
        """Paths that go on from what was typed."""
        return JSONResponse(uploads.offered(request.query_params.get("text", "")[:4096]))

    # ------------------------------------------------------------------ looking

    def _session(self, request: Request) -> Session:
        session = self.sessions.get(request.path_params["session"])
        if session is None:
            raise NoData("There is no such session: it was deleted, or belongs to another folder.")
        return session

    def _screen(self, session: Session, ask: Ask) -> Screen:
        return Screen(session, ask, self.worker, self.sessions)

    def page(self, request: Request) -> Response:
        """The whole page, or the panels that a script asks for."""
        session = self._session(request)
        screen = self._screen(session, Ask.of(request.query_params.items()))
        wanted = request.headers.get("x-panels")
        if wanted is None:
            return HTMLResponse(screen.document())
        return self._panels(screen, wanted.split(","))

    def _panels(self, screen: Screen, wanted: list[str]) -> Response:
        made = screen.panels(wanted)
        plain = {name: str(tag("div", content)) for name, content in made.items()}
        return JSONResponse({"panels": plain, "query": screen.ask.query, "version": screen.session.version})

    def rows(self, request: Request) -> Response:
        """A window of the table."""
        session = self._session(request)
        return HTMLResponse(tag("table", self._screen(session, Ask.of(request.query_params.items())).rows()))

    def whatif(self, request: Request) -> Response:
        """A tensor in another format, while it is dragged."""
        session = self._session(request)
        query = request.query_params
        bench, page = bench_of(session), session.page()
        tensor = None if page is None else names_of(session, page[0]).tensors.get(query.get("mark", ""))
        if bench is None or tensor is None:
            return HTMLResponse(tag("p", "Quantize first.", class_="muted"), 409)
        try:
            found = bench.try_format(tensor, change_of(dict(query)))
        except BitwrightError as error:
            return HTMLResponse(tag("p", label(str(error), 900), class_="refusal", role="alert"), 422)
        return HTMLResponse(tried(session, Ask.of(query.items()), found, bench))

    def preview(self, request: Request) -> Response:
        """The first batch."""
        try:
            return HTMLResponse(preview(self._session(request)))
        except BitwrightError as error:
            return HTMLResponse(tag("p", label(str(error), 1900), class_="bad", role="alert"))

    async def events(self, request: Request) -> Response:
        """Progress, as it happens (server-sent events)."""
        session = await run_in_threadpool(self._session, request)
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(1000)

        def put(message: Mapping[str, Any]) -> None:
            if message["session"] == session.name and not (waiting.full() and message["event"] == "progress"):
                waiting.put_nowait(message)

        def listener(message: Mapping[str, Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(put, message)

        end = self.worker.listen(listener)

        async def stream() -> AsyncIterator[str]:
            try:
                state = [job.to_json() for job in self.worker.of(session.name)[-1:]]
                yield f"retry: 2000\nevent: hello\ndata: {json.dumps({'jobs': state, 'version': session.version})}\n\n"
                while True:
                    try:
                        message = await asyncio.wait_for(waiting.get(), BEAT)
                    except TimeoutError:
                        yield ": still here\n\n"
                        continue
                    yield f"event: job\ndata: {json.dumps({**message, 'version': session.version})}\n\n"
            finally:
                end()

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    # ------------------------------------------------------------------ doing

    async def edit(self, request: Request) -> Response:
        """Change settings, and run what the button says."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            text, settings = edited(session, fields)
            run = fields.get("run", "")
            session.edit(text, settings)
            if run in {"open", "target"} or "contract" in fields:
                if session.mark(Step.CALIBRATE) not in {"done", "partial"} or run == "open":
                    self.work.open(session, lines.open_line(session, settings))
            elif run in ACTIONS:
                self._run(session, run)

        return await self._done(request, fields, do)

    async def run(self, request: Request) -> Response:
        """Run a step with the settings of now."""
        fields = _texts(await request.form())
        return await self._done(request, fields, lambda session: self._run(session, request.path_params["action"]))

    def _run(self, session: Session, action: str) -> None:
        s = session.settings
        if action not in ACTIONS:
            raise InputMismatch(f"There is no action {printable(action, 40)!r}.")
        if any(job.active and job.kind == action for job in self.worker.of(session.name)):
            raise InputMismatch("This runs already.")
        match action:
            case "open":
                self.work.open(session, lines.open_line(session, s))
            case "calibrate":
                self.work.calibrate(session, lines.calibrate_line(session, s))
            case "quantize":
                self.work.quantize(session, lines.quantize_line(session, s))
            case "validate":
                self.work.validate(session, lines.validate_line(s))
            case "explain":
                self.work.explain(session, lines.explain_line(s))

    async def formats(self, request: Request) -> Response:
        """Set, move or take back formats; then quantize and validate again for exact figures."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            bench, page = bench_of(session), session.page()
            if bench is None or page is None:
                raise NoData("Quantize first.")
            text, settings = formats_set(session, fields, bench, names_of(session, page[0]).tensors.get)
            if session.edit(text, settings):
                self.work.quantize(session, lines.quantize_line(session, settings), judge=True)

        return await self._done(request, fields, do)

    async def remedy(self, request: Request) -> Response:
        """Apply the remedy of a finding, and measure what it brings."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            page = session.page()
            findings = () if page is None else page[0].findings
            number = int(fields["finding"]) if fields.get("finding", "").isdigit() else -1
            if not 0 <= number < len(findings):
                raise NoData("That finding is not there any more.")
            text, settings = remedied(session, findings[number])
            session.edit(text, settings)
            if session.mark(Step.CALIBRATE) in {"todo", "stale"}:
                self.work.calibrate(session, lines.calibrate_line(session, settings))
            self.work.quantize(session, lines.quantize_line(session, settings), judge=True)

        return await self._done(request, fields, do)

    async def variant(self, request: Request) -> Response:
        """Integers for another target or scheme, to compare with; the session stays as it is."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            self.work.variant(session, fields.get("target", ""), fields.get("scheme", ""))

        return await self._done(request, fields, do)

    async def export(self, request: Request) -> Response:
        """Write the integers for another runtime."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            to, verify = fields.get("to", ""), fields.get("verify") == "yes"
            options = dict([item.split("=", 1) for item in fields.get("options", "").split() if "=" in item])
            place = self.work.export_place(session, to)
            line = lines.export_line(session.settings, to, options, verify=verify, output=str(place))
            self.work.export(session, line, to, options, verify=verify)

        return await self._done(request, fields, do)

    async def estimate(self, request: Request) -> Response:
        """What the integers would cost on a device."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            core, config = fields.get("core", "").strip(), fields.get("config", "").strip()
            line = lines.estimate_line(session.settings, core, config)
            self.work.estimate(session, line, core, config)

        return await self._done(request, fields, do)

    async def cancel(self, request: Request) -> Response:
        """End a job; what it has collected is kept."""
        fields = _texts(await request.form())

        def do(session: Session) -> None:
            for job in self.worker.of(session.name):
                if job.active and fields.get("job", str(job.number)) == str(job.number):
                    job.cancel()

        return await self._done(request, fields, do)

    async def undo(self, request: Request) -> Response:
        """Take the last edit back."""
        return await self._done(request, _texts(await request.form()), lambda session: _ignore(session.undo()))

    async def redo(self, request: Request) -> Response:
        """Do it again."""
        return await self._done(request, _texts(await request.form()), lambda session: _ignore(session.redo()))

    async def upload(self, request: Request) -> Response:
        """Samples or something to compare with, from the browser."""
        form = await request.form(max_files=FILES_AT_ONCE, max_fields=20)
        files = [v for v in form.getlist("files") if isinstance(v, UploadFile) and v.filename]
        purpose = request.query_params.get("for", "")
        try:
            return await self._done(request, _texts(form), lambda session: self.opener.add(session, purpose, files))
        finally:
            await form.close()

    async def _done(self, request: Request, fields: Mapping[str, str], do: Callable[[Session], None]) -> Response:
        """Do something to a session; what goes wrong is said on the page, and the page is that of before."""

        def run() -> Response:
            session = self._session(request)
            session.flash = ""
            try:
                do(session)
            except BitwrightError as error:
                session.flash = str(error)
            ask = Ask.of(_query(fields.get("back", "?")))
            if fields.get("after-ask"):
                ask = ask.but(other=session.shown.get("other", ""))
            wanted = request.headers.get("x-panels")
            if wanted is not None:
                return self._panels(self._screen(session, ask), wanted.split(",") if wanted != "all" else list(PANELS))
            return RedirectResponse(f"/s/{session.name}{ask.query}", 303)

        return await run_in_threadpool(run)

    # ------------------------------------------------------------------ files

    def _bw(self, session: Session) -> Path:
        path = session.made("quantize", Step.QUANTIZE, ".bw")
        if path is None:
            raise NoData("There are no integers of these settings yet: quantize first.")
        return path

    def network_file(self, request: Request) -> Response:
        """The quantized network."""
        session = self._session(request)
        return FileResponse(self._bw(session), filename=f"{_stem(session)}.bw", media_type="application/octet-stream")

    def _report(self, session: Session) -> Any:
        from bitwright.quantized import Quantized
        from bitwright.view.report import Report, heats_of

        path = self._bw(session)
        found = session.page()
        if found is None:
            raise NoData("There is nothing to report yet: quantize first.")
        q = session.kept("quantized", path.name, lambda: Quantized.load(path))
        return Report(found[0], heats_of(q, found[0]))

    def report_file(self, request: Request) -> Response:
        """The report, to be kept."""
        session = self._session(request)
        named = {"content-disposition": f'attachment; filename="{_stem(session)}.html"'}
        return HTMLResponse(self._report(session).html, headers={**named, "content-security-policy": REPORT_POLICY})

    def report_shown(self, request: Request) -> Response:
        """The report, shown in a page of no origin."""
        return HTMLResponse(
            self._report(self._session(request)).html, headers={"content-security-policy": REPORT_POLICY}
        )

    def markdown_file(self, request: Request) -> Response:
        """The summary for a pull request."""
        return PlainTextResponse(self._report(self._session(request)).markdown())

    def export_file(self, request: Request) -> Response:
        """All files of the last export."""
        session = self._session(request)
        folder = session.folder / f"export-{session.settings.key(Step.QUANTIZE)}"
        if not folder.is_dir():
            raise NoData("Nothing was exported with these settings yet.")
        with tempfile.TemporaryDirectory() as place:
            made = shutil.make_archive(str(Path(place) / "export"), "zip", folder)
            kept = session.folder / f".export-{secrets.token_hex(4)}.zip"
            shutil.move(made, kept)
        from starlette.background import BackgroundTask

        task = BackgroundTask(kept.unlink, missing_ok=True)
        return FileResponse(kept, filename=f"{_stem(session)}.zip", media_type="application/zip", background=task)


ACTIONS = ("open", "calibrate", "quantize", "validate", "explain")


def _ignore(_: object) -> None:
    """Nothing: whether there was something to undo shows on the page."""


def _texts(form: FormData) -> dict[str, str]:
    """The fields of a form that are text; of several with one name the last."""
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def _query(text: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(text.lstrip("?")[:1_000_000], keep_blank_values=True)


def _stem(session: Session) -> str:
    return uploads.safe_name(f"{Path(session.settings.model).stem}.bw").removesuffix(".bw")


def static(request: Request) -> Response:
    """A file of the app, or the stylesheet of the marks."""
    name = request.path_params["name"]
    if name == "marks.css":
        from bitwright.view.style import stylesheet

        return Response(stylesheet(), media_type="text/css")
    path = STATIC / name
    if "/" in name or "\\" in name or path.suffix not in KINDS or not path.is_file():
        return PlainTextResponse("There is no such file.", 404)
    return FileResponse(path, media_type=KINDS[path.suffix])


def _missing(request: Request, error: Exception) -> Response:
    return HTMLResponse(refusal_page("Nothing here", "There is no page at this address."), 404)


def _failed(request: Request, error: Exception) -> Response:
    said = cast(BitwrightError, error)
    return HTMLResponse(refusal_page("That is not there", str(said)), 404 if isinstance(said, NoData) else 422)
