"""Samples after the contract, one by one and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, printable

Tensors = NDArray[Any] | dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """One sample after the contract.

    Attributes:
        x: What the graph input wants, without batch axis; a dict for networks of several inputs.
        y: Its label, None without.
        index: Its number within the whole source.
        origin: Where it came from.
        float_source: Whether the source gave floats, which may be normalised already, rather than pixels.
    """

    x: Tensors
    y: object
    index: int
    origin: str
    float_source: bool = False


@dataclass(frozen=True)
class Batch:
    """Samples side by side.

    Attributes:
        x: Array ``[n, ...]``, or a dict of them by input name.
        y: A label each; None without labels.
        indices: Their numbers within the whole source.
        origins: Where they came from.
        float_source: Whether the source gave floats rather than pixels.
    """

    x: Tensors
    y: list[object] | None
    indices: tuple[int, ...]
    origins: tuple[str, ...]
    float_source: bool = False

    def __len__(self) -> int:
        return len(self.indices)


def by_name(x: Tensors, name: str = "") -> dict[str, NDArray[Any]]:
    """The arrays of ``x`` by input name; a single one is called ``name``."""
    return x if isinstance(x, dict) else {name: x}


def side_by_side(samples: Sequence[Sample]) -> Batch:
    """One batch of samples of the same shapes."""
    columns = {name: np.stack([by_name(s.x)[name] for s in samples]) for name in by_name(samples[0].x)}
    labels = [s.y for s in samples]
    return Batch(
        columns if isinstance(samples[0].x, dict) else columns[""],
        None if all(v is None for v in labels) else labels,
        tuple(s.index for s in samples),
        tuple(s.origin for s in samples),
        any(s.float_source for s in samples),
    )


def check_same(sample: Sample, first: Sample) -> None:
    """Refuse a sample whose inputs differ in name, shape or element type from the first one's.

    Raises:
        InputMismatch: naming both samples.
    """
    here, there = ({k: (v.shape, v.dtype) for k, v in by_name(s.x).items()} for s in (sample, first))
    if here == there:
        return
    texts = [
        ", ".join(f"{f'{printable(k)!r} ' if k else ''}{list(shape)} {dtype}" for k, (shape, dtype) in found.items())
        for found in (here, there)
    ]
    raise InputMismatch(
        f"Sample {sample.index} ({printable(sample.origin)}) is {texts[0]}, but sample {first.index} "
        f"({printable(first.origin)}) is {texts[1]}: set resize = [height, width] or crop in the input contract, so that "
        "all become the same."
    )
