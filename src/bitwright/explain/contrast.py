"""Two quantized networks put side by side: what both need, measured on the same samples, and the reasons why they differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitwright.data.batch import by_name
from bitwright.errors import ModelError, printable
from bitwright.explain.differences import Difference, Side, differences, summary
from bitwright.explain.effects import Effects, Meter, batch_size
from bitwright.explain.entry import decider, measured_samples
from bitwright.explain.finding import number
from bitwright.explain.split import Splitter
from bitwright.explain.subject import Subject, subject_of
from bitwright.mend.bench import in_batches
from bitwright.model import open_samples
from bitwright.quantized import Quantized, open_quantized

Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Why two networks differ.

    Attributes:
        summary: In a sentence.
        differences: Tensor by tensor, what matters most first.
        a_db: Output signal to noise of the first; None where nothing was run.
        b_db: Of the second.
        samples: Measured on so many; 0 where nothing was run.
    """

    summary: str
    differences: tuple[Difference, ...]
    a_db: float | None = None
    b_db: float | None = None
    samples: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "summary": self.summary,
            "a_output_db": number(self.a_db),
            "b_output_db": number(self.b_db),
            "samples": self.samples,
            "differences": [one.to_dict() for one in self.differences],
        }


def contrast(
    a: Quantized | str | os.PathLike[str],
    b: Quantized | str | os.PathLike[str],
    data: Any = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Contrast:
    """Say why two quantized networks differ, tensor by tensor.

    Args:
        a: A quantized network or its ``.bw`` file.
        b: Another one of the same float network.
        data: Samples; then every tensor is weighed by what it costs at the outputs, else by an estimate.
        samples: Use so many.
        seed: Draw them at random.
        progress: Called with (done, of all or None, what is going on).

    Raises:
        ModelError: if they are different networks, with no layer in common.
        CalibrationError: if a file carries no calibration.
        DataError: if samples cannot be used.
    """
    first, second = subject_of(open_quantized(a)), subject_of(open_quantized(b))
    if not {s.name for s in first.spec.layers} & {s.name for s in second.spec.layers}:
        raise ModelError(
            f"'{printable(first.quantized.name)}' and '{printable(second.quantized.name)}' have no layer in common, so "
            "there is nothing to compare. Give two .bw files of one network."
        )
    sides = [
        Side(
            name=name,
            subject=subject,
            effects=None if data is None else _measured(subject, data, samples, seed, progress),
        )
        for name, subject in (("A", first), ("B", second))
    ]
    found = differences(*sides)
    effects = [side.effects for side in sides]
    return Contrast(
        summary=summary(found, *sides),
        differences=found,
        a_db=None if effects[0] is None else effects[0].output_db,
        b_db=None if effects[1] is None else effects[1].output_db,
        samples=0 if effects[0] is None else effects[0].samples,
    )


def _measured(subject: Subject, data: Any, samples: int | None, seed: int | None, progress: Progress | None) -> Effects:
    q = subject.quantized
    splitter = Splitter(subject)
    count = measured_samples(subject, len(splitter.tensors))
    count = count if samples is None else min(samples, count)
    source = open_samples(q.network, q.contract, data, samples=count, seed=seed)
    parts = [by_name(batch.x, q.network.inputs[0]) for batch in source.batches(16)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    meter = Meter(splitter, decide=decider(subject), progress=progress)
    size = batch_size(subject, splitter.tensors)
    return meter.measure(in_batches(subject.network, arrays, size), len(next(iter(arrays.values()))))
