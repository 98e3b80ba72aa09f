"""One face for all sources of samples: choose, decode ahead, apply the contract, batch."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from bitwright.data.batch import Batch, Sample, Tensors, by_name, check_same, side_by_side
from bitwright.data.contract import InputContract
from bitwright.data.first_batch import check_first_batch
from bitwright.data.image import decoded
from bitwright.data.kinds import reader_for
from bitwright.data.labels import moved
from bitwright.data.prefetch import ordered, pulled
from bitwright.data.reader import Failure, Indexed, Item, Stream
from bitwright.data.transform import size_of
from bitwright.errors import BadSample, BitwrightError, InputMismatch, NoData, NonFinite, printable

__all__ = ["Batch", "Sample", "Source", "check_first_batch", "choose", "default_workers", "open_source"]

OnBad = Literal["error", "skip"]

CHUNK = 4  # samples that are costly to decode are handed to threads so many at a time
RAW = InputContract(layout="raw")


class Source:
    """Samples of a data source under a contract, as often as one likes, in an order that never changes.

    Attributes:
        contract: How samples become tensors.
        indices: Numbers of the chosen samples; None for a stream, of which the first ones are used.
        length: How many samples a reading gives (before any is skipped); None for a stream of unknown length.
        skipped: What was wrong with each sample that the last reading skipped, in order (policy ``skip`` only).
    """

    def __init__(
        self,
        reader: Indexed | Stream,
        contract: InputContract,
        *,
        samples: int | None = None,
        seed: int | None = None,
        on_bad: OnBad = "error",
    ) -> None:
        self.reader, self.contract, self.on_bad = reader, contract, on_bad
        self.samples, self.seed = samples, seed
        self.skipped: tuple[BitwrightError, ...] = ()
        self._notes: list[str] = []
        total = reader.length
        if total == 0:
            raise NoData(f"There are no samples in {reader.title}.")
        self.indices = choose(total, samples, seed) if reader.selects and total is not None else None
        self.length = total if samples is None or total is None else min(total, samples)
        if samples is not None and total is not None and samples > total:
            self._notes.append(f"{samples} samples were asked for and there are {total}: all of them are used.")
        elif samples is not None and self.indices is None:
            self._notes.append(f"The first {samples} samples are used, as a stream cannot be spread over.")

    @property
    def title(self) -> str:
        """What the source is, for people."""
        return self.reader.title

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should see: what was assumed, passed over or skipped."""
        skipped = [f"{len(self.skipped)} samples were skipped; the first: {self.skipped[0]}"] if self.skipped else []
        return (*self.reader.notes, *self._notes, *skipped)

    def __len__(self) -> int:
        """``length``.

        Raises:
            TypeError: for a stream of unknown length.
        """
        if self.length is None:
            raise TypeError("the number of samples of a stream is not known")
        return self.length

    def __length_hint__(self) -> int:
        return self.length or 0

    def __iter__(self) -> Iterator[Sample]:
        """The samples one by one, decoded ahead; raises as ``batches``, but shapes may differ."""
        found = False
        chunks = self._chunks(CHUNK, default_workers())
        try:
            for chunk in chunks:
                for sample in self._kept(chunk):
                    found = True
                    yield sample
        finally:
            chunks.close()
        self._finish(found)

    def batches(self, size: int = 16, workers: int | None = None) -> Iterator[Batch]:
        """Batches of ``size`` samples (the last may be smaller), decoded ahead in threads.

        Order and contents do not depend on ``workers``; 0 decodes in the caller's thread.  About two batches are held
        ahead, whatever the size of the source.

        Raises:
            BadSample: if a sample cannot be read (policy ``error``), naming it.
            NonFinite: if a sample holds NaN or infinity.
            InputMismatch: if a sample does not fit the contract, or has another shape than the first.
            NoData: if there is none, or all were skipped.
        """
        if size < 1:
            raise ValueError("a batch holds at least one sample")
        first: Sample | None = None
        held: list[Sample] = []
        chunks = self._chunks(size, default_workers() if workers is None else workers)
        try:
            for chunk in chunks:
                for sample in self._kept(chunk):
                    first = first or sample
                    check_same(sample, first)
                    held.append(sample)
                    if len(held) == size:
                        yield side_by_side(held)
                        held = []
            if held:
                yield side_by_side(held)
        finally:
            chunks.close()
        self._finish(first is not None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the chosen samples' contents, their labels, the choice, and the contract's ``[input]``.

        Files count in full up to 64 MiB in all, and above by size and three blocks each; arrays in files by the
        checksums of the zip or as files; Python objects and streams by eight samples.
        """
        result = hashlib.sha256()
        result.update(self.reader.digest(self.indices))
        chosen = self.samples if self.indices is None else list(self.indices)
        into = self.contract.to_dict()["input"]
        for key in ("name", "shape", "dtype"):  # what the network says, not the data
            into.pop(key, None)
        result.update(json.dumps([chosen, into], sort_keys=True).encode())
        return result.hexdigest()

    @property
    def labelled(self) -> bool | None:
        """Whether samples have labels; None for a stream, which shows only when it is read."""
        return self.reader.labelled

    def require_labels(self, metric: str) -> None:
        """Refuse a source without labels before any work is done.

        Raises:
            NoData: naming the metric.
        """
        if self.labelled is False:
            raise NoData(
                f"The metric {printable(metric)} needs labels and {self.title} has none: give a CSV 'file,label', folders "
                "named after the classes, or an array y; or use a metric without labels, such as agreement or sqnr."
            )

    def _chunks(self, size: int, workers: int) -> Generator[list[Sample | Failure], None, None]:
        """Samples in order, in lists made by one thread each."""
        self.skipped = ()
        step = min(size, CHUNK) if self.reader.costly else size
        workers = workers if self.reader.costly else min(workers, 1)  # threads only get in each other's way
        held = max(2 * -(-size // step), 2 * workers)
        if (reader := _indexed(self.reader)) is not None and reader.parallel:
            chosen = self.indices or ()
            parts = (chosen[i : i + step] for i in range(0, len(chosen), step))
            work = ordered(lambda part: [self._prepare(self._read(reader, i)) for i in part], parts, workers, held)
        else:
            items = pulled(self._items, held * step) if workers > 0 else self._items()
            groups = _grouped(items, step)
            work = ordered(lambda part: [self._prepare(item) for item in part], groups, workers, held)
        try:
            yield from work
        finally:
            work.close()

    def _items(self) -> Generator[Item | Failure, None, None]:
        """Items of a source that only one thread may read."""
        if (reader := _indexed(self.reader)) is not None:
            for index in self.indices or ():
                yield self._read(reader, index)
        else:
            items = cast(Stream, self.reader).items(self.indices)
            yield from items if self.indices is not None else itertools.islice(items, self.samples)

    @staticmethod
    def _read(reader: Indexed, index: int) -> Item | Failure:
        """One item of an indexed reader; failures are values, so that their order is kept."""
        try:
            return reader.read(index)
        except Exception as error:
            return Failure(index, reader.origin(index), BadSample(reason(error), index=index), error)

    def _prepare(self, item: Item | Failure) -> Sample | Failure:
        """Apply the contract to one item."""
        if isinstance(item, Failure):
            return item
        try:
            raw = decoded(item.x) if isinstance(item.x, Image.Image) else item.x
            x, floats = self._tensors(raw)
            for name, part in by_name(x, self.contract.name or "").items():
                if floats and part.dtype.kind == "f" and not np.isfinite(part).all():
                    raise NonFinite("", tensor=name, sample=item.index)
            y = moved(item.y, self.contract, _image_size(raw))
            pixels = getattr(self.reader, "pixels", False)
            return Sample(x, y, item.index, item.origin, floats and not pixels)
        except BitwrightError as error:
            return Failure(item.index, item.origin, error)
        except (ValueError, TypeError, OSError) as error:
            return Failure(item.index, item.origin, BadSample(reason(error), index=item.index), error)

    def _tensors(self, x: object) -> tuple[Tensors, bool]:
        contract = self.contract
        if not isinstance(x, Mapping):
            return contract.apply(x), _is_float(x)
        main = contract.name if contract.name in x else next(iter(x)) if len(x) == 1 else None
        out = {str(k): (contract if k == main else RAW).apply(v) for k, v in x.items()}
        return out, any(_is_float(v) for v in x.values())

    def _kept(self, chunk: list[Sample | Failure]) -> Iterator[Sample]:
        """The good samples of a chunk; a bad one is skipped and remembered, or raised."""
        for sample in chunk:
            if isinstance(sample, Sample):
                yield sample
                continue
            error = _explained(sample, self.on_bad)
            if self.on_bad == "error":
                raise error from sample.cause or sample.error
            self.skipped += (error,)

    def _finish(self, found: bool) -> None:
        if found:
            return
        if self.skipped:
            raise NoData(f"All {len(self.skipped)} samples were bad; the first: {self.skipped[0]}")
        raise NoData(f"There are no samples in {self.title}.")


def open_source(
    data: Any,
    contract: InputContract,
    *,
    samples: int | None = None,
    seed: int | None = None,
    on_bad: OnBad = "error",
    inputs: Sequence[str] = (),
) -> Source:
    """Open anything that samples can come from.

    Args:
        data: A path (folder of class folders, folder of images, ``.csv``, ``.npz``, ``.npy``), the text
            ``package.module:function``, a NumPy array, a pair ``(x, y)`` or a dict of them, or any iterable, torch
            DataLoader, tf.data or Hugging Face data set.
        contract: How samples become tensors; bind it to the graph input where that is known.
        samples: Use so many: spread evenly over the source, so that folders sorted by class give all classes; the
            first ones of a stream.
        seed: Take one sample at random out of each of the even parts instead of its first.
        on_bad: What happens to a sample that cannot be used: ``error`` stops, ``skip`` leaves it out and counts it.
        inputs: Names of the graph inputs, for networks of several.

    Raises:
        NoData: if there is nothing, or nothing of a known kind.
        InputMismatch: if the object is no source of samples.
    """
    if samples is not None and samples < 1:
        raise NoData(f"{samples} samples are none: ask for at least one.")
    if isinstance(data, Source):
        return Source(data.reader, contract, samples=samples or data.samples, seed=seed, on_bad=on_bad)
    reader = reader_for(data, contract, samples, inputs)
    return Source(reader, contract, samples=samples, seed=seed, on_bad=on_bad)


def choose(length: int, samples: int | None, seed: int | None = None) -> tuple[int, ...]:
    """Which of ``length`` samples are used: all, or one of each of ``samples`` even parts, in order.

    Without a seed it is the first of each part, ``floor(k * length / samples)``.
    """
    if samples is None or samples >= length:
        return tuple(range(length))
    starts = np.arange(samples + 1, dtype=np.int64) * length // samples
    if seed is None:
        return tuple(int(v) for v in starts[:-1])
    draw = np.random.default_rng(seed).integers(starts[:-1], starts[1:])
    return tuple(int(v) for v in draw)


def default_workers() -> int:
    """Threads that decode: one per core that this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def _indexed(reader: Indexed | Stream) -> Indexed | None:
    return cast(Indexed, reader) if hasattr(reader, "read") else None


def _grouped(items: Generator[Item | Failure, None, None], step: int) -> Iterator[list[Item | Failure]]:
    try:
        while group := list(itertools.islice(items, step)):
            yield group
    finally:
        items.close()


def _is_float(x: object) -> bool:
    """Whether an array, or a tensor of another package, holds floats."""
    return "float" in str(getattr(x, "dtype", ""))


def _image_size(x: object) -> tuple[int, int] | None:
    if isinstance(x, Image.Image) or (isinstance(x, np.ndarray) and x.ndim in {2, 3}):
        return size_of(x)
    return None


def reason(error: Exception) -> str:
    """Why a sample could not be read, to be put after a colon."""
    if isinstance(error, FileNotFoundError):
        return f"the file {printable(os.path.basename(str(error.filename)))} does not exist"  # noqa: PTH119
    if isinstance(error, OSError):
        return printable(error.strerror or error)
    if isinstance(error, BitwrightError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {printable(error)}"


def _explained(failure: Failure, on_bad: OnBad) -> BitwrightError:
    """The failure as an error that names the sample."""
    what, error = f"Sample {failure.index} ({printable(failure.origin)})", failure.error
    if isinstance(error, NonFinite):
        return NonFinite(
            f"{what} holds NaN or infinity: remove it from the data.", tensor=error.tensor, sample=failure.index
        )
    text = f"{what} cannot be used: {str(error).rstrip('.')}"
    if not isinstance(error, BadSample):
        return InputMismatch(f"{text}.")
    hint = "" if on_bad == "skip" else ". Repair or remove it, or let bad samples be skipped"
    return BadSample(f"{text}{hint}.", index=failure.index)
