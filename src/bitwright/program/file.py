"""The ``.bw`` file: one quantized network with everything that later steps start from.

A zip of whitelisted members.  JSON is compressed, the rest is stored, so nothing but JSON can grow when read, and
JSON is limited.  Nothing in it is executed and nothing is extracted to disk.

======================  =====================================================================================
``program.json``        schema number, list of the members, the program without its constants
``tensors.safetensors``  the constants
``provenance.json``     where it came from: versions, fingerprints, target, settings, formats, folds
``contract.json``       the input contract (optional)
``network.onnx``        the prepared float network (optional)
``calibration.bwcal``   the statistics (optional)
``rewritten.onnx``      the float network as repairs rewrote it, of the same function (optional)
``rewritten.bwcal``     its statistics (optional)
======================  =====================================================================================
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, ExportError, printable
from bitwright.program.check import check
from bitwright.program.codec import Malformed, program_from_dict, program_to_dict
from bitwright.program.program import Program

SCHEMA = 1
MAGIC = "bitwright program"
LARGEST_NETWORK = 1_500_000_000
"""Networks above this many bytes are referred to by path and fingerprint (``provenance["network_file"]``)."""

PROGRAM, TENSORS, PROVENANCE = "program.json", "tensors.safetensors", "provenance.json"
CONTRACT, NETWORK, CALIBRATION = "contract.json", "network.onnx", "calibration.bwcal"
REWRITTEN, RECALIBRATION = "rewritten.onnx", "rewritten.bwcal"
REQUIRED = (PROGRAM, TENSORS, PROVENANCE)
LARGEST: Mapping[str, int] = {
    PROGRAM: 32 << 20,
    PROVENANCE: 32 << 20,
    CONTRACT: 1 << 20,
    TENSORS: 1_500_000_000,
    NETWORK: LARGEST_NETWORK,
    CALIBRATION: 500_000_000,
    REWRITTEN: LARGEST_NETWORK,
    RECALIBRATION: 500_000_000,
}
MOST_JSON_VALUES = 2_000_000  # each costs up to a hundred bytes of memory
DTYPES = {np.dtype(t) for t in (np.int8, np.int16, np.int32, np.int64, np.uint8)}
END = struct.Struct("<4s4H2LH")  # end of central directory: signature, disks, entries, size, offset, comment length
DIRECTORY_BYTES = 4096
DAMAGED = "The file is damaged or was not written by bitwright; get it again, or run bitwright quantize again."


@dataclass(frozen=True)
class Artefact:
    """What a ``.bw`` file holds.

    Attributes:
        program: The integer program.
        provenance: Where it came from: JSON-ready values by name.
        contract: How samples become inputs, as ``InputContract.to_dict`` gives it, or None.
        network: The prepared float network as serialized ONNX, or None where it is too large to carry; then
            ``provenance["network_file"]`` says where it was and what its fingerprint is.
        calibration: The content of a ``.bwcal`` file, or None.
        rewritten: The float network that the integers were written from, where repairs rewrote it, or None.
        recalibration: Its statistics as a ``.bwcal`` file, or None.
    """

    program: Program
    provenance: Mapping[str, Any]
    contract: Mapping[str, Any] | None = None
    network: bytes | None = None
    calibration: bytes | None = None
    rewritten: bytes | None = None
    recalibration: bytes | None = None


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: NumPy numbers, enums, paths and tuples as their plain kin.

    Numbers that JSON lacks (NaN, infinities) become strings.

    Raises:
        TypeError: there is no plain form.
    """
    match value:
        case Enum():
            return plain(value.value)
        case None | bool() | int() | str():
            return value
        case float() | np.floating():
            return float(value) if math.isfinite(value) else str(float(value))
        case np.bool_() | np.integer() | np.ndarray():
            return plain(value.tolist())
        case PurePath():
            return str(value)
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case set() | frozenset():
            return sorted((plain(v) for v in value), key=str)
    raise TypeError(f"a .bw file holds plain values, not {type(value).__name__}")


