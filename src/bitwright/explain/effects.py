"""What each layer's and each cause's error costs: at the layer's own output, and at the outputs of the network.

Errors come from :mod:`bitwright.explain.split`.  What they cost at the outputs is measured: they are added to the float
network's tensors, one layer or one cause at a time, and the network is run.  That takes one run for each layer and two
for each cause, however deep the network is, and the memory of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.explain.accumulators import SAMPLES, Tight, tight_layers, wrapped
from bitwright.explain.finding import Cause, CauseLoss, LayerLoss
from bitwright.explain.split import Piece, Split, Splitter
from bitwright.explain.subject import Subject
from bitwright.mend.bench import quantized_inputs
from bitwright.network.injected import Injected, injected
from bitwright.program.forms import Island
from bitwright.simulate.engine import Engine

Arrays = Mapping[str, NDArray[Any]]
Progress = Callable[[int, int, str], None]
Key = tuple[str, str]
"""A run: (tensor or "", cause or ""); the whole is ("", "")."""

ALL: Key = ("", "")
BATCH_BYTES = 256 << 20
LARGEST_BATCH = 16
PAIRS = 12
"""Single causes in single layers whose effect at the outputs is measured by itself."""


@dataclass
class Sums:
    """Energies of one layer over the batches."""

    piece: Piece
    signal: float = 0.0
    arriving: float = 0.0
    injected: float = 0.0
    cumulative: float = 0.0
    parts: dict[Cause, float] = field(default_factory=dict)
    clipped: int = 0
    vanished: int = 0
    count: int = 0
    tops: NDArray[Any] | None = None

    def add(self, split: Split, wanted: NDArray[Any]) -> None:
        """One batch: what the layer did, and what the float network has there."""
        total = split.total
        self.signal += energy(wanted)
        self.arriving += energy(split.exact - wanted)
        self.injected += energy(total)
        self.cumulative += energy(split.exact + total - wanted)
        for cause, part in split.errors.items():
            self.parts[cause] = self.parts.get(cause, 0.0) + float(np.vdot(part, total))
        self.clipped += split.clipped
        self.vanished += split.vanished
        self.count += split.count
        if split.tops is not None:
            self.tops = split.tops if self.tops is None else np.maximum(self.tops, split.tops)

    @property
    def stretching(self) -> tuple[int, float] | None:
        """The channel that reaches furthest, and how many times further than the median one."""
        if self.tops is None or len(self.tops) < 3:
            return None
        alive = self.tops[self.tops > 0]
        if not alive.size:
            return None
        worst = int(np.argmax(self.tops))
        return worst, float(self.tops[worst]) / float(np.median(alive))

    @property
    def shares(self) -> dict[Cause, float]:
        """Cause → its share of the injected energy; they add up to 1."""
        if self.injected <= 0:
            return {}
        shares = {cause: part / self.injected for cause, part in self.parts.items()}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, kw_only=True)
class Wraps:
    """A layer whose sums may leave the accumulator, over a few samples of each batch.

    Attributes:
        tight: The layer.
        tensor: Its output.
        signal: Energy of the float outputs of the network.
        noise: Energy of what wrapping of this layer alone adds there.
        beyond: Sums that leave the accumulator.
        count: Sums in all.
        lowest: The smallest.
        highest: The largest.
        changed: Decisions that differ.
        samples: On so many samples.
    """

    tight: Tight
    tensor: str
    signal: float
    noise: float
    beyond: int
    count: int
    lowest: int
    highest: int
    changed: int
    samples: int

    def __add__(self, other: Wraps) -> Wraps:
        sums = ("signal", "noise", "beyond", "count", "changed", "samples")
        both: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in sums}
        lowest, highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        return Wraps(tight=self.tight, tensor=self.tensor, lowest=lowest, highest=highest, **both)


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """Everything that was measured.

    Attributes:
        samples: On so many samples.
        sums: Tensor → energies at it, in order.
        signal: Energy of the float outputs.
        noise: Run → energy of the difference of the outputs.
        without: Cause → the same with all causes but this one.
        flips: Run → decisions that differ from the float network's; empty where outputs have no classes.
        integers: Energy of the difference of the real integer outputs.
        wraps: Layer → what wrapping would do, for layers whose sums may leave the accumulator.
    """

    samples: int
    sums: Mapping[str, Sums]
    signal: float
    noise: Mapping[Key, float]
    without: Mapping[Cause, float]
    flips: Mapping[Key, int]
    integers: float
    wraps: Mapping[str, Wraps] = field(default_factory=dict)

    @property
    def output_db(self) -> float | None:
        """Of the integers."""
        return decibel(self.signal, self.integers)

    @property
    def modeled_db(self) -> float | None:
        """With all errors put into the float network at once."""
        return decibel(self.signal, self.noise.get(ALL, 0.0))

    def alone(self, tensor: str, cause: Cause) -> float:
        """Energy at the outputs of one cause in one layer: measured, or estimated by its share of the layer's error."""
        known = self.noise.get((tensor, str(cause)))
        if known is not None:
            return known
        sums = self.sums[tensor]
        return self.noise.get((tensor, ""), 0.0) * max(0.0, sums.shares.get(cause, 0.0))

    def causes(self) -> tuple[CauseLoss, ...]:
        """Every cause, the worst first."""
        total = sum(e for (tensor, cause), e in self.noise.items() if not tensor and cause) or 1.0
        rows = [
            CauseLoss(
                cause=Cause(cause),
                alone_db=decibel(self.signal, e),
                without_db=decibel(self.signal, self.without[Cause(cause)]),
                share=e / total,
            )
            for (tensor, cause), e in self.noise.items()
            if not tensor and cause
        ]
        return tuple(sorted(rows, key=lambda row: -row.share))

    def layers(self, subject: Subject) -> tuple[LayerLoss, ...]:
        """A row for each layer, in order."""
        total = sum(e for (tensor, cause), e in self.noise.items() if tensor and not cause) or 1.0
        program = subject.program
        rows = []
        for tensor, sums in self.sums.items():
            noise = self.noise.get((tensor, ""), 0.0)
            piece = sums.piece
            rows.append(
                LayerLoss(
                    layer=piece.name,
                    op=piece.op,
                    tensor=tensor,
                    format=str(program.buffers[piece.buffer].format),
                    injected_db=decibel(sums.signal, sums.injected),
                    arriving_db=decibel(sums.signal, sums.arriving),
                    cumulative_db=decibel(sums.signal, sums.cumulative),
                    output_db=decibel(self.signal, noise),
                    output_share=noise / total,
                    causes=sums.shares,
                    macs=program.macs.get(piece.name, 0),
                    integer=not any(isinstance(step.form, Island) for step in piece.steps),
                )
            )
        return tuple(rows)


