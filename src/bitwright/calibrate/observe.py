"""Run the float network over samples and count what its tensors hold: one pass, in bounded memory.

Several threads each take a batch, run it through one session that uses a single thread per run, and count the outputs
while they are still in the cache.  That keeps all cores busy without waiting for each other, which for one run spread
over all cores is not so.  Sums of counts do not depend on the order in which batches finish, and the size of a batch
depends on the network only, so the result is the same with any number of threads, and after an interruption.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.constants import constant_statistics
from bitwright.calibrate.derive import derivable, derived
from bitwright.calibrate.file import load_statistics, save_statistics
from bitwright.calibrate.inputs import input_channels
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tally import Tally
from bitwright.errors import BitwrightError, InputMismatch, NoData, NonFinite, printable

if TYPE_CHECKING:
    from bitwright.data.batch import Batch
    from bitwright.network.network import Network

# Exposed values of one batch: about what the outer caches of a core's share hold.
BATCH_BYTES = 4 << 20
LARGEST_BATCH = 64
# All batches under way together.
MEMORY_BYTES = 512 << 20
CHECKPOINT_SECONDS = 5.0

WATCH_SECONDS = 0.4
"""Between two looks at what was counted so far."""
WATCH_SHARE = 8
"""Looking may take one part in so many of the time."""

Progress = Callable[[int, int | None], None]
Watch = Callable[[Statistics], None]


class Batches(Protocol):
    """Where samples come from; :class:`bitwright.data.source.Source` is one."""

    @property
    def fingerprint(self) -> str:
        """What tells these samples apart from others; empty if nothing does."""
        ...

    def batches(self, size: int = 16) -> Iterator[Batch]:
        """Batches of ``size`` samples, the last may be smaller; the same ones each time."""
        ...


def observed_tensors(net: Network) -> tuple[str, ...]:
    """What is observed by default: floating-point graph inputs and outputs of layers, in order."""
    names = [*net.inputs, *(tensor for layer in net.layers() for tensor in layer.outputs)]
    return tuple(t for t in dict.fromkeys(names) if net.dtype(t).kind == "f" and not net.is_constant(t))


def batch_size(net: Network, tensors: Iterable[str]) -> int:
    """How many samples go through together; depends on the network only, so that a resumed run makes the same batches."""
    if not net.batchable:
        return 1
    per_sample = 4 * sum(int(np.prod(net.shape(t))) for t in tensors)
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // max(per_sample, 1)))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What is observed and how.

    Attributes:
        tensors: What is wanted, in order.
        exposed: What is run out of the network; the other wanted tensors hold the same values.
        channels: Tensor → axis, where ranges per channel are wanted.
        histograms: Tensors that get a histogram per channel too.
        size: Samples per batch.
    """

    tensors: tuple[str, ...]
    exposed: tuple[str, ...]
    channels: Mapping[str, int]
    histograms: frozenset[str]
    size: int


def plan(
    net: Network,
    tensors: Iterable[str] | None = None,
    channels: Mapping[str, int] | None = None,
    histograms: Iterable[str] = (),
) -> Plan:
    """Decide what to expose.

    Args:
        net: The network.
        tensors: What is wanted; by default :func:`observed_tensors`.
        channels: Tensor → axis of its channels, where ranges per channel are wanted; observed in any case.
        histograms: Those of ``channels`` that get a histogram per channel.
    """
    channels = {t: axis % len(net.shape(t)) for t, axis in (channels or {}).items()}
    wanted = tuple(dict.fromkeys([*(observed_tensors(net) if tensors is None else tensors), *channels]))
    spared = derivable(net, wanted, channels)
    exposed = tuple(t for t in wanted if t not in spared)
    return Plan(wanted, exposed, channels, frozenset(histograms), batch_size(net, exposed))


