from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitwright.data.contract import InputContract
from bitwright.data.files import open_csv, open_folder
from bitwright.errors import NoData

Draw = Callable[..., Path]


def csv(folder: Path, text: str) -> Path:
    (folder / "list.csv").write_text(text, "utf-8")
    return folder / "list.csv"


def test_class_folders_are_numbered_in_sorted_order(classes: Path) -> None:
    reader = open_folder(classes)
    assert reader.labelled
    assert [reader.read(i).y for i in range(reader.length)] == [0, 0, 1, 1, 2, 2]
    assert reader.origin(5) == "cat/1.png"
    assert any("ant = 0, bee = 1, cat = 2" in note for note in reader.notes)


def test_an_empty_class_keeps_its_number(classes: Path) -> None:
    (classes / "bat").mkdir()
    reader = open_folder(classes)
    assert [reader.read(i).y for i in range(reader.length)] == [0, 0, 2, 2, 3, 3]
    assert any("'bat'" in note for note in reader.notes)


def test_numbered_folders_out_of_order_are_pointed_out(tmp_path: Path, picture: Draw) -> None:
    for name in ("0", "1", "2", "10"):
        picture(tmp_path / name / "a.png")
    assert any("10 sorts before 2" in note for note in open_folder(tmp_path).notes)
    for name in ("0", "1"):
        picture(tmp_path / "few" / name / "a.png")
    assert not any("sorts before" in note for note in open_folder(tmp_path / "few").notes)


def test_a_flat_folder_has_no_labels(tmp_path: Path, picture: Draw) -> None:
    for name in ("b.png", "a.jpg", "sub/c.png"):
        picture(tmp_path / name)
    reader = open_folder(tmp_path)
    assert not reader.labelled
    assert list(reader.names) == ["a.jpg", "b.png", "sub/c.png"]
    assert reader.read(0).y is None


def test_other_files_are_counted_and_hidden_ones_passed_over(classes: Path) -> None:
    for name in ("readme.txt", "ant/notes.csv", ".DS_Store", "ant/._0.png", "ant/Thumbs.db"):
        (classes / name).write_text("x")
    reader = open_folder(classes)
    assert reader.length == 6
    assert any(note.startswith("2 files") for note in reader.notes)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="holds no images"):
        open_folder(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(NoData, match="1 other files"):
        open_folder(tmp_path)


def test_links_in_a_circle_end(classes: Path) -> None:
    (classes / "ant" / "loop").symlink_to(classes, target_is_directory=True)
    (classes / "bee" / "self.png").symlink_to(classes / "bee" / "self.png")
    (classes / "bee" / "dangling.png").symlink_to(classes / "nowhere.png")
    assert open_folder(classes).length == 6


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
def test_hostile_names_are_read_and_printed_safely(tmp_path: Path, picture: Draw) -> None:
    name = "a\x1b[2J\n<script>.png"
    picture(tmp_path / "x.png").rename(tmp_path / name)
    reader = open_folder(tmp_path)
    assert reader.read(0).origin == name
    os.rename(tmp_path / name, os.fsencode(tmp_path) + b"/\xff.png")  # noqa: PTH104
    reader = open_folder(tmp_path)
    assert np.asarray(reader.read(0).x).shape == (24, 20, 3)
    assert len(reader.digest(None)) == 32


def test_csv_with_numbers(classes: Path) -> None:
    reader = open_csv(csv(classes, "file,label,extra\nant/0.png,7,a\nbee/1.png,0,b\n"), InputContract())
    assert [(reader.read(i).origin, reader.read(i).y) for i in range(2)] == [("ant/0.png", 7), ("bee/1.png", 0)]


def test_csv_with_names_quotes_and_a_byte_order_mark(classes: Path) -> None:
    reader = open_csv(csv(classes, '\ufefflabel,file\r\n"b, c",ant/0.png\r\na,"bee/0.png"\r\n'), InputContract())
    assert [reader.read(i).y for i in range(2)] == [1, 0]
    assert reader.notes


def test_csv_without_labels(classes: Path) -> None:
    for text in ("file\nant/0.png\n", "file,label\nant/0.png,\n"):
        reader = open_csv(csv(classes, text), InputContract())
        assert not reader.labelled
        assert reader.read(0).y is None


def test_csv_for_detection(classes: Path) -> None:
    text = "file,label\nant/0.png,1 0.5 0.5 0.1 0.1;2 0.5 0.5 0.2 0.2\nant/1.png,\n"
    reader = open_csv(csv(classes, text), InputContract(task="detection"))
    first, second = reader.read(0).y, reader.read(1).y
    assert isinstance(first, np.ndarray)
    assert first.shape == (2, 5)
    assert isinstance(second, np.ndarray)
    assert second.shape == (0, 5)


def test_csv_for_segmentation(classes: Path, tmp_path: Path) -> None:
    indices = np.eye(24, 20, dtype=np.uint8)
    Image.fromarray(indices).save(classes / "label.png")
    reader = open_csv(csv(classes, "file,label\nant/0.png,label.png\n"), InputContract(task="segmentation"))
    assert (np.asarray(reader.read(0).y) == indices).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("files,label\na.png,1\n", "did you mean 'files'"),
        ("path,class\na.png,1\n", "no column 'file'; known are path, class"),
        ("file,label\n", "no rows"),
        ('file,label\n"a.png,1\n' + "x" * 200_000, "damaged"),
    ],
)
def test_a_faulty_csv_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(NoData) as caught:
        open_csv(csv(tmp_path, text), InputContract())
    assert says in str(caught.value)
    assert "list.csv" in str(caught.value)


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"file,label\n\xff\xfe\x80,1\n")
    with pytest.raises(NoData, match="not UTF-8"):
        open_csv(tmp_path / "list.csv", InputContract())


def test_a_row_without_a_file_and_one_with_a_zero_byte(classes: Path) -> None:
    reader = open_csv(csv(classes, "file,label\n,1\na\0b.png,2\n"), InputContract())
    with pytest.raises(Exception, match="names no file"):
        reader.read(0)
    with pytest.raises(ValueError, match="null"):
        reader.read(1)
    assert len(reader.digest(None)) == 32


def test_the_digest_sees_names_labels_and_contents(classes: Path, picture: Draw) -> None:
    def digest(text: str) -> bytes:
        return open_csv(csv(classes, text), InputContract()).digest(None)

    base = digest("file,label\nant/0.png,1\nbee/0.png,2\n")
    assert base == digest("file,label\nant/0.png,1\nbee/0.png,2\n")
    assert base != digest("file,label\nant/0.png,1\nbee/0.png,3\n")
    assert base != digest("file,label\nant/1.png,1\nbee/0.png,2\n")
    os.utime(classes / "ant" / "0.png", (1, 1))
    assert base == digest("file,label\nant/0.png,1\nbee/0.png,2\n")
    picture(classes / "ant" / "0.png", seed=99)
    assert base != digest("file,label\nant/0.png,1\nbee/0.png,2\n")