def to_members(artefact: Artefact) -> dict[str, bytes]:
    """The members of the zip, in order.

    Raises:
        ExportError: one is larger than may be read back.
    """
    from safetensors.numpy import save as save_tensors

    tensors = {name: np.ascontiguousarray(t) for name, t in sorted(artefact.program.tensors.items())}
    wrong = [name for name, t in tensors.items() if t.dtype not in DTYPES]
    if wrong:
        raise ExportError(f"Constant '{printable(wrong[0])}' of the program is of type {tensors[wrong[0]].dtype}.")
    members = {TENSORS: save_tensors(tensors), PROVENANCE: _json(artefact.provenance)}
    if artefact.contract is not None:
        members[CONTRACT] = _json(artefact.contract)
    if artefact.network is not None:
        members[NETWORK] = artefact.network
    if artefact.calibration is not None:
        members[CALIBRATION] = artefact.calibration
    if artefact.rewritten is not None:
        members[REWRITTEN] = artefact.rewritten
    if artefact.recalibration is not None:
        members[RECALIBRATION] = artefact.recalibration
    sizes = {name: len(data) for name, data in members.items()}
    head = {"magic": MAGIC, "schema": SCHEMA, "members": sizes, "program": program_to_dict(artefact.program)}
    members = {PROGRAM: _json(head), **members}
    for name, data in members.items():
        if len(data) > LARGEST[name] or (name.endswith(".json") and _json_values(data) > MOST_JSON_VALUES):
            raise ExportError(
                f"{name} of '{printable(artefact.program.name)}' would have {len(data)} bytes, more than a .bw file may "
                f"hold ({LARGEST[name]} bytes, {MOST_JSON_VALUES} values). "
                + ("Refer to the network by path instead." if name == NETWORK else "Split the network.")
            )
    return members


def _json(value: Any) -> bytes:
    return json.dumps(plain(value), sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def _json_values(data: bytes) -> int:
    """An upper bound of the values in JSON text, without reading it."""
    return sum(data.count(mark) for mark in (b",", b"[", b"{"))


def save(artefact: Artefact, path: str | os.PathLike[str]) -> Path:
    """Write a ``.bw`` file; equal artefacts give equal bytes.

    It is written beside its destination and moved there when complete, so that a crash, a full disk or ``kill -9``
    leaves the old file as it was.

    Returns:
        The path written.

    Raises:
        ExportError: the folder cannot be written, the disk is full, or a part is too large.
    """
    target = Path(os.path.realpath(path))
    members = to_members(artefact)
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with _new_file(part) as stream:
            _write_zip(stream, members)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as why:
        raise ExportError(
            f"Cannot write '{printable(path)}': {why.strerror or why}. Nothing was left behind and an existing file is "
            "unchanged; free space or choose another place for the output."
        ) from why
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return Path(path)


def _new_file(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), "w+b")


