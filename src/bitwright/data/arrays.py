"""Samples in NumPy files and arrays, never more of them in memory than are in use.

``.npy`` files and stored members of ``.npz`` files are mapped; compressed members are unpacked at once while they are
small and otherwise read through once, sample by sample.  Nothing is unpickled.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract, nearest
from bitwright.data.reader import Failure, Fingerprint, Item, files_digest
from bitwright.errors import NoData, printable

UNPACKED_BYTES = 64 << 20
SAMPLE_BYTES = 1 << 30
LOCAL_HEADER = struct.Struct("<4s22xHH")
PICKLED = "holds Python objects, which are never loaded because loading can run code: save plain numbers of one shape"


class Arrays:
    """Samples along the first axis of arrays (in memory or mapped).

    Args:
        title: What to call the source.
        x: The samples, or arrays by input name.
        y: A label each, or None.
        name: Prefix of a sample's origin.
        content: Digest of the whole content if it is known already.
    """

    parallel = True
    costly = False
    selects = True
    notes: list[str]

    def __init__(
        self,
        title: str,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        y: Any | None,
        name: str,
        content: bytes | None = None,
    ) -> None:
        self.title, self.x, self.y, self.name, self.content = title, x, y, name, content
        self.notes = []
        self.labelled = y is not None
        parts = list(x.values()) if isinstance(x, Mapping) else [x]
        for part in parts:
            _check_array(part.dtype, part.shape, title)
        self.length: int = len(parts[0])
        if any(len(p) != self.length for p in parts) or (y is not None and len(y) != self.length):
            raise NoData(f"{title}: the arrays of samples and labels have different lengths.")

    def read(self, index: int) -> Item:
        """Row ``index``; a view, not a copy."""
        x = {k: v[index] for k, v in self.x.items()} if isinstance(self.x, Mapping) else self.x[index]
        return Item(x, None if self.y is None else self.y[index], index, self.origin(index))

    def origin(self, index: int) -> str:
        """``NAME[index]``."""
        return f"{self.name}[{index}]"

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """The file's digest, or that of the chosen rows: in full up to 64 MiB, else their first and last 4 KiB."""
        if self.content is not None:
            return self.content
        indices = range(self.length) if indices is None else indices
        result = Fingerprint()
        parts = dict(self.x) if isinstance(self.x, Mapping) else {"x": self.x}
        if self.y is not None:
            parts["y"] = np.asarray(self.y)
        for key, part in parts.items():
            whole = part[:1].nbytes * len(indices) <= UNPACKED_BYTES
            result.add(key, part.dtype.str, part.shape[1:])
            for i in indices:
                row = np.ascontiguousarray(part[i]).reshape(-1)
                if whole or row.nbytes <= 8192:
                    result.add(row.tobytes())
                else:
                    few = max(4096 // row.itemsize, 1)
                    result.add(row[:few].tobytes(), row[-few:].tobytes())
        return result.digest()


class PackedArrays:
    """Samples of compressed ``.npz`` members too large to unpack: read through once, sample by sample."""

    costly = False
    selects = True
    notes: list[str]

    def __init__(self, title: str, path: Path, members: Mapping[str, str], content: bytes) -> None:
        self.title, self.path, self.members, self.content = title, path, members, content
        self.notes = []
        self.labelled = "y" in members
        with zipfile.ZipFile(path) as file:
            heads = {key: _head(file, member, path)[0] for key, member in members.items()}
        lengths = {shape[0] for shape in heads.values()}
        if len(lengths) != 1:
            raise NoData(f"{title}: the arrays of samples and labels have different lengths.")
        self.length: int | None = lengths.pop()

    def items(self, wanted: Sequence[int] | None) -> Iterator[Item | Failure]:
        """The wanted samples in order; what lies between is unpacked and dropped."""
        chosen = range(self.length or 0) if wanted is None else wanted
        with zipfile.ZipFile(self.path) as file:
            rows = {key: _rows(file, member, self.path, chosen) for key, member in self.members.items()}
            for index in chosen:
                try:
                    values = {key: next(row) for key, row in rows.items()}
                except (zlib.error, zipfile.BadZipFile, EOFError, OSError, StopIteration) as error:
                    raise NoData(f"The file {printable(self.path)} is damaged at sample {index}: {error}.") from error
                y = values.pop("y", None)
                x = values["x"] if set(values) == {"x"} else values
                yield Item(x, y, index, f"{self.path.name}[{index}]")

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """The file's digest."""
        return self.content


def open_npy(path: Path) -> Arrays:
    """The samples along the first axis of a ``.npy`` file, mapped.

    Raises:
        NoData: if it is damaged, empty, or holds Python objects.
    """
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        if "pickle" in str(error) or "object" in str(error).lower():
            raise NoData(f"The file {printable(path)} {PICKLED}, or it is no .npy file.") from error
        raise NoData(f"The file {printable(path)} is no readable .npy file: {printable(error)}.") from error
    title = f"{len(x) if x.ndim else 0} samples of {printable(path)}"
    return Arrays(title, x, None, path.name, files_digest([(path.name, path, None)]))


def open_npz(path: Path, contract: InputContract, inputs: Sequence[str] = ()) -> Arrays | PackedArrays:
    """The samples of an ``.npz`` file: member ``x`` (or members named as the inputs), labels in ``y`` if it is there.

    Raises:
        NoData: if it is damaged, has no such member, is empty or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as file:
            infos = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
            names = _members(infos, contract, inputs, path)
            title = f"samples of {printable(path)}"
            heads = {key: _head(file, infos[member].filename, path) for key, member in names.items()}
            for shape, dtype, _ in heads.values():
                _check_array(dtype, shape, title)
            content = Fingerprint()
            for key, member in names.items():
                content.add(key, heads[key][0], heads[key][1].str, infos[member].CRC)
            packed = [k for k, m in names.items() if infos[m].compress_type != zipfile.ZIP_STORED]
            if sum(infos[names[k]].file_size for k in packed) > UNPACKED_BYTES:
                members = {k: infos[m].filename for k, m in names.items()}
                return PackedArrays(f"{heads[next(iter(names))][0][0]} {title}", path, members, content.digest())
            columns = {k: _column(file, infos[m], path, heads[k]) for k, m in names.items()}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error) as error:
        raise NoData(f"The file {printable(path)} is no readable .npz file: {printable(error)}.") from error
    y = columns.pop("y", None)
    x = columns["x"] if set(columns) == {"x"} else columns
    return Arrays(f"{len(next(iter(columns.values())))} {title}", x, y, path.name, content.digest())


def _members(infos: Mapping[str, object], contract: InputContract, inputs: Sequence[str], path: Path) -> dict[str, str]:
    """Which member serves what: ``{"x": member}`` or one per input, and ``"y"``."""
    names: dict[str, str] = {}
    if len(inputs) > 1 and all(name in infos for name in inputs):
        names = {name: name for name in inputs}
    elif "x" in infos:
        names = {"x": "x"}
    elif contract.name is not None and contract.name in infos:
        names = {"x": contract.name}
    else:
        hint = nearest("x", [printable(n, 30) for n in infos]) if infos else "; it is empty"
        raise NoData(
            f"The file {printable(path)} has no array 'x'{hint}: save the samples with np.savez(file, x=..., y=...)."
        )
    if "y" in infos and "y" not in names:
        names["y"] = "y"
    return names


def _check_array(dtype: np.dtype[Any], shape: tuple[int, ...], title: str) -> None:
    if dtype.hasobject:
        raise NoData(f"The array of {title} {PICKLED}.")
    if dtype.kind not in "biuf":
        raise NoData(f"The array of {title} has the element type {printable(dtype)}, not real numbers.")
    if not shape:
        raise NoData(f"The array of {title} is a single number: its first axis must count the samples.")
    if min(shape) <= 0:
        raise NoData(f"The array of {title} has shape {list(shape)}, so it holds no samples.")


Head = tuple[tuple[int, ...], np.dtype[Any], bool]


def _read_head(file: IO[bytes]) -> Head:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, dtype, fortran


def _head(file: zipfile.ZipFile, member: str, path: Path) -> Head:
    """Shape, element type and order of a member, checked against its size."""
    info = file.getinfo(member)
    with file.open(info) as stream:
        shape, dtype, fortran = _read_head(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise NoData(f"The array {printable(member)} of {printable(path)} {PICKLED}.")
    count = 1
    for axis in shape:  # not np.prod, which wraps
        count *= axis
    if start + count * dtype.itemsize != info.file_size:
        raise NoData(f"The array {printable(member)} of {printable(path)} is damaged: its size does not fit its shape.")
    if shape and shape[0] and count // shape[0] * dtype.itemsize > SAMPLE_BYTES:
        raise NoData(f"One sample of {printable(path)} takes more than 1 GiB: its first axis must count the samples.")
    return shape, dtype, fortran


def _column(file: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, head: Head) -> NDArray[Any]:
    """A member as an array: mapped if it is stored, else unpacked."""
    shape, dtype, fortran = head
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        with file.open(info) as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    with path.open("rb") as raw:
        raw.seek(info.header_offset)
        magic, name_length, extra_length = LOCAL_HEADER.unpack(raw.read(LOCAL_HEADER.size))
        if magic != b"PK\x03\x04":
            raise zipfile.BadZipFile("a local header is damaged")
        raw.seek(name_length + extra_length, 1)
        _read_head(raw)
        return np.memmap(path, dtype, "r", raw.tell(), shape, "F" if fortran else "C")


def _rows(file: zipfile.ZipFile, member: str, path: Path, wanted: Sequence[int]) -> Iterator[NDArray[Any]]:
    """The wanted rows of a compressed member, in ascending order."""
    with file.open(member) as stream:
        shape, dtype, fortran = _read_head(stream)
        if fortran and len(shape) > 1:
            raise NoData(
                f"The array {printable(member)} of {printable(path)} is stored column by column: save it with "
                "np.ascontiguousarray."
            )
        count = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        at = 0
        for index in wanted:
            while at < index:
                _exactly(stream, count)
                at += 1
            yield np.frombuffer(_exactly(stream, count), dtype).reshape(shape[1:])
            at += 1


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("it ends too early")
    return data