@dataclass
class Meter:
    """Measures batch by batch.

    Attributes:
        splitter: Takes layers apart.
        decide: Outputs → one decision for each sample, or None where there are none.
        progress: Called with (runs done, runs in all, what is going on).
    """

    splitter: Splitter
    decide: Callable[[Sequence[NDArray[Any]]], NDArray[Any]] | None = None
    progress: Progress | None = None

    def measure(self, batches: Iterable[Arrays], count: int) -> Effects:
        """Run all batches.

        Args:
            batches: Arrays ``[n, ...]`` by input name, of :func:`batch_size` samples.
            count: Samples in all, for progress.
        """
        subject = self.splitter.subject
        net, program = subject.network, subject.program
        tensors = [t for t in self.splitter.tensors if t not in net.inputs]
        session = net.session(tensors)
        place = injected(net, self.splitter.tensors)
        engine = Engine(program, keep=True)
        tight = tight_layers(subject)
        self._start()
        for feeds in batches:
            self._tell(count, "float network and integers")
            floats = dict(zip(tensors, session.run(tensors, dict(feeds)), strict=True)) | dict(feeds)
            integers = quantized_inputs(program, net.inputs, feeds)
            values = {**integers, **engine.run(integers)}
            splits: dict[str, Split] = {}
            for split in (*self.splitter.inputs(feeds), *self.splitter.split(values)):
                tensor = split.piece.tensor
                sums = self._sums.setdefault(tensor, Sums(split.piece))
                sums.add(split, np.asarray(floats[tensor], np.float64))
                splits[tensor] = split
            got = [program.buffers[name].format.dequantize(values[name]) for name in program.outputs]
            self._runs(place, feeds, splits, got, count)
            if tight:
                self._wrap(tight, place, feeds, splits, values, count)
            self._samples += len(next(iter(feeds.values())))
        return Effects(
            samples=self._samples,
            sums=self._sums,
            signal=self._signal,
            noise=self._noise,
            without=self._without,
            flips=self._flips,
            integers=self._integers,
            wraps=self._wraps,
        )

    def _start(self) -> None:
        self._sums: dict[str, Sums] = {}
        self._noise: dict[Key, float] = {}
        self._without: dict[Cause, float] = {}
        self._flips: dict[Key, int] = {}
        self._signal = self._integers = 0.0
        self._samples = 0
        self._wraps: dict[str, Wraps] = {}
        self._pairs: list[tuple[str, Cause]] | None = None
        self._done = 0

    def _runs(
        self,
        place: Injected,
        feeds: Arrays,
        splits: Mapping[str, Split],
        got: Sequence[NDArray[Any]],
        count: int,
    ) -> None:
        wanted = place.run(feeds, {})
        self._signal += sum(energy(w) for w in wanted)
        self._integers += sum(energy(g - w) for g, w in zip(got, wanted, strict=True))
        totals = {t: np.asarray(s.total, np.float32) for t, s in splits.items() if s.errors}
        causes = [c for c in Cause if any(c in s.errors for s in splits.values())]

        def run(key: Key, errors: Arrays, text: str) -> float:
            self._tell(count, text)
            found = place.run(feeds, errors)
            noise = sum(energy(f - w) for f, w in zip(found, wanted, strict=True))
            if self.decide is not None:
                self._flips[key] = self._flips.get(key, 0) + int((self.decide(found) != self.decide(wanted)).sum())
            return noise

        self._add(ALL, run(ALL, totals, "all errors"))
        if self.decide is not None:
            key = ("", "integers")
            self._flips[key] = self._flips.get(key, 0) + int((self.decide(got) != self.decide(wanted)).sum())
        for cause in causes:
            alone = {t: s.errors[cause] for t, s in splits.items() if cause in s.errors}
            rest = {t: totals[t] - alone[t] if t in alone else totals[t] for t in totals}
            self._add(("", str(cause)), run(("", str(cause)), alone, f"{cause} alone"))
            left = run(("-", str(cause)), rest, f"all but {cause}")
            self._without[cause] = self._without.get(cause, 0.0) + left
        for tensor, total in totals.items():
            name = splits[tensor].piece.name
            self._add((tensor, ""), run((tensor, ""), {tensor: total}, f"layer {name} alone"))
        if self._pairs is None:
            self._pairs = self._worst_pairs()
        for tensor, cause in self._pairs:
            key = (tensor, str(cause))
            part = splits[tensor].errors.get(cause)
            name = splits[tensor].piece.name
            self._add(key, 0.0 if part is None else run(key, {tensor: part}, f"{cause} of {name}"))

    def _wrap(
        self,
        tight: Sequence[Tight],
        place: Injected,
        feeds: Arrays,
        splits: Mapping[str, Split],
        values: Arrays,
        count: int,
    ) -> None:
        """What it costs if accumulators wrap, each tight layer alone, on a few samples of the batch."""
        few = {name: x[:SAMPLES] for name, x in feeds.items()}
        cut = {name: x[:SAMPLES] for name, x in values.items()}
        wanted = place.run(few, {})
        signal = sum(energy(w) for w in wanted)
        for one in tight:
            split = next((s for s in splits.values() if one.step in s.piece.steps), None)
            if split is None:
                continue
            self._tell(count, f"accumulator of {one.layer}")
            found = wrapped(self.splitter.subject, one, split.piece, cut)
            noise, changed = 0.0, 0
            if found.beyond:
                got = place.run(few, {split.piece.tensor: found.error})
                noise = sum(energy(g - w) for g, w in zip(got, wanted, strict=True))
                if self.decide is not None:
                    changed = int((self.decide(got) != self.decide(wanted)).sum())
            before = self._wraps.get(one.layer)
            now = Wraps(
                tight=one,
                tensor=split.piece.tensor,
                signal=signal,
                noise=noise,
                beyond=found.beyond,
                count=found.count,
                lowest=found.lowest,
                highest=found.highest,
                changed=changed,
                samples=len(next(iter(few.values()))),
            )
            self._wraps[one.layer] = now if before is None else before + now

    def _worst_pairs(self) -> list[tuple[str, Cause]]:
        """Where single causes in single layers probably cost most; chosen once, by the first batch."""
        guess = {
            (tensor, cause): self._noise.get((tensor, ""), 0.0) * share
            for tensor, sums in self._sums.items()
            for cause, share in sums.shares.items()
            if share > 0
        }
        return sorted(guess, key=lambda pair: -guess[pair])[:PAIRS]

    def _add(self, key: Key, noise: float) -> None:
        self._noise[key] = self._noise.get(key, 0.0) + noise

    def _tell(self, count: int, text: str) -> None:
        if self.progress is not None:
            self.progress(min(self._samples, count), count, text)


def batch_size(subject: Subject, tensors: Iterable[str]) -> int:
    """Samples that are taken apart together, so that their errors fit memory; depends on the network only."""
    if not subject.program.batchable or not subject.network.batchable:
        return 1
    elements = sum(int(np.prod(subject.network.shape(t))) for t in tensors if subject.network.has_shape(t))
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, 32 * elements)))


def energy(x: NDArray[Any]) -> float:
    """Sum of squares."""
    flat = np.ravel(np.asarray(x, np.float64))
    return float(np.dot(flat, flat))


def decibel(signal: float, noise: float) -> float | None:
    """``10·log10(signal / noise)``; infinite without noise, None without a signal."""
    if signal <= 0:
        return None
    return math.inf if noise <= 0 else 10 * math.log10(signal / noise)
