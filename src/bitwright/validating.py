"""Validation: the float network and the integer program over the same samples, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bitwright.errors import printable
from bitwright.model import open_samples

if TYPE_CHECKING:
    from bitwright.metrics.validation import Validation
    from bitwright.quantized import Quantized

Progress = Callable[[int, int | None, str], None]
CHECKED_SAMPLES = 2
VALIDATION_BATCH = 16
SHOWN_ISLANDS = 3


def validate(
    quantized: Any,
    data: Any,
    metric: Any = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    decode: Any = None,
    progress: Progress | None = None,
) -> Validation:
    """Run the float network and the integer program over the same samples and compare them.

    The first samples are also run through the reference simulator, and every integer of every buffer is compared.

    Args:
        quantized: A quantized network or its ``.bw`` file.
        data: Samples, with labels where the metric needs them.
        metric: A name, ``module:function``, or None for the task's own.
        samples: Use so many.
        seed: See :func:`calibrate`.
        skip_bad: Leave out samples that cannot be read.
        decode: The decode function of a detector.
        progress: Called with (samples done, samples in all or None, what is going on).

    Raises:
        NoData: if there are no samples, or no labels where the metric needs them.
        Mismatch: if the fast engine and the reference differ, which would be a bug of ours.
    """
    import numpy as np

    from bitwright.metrics.choose import metric_for
    from bitwright.metrics.comparison import Comparison
    from bitwright.metrics.validation import Pair, Seconds
    from bitwright.quantized import open_quantized

    q = open_quantized(quantized)
    program, net, contract = q.program, q.network, q.contract
    source = open_samples(net, contract, data, samples=samples, seed=seed, skip_bad=skip_bad)
    timer = _Timer()
    batches = iter(source.batches(VALIDATION_BATCH))
    # A stream shows only in its first batch whether it has labels; nothing is computed before the metric is known.
    with timer.of("data"):
        batch = next(batches, None)
    labelled = source.source.labelled
    if labelled is None:
        labelled = batch is not None and batch.y is not None
    last = program.buffers[program.outputs[0]].format
    comparison = Comparison(
        lambda: metric_for(metric, contract, labelled=labelled, outputs=net.outputs, decode=decode),
        contract,
        highest=float(np.max(last.real_range[1])),
    )
    session = net.session()
    checked = mismatches = done = 0
    while batch is not None:
        arrays = batch.x if isinstance(batch.x, dict) else {net.inputs[0]: batch.x}
        with timer.of("float"):
            floats = session.run(list(net.outputs), arrays)
        if done == 0:
            if progress is not None:
                progress(0, source.length, "comparing with the reference")
            # This also warms the engine up, so that building it is not counted as running it.
            few = {name: x[:CHECKED_SAMPLES] for name, x in arrays.items()}
            agreement = q.check(few)
            agreement.require(f"The engine ({q.engine.name})")
            checked, mismatches = agreement.values_checked, agreement.mismatches
            q.engine.run(q.integers({name: x[:1] for name, x in arrays.items()}))
        with timer.of("quantized"):
            outputs = q.reals(q.engine.run(q.integers(arrays)))
        comparison.update(
            [np.asarray(f) for f in floats],
            [o.astype(np.float32) for o in outputs],
            batch.y if labelled else None,
            inputs=arrays[net.inputs[0]],
        )
        done += len(batch)
        if progress is not None:
            progress(done, source.length, "validating")
        with timer.of("data"):
            batch = next(batches, None)
    return comparison.validation(
        learnable_bytes=Pair(q.learnable_float_bytes, program.learnable_bytes),
        integer_mac_share=program.integer_mac_share,
        engine=q.engine.name,
        values_checked=checked,
        mismatches=mismatches,
        seconds=Seconds(**timer.spent),
        target=program.target,
        remedy=remedy(q),
        notes=(*source.notes, *island_notes(q)),
    )


class _Timer:
    """Adds up wall time under a few names."""

    def __init__(self) -> None:
        self.spent = {"float": 0.0, "quantized": 0.0, "data": 0.0}

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Count the time of the block as ``what``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] += time.perf_counter() - start


def remedy(quantized: Quantized) -> str:
    """What a network that collapses on its target needs."""
    if any(learnable.format.axis is not None for learnable in quantized.program.learnables):
        return "formats that clip less or more (another --scheme), or more bits"
    return "per-channel weights (--target generic or cpu has them) or equalization"


def island_notes(quantized: Quantized) -> tuple[str, ...]:
    """A sentence about the layers that run in float, for every report; empty if there are none."""
    from bitwright.program.forms import Island

    layers = [step.layer for step in quantized.program.steps if isinstance(step.form, Island)]
    if not layers:
        return ()
    share = 1.0 - quantized.program.integer_mac_share
    shown = ", ".join(f"'{printable(name, 40)}'" for name in layers[:SHOWN_ISLANDS])
    more = f" and {len(layers) - SHOWN_ISLANDS} more" if len(layers) > SHOWN_ISLANDS else ""
    noun = "One piece of the network runs" if len(layers) == 1 else f"{len(layers)} pieces of the network run"
    macs = f"{100 * share:.1f} % of the multiply-accumulates"
    return (f"{noun} in float ({macs}), from {shown}{more}: `bitwright details` has the reasons.",)