def _write_zip(stream: BinaryIO, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(stream, "w", allowZip64=False) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = _compression(name)
            archive.writestr(entry, data)


def _compression(name: str) -> int:
    return zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be synchronized."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(path: str | os.PathLike[str]) -> Artefact:
    """Read a ``.bw`` file, believing nothing in it.

    Sizes are checked before anything is read, types and shapes while it is read, and every range that the program
    states is proven from its constants (``program/check.py``).

    Raises:
        BadModelFile: the file is missing, damaged, too large, of another kind or version, or contradicts itself.
    """
    try:
        return _load(path)
    except BadModelFile as why:
        raise BadModelFile(f"Cannot read '{printable(path)}': {why}", path=str(path)) from why
    except OSError as why:
        advice = "Check the path." if isinstance(why, FileNotFoundError) else "Check that it is a readable file."
        raise BadModelFile(f"Cannot read '{printable(path)}': {why.strerror or why}. {advice}", path=str(path)) from why
    except MemoryError as why:
        raise BadModelFile(
            f"Cannot read '{printable(path)}': it needs more memory than there is. Free memory and try again.",
            path=str(path),
        ) from why


def _damaged(why: str) -> NoReturn:
    raise BadModelFile(f"{why}. {DAMAGED}")


def _load(path: str | os.PathLike[str]) -> Artefact:
    with Path(path).open("rb") as stream:
        members = _read_zip(stream)
    head = _parse(members.pop(PROGRAM), PROGRAM)
    if head.get("magic") != MAGIC:
        _damaged(f"{PROGRAM} does not describe a bitwright program")
    schema = head.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        advice = "update bitwright" if newer else "run bitwright quantize again"
        raise BadModelFile(f"its schema is {printable(schema)}, this version reads schema {SCHEMA}; {advice}.")
    if head.get("members") != {name: len(data) for name, data in members.items()}:
        _damaged("its members are not the ones that its table lists")
    tensors = _tensors(members.pop(TENSORS))
    try:
        program = program_from_dict(head.get("program"), tensors)
    except Malformed as why:
        raise BadModelFile(f"{PROGRAM}: {why}. {DAMAGED}") from why
    check(program)
    return Artefact(
        program=program,
        provenance=_parse(members[PROVENANCE], PROVENANCE),
        contract=_parse(members[CONTRACT], CONTRACT) if CONTRACT in members else None,
        network=members.get(NETWORK),
        calibration=members.get(CALIBRATION),
        rewritten=members.get(REWRITTEN),
        recalibration=members.get(RECALIBRATION),
    )


def _parse(data: bytes, name: str) -> dict[str, Any]:
    if _json_values(data) > MOST_JSON_VALUES:
        _damaged(f"{name} holds more than {MOST_JSON_VALUES} values")
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as why:
        raise BadModelFile(f"{name} is not valid JSON ({printable(why)}). {DAMAGED}") from why
    return value if isinstance(value, dict) else _damaged(f"{name} holds no object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return entries


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _tensors(data: bytes) -> dict[str, NDArray[np.integer[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    # What the library does with types that NumPy lacks, or names that are not text, is not documented.
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, AttributeError) as why:
        raise BadModelFile(f"{TENSORS} cannot be read ({printable(why)}). {DAMAGED}") from why
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            _damaged(f"constant '{printable(name)}' is of type {tensor.dtype}, which no program holds")
        tensor.flags.writeable = False
    return tensors


def _read_zip(stream: BinaryIO) -> dict[str, bytes]:
    size = stream.seek(0, os.SEEK_END)
    _check_directory(stream, size)
    try:
        with zipfile.ZipFile(stream, allowZip64=False) as archive:
            entries = archive.infolist()
            _check_entries(entries, size)
            return {entry.filename: _read_member(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, KeyError) as why:
        raise BadModelFile(f"the zip is damaged ({printable(why)}). {DAMAGED}") from why
    except struct.error as why:
        raise BadModelFile(f"the zip is cut short. {DAMAGED}") from why


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One member; unpacking stops at the stated size, which a bomb understates."""
    with archive.open(entry) as stream:
        data = stream.read(entry.file_size + 1)
    return data if len(data) == entry.file_size else _damaged(f"its member {entry.filename} is cut short")


def _check_directory(stream: BinaryIO, size: int) -> None:
    """That the file is one plain zip with a short directory at its very end, before a library reads the directory."""
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        _damaged("it is no .bw file (it does not start like a zip)")
    reach = min(size, END.size + 20)
    stream.seek(size - reach)
    tail = stream.read(reach)
    if len(tail) < END.size + 20:
        _damaged("it is cut short")
    mark, disk, first_disk, here, entries, length, offset, comment = END.unpack(tail[-END.size :])
    if mark != b"PK\x05\x06" or comment or tail[:4] == b"PK\x06\x07":
        _damaged("its end is missing: it is cut short, or something was appended")
    if disk or first_disk or here != entries or not len(REQUIRED) <= entries <= len(LARGEST):
        _damaged(f"it lists {entries} members")
    if length > DIRECTORY_BYTES or offset + length + END.size != size:
        _damaged("its directory does not fit the file")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """That the members are the known ones, each once, and that reading them cannot fill the memory."""
    names = [entry.filename for entry in entries]
    for name in names:
        if name not in LARGEST:
            _damaged(f"it holds a member '{printable(name)}' that does not belong there")
    if len(set(names)) != len(names):
        _damaged("it holds a member twice")
    for name in REQUIRED:
        if name not in names:
            _damaged(f"its member {name} is missing")
    for entry in entries:
        if entry.flag_bits & ~0x800 or entry.compress_type != _compression(entry.filename):
            _damaged(f"its member {entry.filename} is packed in a way that bitwright does not write")
        if entry.file_size > LARGEST[entry.filename]:
            _damaged(
                f"its member {entry.filename} would unpack to {entry.file_size} bytes; "
                f"the limit is {LARGEST[entry.filename]}"
            )
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            _damaged(f"the sizes of its member {entry.filename} contradict each other")
    if sum(entry.compress_size for entry in entries) > size:
        _damaged("its members are larger than the file")
