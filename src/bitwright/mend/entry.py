"""Mending a loaded model with samples from anywhere: what the api calls."""

from __future__ import annotations

import numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.calibrate.assign import RoleSchemes
from bitwright.data.batch import by_name
from bitwright.mend.search import MOST_SAMPLES, Mended, Progress, mend
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
    count = MOST_SAMPLES if samples is None else min(samples, MOST_SAMPLES)
    source = open_samples(net, contract, data, samples=count, seed=seed, skip_bad=skip_bad)
    batches, labels = [], list[object]()
    for batch in source.batches(16):
        batches.append(by_name(batch.x, net.inputs[0]))
        labels += batch.y if batch.y is not None else [None] * len(batch)
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