class _Counter:
    """The tallies of all exposed tensors, shared by the threads that run batches."""

    def __init__(self, net: Network, made: Plan, threads: int) -> None:
        from bitwright.network.exposed import exposing_session

        inner = [t for t in made.exposed if t not in net.inputs]
        self._session, self._names = exposing_session(net, inner, in_order=made.channels, threads=threads)
        self._inner, self._inputs, self._batchable = inner, net.inputs, net.batchable
        self._shapes = {name: net.shape(name) for name in net.inputs}
        self._types = {name: net.dtype(name) for name in net.inputs}
        self.order = {t: i for i, t in enumerate(made.exposed)}
        self.tallies = {t: Tally(made.channels.get(t), channel_hist=t in made.histograms) for t in made.exposed}
        self._locks = {t: threading.Lock() for t in made.exposed}

    def run(self, feeds: Mapping[str, NDArray[Any]], indices: tuple[int, ...]) -> int:
        """Count one batch; the number of its samples.

        Raises:
            NonFinite: naming the first sample, and in it the first tensor, that holds NaN or infinity.
        """
        arrays = dict(feeds)
        # Where everything follows from the inputs there is nothing to run; an empty list would ask for all outputs.
        found = self._session.run([self._names[t] for t in self._inner], feeds) if self._inner else []
        arrays.update(zip(self._inner, found, strict=True))
        bad: list[tuple[int, str]] = []
        waiting, stuck = list(self.tallies), False
        while waiting:
            # Tensors that another thread is counting come later, so that nobody waits while there is other work.
            later: list[str] = []
            for tensor in waiting:
                if not self._locks[tensor].acquire(blocking=stuck):
                    later.append(tensor)
                    continue
                try:
                    row = self.tallies[tensor].add(arrays.pop(tensor))
                finally:
                    self._locks[tensor].release()
                stuck = False
                if row is not None:
                    bad.append((row if len(indices) > 1 else 0, tensor))
            waiting, stuck = later, len(later) == len(waiting)
        if bad:
            row, tensor = min(bad, key=lambda found: (found[0], self.order[found[1]]))
            raise _nonfinite(tensor, indices[row], is_input=tensor in self._inputs)
        return len(indices)

    def feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The arrays of a batch by input name.

        Raises:
            InputMismatch: if there is no array for an input, or one of another shape.
        """
        arrays = batch.x if isinstance(batch.x, dict) else {self._inputs[0]: batch.x}
        for name in self._inputs:
            if name not in arrays:
                raise InputMismatch(f"The samples hold no array for the network's input '{printable(name)}'.")
            want, got = self._shapes[name], arrays[name].shape
            fits = len(got) == len(want) and got[1:] == want[1:] and (self._batchable or got[0] == want[0])
            if not fits:
                raise InputMismatch(
                    f"The samples for input '{printable(name)}' have shape {got[1:]}, the network wants {want[1:]}. "
                    "Correct the input contract, or the data."
                )
        return {name: np.ascontiguousarray(arrays[name], self._types[name]) for name in self._inputs}


def _nonfinite(tensor: str, sample: int, *, is_input: bool) -> NonFinite:
    where = "network input" if is_input else "tensor"
    hint = (
        "The sample itself holds it." if is_input else "The network makes it of a finite sample: no format can hold it."
    )
    return NonFinite(
        f"Sample {sample} gives NaN or infinity in {where} '{printable(tensor)}'. {hint} Leave out this sample, or "
        "correct the network.",
        tensor=tensor,
        sample=sample,
    )


def observe(
    net: Network,
    source: Batches,
    made: Plan | None = None,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    workers: int | None = None,
    watch: Watch | None = None,
) -> Statistics:
    """The statistics of ``net`` over all samples of ``source``.

    Ctrl-C ends the run early: what was counted so far is returned, marked as partial.

    Args:
        net: The float network, after the passes that belong to it.
        source: The samples.
        made: What to observe; by default ``plan(net)``, and the channels of inputs that ``source.contract`` scales.
        progress: Called with the number of samples done and the number in all (None if not known).
        checkpoint: Where to keep what was counted, every few seconds.  If the file is there already, from the same
            network, samples and plan, the run goes on from it and ends with the same statistics as an unbroken one.
            It is removed at the end of a whole run and kept after an interrupted one.
        workers: Batches under way at once; one per core by default.
        watch: Called now and then with what was counted so far.

    Raises:
        NonFinite: if a sample, an activation or a weight holds NaN or infinity.
        NoData: if the source gives no sample.
        InputMismatch: if samples do not fit the network.
    """
    if made is None:
        channels = input_channels(net, getattr(source, "contract", None))
        made = plan(net, channels=channels, histograms=channels)
    base = Statistics(net.fingerprint, (source.fingerprint,) if source.fingerprint else (), **constant_statistics(net))
    start = _resumed(checkpoint, base, made)
    run = _Run(net, made, base, start, checkpoint, cores() if workers is None else workers, progress, watch)
    total = getattr(source, "length", None)
    result = run.over(source.batches(made.size), total)
    if not result.samples:
        if result.partial:
            raise KeyboardInterrupt  # before anything was counted: there is nothing to keep
        raise NoData("The source gives no sample, so there is nothing to calibrate with.")
    return result


class _Run:
    """One pass over the samples."""

    def __init__(
        self,
        net: Network,
        made: Plan,
        base: Statistics,
        start: Statistics,
        checkpoint: Path | None,
        workers: int,
        progress: Progress | None,
        watch: Watch | None,
    ) -> None:
        self._net, self._plan, self._base, self._start = net, made, base, start
        self._checkpoint, self._progress, self._watch = checkpoint, progress, watch
        self._next_look = time.monotonic()
        per_batch = 4 * made.size * sum(int(np.prod(net.shape(t))) for t in made.exposed)
        self._workers = max(1, min(workers, MEMORY_BYTES // max(per_batch, 1)))
        # Where memory allows few batches at once, each may use the cores that are left.
        self._counter = _Counter(net, made, max(1, workers // self._workers))
        self.done = start.samples

    def over(self, batches: Iterator[Batch], total: int | None) -> Statistics:
        """Count the batches that the start does not hold yet."""
        pending: set[Future[int]] = set()
        saved = time.monotonic()
        partial = False
        skip = self._start.samples
        with ThreadPoolExecutor(self._workers, "bitwright-observe") as pool:
            try:
                for batch in batches:
                    if skip >= len(batch.indices):
                        skip -= len(batch.indices)
                        continue
                    pending.add(pool.submit(self._counter.run, self._counter.feeds(batch), batch.indices))
                    while len(pending) > self._workers:
                        self._collect(pending, total, all_of_them=False)
                    if self._checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
                        self._collect(pending, total, all_of_them=True)
                        self._save()
                        saved = time.monotonic()
                    if self._watch is not None and time.monotonic() >= self._next_look and self.done:
                        self._collect(pending, total, all_of_them=True)
                        self._look(self._watch)
                self._collect(pending, total, all_of_them=True)
            except KeyboardInterrupt:
                self._collect(pending, total, all_of_them=True)
                partial = True
        result = replace(self.value(), partial=partial)
        if self._checkpoint:
            if partial:
                self._save()
            else:
                self._checkpoint.unlink(missing_ok=True)
        return result

    def _collect(self, pending: set[Future[int]], total: int | None, *, all_of_them: bool) -> None:
        """Wait for one batch, or for all; a failure is raised once every batch before it is known to be fine.

        What was counted leaves ``pending`` before anybody is told: who stops the run there must not count it again.
        """
        finished, _ = wait(pending, return_when="ALL_COMPLETED" if all_of_them else FIRST_COMPLETED)
        if any(future.exception() for future in finished):
            finished, _ = wait(pending)
            errors = [error for future in finished if (error := future.exception())]
            raise min(errors, key=_sample_of)
        pending -= finished
        self.done += sum(future.result() for future in finished)
        if self._progress and finished:
            self._progress(self.done, total)

    def value(self) -> Statistics:
        """Everything counted, derived tensors included."""
        counted = {t: tally.value() for t, tally in self._counter.tallies.items()}
        if self._start.samples:
            counted = {t: self._start.activations[t] + stats for t, stats in counted.items()}
        activations = derived(self._net, self._plan.tensors, counted)
        return replace(self._base, samples=self.done, activations=activations)

    def _look(self, watch: Watch) -> None:
        """Show what was counted; the longer that takes, the rarer it is done."""
        start = time.monotonic()
        watch(replace(self.value(), partial=True))
        end = time.monotonic()
        self._next_look = end + max(WATCH_SECONDS, WATCH_SHARE * (end - start))

    def _save(self) -> None:
        assert self._checkpoint is not None
        save_statistics(replace(self.value(), partial=True), self._checkpoint)


def _sample_of(error: BaseException) -> tuple[int, int]:
    """Sorts errors: ours by sample first, so that the same one is reported whatever thread was faster."""
    sample = getattr(error, "sample", None)
    return (0, sample) if isinstance(error, BitwrightError) and sample is not None else (1, 0)


def _resumed(checkpoint: Path | None, base: Statistics, made: Plan) -> Statistics:
    """What an earlier run left in ``checkpoint``, if it was the same run; else nothing."""
    nothing = replace(base, samples=0, activations={})
    if checkpoint is None or not base.data or not checkpoint.exists():
        return nothing
    try:
        found = load_statistics(checkpoint)
    except (BitwrightError, OSError):
        return nothing  # a damaged checkpoint costs its samples, no more
    same = found.partial and found.network == base.network and found.data == base.data
    axes = {t: stats.axis for t, stats in found.activations.items()}
    hists = {t for t, stats in found.activations.items() if stats.channel_hist is not None}
    whole = found.samples % made.size == 0
    as_planned = axes == {t: made.channels.get(t) for t in made.tensors} and hists == made.histograms
    return found if same and as_planned and whole else nothing


__all__ = ["Batches", "Plan", "batch_size", "observe", "observed_tensors", "plan"]
