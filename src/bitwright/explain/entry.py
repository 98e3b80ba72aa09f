"""Explaining one quantized network on samples from anywhere: what the api calls."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.batch import by_name
from bitwright.errors import NoData
from bitwright.explain.diagnosis import diagnose
from bitwright.explain.drift import Drift, drift_of
from bitwright.explain.effects import Effects, Meter, batch_size
from bitwright.explain.finding import Explanation, Finding, Totals
from bitwright.explain.judged import judged
from bitwright.explain.memory import observed
from bitwright.explain.preparation import Doubt, doubt
from bitwright.explain.split import Splitter
from bitwright.explain.subject import Subject, subject_of
from bitwright.explain.trials import Trials
from bitwright.explain.words import Witness
from bitwright.mend.bench import Bench, in_batches, run_float, run_program
from bitwright.mend.search import split
from bitwright.model import open_samples
from bitwright.quantized import Quantized, open_quantized

if TYPE_CHECKING:
    import os

Progress = Callable[[int, int | None, str], None]
Arrays = Mapping[str, NDArray[Any]]

MOST_SAMPLES = 256
"""Samples that are kept: remedies learn from some and are judged on the others."""
SECONDS = 120.0
MOST_WORK, FEWEST, MOST_MEASURED = 1.5e11, 6, 48
"""Multiply-accumulates for measuring layers, half a minute of a core; samples at least and at most."""
CLASSES = ("classification",)


def explain(
    quantized: Quantized | str | os.PathLike[str],
    data: Any,
    *,
    metric: Any = None,
    decode: Any = None,
    samples: int | None = None,
    seed: int | None = None,
    seconds: float = SECONDS,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Say where a quantized network loses accuracy, why, and what would bring it back.

    Layers and causes are measured on some of the samples, the same ones every time; remedies are tried until the time is
    up, and what was not tried says so.  Ctrl-C ends the trials and keeps what was found.

    Args:
        quantized: A quantized network or its ``.bw`` file.
        data: Samples that calibration has not seen; labels are used where there are some.
        metric: What is shown of both networks, as for ``validate``; by default that of the task.
        decode: How a detector's outputs become boxes, for ``map50``.
        samples: Use so many, no more than :data:`MOST_SAMPLES`.
        seed: Draw them at random instead of evenly, and of the repairs that are tried.
        seconds: Time for trying remedies; 0 tries none.
        skip_bad: Leave out samples that cannot be read.
        progress: Called with (done, of all or None, what is going on).

    Raises:
        NoData: with fewer than three samples, or without labels that the metric needs.
        InputMismatch: if there is no such metric.
        CalibrationError: if the file carries no calibration.
        ModelError: if the float network is neither in the file nor where it was.
        DataError: if samples cannot be used.
    """
    began = time.monotonic()
    q = open_quantized(quantized)
    count = MOST_SAMPLES if samples is None else min(samples, MOST_SAMPLES)
    source = open_samples(q.network, q.contract, data, samples=count, seed=seed, skip_bad=skip_bad)
    parts, labels = list[Arrays](), list[object]()
    for batch in source.batches(16):
        parts.append(by_name(batch.x, q.network.inputs[0]))
        labels += batch.y if batch.y is not None else [None] * len(batch)
        if progress is not None:
            progress(len(labels), source.length, "reading samples")
    if len(labels) < 3:
        raise NoData(
            f"Explaining needs at least 3 samples, some to learn from and some to judge by; there are {len(labels)}."
        )
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # A network that came quantized brings no calibration: then these samples stand for it.
    subject = subject_of(q, lambda: observed(q.lowered_network, arrays))
    known = _classes(labels) if q.contract.task in CLASSES else None
    drift = drift_of(subject, observed(subject.network, arrays))
    found = _doubt(subject, arrays, known)
    meter, effects = _effects(subject, drift, arrays, progress)
    witness = Witness(meter.splitter, effects, drift)
    totals = judged(_totals(subject, effects, arrays, known), q, arrays, labels, metric, decode)
    findings = diagnose(subject, witness, effects, drift, found, agreement=totals.agreement)
    bench = split(
        subject.network, parts, subject.target, seed=seed or 0, labels=known, offset=q.contract.offset,
        classes=q.contract.task in CLASSES,
    )  # fmt: skip
    bench = replace(bench, at_outputs=True)  # a remedy may be another Softmax
    notes = [*source.notes, *subject.notes]
    if seconds > 0:
        findings, more = _healed(subject, bench, findings, found, seconds, seed or 0, progress)
        notes += more
    return Explanation(
        network=q.name,
        target=subject.target.name,
        findings=findings,
        layers=effects.layers(subject),
        causes=effects.causes(),
        totals=totals,
        notes=tuple(notes),
        seconds=time.monotonic() - began,
    )


