"""``.bwcal`` files: statistics on disk.

A zip of ``statistics.json`` (everything but arrays) and ``arrays.safetensors`` (the filled bins of the histograms, and
ranges per channel).  Nothing in it can execute, and nothing is believed before it was checked: sizes in the directory
before unpacking, every length and number before use.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.bins import BINS
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import BadModelFile, CalibrationError, printable
from bitwright.number.format import Format

if TYPE_CHECKING:
    from bitwright.calibrate.placing import Placed

FORMAT = "bitwright calibration"
JSON, ARRAYS = "statistics.json", "arrays.safetensors"
# Far above what any network needs: a histogram is at most 192 KiB, per tensor or channel.
LARGEST_BYTES = 4 << 30
LARGEST_JSON = 256 << 20
# An honest histogram is mostly small numbers and compresses well, but not like a bomb.
LARGEST_RATIO = 1000
KINDS = ("activations", "weights", "biases")


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Write a ``.bwcal`` file, whole or not at all: a crash or a full disk leaves the old file, or none.

    Equal statistics make equal bytes.

    Raises:
        CalibrationError: if the file cannot be written.
    """
    path = Path(path)
    data = statistics_bytes(statistics)
    try:
        _write(path, data)
    except OSError as error:
        raise CalibrationError(
            f"The calibration cannot be written to {printable(path)}: {error.strerror or error}. Nothing was left "
            "behind; free some space, or choose another place."
        ) from error


