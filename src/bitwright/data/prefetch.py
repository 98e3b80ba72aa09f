"""Working ahead in threads, in order, with a bound on what is held, and without a thread left over.

PIL lets go of the interpreter lock while it decodes, and NumPy while it computes, so threads are enough.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

POLL_SECONDS = 0.1


def ordered(work: Callable[[T], R], tasks: Iterable[T], workers: int, held: int) -> Generator[R, None, None]:
    """``work(task)`` for every task, in the order of the tasks, at most ``held`` of them begun and not yet taken.

    With 0 workers everything happens in the caller's thread.  Closing the iterator, an exception in ``work`` or Ctrl-C
    cancels what has not begun and waits for what has; no thread survives.
    """
    if workers <= 0:
        yield from map(work, tasks)
        return
    waiting: deque[Future[R]] = deque()
    remaining = iter(tasks)
    pool = ThreadPoolExecutor(workers, "bitwright-data")
    try:
        for task in remaining:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= max(held, 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(remaining, "close", None)
        if close is not None:
            close()


def pulled(make: Callable[[], Iterator[T]], held: int) -> Generator[T, None, None]:
    """The items of ``make()``, which runs in a thread of its own, at most ``held`` items ahead.

    For iterators that are not ours and may not be shared between threads.  The thread is a daemon, so one that hangs
    inside foreign code cannot keep the program alive; otherwise it ends, and closes the iterator, as soon as this
    iterator is closed.
    """
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(max(held, 1))
    stop = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def run() -> None:
        try:
            items = make()
            try:
                for item in items:
                    put((item,))
                    if stop.is_set():
                        break
            finally:
                close = getattr(items, "close", None)
                if close is not None:
                    close()
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="bitwright-pull", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        thread.join(timeout=2)