def _healed(
    subject: Subject,
    bench: Bench,
    findings: tuple[Finding, ...],
    found: Doubt | None,
    seconds: float,
    seed: int,
    progress: Progress | None,
) -> tuple[tuple[Finding, ...], list[str]]:
    began = time.monotonic()

    def tell(text: str) -> None:
        if progress is not None:
            progress(round(min(100.0, 100 * (time.monotonic() - began) / seconds)), 100, text)

    trials = Trials(subject, bench, until=began + seconds, tell=tell, seed=seed)
    try:
        return trials.heal(findings, found), []
    except KeyboardInterrupt:
        trials.until = 0.0  # what was tried is kept, nothing more is begun
        return trials.heal(findings, found), ["Interrupted: some remedies were not tried."]


def _effects(subject: Subject, drift: Drift, arrays: Arrays, progress: Progress | None) -> tuple[Meter, Effects]:
    splitter = Splitter(subject, narrow=frozenset(drift.narrow), wide=frozenset(drift.wide))
    decide = decider(subject)
    meter = Meter(splitter, decide=decide, progress=progress)
    total = len(next(iter(arrays.values())))
    some = np.unique(
        np.linspace(0, total - 1, min(total, measured_samples(subject, len(splitter.tensors)))).round().astype(int)
    )
    few = {name: x[some] for name, x in arrays.items()}
    size = batch_size(subject, splitter.tensors)
    return meter, meter.measure(in_batches(subject.network, few, size), len(some))


def measured_samples(subject: Subject, layers: int) -> int:
    """On how many samples layers and causes are measured: fewer for large and deep networks, whatever the machine.

    Every layer takes a run of the network, so this bounds multiply-accumulates, at :data:`MOST_WORK` in all.
    """
    work = max(1, sum(subject.program.macs.values())) * max(1, layers)
    return max(FEWEST, min(MOST_MEASURED, int(MOST_WORK / work)))


def decider(subject: Subject) -> Callable[[Sequence[NDArray[Any]]], NDArray[Any]] | None:
    """The class that each sample gets, or None where the first output says nothing about classes."""
    contract, program = subject.quantized.contract, subject.program
    size = program.buffers[program.outputs[0]].size
    if contract.task not in CLASSES or size - contract.offset < 2:
        return None

    def decide(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(outputs[0].reshape(len(outputs[0]), -1)[:, contract.offset :].argmax(1))

    return decide


def _doubt(subject: Subject, arrays: Arrays, labels: Sequence[int] | None) -> Doubt | None:
    network, contract = subject.quantized.network, subject.quantized.contract
    few = {name: x[:64] for name, x in arrays.items()}
    if not network.batchable:
        few = {name: x[:1] for name, x in few.items()}
    decide = decider(subject)
    correct = None
    if labels is not None and decide is not None and network.batchable and len(labels) >= 16:

        def correct(feeds: Arrays) -> float:
            decided = decide(run_float(network, network.outputs, feeds))
            return float((decided == np.asarray(labels[: len(decided)])).mean())

    norms = [norm for norm in subject.quantized.provenance.get("norms") or () if isinstance(norm, Mapping)]
    return doubt(network, contract, few, norms, correct=correct)


def _totals(subject: Subject, effects: Effects, arrays: Arrays, labels: Sequence[int] | None) -> Totals:
    totals = Totals(
        samples=effects.samples,
        output_db=effects.output_db,
        modeled_db=effects.modeled_db,
        integer_mac_share=subject.program.integer_mac_share,
    )
    decide = decider(subject)
    if decide is None:
        return totals
    network = subject.network
    floats = decide(run_float(network, network.outputs, arrays))
    integers = decide(run_program(subject.program, network.inputs, arrays))
    totals = replace(totals, agreement=float((floats == integers).mean()), judged=len(floats))
    if labels is None:
        return totals
    truth = np.asarray(labels)
    return replace(
        totals,
        metric="top1",
        float_metric=float((floats == truth).mean()),
        quantized_metric=float((integers == truth).mean()),
    )


def _classes(labels: Sequence[object]) -> list[int] | None:
    found = [int(y) for y in labels if isinstance(y, numbers.Integral)]
    return found if len(found) == len(labels) else None
