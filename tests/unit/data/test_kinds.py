from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bitwright.data.arrays import Arrays
from bitwright.data.contract import InputContract
from bitwright.data.files import ImageFiles
from bitwright.data.kinds import reader_for
from bitwright.data.python import Iterated, Sequenced
from bitwright.errors import NoData

CONTRACT = InputContract()


def test_paths_are_told_apart(classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)))
    (tmp_path / "a.csv").write_text("file\npictures/ant/0.png\n")
    for path, kind, count in (
        (classes, ImageFiles, 6),
        (str(classes / "ant"), ImageFiles, 2),
        (classes / "ant" / "0.png", ImageFiles, 1),
        (tmp_path / "a.csv", ImageFiles, 1),
        (tmp_path / "a.npz", Arrays, 2),
        (str(tmp_path / "a.npy"), Arrays, 2),
    ):
        reader = reader_for(path, CONTRACT)
        assert isinstance(reader, kind)
        assert reader.length == count


def test_objects_are_told_apart() -> None:
    x = np.zeros((2, 3))
    assert isinstance(reader_for(x, CONTRACT), Arrays)
    assert reader_for((x, np.arange(2)), CONTRACT).labelled
    assert reader_for({"x": x, "y": np.arange(2)}, CONTRACT).labelled
    assert isinstance(reader_for([x], CONTRACT), Sequenced)
    assert isinstance(reader_for(iter([x]), CONTRACT), Iterated)
    assert isinstance(reader_for(lambda: iter([x]), CONTRACT), Iterated)


def test_a_function_named_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kinds_samples.py").write_text("import numpy as np\nARRAY = np.zeros((4, 3))\ndef f():\n    yield 1\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(reader_for("kinds_samples:f", CONTRACT), Iterated)
    assert reader_for("kinds_samples:ARRAY", CONTRACT).length == 4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("picturse", "did you mean 'pictures'"),
        ("a.txt", "is no source of samples"),
        ("nul\0l", "There is no data"),
        ("no/such/folder", "There is no data"),
    ],
)
def test_paths_that_lead_nowhere(classes: Path, tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(NoData) as caught:
        reader_for(str(tmp_path / name), CONTRACT)
    assert says in str(caught.value)


def test_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(NoData, match="neither a file nor a folder"):
        reader_for(tmp_path / "pipe.csv", CONTRACT)
