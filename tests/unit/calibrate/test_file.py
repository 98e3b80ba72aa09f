from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitwright.calibrate import file as module
from bitwright.calibrate.file import ARRAYS, JSON, load_statistics, merge_files, save_statistics
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import BadModelFile, CalibrationError, StaleCalibration


def some(samples: int = 2, network: str = "net") -> Statistics:
    rng = np.random.default_rng(samples)
    x = rng.normal(size=(samples, 4, 20)).astype(np.float32)
    return Statistics(
        network,
        ("data",),
        samples,
        {
            "plain": TensorStats.of(x),
            "<script>../../x\n": TensorStats.of(x, 1),
            "hist": TensorStats.of(x, 1, channel_hist=True),
            "never seen": TensorStats(),
            "nan": TensorStats.of([np.nan, 1.0]),
        },
        {"w": TensorStats.of(x[0], 0)},
        {"b": TensorStats.of([0.0])},
        partial=True,
    )


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    assert load_statistics(path) == some()
    assert path.stat().st_size < 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["a.bwcal"]


def test_equal_statistics_make_equal_bytes(tmp_path: Path) -> None:
    save_statistics(some(), tmp_path / "a")
    save_statistics(some(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_in_it_can_execute(tmp_path: Path) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [ARRAYS, JSON]
        json.loads(archive.read(JSON))


def test_files_merge(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        save_statistics(some(n), tmp_path / str(n))
    got = merge_files(*(tmp_path / str(n) for n in (1, 2, 3)))
    assert got == some(1) + some(2) + some(3)
    save_statistics(some(1, "other"), tmp_path / "4")
    with pytest.raises(StaleCalibration):
        merge_files(tmp_path / "1", tmp_path / "4")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(1), path)

    def full(_: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(CalibrationError, match=os.strerror(error)):
        save_statistics(some(2), path)
    assert load_statistics(path) == some(1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bwcal"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be written"):
        save_statistics(some(), tmp_path / "no" / "a.bwcal")
    with pytest.raises(BadModelFile, match="no file"):
        load_statistics(tmp_path / "a.bwcal")
    with pytest.raises(BadModelFile, match="cannot be read"):
        load_statistics(tmp_path)


def test_every_truncation_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    whole = path.read_bytes()
    for n in (0, 1, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(BadModelFile):
            load_statistics(path)


def test_flipped_bytes_are_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    whole, rng, found = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        at = int(rng.integers(len(whole)))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :])
        try:
            assert load_statistics(path) == some(), "damage must not pass unnoticed"
        except BadModelFile:
            found += 1
    assert found > 100


def rewritten(path: Path, change: Any, arrays: bytes | None = None, extra: str | None = None) -> None:
    with zipfile.ZipFile(path) as archive:
        document, data = json.loads(archive.read(JSON)), archive.read(ARRAYS)
    document = change(document) or document
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(JSON, json.dumps(document))
        archive.writestr(ARRAYS, data if arrays is None else arrays)
        if extra:
            archive.writestr(extra, b"")


def _set(key: str, value: object) -> Any:
    return lambda document: document.update({key: value})


def _entry(key: str, value: object) -> Any:
    return lambda document: document["activations"][1].update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("version", 99), "version 99"),
        (_set("format", "zip"), "no calibration"),
        (lambda _: [1], "no calibration"),
        (lambda document: document.pop("samples") and None, "damaged"),
        (_set("samples", -1), "natural number"),
        (_set("samples", 1.5), "natural number"),
        (_set("network", 7), "no text"),
        (_set("partial", "yes"), "partial"),
        (_entry("count", 7), "add up"),
        (_entry("zeros", 1 << 70), "natural number"),
        (_entry("range", [2, 1]), "range"),
        (_entry("range", None), "range"),
        (_entry("axis", None), "channels"),
        (_entry("axis", "1"), "axis"),
        (_entry("tensor", None), "no text"),
    ],
)
def test_nothing_is_believed(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    rewritten(path, change)
    with pytest.raises(BadModelFile, match=words):
        load_statistics(path)


def test_strange_entries_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.bwcal"
    save_statistics(some(), path)
    rewritten(path, lambda _: None, extra="../../evil")
    with pytest.raises(BadModelFile, match="no calibration"):
        load_statistics(path)
    save_statistics(some(), path)
    rewritten(path, lambda _: None, arrays=b"\xff" * 100)
    with pytest.raises(BadModelFile):
        load_statistics(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bwcal"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(JSON, b"{}")
        with archive.open(ARRAYS, "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadModelFile, match="would unpack to"):
        load_statistics(path)


def test_a_directory_that_lies_about_sizes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(JSON, json.dumps({"format": "x", "pad": "y" * 5000}))
        archive.writestr(ARRAYS, b"")
    data = buffer.getvalue()
    size = len(json.dumps({"format": "x", "pad": "y" * 5000}))
    lie = data.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lie != data
    (tmp_path / "a").write_bytes(lie)
    with pytest.raises(BadModelFile):
        load_statistics(tmp_path / "a")
