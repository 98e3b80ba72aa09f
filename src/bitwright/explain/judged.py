"""The figure of any metric that validation has, of the float network and of the integers, over the samples at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.explain.finding import Totals
from bitwright.mend.bench import in_batches
from bitwright.metrics.choose import default_metric, metric_for
from bitwright.quantized import Quantized


def judged(
    totals: Totals,
    quantized: Quantized,
    arrays: Mapping[str, NDArray[Any]],
    labels: Sequence[object],
    metric: Any = None,
    decode: Any = None,
) -> Totals:
    """``totals`` with the figures of a metric.

    Args:
        totals: What is known so far; it keeps its metric where none is given and the task has no other.
        quantized: The network.
        arrays: Samples by input name, ``[n, ...]``.
        labels: Of each sample, None where there is none.
        metric: As for ``validate``; None takes that of the task, if it can be computed.
        decode: How a detector's outputs become boxes.

    Raises:
        NoData: if the metric needs labels and there are none.
        InputMismatch: if there is no such metric, or outputs or labels do not fit.
    """
    net, contract = quantized.network, quantized.contract
    labelled = bool(labels) and all(label is not None for label in labels)
    if metric is None:
        usual = default_metric(contract, labelled=labelled)
        if totals.metric or usual == "agreement" or (usual == "map50" and decode is None):
            return totals
        metric = usual
    made = [metric_for(metric, contract, labelled=labelled, outputs=net.outputs, decode=decode) for _ in range(2)]
    session, done = net.session(), 0
    for feeds in in_batches(net, arrays):
        count = len(next(iter(feeds.values())))
        floats = [np.asarray(x) for x in session.run(list(net.outputs), dict(feeds))]
        reals = [x.astype(np.float32) for x in quantized.reals(quantized.engine.run(quantized.integers(feeds)))]
        own = labels[done : done + count] if labelled else None
        for one, outputs in zip(made, (floats, reals), strict=True):
            one.update(outputs, own, inputs=feeds[net.inputs[0]], floats=floats)
        done += count
    before, after = made
    figures = [float(one.result()) for one in made]
    compares = "floats" in before.needs
    return replace(
        totals,
        metric=after.name,
        metric_unit=str(after.unit.value),
        float_metric=None if compares else figures[0],
        quantized_metric=figures[1],
    )
