"""module:function: functions and metrics that a user brings along."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData, printable
from bitwright.metrics.metric import Array, Labels, Need, Unit, sample_count

__all__ = ["OwnFunction", "OwnObject", "load_attribute", "own_metric"]


def load_attribute(spec: str, *, what: str) -> Any:
    """What ``package.module:name`` or ``path/to/file.py:name`` names.

    Modules are looked for in the current folder too.  This runs the user's own code, and is only ever called with what
    the user typed; no file that bitwright reads can name a function.

    Args:
        spec: What the user wrote.
        what: What it is for, for the message.

    Raises:
        InputMismatch: if it has another form, cannot be imported, or has no such name.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise InputMismatch(f"{what} is given as module:function or file.py:function, not {printable(repr(spec))}.")
    try:
        found: Any = _module(place)
    except Exception as error:
        raise InputMismatch(
            f"{what} {printable(spec)}: {printable(place)} cannot be imported: {type(error).__name__}: "
            f"{printable(error)}. It is looked for in the current folder and where Python looks."
        ) from error
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise InputMismatch(
            f"{what} {printable(spec)}: {printable(place)} has no {printable(name)}. Check the name after the colon."
        ) from error
    return found


def _module(place: str) -> Any:
    if place.endswith(".py"):
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        return importlib.import_module(place)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(place)
    finally:
        sys.path.remove(here)


def own_metric(given: Any, name: str) -> OwnFunction | OwnObject:
    """A metric of what the user gave.

    - a class: one instance of it for each network;
    - an object with ``update(outputs, labels)`` and ``result()``: a copy of it for each network;
    - a function ``fn(outputs, labels) -> float``: called once, with all outputs.

    An attribute ``better = "lower"`` on any of them says that smaller is better.

    Raises:
        InputMismatch: if it is none of these.
    """
    if isinstance(given, type):
        given = given()
    elif hasattr(given, "update") and hasattr(given, "result"):
        given = copy.deepcopy(given)
    if hasattr(given, "update") and hasattr(given, "result"):
        return OwnObject(given, name)
    if callable(given):
        return OwnFunction(given, name)
    raise InputMismatch(
        f"The metric {printable(name)} is neither a function of (outputs, labels) nor an object with update(outputs, "
        "labels) and result()."
    )


def _better(given: Any) -> Literal["higher", "lower"]:
    return "lower" if getattr(given, "better", "higher") == "lower" else "higher"


def _figure(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputMismatch(
            f"The metric {printable(name)} returned {printable(repr(value), 60)}, not a number."
        ) from error


class OwnFunction:
    """A user's function of all outputs and labels.  Memory: all outputs, for only the function knows what it needs."""

    unit = Unit.VALUE
    needs: tuple[Need, ...] = ()

    def __init__(self, function: Callable[[list[Array], list[object] | None], float], name: str) -> None:
        self.function, self.name, self.better = function, name, _better(function)
        self._outputs: list[list[Array]] = []
        self._labels: list[object] = []
        self._labelled = True

    @property
    def chance(self) -> float | None:
        """Unknown."""
        return None

    def update(
        self,
        outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
        floats: Sequence[Array] | None = None,
    ) -> None:
        """Keep one batch: see ``Metric.update``."""
        self._outputs.append([np.array(o) for o in outputs])  # copies: an engine may use its buffers again
        self._labelled &= labels is not None
        self._labels += list(labels) if labels is not None else []

    def result(self) -> float:
        """What the function says of a list of arrays ``[samples, ...]``, one for each output, and a list of labels."""
        if not self._outputs:
            raise NoData(f"The metric {printable(self.name)} was asked for before any sample came: give at least one.")
        together = [np.concatenate(parts) for parts in zip(*self._outputs, strict=True)]
        return _figure(self.function(together, self._labels if self._labelled else None), self.name)

    def per_sample(self) -> None:
        """None: the function gives one figure."""

    def weighted(self, weights: NDArray[np.float64]) -> None:
        """None: calling a function of unknown cost a thousand times could take hours."""

    def merge(self, other: Self) -> None:
        """Append the other's outputs and labels."""
        self._outputs += other._outputs
        self._labels += other._labels
        self._labelled &= other._labelled


class OwnObject:
    """A user's object with ``update(outputs, labels)`` and ``result()``; ``per_sample()`` and ``merge()`` if it has them."""

    unit = Unit.VALUE
    needs: tuple[Need, ...] = ()

    def __init__(self, inner: Any, name: str) -> None:
        self.inner, self.name, self.better = inner, name, _better(inner)
        self._samples = 0

    @property
    def chance(self) -> float | None:
        """Unknown."""
        return None

    def update(
        self,
        outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
        floats: Sequence[Array] | None = None,
    ) -> None:
        """Hand on one batch: see ``Metric.update``."""
        self._samples += sample_count(outputs, labels)
        self.inner.update(list(outputs), labels)

    def result(self) -> float:
        """What the object says."""
        return _figure(self.inner.result(), self.name)

    def per_sample(self) -> NDArray[np.float64] | None:
        """What the object says, if it can and says one number for each sample."""
        if not hasattr(self.inner, "per_sample"):
            return None
        scores = self.inner.per_sample()
        if scores is None or np.shape(scores) != (self._samples,):
            return None
        return np.asarray(scores, np.float64)

    def weighted(self, weights: NDArray[np.float64]) -> None:
        """None: the object was not asked for that."""

    def merge(self, other: Self) -> None:
        """Merge the objects.

        Raises:
            InputMismatch: if they cannot be.
        """
        if not hasattr(self.inner, "merge"):
            raise InputMismatch(f"The metric {printable(self.name)} has no merge(other): measure in one process.")
        self.inner.merge(other.inner)
        self._samples += other._samples
