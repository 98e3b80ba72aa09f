"""A running app for tests, with plain HTTP to talk to it and a real browser to look at it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn

from bitwright.app.guard import Guard
from bitwright.app.jobs import Worker
from bitwright.app.routes import Routes
from bitwright.app.server import HOST, listening
from bitwright.app.session import Session, Sessions

TOKEN = "a-token-for-tests"


@dataclass
class Answer:
    """What the app answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Running:
    """An app that is served in a thread."""

    port: int
    routes: Routes
    worker: Worker
    folder: Path
    cookie: str = field(init=False)

    def __post_init__(self) -> None:
        self.cookie = f"bitwright-{self.port}={TOKEN}"

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.origin}/?token={TOKEN}"

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        form: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Answer:
        """One request, as a page of the app would send it; a header of None is left out."""
        given: dict[str, str | None] = {"Cookie": self.cookie, "Host": f"{HOST}:{self.port}"}
        if form is not None:
            method, body = "POST", urlencode(form).encode()
            given["Content-Type"] = "application/x-www-form-urlencoded"
        if method == "POST":
            given["Origin"] = self.origin
        given |= headers or {}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "Content-Length" not in given:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def wait(self, session: Session, seconds: float = 120) -> None:
        """Until no job of the session is left to do."""
        until(lambda: not any(job.active for job in self.worker.of(session.name)), seconds)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """An app whose sessions lie in ``folder``."""
    worker = Worker()
    routes = Routes(Sessions(folder), worker)
    routes.warm()
    socket = listening(0)
    port = int(socket.getsockname()[1])
    config = uvicorn.Config(
        Guard(routes.app(), TOKEN, port),
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(port, routes, worker, folder)
    finally:
        server.should_exit = True
        thread.join(15)
        worker.stop()
        socket.close()