def statistics_bytes(statistics: Statistics) -> bytes:
    """The content of a ``.bwcal`` file; equal statistics make equal bytes."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": Statistics.VERSION,
        "network": statistics.network,
        "data": list(statistics.data),
        "samples": statistics.samples,
        "partial": statistics.partial,
    }
    if statistics.placed is not None:
        document["numbers"] = _numbers(statistics.placed)
    for kind in KINDS:
        document[kind] = [
            _described(name, stats, f"{kind}.{i}", arrays)
            for i, (name, stats) in enumerate(getattr(statistics, kind).items())
        ]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for entry, data in ((JSON, json.dumps(document, allow_nan=False).encode()), (ARRAYS, save(arrays))):
            info = zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return stream.getvalue()


def _numbers(placed: Placed) -> dict[str, Any]:
    from bitwright.calibrate.given import format_text

    activations = sorted(placed.activations.items())
    return {
        "kind": placed.kind,
        "formats": {t: format_text(e) for t, e in activations if isinstance(e, Format)},
        "ranges": {t: list(e) for t, e in activations if not isinstance(e, Format)},
        "weights": {layer: format_text(f) for layer, f in sorted(placed.weights.items())},
        "unused": list(placed.unused),
    }


def _placed(document: Any) -> Placed | None:
    from bitwright.calibrate.given import parse_format
    from bitwright.calibrate.placing import Placed

    if document is None:
        return None
    activations: dict[str, Any] = {_text(t): parse_format(_text(f)) for t, f in document["formats"].items()}
    for tensor, ends in document["ranges"].items():
        low, high = (float(v) for v in ends)
        _check(math.isfinite(low) and math.isfinite(high) and low <= high, "range")
        activations[_text(tensor)] = (low, high)
    weights = {_text(layer): parse_format(_text(f)) for layer, f in document["weights"].items()}
    unused = tuple(_text(name) for name in document["unused"])
    return Placed(kind=_text(document["kind"]), activations=activations, weights=weights, unused=unused)


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a crash, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _described(name: str, stats: TensorStats, key: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    filled = np.flatnonzero(stats.counts)
    arrays[f"{key}.bins"] = filled.astype(np.uint16)
    arrays[f"{key}.counts"] = stats.counts[filled]
    if stats.channel_lo is not None and stats.channel_hi is not None:
        arrays[f"{key}.channel_lo"] = np.array(stats.channel_lo)
        arrays[f"{key}.channel_hi"] = np.array(stats.channel_hi)
    if stats.channel_hist is not None:
        channel, bin_ = np.nonzero(stats.channel_hist)
        arrays[f"{key}.channel_at"] = channel * BINS + bin_
        arrays[f"{key}.channel_counts"] = stats.channel_hist[channel, bin_]
    return {
        "tensor": name,
        "count": stats.count,
        "zeros": stats.zeros,
        "nonfinite": stats.nonfinite,
        "range": [stats.lo, stats.hi] if stats.finite else None,
        "axis": stats.axis,
    }


def load_statistics(path: str | Path) -> Statistics:
    """Read a ``.bwcal`` file.

    Raises:
        BadModelFile: if it is missing, damaged, of another kind or version, or would unpack to an absurd size.
    """
    return _loaded(Path(path), path)


def statistics_from_bytes(data: bytes, name: str = "(the calibration in the file)") -> Statistics:
    """The inverse of :func:`statistics_bytes`; ``name`` stands in errors.  Raises as :func:`load_statistics`."""
    return _loaded(Path(name), io.BytesIO(data))


def _loaded(path: Path, content: str | Path | IO[bytes]) -> Statistics:
    try:
        text, data = _unpacked(path, content)
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise _bad(path, "is no calibration of bitwright")
        if document.get("version") != Statistics.VERSION:
            raise _bad(
                path,
                f"has version {printable(document.get('version'))}, this bitwright reads {Statistics.VERSION}",
            )
        return _statistics(document, _arrays(data))
    except FileNotFoundError as error:
        raise BadModelFile(f"There is no file {printable(path)}.", path=str(path)) from error
    except OSError as error:
        raise BadModelFile(f"{printable(path)} cannot be read: {error.strerror or error}.", path=str(path)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError) as error:
        raise _bad(path, "is damaged or cut short") from error
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise _bad(path, f"is damaged ({printable(error)})") from error


def _bad(path: Path, why: str) -> BadModelFile:
    return BadModelFile(f"{printable(path)} {why}. Calibrate again to make a new one.", path=str(path))


def _unpacked(path: Path, content: str | Path | IO[bytes]) -> tuple[bytes, bytes]:
    with zipfile.ZipFile(content) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if set(entries) != {JSON, ARRAYS}:
            raise _bad(path, "is no calibration of bitwright")
        for info in entries.values():
            limit = LARGEST_JSON if info.filename == JSON else LARGEST_BYTES
            if info.file_size > min(limit, LARGEST_RATIO * info.compress_size + (1 << 16)):
                raise _bad(path, f"would unpack to {info.file_size} bytes, far more than a calibration holds")
        # ZipFile reads no more than the size that the directory states, and checks the CRC.
        return archive.read(JSON), archive.read(ARRAYS)


def _arrays(data: bytes) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _statistics(document: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Statistics:
    parts = {
        kind: {_text(entry["tensor"]): _tensor(entry, f"{kind}.{i}", arrays) for i, entry in enumerate(document[kind])}
        for kind in KINDS
    }
    if type(document["partial"]) is not bool:
        raise ValueError("partial is not true or false")
    return Statistics(
        _text(document["network"]),
        tuple(_text(name) for name in document["data"]),
        _count(document["samples"]),
        **parts,
        partial=document["partial"],
        placed=_placed(document.get("numbers")),
    )


def _tensor(entry: dict[str, Any], key: str, arrays: Mapping[str, NDArray[Any]]) -> TensorStats:
    hist = np.zeros(BINS, np.int64)
    bins, counts = arrays[f"{key}.bins"], arrays[f"{key}.counts"]
    _check(bins.ndim == 1 and bins.dtype == np.uint16 and (np.diff(bins.astype(np.int64)) > 0).all(), "bins")
    _check(counts.shape == bins.shape and counts.dtype == np.int64 and (counts > 0).all(), "counts")
    hist[bins] = counts  # an index of BINS or more raises IndexError
    count, zeros, nonfinite = (_count(entry[name]) for name in ("count", "zeros", "nonfinite"))
    _check(int(hist.sum()) == count and zeros + nonfinite <= count, "counts that do not add up")
    lo, hi = (math.inf, -math.inf) if entry["range"] is None else (float(x) for x in entry["range"])
    _check((entry["range"] is None) == (count == nonfinite) and (lo <= hi or count == nonfinite), "range")
    axis, low, high = entry["axis"], arrays.get(f"{key}.channel_lo"), arrays.get(f"{key}.channel_hi")
    _check((axis is None) == (low is None) == (high is None), "channels")
    channel_hist = None
    if low is not None and high is not None:
        _check(type(axis) is int and 0 <= axis < 32, "axis")
        _check(low.ndim == 1 and low.shape == high.shape and low.dtype == high.dtype == np.float32, "channels")
        if f"{key}.channel_at" in arrays:
            channel_hist = _channel_hist(arrays[f"{key}.channel_at"], arrays[f"{key}.channel_counts"], len(low))
            _check(np.array_equal(channel_hist.sum(0), hist), "channels that do not add up")
    return TensorStats(count, zeros, nonfinite, lo, hi, hist, axis, low, high, channel_hist)


def _channel_hist(at: NDArray[Any], counts: NDArray[Any], channels: int) -> NDArray[np.int64]:
    _check(at.ndim == 1 and at.dtype == np.int64 and at.shape == counts.shape and counts.dtype == np.int64, "channels")
    _check(not at.size or (at.min() >= 0 and at.max() < channels * BINS), "channels")
    hist = np.zeros(channels * BINS, np.int64)
    hist[at] = counts
    return hist.reshape(channels, BINS)


def _check(fine: Any, what: str) -> None:
    if not fine:
        raise ValueError(f"wrong {what}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name is no text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a count is no natural number")
    return value


def merge_files(*paths: str | Path) -> Statistics:
    """The sum of several files.

    Raises:
        BadModelFile: if one cannot be read.
        StaleCalibration: if they belong to different networks.
    """
    return sum((load_statistics(path) for path in paths), Statistics())
