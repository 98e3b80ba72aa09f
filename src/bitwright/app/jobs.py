"""Long work in one thread of its own: it goes on when the tab is closed, tells how far it is, and can be canceled.

One job runs at a time, in the order in which they were asked for: two calibrations beside each other would each take
twice as long.  Whoever listens gets every event; who comes later asks for the list of jobs and goes on from there.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bitwright.errors import BitwrightError, printable

State = Literal["waiting", "running", "done", "canceled", "failed"]
KEPT_JOBS = 50
FASTEST = 0.05
"""Seconds between two reports of progress: a screen shows no more."""


@dataclass
class Job:
    """One piece of work.

    Attributes:
        number: Counts up over all sessions.
        session: Whose it is.
        kind: Which action.
        title: What it does, in words, for the progress line.
        command: The command line that does the same.
        state: How far it is.
        done: Units done.
        total: Units in all; None if that is not known.
        text: What is going on.
        began: When it started, seconds since the epoch.
        seconds: How long it took, once it has ended.
        error: What went wrong: its message, or empty.
        code: The error's code, ``BW202``.
        log: Where it went wrong, for people who report it.
        said: What it has to say at its end.
    """

    number: int
    session: str
    kind: str
    title: str
    command: str
    work: Callable[[Job], str]
    state: State = "waiting"
    done: int = 0
    total: int | None = None
    text: str = ""
    began: float = 0.0
    seconds: float = 0.0
    error: str = ""
    code: str = ""
    log: str = ""
    said: str = ""
    _cancel: threading.Event = field(default_factory=threading.Event)
    _raised: bool = False
    _told: float = 0.0
    _worker: Worker | None = None

    def progress(self, done: int, total: int | None, text: str) -> None:
        """Tell how far the work is.

        Raises:
            KeyboardInterrupt: once, if the job was canceled: calibration then keeps what it has.
        """
        self.done, self.total, self.text = done, total, text
        now = time.monotonic()
        if self._worker is not None and (now - self._told >= FASTEST or done == total):
            self._told = now
            self._worker.tell(self, "progress")
        if self._cancel.is_set() and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def cancel(self) -> None:
        """End it at the next report of progress."""
        self._cancel.set()

    @property
    def canceled(self) -> bool:
        """Whether it is to end."""
        return self._cancel.is_set()

    @property
    def cut_short(self) -> bool:
        """Whether it has ended before its work was done."""
        return self._raised

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in {"waiting", "running"}

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, as far as can be told."""
        if self.state != "running" or not self.total or not self.done or not self.began:
            return None
        return (time.time() - self.began) * (self.total - self.done) / self.done

    def tell(self, event: str, **more: Any) -> None:
        """Tell those who listen something of one's own."""
        if self._worker is not None:
            self._worker.tell(self, event, **more)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the page."""
        return {
            "number": self.number,
            "session": self.session,
            "kind": self.kind,
            "title": self.title,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "text": printable(self.text, 200),
            "remaining": self.remaining,
            "error": self.error,
            "code": self.code,
            "said": self.said,
        }


Listener = Callable[[Mapping[str, Any]], None]


class Worker:
    """Runs jobs one after the other in a thread of its own."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._count = 0
        self._todo: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="bitwright-app-work", daemon=True)
        self._thread.start()

    def submit(self, session: str, kind: str, title: str, command: str, work: Callable[[Job], str]) -> Job:
        """Add a job; ``work`` gets it, reports to it, and gives a sentence for the end."""
        with self._lock:
            self._count += 1
            job = Job(self._count, session, kind, title, command, work)
            job._worker = self
            ended = [one for one in self.jobs if not one.active]
            self.jobs = [one for one in self.jobs if one.active or one in ended[-KEPT_JOBS:]] + [job]
        self.tell(job, "waiting")
        self._todo.put(job)
        return job

    def of(self, session: str) -> list[Job]:
        """The jobs of a session, the latest last."""
        with self._lock:
            return [job for job in self.jobs if job.session == session]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event, from any thread; gives what ends that."""
        with self._lock:
            self._listeners.add(listener)

        def end() -> None:
            with self._lock:
                self._listeners.discard(listener)

        return end

    def tell(self, job: Job, event: str, **more: Any) -> None:
        """Send an event about a job."""
        with self._lock:
            listeners = tuple(self._listeners)
        message = {"event": event, **job.to_json(), **more}
        for listener in listeners:
            listener(message)

    def stop(self, seconds: float = 5.0) -> None:
        """Cancel what runs and wait for it."""
        for job in list(self.jobs):
            job.cancel()
        self._todo.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            self._do(job)

    def _do(self, job: Job) -> None:
        if job.canceled:
            job.state = "canceled"
            self.tell(job, "canceled")
            return
        job.began = time.time()
        job.state = "running"
        self.tell(job, "started")
        try:
            job.said = job.work(job)
            job.state = "canceled" if job.cut_short else "done"
        except KeyboardInterrupt:
            job.state = "canceled"
        except BitwrightError as error:
            job.state, job.error, job.code, job.log = "failed", printable(error, 2000), error.code, _trace(error)
        except MemoryError as error:
            job.state, job.error, job.log = "failed", "There is not enough memory for this.", _trace(error)
        except Exception as error:  # a bug of ours must end in a message, not in a thread that is gone
            job.state, job.log = "failed", _trace(error)
            job.error = (
                f"{type(error).__name__}: {printable(error, 500)}. This is a bug: please report it with the log."
            )
        finally:
            job.seconds = time.time() - job.began
            self.tell(job, job.state)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-20000:]
