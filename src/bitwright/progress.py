"""Progress in notebooks: a tqdm bar where nobody asked for another one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Progress = Callable[[int, int | None, str], None]


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook, and tqdm is there to draw a bar."""
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return False
    import importlib.util

    return importlib.util.find_spec("tqdm") is not None


@contextmanager
def notebook_bar(title: str) -> Iterator[Progress]:
    """A bar that is closed at the end, however it ends."""
    from tqdm.auto import tqdm

    bar = tqdm(total=None, desc=title, leave=False)

    def report(done: int, total: int | None, step: str) -> None:
        if total != bar.total or done < bar.n:  # another part of the work begins
            bar.reset(total=total)
        bar.set_description_str(step.capitalize() or title, refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        bar.close()


def with_notebook_bar(title: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a function that takes ``progress=`` a bar in notebooks, where the caller gave none."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs.get("progress") is not None or not in_notebook():
                return function(*args, **kwargs)
            with notebook_bar(title) as bar:
                given: Any = {**kwargs, "progress": bar}
                return function(*args, **given)

        return wrapped

    return decorate
