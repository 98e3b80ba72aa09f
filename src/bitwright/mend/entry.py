"""Mending a loaded model with samples from anywhere: what the api calls."""

from __future__ import annotations

import numbers
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.spec import read_layers
from bitwright.data.batch import by_name
from bitwright.mend.repair import Clock
from bitwright.mend.search import MOST_SAMPLES, Mended, Progress, mend, split
from bitwright.mend.solution import Solution
from bitwright.mend.widths import Point, Width, trade
from bitwright.model import Model, open_samples

if TYPE_CHECKING:
    from bitwright.calibrate.statistics import Statistics
    from bitwright.targets.target import Target


def mend_model(
    model: Model,
    data: Any,
    target: Target,
    schemes: RoleSchemes,
    *,
    repairs: str = "auto",
    statistics: Statistics | None = None,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    time_budget_s: float = 300.0,
    max_drop: float | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Mended:
    """Mend with at most :data:`MOST_SAMPLES` samples of ``data``, which needs no labels.

    Args:
        model: The model.
        data: What ``open_samples`` takes.
        target: Whose integers count.
        schemes: How ranges become formats at the start.
        repairs: ``"auto"``, or names with options.
        statistics: Of the model's network.
        samples: Use so many samples, no more than :data:`MOST_SAMPLES`.
        seed: Of the samples and of the repairs.
        skip_bad: Leave out samples that cannot be read.
        time_budget_s: Seconds.
        max_drop: See :func:`bitwright.mend.search.mend`.
        checkpoint: See there.
        progress: See there.
    """
    net, contract = model.network, model.contract
    batches, labels = _read(model, data, samples, seed, skip_bad)
    classes = [int(y) for y in labels if isinstance(y, numbers.Integral)]
    return mend(
        net,
        batches,
        target,
        schemes,
        repairs=repairs,
        statistics=statistics,
        time_budget_s=time_budget_s,
        max_drop=max_drop,
        labels=classes if len(classes) == len(labels) and contract.task == "classification" else None,
        offset=contract.offset,
        classes=contract.task == "classification",
        seed=seed or 0,
        checkpoint=checkpoint,
        progress=progress,
    )


def _read(
    model: Model, data: Any, samples: int | None, seed: int | None, skip_bad: bool
) -> tuple[list[dict[str, NDArray[Any]]], list[object]]:
    """At most :data:`MOST_SAMPLES` samples, and the label of each."""
    count = MOST_SAMPLES if samples is None else min(samples, MOST_SAMPLES)
    source = open_samples(model.network, model.contract, data, samples=count, seed=seed, skip_bad=skip_bad)
    batches, labels = list[dict[str, NDArray[Any]]](), list[object]()
    for batch in source.batches(16):
        batches.append(dict(by_name(batch.x, model.network.inputs[0])))
        labels += batch.y if batch.y is not None else [None] * len(batch)
    return batches, labels


def trade_widths(
    model: Model,
    data: Any,
    target: Target,
    schemes: RoleSchemes,
    *,
    weights: Sequence[int] = (6, 4),
    activations: Sequence[int] = (16,),
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    seconds: float = 300.0,
    progress: Progress | None = None,
) -> tuple[list[Width], list[Point]]:
    """What each tensor of ``model`` at other widths costs or gains, and the combinations worth having.

    Args:
        model: The model.
        data: What ``open_samples`` takes; no labels are needed.
        target: Whose rules hold but for the widths.
        schemes: How ranges become formats.
        weights: Widths to try for weights.
        activations: Widths to try for activations.
        samples: As for :func:`mend_model`.
        seed: As there.
        skip_bad: As there.
        seconds: What is measured until then counts.
        progress: Called with (what is going on, share of the time used).
    """
    net = model.network
    batches, _ = _read(model, data, samples, seed, skip_bad)
    classes = model.contract.task == "classification"
    bench = split(net, batches, target, seed=seed or 0, offset=model.contract.offset, classes=classes)
    spec, statistics = read_layers(net, target), bench.observe(net)
    formats = assign(spec, statistics, target, schemes)
    start = Solution(network=net, spec=spec, statistics=statistics, schemes=schemes, formats=formats)
    began = time.monotonic()

    def tell(text: str) -> None:
        if progress is not None:
            progress(text, min(1.0, (time.monotonic() - began) / seconds))

    return trade(start, bench, Clock(began + seconds, tell), weights=weights, activations=activations)
