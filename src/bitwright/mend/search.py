"""The search: repairs in the order that is known to matter, each kept only if the integer result is better."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import Formats, RoleSchemes, assign
from bitwright.calibrate.spec import NetworkSpec, read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.errors import NoData
from bitwright.lower import Constants
from bitwright.mend import checkpoint as saved
from bitwright.mend.bench import Bench, Score
from bitwright.mend.registry import AUTO, read_repairs
from bitwright.mend.repair import Clock, Repair
from bitwright.mend.solution import Solution
from bitwright.mend.threads import one_thread
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.targets.target import Target

MOST_SAMPLES = 256
HELD = 0.32
GOOD_ENOUGH = 25.0
"""dB from which answers of the integer network hardly differ."""

OUT_OF_TIME = "the time was up"

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One repair that was tried.

    Attributes:
        repair: Its name and options.
        text: What it did.
        kept: Whether the integer result was better.
        before: The result before, on the held samples.
        after: The result with it.
        seconds: What it took.
        cut: Whether the clock stopped it: with more time, it might have found something else.
    """

    repair: str
    text: str
    kept: bool
    before: Score
    after: Score
    seconds: float
    cut: bool = False

    @property
    def sentence(self) -> str:
        """The attempt in words."""
        verdict = "kept" if self.kept else "not kept"
        return f"{self.repair}: {self.text}; {self.before} → {self.after}, {verdict} ({self.seconds:.0f} s)"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "repair": self.repair,
            "text": self.text,
            "kept": self.kept,
            "before": saved.score_to_dict(self.before),
            "after": saved.score_to_dict(self.after),
            "seconds": round(self.seconds, 2),
            "cut": self.cut,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Mended:
    """The best that was found.

    Attributes:
        solution: The network, formats and constants.
        target: The target.
        history: What was tried, in order.
        before: The integer result without repairs.
        after: The integer result with those that were kept.
        stopped: Why the search ended.
    """

    solution: Solution
    target: Target
    history: tuple[Attempt, ...]
    before: Score
    after: Score
    stopped: str

    @property
    def formats(self) -> Formats:
        """The formats to lower with."""
        return self.solution.formats

    @property
    def constants(self) -> Constants:
        """The constants to lower with."""
        return self.solution.constants

    @property
    def network(self) -> Network:
        """The network to lower."""
        return self.solution.network

    @property
    def spec(self) -> NetworkSpec:
        """Its layers for the target."""
        return self.solution.spec

    def program(self) -> Program:
        """The integer program."""
        return self.solution.program(self.target)

    @property
    def complete(self) -> bool:
        """Whether the clock changed nothing: then the same samples and seed give the same integers on any machine."""
        return self.stopped != OUT_OF_TIME and not any(attempt.cut for attempt in self.history)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was done and what each step gained."""
        return (*(attempt.sentence for attempt in self.history), f"{self.before} → {self.after}: {self.stopped}")


def mend(
    network: Network,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    target: Target,
    schemes: RoleSchemes,
    *,
    repairs: str | Sequence[Repair] = "auto",
    statistics: Statistics | None = None,
    time_budget_s: float = 300.0,
    max_drop: float | None = None,
    labels: Sequence[int] | None = None,
    offset: int = 0,
    classes: bool = False,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Mended:
    """Bring the integer network close to the float one, inside the target's rules.

    About a third of the samples is held: no repair learns from them, and they alone decide what is kept.

    Args:
        network: The prepared float network.
        samples: Calibration samples as batches of arrays by input name.
        target: Whose integers count.
        schemes: How ranges become formats at the start.
        repairs: ``"auto"``, names with options (``"equalize,learn-ranges{rounds=1}"``), or the repairs themselves.
        statistics: Of ``network``, if they were collected already.
        time_budget_s: Seconds after which no repair is begun, and a running one comes to its end.
        max_drop: Stop once no more than this many answers in a hundred differ and the outputs are close.
        labels: Class of each sample, if known; only reported.
        offset: First class in the output.
        classes: Whether the first output says how likely each class is.
        seed: Which samples are held, and which places repairs look at.
        checkpoint: A file that keeps the state after each repair; a run that was broken off goes on from it, and one
            with another network, target or seed begins anew.  What the clock cut short in
            vain is tried again.
        progress: Called with (what is going on, share of the time used).

    Raises:
        NoData: with fewer than three samples.
        PassError: for repairs that do not exist.
    """
    began = time.monotonic()
    until = began + time_budget_s
    todo = list(read_repairs(AUTO if repairs == "auto" else repairs, seed=seed))
    bench = split(network, samples, target, seed=seed, labels=labels, offset=offset, classes=classes)
    start_from = [f"{role}={saved.scheme_text(scheme)}" for role, scheme in vars(schemes).items()]
    key = saved.key(network, bench, [*start_from, *(_label(one) for one in todo)], seed)
    spec = read_layers(network, target)
    known = statistics if statistics is not None else bench.observe(network)
    formats = assign(spec, known, target, schemes)
    first = Solution(network=network, spec=spec, statistics=known, schemes=schemes, formats=formats)
    before = bench.score(first)
    solution, score, history = first, before, list[Attempt]()
    resumed = saved.load(checkpoint, key, first, bench) if checkpoint is not None else None
    if resumed is not None:
        solution, rows = resumed
        history = [_attempt(row) for row in rows]
        while history and history[-1].cut and not history[-1].kept:
            history.pop()
        score = next((a.after for a in reversed(history) if a.kept), before)
    stopped = "all repairs were tried"
    for place, one in enumerate(todo[len(history) :], len(history) + 1):
        if time.monotonic() >= until:
            stopped = OUT_OF_TIME
            break
        if max_drop is not None and _good(score, max_drop):
            stopped = f"no more than {max_drop:g} answers in a hundred differ"
            break
        tell = _teller(progress, f"best {score.height:.1f} dB; {_label(one)}", began, time_budget_s)
        tell("")
        start = time.monotonic()
        last = place == len(todo)  # nothing is left that the rest of the time could go to
        clock = Clock(until, tell).share(1.0 if last else getattr(one, "part", 1.0))
        with one_thread():
            found, text = one.apply(solution, bench, clock)
        cut = clock.over
        after = score if found is solution else bench.score(found)
        kept = found is not solution and after.beats(score)
        seconds = time.monotonic() - start
        attempt = Attempt(repair=_label(one), text=text, kept=kept, before=score, after=after, seconds=seconds, cut=cut)
        history.append(attempt)
        if kept:
            solution, score = found, after
        if checkpoint is not None:
            saved.save(checkpoint, key, solution, [a.to_json() for a in history])
    return Mended(solution=solution, target=target, history=tuple(history), before=before, after=score, stopped=stopped)


def split(
    network: Network,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    target: Target,
    *,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    offset: int = 0,
    classes: bool = False,
) -> Bench:
    """The samples (at most :data:`MOST_SAMPLES`, evenly spread), those to learn from apart from those held.

    Raises:
        NoData: with fewer than three samples.
    """
    parts = [{name: np.asarray(x) for name, x in batch.items()} for batch in samples]
    count = sum(len(next(iter(part.values()))) for part in parts)
    if count < 3:
        raise NoData(f"Mending needs at least 3 samples, two to learn from and one to judge by; there are {count}.")
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    used = np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(np.int64))
    order = np.random.default_rng(seed).permutation(used)
    held = max(1, round(HELD * len(order)))
    judge, learn = np.sort(order[:held]), np.sort(order[held:])
    known = None if labels is None else np.asarray(labels, np.int64)[judge]
    return Bench(
        target=target,
        network=network,
        fit={name: x[learn] for name, x in arrays.items()},
        held={name: x[judge] for name, x in arrays.items()},
        labels=known,
        offset=offset,
        classes=classes,
    )


def _good(score: Score, max_drop: float) -> bool:
    lost = 0.0 if np.isnan(score.agreement) else 100 * (1 - score.agreement)
    return lost <= max_drop and score.sqnr >= GOOD_ENOUGH


def _label(repair: Repair) -> str:
    """Name and options that are not the default."""
    default = type(repair)()
    options = [
        f"{name}={value}" for name, value in vars(repair).items() if value != getattr(default, name) and name != "seed"
    ]
    return repair.name + (f"{{{', '.join(options)}}}" if options else "")


def _attempt(row: Mapping[str, Any]) -> Attempt:
    scores = {side: saved.score_from_dict(row[side]) for side in ("before", "after")}
    return Attempt(
        repair=row["repair"], text=row["text"], kept=row["kept"], seconds=row["seconds"], cut=row["cut"], **scores
    )


def _teller(progress: Progress | None, label: str, began: float, budget: float) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if progress is not None:
            progress(f"{label}: {text}" if text else label, min(1.0, (time.monotonic() - began) / max(budget, 1e-9)))

    return tell


__all__ = ["Attempt", "Mended", "mend", "split"]
