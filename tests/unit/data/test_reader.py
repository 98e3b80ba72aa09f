from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitwright.data import reader
from bitwright.data.reader import Fingerprint, files_digest, value_digest


def fed(*pieces: object) -> bytes:
    result = Fingerprint()
    result.add(*pieces)
    return result.digest()


def test_pieces_do_not_run_together() -> None:
    assert fed("a", "bc") != fed("ab", "c")
    assert fed("abc") == fed("abc")
    assert fed(b"abc") == fed("abc")


def test_large_sets_count_by_size_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "HASH_ALL_BYTES", 0)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 16)
    path = tmp_path / "a"

    def digest(data: bytes) -> bytes:
        path.write_bytes(data)
        return files_digest([("a", path, None)])

    base = digest(bytes(1000))
    assert digest(bytes(1001)) != base
    for place in (0, 500, 999):  # in one of the three blocks
        changed = bytearray(1000)
        changed[place] = 1
        assert digest(bytes(changed)) != base
    monkeypatch.setattr(reader, "HASH_ALL_BYTES", 1000)
    changed = bytearray(1000)
    changed[200] = 1
    assert digest(bytes(changed)) != digest(bytes(1000))  # everything counts in small sets


def test_missing_files_count_too(tmp_path: Path) -> None:
    missing = files_digest([("a", tmp_path / "a", 1)])
    (tmp_path / "a").write_bytes(b"x")
    assert missing != files_digest([("a", tmp_path / "a", 1)])


@pytest.mark.parametrize(
    "value",
    [
        np.arange(4),
        np.arange(4.0),
        np.arange(4).reshape(2, 2),
        np.arange(1, 5),
        {"a": np.arange(4)},
        {"b": np.arange(4)},
        (np.arange(4), 1),
        Image.new("L", (2, 2)),
        Image.new("L", (2, 2), 9),
        3,
        "text",
        None,
    ],
)
def test_values_are_told_apart(value: Any) -> None:
    others = [np.arange(4) + 7, {"c": 1}, "other", 8]
    assert value_digest(value) == value_digest(value)
    assert value_digest(value) not in [value_digest(v) for v in others]
