"""What a source of samples must offer, and how its contents are told apart from another's.

There are two kinds: an *indexed* reader can read sample ``i`` at any time (files, arrays), a *stream* gives samples in
its own order (generators, loaders).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bitwright.errors import BitwrightError

HASH_ALL_BYTES = 64 << 20
BLOCK_BYTES = 16 << 10


@dataclass(frozen=True)
class Item:
    """A sample as its source gives it, before the contract.

    Attributes:
        x: Image, array, or dict of arrays by input name.
        y: Label as the source gives it, None without.
        index: Number within the source, from 0.
        origin: Where it came from, to be shown in errors.
    """

    x: object
    y: object
    index: int
    origin: str


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, and why."""

    index: int
    origin: str
    error: BitwrightError
    cause: Exception | None = None


class Reader(Protocol):
    """What both kinds have.

    Attributes:
        title: What it is, for people.
        notes: Sentences that the user should see.
        costly: Reading one sample takes long enough to share a batch between threads.
        selects: It can give any choice of samples, and knows how many there are.
    """

    title: str
    notes: list[str]
    costly: bool
    selects: bool

    @property
    def length(self) -> int | None:
        """Number of samples, if known."""
        ...

    @property
    def labelled(self) -> bool | None:
        """Whether samples have labels, if known."""
        ...

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """What tells these samples apart from others."""
        ...


class Indexed(Reader, Protocol):
    """A reader of which any sample can be read at any time.

    Attributes:
        parallel: ``read`` may be called from several threads at once.
    """

    parallel: bool

    def read(self, index: int) -> Item:
        """Sample ``index``; raises anything if it cannot be read."""
        ...

    def origin(self, index: int) -> str:
        """Name of sample ``index``, to be shown when it cannot be read."""
        ...


class Stream(Reader, Protocol):
    """A reader that gives samples in its own order."""

    def items(self, wanted: Sequence[int] | None) -> Iterator[Item | Failure]:
        """The samples from the first one on; only those of ``wanted`` (ascending) if given."""
        ...


@dataclass
class Fingerprint:
    """A sha256 that is fed with labelled pieces, so that ``"a" + "bc"`` differs from ``"ab" + "c"``."""

    hash: Any = field(default_factory=hashlib.sha256)

    def add(self, *pieces: object) -> None:
        """Add pieces: bytes as they are, everything else by its text."""
        for piece in pieces:
            data = piece if isinstance(piece, bytes) else str(piece).encode("utf-8", "surrogateescape")
            self.hash.update(len(data).to_bytes(8, "little"))
            self.hash.update(data)

    def digest(self) -> bytes:
        """The 32 bytes."""
        return bytes(self.hash.digest())


def files_digest(files: Iterable[tuple[str, Path, object]]) -> bytes:
    """Digest of files given as (name, path, label).

    Names, labels and sizes always count.  Contents count in full while the files are at most 64 MiB together; above,
    16 KiB at the start, the middle and the end of each: a changed file of the same size with the same three blocks is
    not noticed.  Times are left out on purpose: copying a data set does not change it.
    """
    entries = [(name, path, label, _size(path)) for name, path, label in files]
    whole = sum(size for *_, size in entries) <= HASH_ALL_BYTES
    result = Fingerprint()
    for name, path, label, size in entries:
        result.add(name, label, size)
        if size >= 0:
            result.add(_contents(path, size, whole))
    return result.digest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _contents(path: Path, size: int, whole: bool) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if whole or size <= 3 * BLOCK_BYTES:
                while block := file.read(1 << 20):
                    digest.update(block)
            else:
                for start in (0, (size - BLOCK_BYTES) // 2, size - BLOCK_BYTES):
                    file.seek(start)
                    digest.update(file.read(BLOCK_BYTES))
    except OSError:
        return b"unreadable"
    return digest.digest()


def value_digest(value: object) -> bytes:
    """Digest of one sample or label in memory: type, shape and CRC of the bytes of arrays, text of anything else."""
    result = Fingerprint()
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            result.add(key, value_digest(value[key]))
        return result.digest()
    if isinstance(value, tuple | list):
        for part in value:
            result.add(value_digest(part))
        return result.digest()
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):
        array = np.asarray(type(value).__name__)
    if array.dtype.hasobject:
        result.add(type(value).__name__, str(value)[:1000])
    else:
        result.add(array.dtype.str, array.shape, zlib.crc32(np.ascontiguousarray(array).tobytes()))
    return result.digest()
