from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitwright.data.contract import InputContract
from bitwright.data.labels import boxes, loaded, moved, parser
from bitwright.errors import InputMismatch


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    parse, notes = parser("classification", ["3", "10", "2.0", ""], tmp_path)
    assert [parse(t) for t in ("3", "10", "2.0", "")] == [3, 10, 2, None]
    assert not notes


def test_names_are_numbered_in_sorted_order_and_it_says_so(tmp_path: Path) -> None:
    parse, notes = parser("classification", ["cat", "ant", "bee", "cat"], tmp_path)
    assert [parse(t) for t in ("ant", "bee", "cat")] == [0, 1, 2]
    assert "ant = 0, bee = 1, cat = 2" in notes[0]


def test_a_list_of_classes_beside_the_csv_wins(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("zebra\ncat\nant\n", "utf-8")
    parse, notes = parser("classification", ["cat", "ant"], tmp_path)
    assert [parse("cat"), parse("ant")] == [1, 2]
    assert "classes.txt" in notes[0]
    with pytest.raises(InputMismatch, match="'dog' of the CSV is not in"):
        parser("classification", ["dog"], tmp_path)


def test_detection_labels() -> None:
    got = boxes("45 0.5 0.6 0.1 0.2;3 0.1 0.1 0.05 0.05;")
    assert got.dtype == np.float32
    assert np.allclose(got, [[45, 0.5, 0.6, 0.1, 0.2], [3, 0.1, 0.1, 0.05, 0.05]])
    assert boxes("").shape == (0, 5)


@pytest.mark.parametrize(
    "text", ["1 2 3 4", "a 0.1 0.1 0.1 0.1", "1 2 3 4 5 6", "1 2 3 nan 5", "1 2;3 4 5", "1 2 3 4 5;1"]
)
def test_a_box_needs_five_numbers(text: str) -> None:
    with pytest.raises(InputMismatch, match=r"box|form 'class cx cy w h"):
        boxes(text)


def test_segmentation_labels_are_read_from_files(tmp_path: Path) -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(indices).save(tmp_path / "label.png")
    parse, _ = parser("segmentation", ["label.png"], tmp_path)
    assert (loaded(parse("label.png")) == indices).all()


@pytest.mark.parametrize("text", ["0.5", "17", "word"])
def test_other_tasks_take_what_is_there(tmp_path: Path, text: str) -> None:
    parse, _ = parser("none", [text], tmp_path)
    assert str(parse(text)) == text


def test_without_a_crop_labels_stay() -> None:
    label = np.array([[1, 0.5, 0.5, 0.2, 0.2]], np.float32)
    contract = InputContract(resize=(20, 30), task="detection")
    assert moved(label, contract, (40, 40)) is label
    assert moved(3, InputContract(crop=(4, 4)), (8, 8)) == 3


def test_a_label_image_is_cropped_with_its_image() -> None:
    label = np.arange(64, dtype=np.uint8).reshape(8, 8)
    contract = InputContract(crop=(4, 6), task="segmentation")
    assert (moved(label, contract, (8, 8)) == label[2:6, 1:7]).all()
    halved = moved(label, InputContract(resize=4, crop=(2, 2), task="segmentation"), (8, 8))
    assert isinstance(halved, np.ndarray)
    assert halved.shape == (2, 2)
    assert set(halved.ravel()) <= set(label.ravel())


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 10), st.integers(1, 10))
def test_boxes_are_cut_as_a_mask_would_be(top: int, left: int, height: int, width: int) -> None:
    mask = np.zeros((16, 20), np.uint8)
    mask[top : top + height, left : left + width] = 1
    label = np.array([[7, (left + width / 2) / 20, (top + height / 2) / 16, width / 20, height / 16]], np.float32)
    got = moved(label, InputContract(crop=(8, 10), task="detection"), (16, 20))
    assert isinstance(got, np.ndarray)
    cut = mask[4:12, 5:15]
    if not cut.any():
        assert got.shape == (0, 5)
        return
    rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
    low = np.array([columns[0] / 10, rows[0] / 8])
    high = np.array([(columns[-1] + 1) / 10, (rows[-1] + 1) / 8])
    assert np.allclose(got, [[7, *((low + high) / 2), *(high - low)]], atol=1e-5)
