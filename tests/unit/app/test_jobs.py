"""Jobs: one after the other, canceled with what they have kept, gone on from, and told of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.app.jobs import KEPT_JOBS, Job, Worker
from bitwright.app.opener import Opener
from bitwright.app.session import Session, Sessions
from bitwright.app.settings import Step
from bitwright.app.work import Work
from bitwright.errors import BadSample, NoData
from running_app import until

DEMO = Path(bitwright.__file__).parent / "demo"


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.stop()


def ended(job: Job) -> str:
    until(lambda: not job.active)
    return job.state


def test_jobs_run_one_after_the_other_and_are_told_of(worker: Worker) -> None:
    seen: list[Mapping[str, Any]] = []
    stop = worker.listen(seen.append)
    order: list[int] = []

    def work(job: Job) -> str:
        job.progress(1, 2, "half")
        time.sleep(0.02)
        job.progress(2, 2, "whole")
        order.append(job.number)
        return "fine"

    jobs = [worker.submit("s", "k", "Title", "command", work) for _ in range(3)]
    assert [ended(job) for job in jobs] == ["done"] * 3
    assert order == [1, 2, 3]
    until(lambda: [m["event"] for m in seen].count("done") == 3)
    mine = [m["event"] for m in seen if m["number"] == 1]
    assert mine[:2] == ["waiting", "started"]
    assert "progress" in mine
    assert jobs[0].said == "fine"
    stop()
    count = len(seen)
    ended(worker.submit("s", "k", "Title", "", lambda job: ""))
    assert len(seen) == count


def test_what_goes_wrong_ends_in_words(worker: Worker) -> None:
    def bad(job: Job) -> str:
        raise BadSample("sample 3 \x1b[31m is bad", index=3)

    def bug(job: Job) -> str:
        return str(1 // 0)

    one, two = (worker.submit("s", "k", "T", "", work) for work in (bad, bug))
    assert ended(one) == ended(two) == "failed"
    assert (one.code, one.error) == ("BW202", "sample 3 \\x1b[31m is bad")
    assert "please report" in two.error
    assert "ZeroDivisionError" in two.log
    assert ended(worker.submit("s", "k", "T", "", lambda job: "")) == "done", "the thread lives on"


def test_canceling_before_and_while_it_runs(worker: Worker) -> None:
    entered, go = threading.Event(), threading.Event()

    def long(job: Job) -> str:
        entered.set()
        go.wait(10)
        for k in range(1000):
            job.progress(k, 1000, "")
        return "whole"

    running = worker.submit("s", "k", "T", "", long)
    waiting = worker.submit("s", "k", "T", "", lambda job: "never")
    entered.wait(10)
    running.cancel()
    waiting.cancel()
    go.set()
    assert ended(running) == ended(waiting) == "canceled"
    assert waiting.said == ""


def test_old_jobs_are_forgotten(worker: Worker) -> None:
    for _ in range(KEPT_JOBS + 20):
        last = worker.submit("s", "k", "T", "", lambda job: "")
        ended(last)
    assert len(worker.of("s")) <= KEPT_JOBS + 1
    assert worker.of("s")[-1] is last
    assert worker.of("other") == []


# ---------------------------------------------------------------------- with real work


def opened(tmp_path: Path, worker: Worker, samples: int) -> tuple[Session, Work]:
    """The example with so many samples, so that calibration can be caught in the middle."""
    work = Work(worker)
    session = Opener(Sessions(tmp_path), work).example()
    with np.load(DEMO / "digits-calib.npz") as arrays:
        x = np.tile(arrays["x"], (-(-samples // len(arrays["x"])), 1, 1))[:samples]
    np.savez(tmp_path / "many.npz", x=x)
    from dataclasses import replace

    session.edit("samples", replace(session.settings, data=str(tmp_path / "many.npz")))
    until(lambda: not any(job.active for job in worker.of(session.name)))
    return session, work


def test_calibration_is_watched_canceled_and_gone_on_from(
    tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitwright.calibrate.observe.WATCH_SECONDS", 0.0)
    monkeypatch.setattr("bitwright.calibrate.observe.WATCH_SHARE", 0)
    session, work = opened(tmp_path, worker, 3000)
    rows: list[int] = []

    def listener(message: Mapping[str, Any]) -> None:
        if message["event"] == "rows":
            rows.append(len(session.live))
        if (
            message["event"] == "progress"
            and message["kind"] == "calibrate"
            and message["done"] >= 500
            and len(rows) > 1
        ):
            worker.of(session.name)[-1].cancel()

    stop = worker.listen(listener)
    job = work.calibrate(session, "")
    assert ended(job) == "canceled"
    stop()
    assert max(rows) == 20, "seven weights and thirteen activations filled in"
    assert session.live == ()
    assert session.mark(Step.CALIBRATE) == "partial"
    part = session.calibration()
    assert part is not None
    assert 500 <= part.statistics.samples < 3000
    assert "are kept" in job.said
    assert session.mark(Step.QUANTIZE) == "done", "what was kept can be used"
    told = [0]
    stop = worker.listen(lambda m: told.append(m["done"]) if m["event"] == "progress" and m["total"] == 3000 else None)
    assert ended(work.calibrate(session, "")) == "done"
    stop()
    whole = session.calibration()
    assert whole is not None
    assert whole.statistics.samples == 3000
    assert session.mark(Step.CALIBRATE) == "done"
    q = session.quantized()
    assert q is not None
    assert q[0].provenance["calibration_samples"] == 3000, "integers of fewer samples are made anew"
    assert min(d for d in told if d) > part.statistics.samples, "nothing was counted twice"


def test_repairs_that_were_found_are_kept_when_canceled(tmp_path: Path, worker: Worker) -> None:
    from dataclasses import replace

    session, work = opened(tmp_path, worker, 60)
    ended(work.calibrate(session, ""))
    session.edit("repairs", replace(session.settings, mend="equalize,learn-ranges", seconds=60))

    def listener(message: Mapping[str, Any]) -> None:
        if message["event"] == "progress" and "learn-ranges" in message["text"]:
            worker.of(session.name)[-1].cancel()

    stop = worker.listen(listener)
    job = work.quantize(session, "")
    assert ended(job) == "canceled"
    stop()
    found = session.quantized()
    assert found is not None
    assert [r["repair"] for r in found[0].provenance["repairs"] if r["kept"]] == ["equalize"]
    assert session.mark(Step.QUANTIZE) == "partial"


def test_a_session_is_gone_on_with_after_a_restart(tmp_path: Path, worker: Worker) -> None:
    session, work = opened(tmp_path, worker, 40)
    ended(work.calibrate(session, ""))
    ended(work.validate(session, ""))
    again = Sessions(tmp_path).get(session.name)
    assert again is not None
    assert again.history == session.history
    assert [again.mark(s) for s in Step] == [session.mark(s) for s in Step]
    page, before = again.page(), session.page()
    assert page is not None
    assert page == before
    assert page[0].verdict
    assert [s.name for s in Sessions(tmp_path).recent()] == [session.name]


def test_missing_data_is_said(tmp_path: Path, worker: Worker) -> None:
    from dataclasses import replace

    session, work = opened(tmp_path, worker, 40)
    session.edit("", replace(session.settings, data="", judge=""))
    job = work.calibrate(session, "")
    assert ended(job) == "failed"
    assert job.code == NoData.code
    assert ended(work.quantize(session, "")) == "failed"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 99}', '{"version": 1}', '{"version": 1, "title": "x", "history": 3}']
)
def test_damaged_sessions_are_passed_over(tmp_path: Path, text: str) -> None:
    sessions = Sessions(tmp_path)
    from bitwright.app.settings import Settings

    good = sessions.new("good", Settings())
    bad = sessions.new("bad", Settings())
    (bad.folder / "session.json").write_text(text)
    (tmp_path / "not-a-session").mkdir()
    fresh = Sessions(tmp_path)
    assert [s.name for s in fresh.recent()] == [good.name]
    assert fresh.get(bad.name) is None
