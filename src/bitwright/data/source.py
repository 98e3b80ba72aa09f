"""One face for all sources of samples: choose, decode ahead, apply the contract, batch."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.data import arrays, files, python
from bitwright.data.contract import InputContract, nearest
from bitwright.data.first_batch import check_first_batch
from bitwright.data.labels import moved
from bitwright.data.prefetch import ordered, pulled
from bitwright.data.reader import Failure, Indexed, Item, Stream
from bitwright.data.transform import size_of
from bitwright.errors import BadSample, BitwrightError, InputMismatch, NoData, NonFinite, printable

__all__ = ["Batch", "Sample", "Source", "check_first_batch", "open_source"]

Tensors = NDArray[Any] | dict[str, NDArray[Any]]
OnBad = Literal["error", "skip"]

SHARED_SAMPLES = 4  # samples that are costly to decode are handed to threads in chunks of this many
IMAGE_AXES = (2, 3)


@dataclass(frozen=True)
class Sample:
    """One sample after the contract.

    Attributes:
        x: What the graph input wants, without batch axis; a dict for networks of several inputs.
        y: Its label, None without.
        index: Its number within the whole source.
        origin: Where it came from.
        float_source: Whether the source gave floats, which may be normalised already, rather than 8-bit pixels.
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
        float_source: Whether the source gave floats rather than 8-bit pixels.
    """

    x: Tensors
    y: list[object] | None
    indices: tuple[int, ...]
    origins: tuple[str, ...]
    float_source: bool = False

    def __len__(self) -> int:
        return len(self.indices)


class Source:
    """Samples of a data source under a contract, as often as one likes, in an order that never changes.

    Attributes:
        contract: How samples become tensors.
        notes: Sentences that the user should see: what was assumed, passed over or skipped.
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
        length = reader.length if _is_stream(reader) else len(reader)  # type: ignore[union-attr, arg-type]
        if length == 0:
            raise NoData(f"There are no samples in {reader.title}.")
        spreads = length is not None and not isinstance(reader, python.Iterated)
        self.indices = choose(length, samples, seed) if spreads and length is not None else None
        self.length = length if samples is None or length is None else min(length, samples)
        if samples is not None and length is not None and samples > length:
            self._notes.append(f"{samples} samples were asked for and there are {length}: all of them are used.")
        elif samples is not None and self.indices is None:
            self._notes.append(f"The first {samples} samples are used, as a stream cannot be spread over.")

    @property
    def title(self) -> str:
        """What the source is, for people."""
        return self.reader.title

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should see."""
        skipped = [f"{len(self.skipped)} samples were skipped; the first: {self.skipped[0]}"] if self.skipped else []
        return (*self.reader.notes, *self._notes, *skipped)

    def __len__(self) -> int:
        """Number of samples that a reading gives (before any is skipped).

        Raises:
            TypeError: for a stream of unknown length; ``length`` is None then.
        """
        if self.length is None:
            raise TypeError("the number of samples of a stream is not known")
        return self.length

    def __length_hint__(self) -> int:
        return self.length or 0

    def __iter__(self) -> Iterator[Sample]:
        """The samples one by one, decoded ahead."""
        workers = default_workers()
        found = False
        for chunk in self._chunks(SHARED_SAMPLES, workers):
            for sample in self._kept(chunk):
                found = True
                yield sample
        self._finish(found)

    def batches(self, size: int = 16, workers: int | None = None) -> Iterator[Batch]:
        """Batches of ``size`` samples (the last may be smaller), decoded ahead in threads.

        Order and contents do not depend on ``workers``; 0 decodes in the caller's thread.  At most a few batches are in
        memory.

        Raises:
            BadSample: if a sample cannot be read (policy ``error``), naming it.
            NonFinite: if a sample holds NaN or infinity.
            InputMismatch: if a sample does not fit the contract, or has another shape than the first.
            NoData: if there is none, or all were skipped.
        """
        if size < 1:
            raise ValueError("a batch holds at least one sample")
        workers = default_workers() if workers is None else workers
        first: Sample | None = None
        held: list[Sample] = []
        for chunk in self._chunks(size, workers):
            for sample in self._kept(chunk):
                first = first or sample
                _same_shape(sample, first)
                held.append(sample)
                if len(held) == size:
                    yield _batch(held)
                    held = []
        if held:
            yield _batch(held)
        self._finish(first is not None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the chosen samples' contents, their labels, the choice, and the contract.

        Files count in full up to 64 MiB in all and by size and three blocks each above; streams by their first samples.
        """
        result = hashlib.sha256()
        result.update(self.reader.digest(self.indices))  # type: ignore[arg-type]
        chosen = self.samples if self.indices is None else list(self.indices)
        contract = self.contract.to_dict()
        for key in ("name", "shape", "dtype"):  # what the network says, not the data
            contract["input"].pop(key, None)
        result.update(json.dumps([chosen, contract["input"]], sort_keys=True).encode())
        return result.hexdigest()

    @property
    def labelled(self) -> bool | None:
        """Whether samples have labels; None for a stream, which shows only when it is read."""
        return getattr(self.reader, "labelled", None)

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

    def _chunks(self, size: int, workers: int) -> Iterator[list[Sample | Failure]]:
        """Samples in order, in lists made by one thread each."""
        self.skipped = ()
        reader = self.reader
        if not _is_stream(reader) and reader.parallel:  # type: ignore[union-attr]
            step = min(size, SHARED_SAMPLES) if reader.costly else size  # type: ignore[union-attr]
            indices = self.indices
            if indices is None:
                raise AssertionError("an indexed source always has its indices")
            tasks = (indices[i : i + step] for i in range(0, len(indices), step))
            work = ordered(lambda part: [self._load(i) for i in part], tasks, workers, _held(size, step, workers))
        else:
            step = min(size, SHARED_SAMPLES)
            held = _held(size, step, workers)
            items = pulled(self._items, held * step) if workers > 0 else self._items()
            work = ordered(lambda part: [self._prepare(i) for i in part], _grouped(items, step), workers, held)
        try:
            yield from work
        finally:
            work.close()  # type: ignore[attr-defined]

    def _items(self) -> Iterator[Item | Failure]:
        """Items of a source that only one thread may read."""
        if _is_stream(self.reader):
            items = self.reader.items(self.indices)  # type: ignore[union-attr]
            yield from items if self.indices is not None else itertools.islice(items, self.samples)
            return
        for index in self.indices or ():
            yield self._read(index)

    def _read(self, index: int) -> Item | Failure:
        try:
            return self.reader.read(index)  # type: ignore[union-attr]
        except Exception as error:
            return Failure(index, self.reader.origin(index), error)  # type: ignore[union-attr]

    def _load(self, index: int) -> Sample | Failure:
        return self._prepare(self._read(index))

    def _prepare(self, item: Item | Failure) -> Sample | Failure:
        """Apply the contract to one item; failures are values, so that their order is kept."""
        if isinstance(item, Failure):
            return item
        try:
            x, floats = self._tensors(item.x)
            y = moved(item.y, self.contract, _image_size(item.x))
            for name, part in x.items() if isinstance(x, dict) else [(self.contract.name or "", x)]:
                if floats and part.dtype.kind == "f" and not np.isfinite(part).all():
                    raise NonFinite("it holds NaN or infinity", tensor=name, sample=item.index)
            return Sample(x, y, item.index, item.origin, floats)
        except (BitwrightError, ValueError, TypeError, OSError) as error:
            return Failure(item.index, item.origin, error)

    def _tensors(self, x: object) -> tuple[Tensors, bool]:
        contract = self.contract
        if not isinstance(x, Mapping):
            return contract.apply(x), _is_float(x)
        main = contract.name if contract.name in x else next(iter(x)) if len(x) == 1 else None
        plain = InputContract(layout="raw")
        out = {str(k): (contract if k == main else plain).apply(v) for k, v in x.items()}
        return out, any(_is_float(v) for v in x.values())

    def _kept(self, chunk: list[Sample | Failure]) -> Iterator[Sample]:
        for sample in chunk:
            if isinstance(sample, Sample):
                yield sample
                continue
            error = _explained(sample, self.on_bad)
            if self.on_bad == "error":
                raise error from sample.error
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
            ``package.module:function``, a NumPy array or a pair ``(x, y)`` of them, or any iterable, torch DataLoader,
            tf.data or Hugging Face data set.
        contract: How samples become tensors; bind it to the graph input where that is known.
        samples: Use so many: spread evenly over the source, so that folders sorted by class give all classes; the
            first ones of a stream.
        seed: Take one sample at random out of each of the even parts instead of its first.
        on_bad: What happens to a sample that cannot be read: ``error`` stops, ``skip`` leaves it out and counts it.
        inputs: Names of the graph inputs, for networks of several.

    Raises:
        NoData: if there is nothing, or nothing of a known kind.
        InputMismatch: if the object is no source of samples.
    """
    if samples is not None and samples < 1:
        raise NoData(f"{samples} samples are none: ask for at least one.")
    if isinstance(data, Source):
        return data
    reader = _reader(data, contract, samples, inputs)
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


def _reader(data: Any, contract: InputContract, samples: int | None, inputs: Sequence[str]) -> Indexed | Stream:
    if isinstance(data, str | os.PathLike):
        return _path_reader(data, contract, samples, inputs)
    if isinstance(data, np.ndarray):
        return arrays.Arrays(f"an array of shape {list(data.shape)}", data, None, "array")
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(v, np.ndarray) for v in data):  # noqa: PLR2004
        return arrays.Arrays(f"an array of shape {list(data[0].shape)}", data[0], data[1], "array")
    if isinstance(data, Mapping) and data and all(isinstance(v, np.ndarray) for v in data.values()):
        columns = dict(data)
        y = columns.pop("y", None)
        x = columns["x"] if set(columns) == {"x"} else columns
        return arrays.Arrays("arrays by name", x, y, "arrays")
    if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        return python.open_function(data, contract, inputs, samples=samples)
    return python.open_object(data, contract, inputs)


def _path_reader(
    data: str | os.PathLike[str], contract: InputContract, samples: int | None, inputs: Sequence[str]
) -> Indexed | Stream:
    text = os.fspath(data)
    path = Path(text)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(text, str) and re.fullmatch(python.FUNCTION, text):
            found = python.find_function(text)
            if callable(found) and not hasattr(found, "__iter__"):
                return python.open_function(found, contract, inputs, samples=samples)
            return _reader(found, contract, samples, inputs)
        raise NoData(f"There is no data at {printable(text)}{_siblings(path)}.") from error
    if stat.S_ISDIR(status.st_mode):
        return files.open_folder(path)
    if not stat.S_ISREG(status.st_mode):
        raise NoData(f"{printable(text)} is neither a file nor a folder.")
    match path.suffix.lower():
        case ".csv":
            return files.open_csv(path, contract)
        case ".npz":
            return arrays.open_npz(path, contract, inputs)
        case ".npy":
            return arrays.open_npy(path)
    if files.is_image_name(path.name):
        return files.ImageFiles(f"the image {printable(path)}", path.parent, [path.name], None)
    raise NoData(
        f"{printable(text)} is no data source: give a folder of images, a .csv with the columns file,label, an .npz, an .npy, "
        "or package.module:function."
    )


def _siblings(path: Path) -> str:
    try:
        names = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        return ": give a folder, a .csv, .npz or .npy file, or package.module:function"
    return printable(nearest(path.name, names[:200]), 300) if names else ""


def _is_stream(reader: Indexed | Stream) -> bool:
    return hasattr(reader, "items")


def _held(size: int, step: int, workers: int) -> int:
    """Chunks begun and not taken: two batches ahead, and never fewer than keep every thread busy."""
    return max(2 * -(-size // step), 2 * workers)


def _grouped(items: Iterator[Item | Failure], step: int) -> Iterator[list[Item | Failure]]:
    try:
        while group := list(itertools.islice(items, step)):
            yield group
    finally:
        items.close()  # type: ignore[attr-defined]


def _is_float(x: object) -> bool:
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    if kind is not None:
        return bool(kind == "f")
    return "float" in str(getattr(x, "dtype", ""))


def _image_size(x: object) -> tuple[int, int] | None:
    if isinstance(x, np.ndarray):
        return size_of(x) if x.ndim in IMAGE_AXES else None
    return (x.height, x.width) if hasattr(x, "height") and hasattr(x, "width") else None  # type: ignore[return-value]


def _shapes(x: Tensors) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    return {k: (v.shape, v.dtype) for k, v in (x.items() if isinstance(x, dict) else [("", x)])}


def _same_shape(sample: Sample, first: Sample) -> None:
    got, wanted = _shapes(sample.x), _shapes(first.x)
    if got != wanted:
        here, there = (
            next((got.get(k), v) for k, v in wanted.items() if got.get(k) != v)
            if len(got) >= len(wanted)
            else (got, wanted)
        )
        raise InputMismatch(
            f"Sample {sample.index} ({printable(sample.origin)}) has shape {_text(here)}, but sample {first.index} "
            f"({printable(first.origin)}) has {_text(there)}: set resize = [height, width] or crop in the input contract, so "
            "that all become the same."
        )


def _text(shape: Any) -> str:
    return f"{list(shape[0])} {shape[1]}" if isinstance(shape, tuple) else f"{shape}"


def _batch(samples: list[Sample]) -> Batch:
    first = samples[0].x
    x: Tensors
    if isinstance(first, dict):
        x = {k: np.stack([s.x[k] for s in samples]) for k in first}  # type: ignore[index, call-overload]
    else:
        x = np.stack([s.x for s in samples])  # type: ignore[misc]
    labels = [s.y for s in samples]
    return Batch(
        x,
        None if all(v is None for v in labels) else labels,
        tuple(s.index for s in samples),
        tuple(s.origin for s in samples),
        any(s.float_source for s in samples),
    )


def _explained(failure: Failure, on_bad: OnBad) -> BitwrightError:
    """The failure as an error of ours that names the sample."""
    what, error = f"Sample {failure.index} ({printable(failure.origin)})", failure.error
    if isinstance(error, NonFinite):
        return NonFinite(
            f"{what} holds NaN or infinity: remove it from the data.", tensor=error.tensor, sample=failure.index
        )
    if isinstance(error, FileNotFoundError):
        reason = "the file does not exist"
    elif isinstance(error, OSError):
        reason = printable(error.strerror or error)
    elif isinstance(error, BitwrightError):
        reason = str(error).rstrip(".")
    else:
        reason = f"{type(error).__name__}: {printable(error)}"
    hint = "" if on_bad == "skip" else ". Repair or remove it, or let bad samples be skipped"
    return BadSample(f"{what} cannot be used: {reason}{hint}.", index=failure.index)
