from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitwright.data.batch import Batch
from bitwright.data.contract import InputContract, check_first_batch
from bitwright.data.source import open_source
from bitwright.errors import InputMismatch, NonFinite

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
IMAGENET = InputContract(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
SHAPE = [None, 3, 8, 6]


def first(data: Any, contract: InputContract) -> Batch:
    return next(iter(open_source(data, contract).batches(4)))


def raw(x: Any) -> Batch:
    """A batch as it might come from anywhere."""
    x = np.asarray(x)
    n = len(x)
    return Batch(x, None, tuple(range(10, 10 + n)), tuple(f"file {i}" for i in range(n)), x.dtype.kind == "f")


def test_a_sound_batch_gives_no_notes() -> None:
    assert check_first_batch(first(PIXELS, IMAGENET), IMAGENET, SHAPE) == ()


@pytest.mark.parametrize(
    ("shape", "wanted", "layout", "says"),
    [
        ((4, 8, 6, 3), [1, 3, 8, 6], "raw", 'set layout = "NCHW"'),
        ((4, 3, 8, 6), [1, 8, 6, 3], "raw", 'set layout = "NHWC"'),
        ((4, 3, 8, 6), [1, 8, 6, 3], "NCHW", 'set layout = "NHWC"'),
        ((4, 3, 9, 6), [1, 8, 6, 3], "NCHW", 'the network is NHWC: set layout = "NHWC"'),
        ((4, 3, 8, 6), [1, 1, 8, 6], "NCHW", "correct color"),
        ((4, 3, 9, 9), [1, 3, 8, 6], "NCHW", "set resize = [8, 6]"),
        ((4, 9, 9, 3), [1, 8, 6, 3], "NHWC", "set resize = [8, 6]"),
        ((4, 10), [1, 20], "raw", "give samples of that shape"),
        ((4, 10), [1, 3, 8, 6], "raw", "takes samples of shape [3, 8, 6], got [10]"),
    ],
)
def test_a_wrong_shape_names_the_key_that_cures_it(
    shape: tuple[int, ...], wanted: list[int | None], layout: str, says: str
) -> None:
    batch = raw(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    with pytest.raises(InputMismatch) as caught:
        check_first_batch(batch, InputContract(layout=layout), wanted)
    assert says in str(caught.value)


def test_free_axes_take_anything() -> None:
    check_first_batch(first(PIXELS, IMAGENET), IMAGENET, [None, 3, None, 0])


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(InputMismatch, match='takes int64 and the data gives float32: set layout = "raw"'):
        check_first_batch(first(PIXELS, IMAGENET), IMAGENET, SHAPE, np.int64)
    ids = raw(np.zeros((4, 3), np.int64))
    with pytest.raises(InputMismatch, match="convert the samples to float32"):
        check_first_batch(ids, InputContract(layout="raw"), [None, 3])
    assert check_first_batch(ids, InputContract(layout="raw"), [None, 3], np.int64) == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_names_the_sample(bad: float) -> None:
    x = np.zeros((4, 3, 8, 6), np.float32)
    x[2, 1, 0, 3] = bad
    with pytest.raises(NonFinite, match=r"Sample 12 \(file 2\)") as caught:
        check_first_batch(raw(x), InputContract(name="in"), SHAPE)
    assert (caught.value.tensor, caught.value.sample) == ("in", 12)


@pytest.mark.parametrize(
    "samples",
    [
        PIXELS / np.float32(255),
        PIXELS / np.float32(127.5) - 1,
        (PIXELS - np.array(IMAGENET.mean, np.float32)) / np.array(IMAGENET.std, np.float32),
    ],
)
def test_data_normalized_twice_are_refused(samples: Any) -> None:
    with pytest.raises(InputMismatch, match="normalised twice"):
        check_first_batch(first(samples, IMAGENET), IMAGENET, SHAPE)
    nhwc = InputContract(layout="NHWC", std=(255,))
    with pytest.raises(InputMismatch, match="normalised twice"):
        check_first_batch(first(samples, nhwc), nhwc, [None, 8, 6, 3])


def test_dark_pictures_are_only_a_note() -> None:
    dark = PIXELS // 64
    notes = check_first_batch(first(dark, IMAGENET), IMAGENET, SHAPE)
    assert any("very dark" in note for note in notes)


def test_float_pixels_are_fine() -> None:
    assert check_first_batch(first(PIXELS.astype(np.float32), IMAGENET), IMAGENET, SHAPE) == ()


def test_standardized_data_and_a_contract_in_their_units_are_fine() -> None:
    unit = InputContract(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert check_first_batch(first(PIXELS / np.float32(255), unit), unit, SHAPE) == ()


def test_pixels_without_mean_and_std_are_a_note() -> None:
    notes = check_first_batch(first(PIXELS, InputContract()), InputContract(), SHAPE)
    assert len(notes) == 1
    assert "no mean and std" in notes[0]


def test_floats_without_mean_and_std_are_a_note() -> None:
    notes = check_first_batch(first(PIXELS / np.float32(255), InputContract()), InputContract(), SHAPE)
    assert any("ready for the network" in note for note in notes)


def test_values_outside_the_pixel_range_are_a_note() -> None:
    notes = check_first_batch(first(PIXELS.astype(np.float32) * 16, IMAGENET), IMAGENET, SHAPE)
    assert any("outside the pixel range" in note for note in notes)


def test_pixels_under_a_contract_for_unit_data_are_a_note() -> None:
    unit = InputContract(mean=(0.485,), std=(0.229,))
    notes = check_first_batch(first(PIXELS, unit), unit, SHAPE)
    assert any("multiply mean and std by 255" in note for note in notes)
    caffe = InputContract(mean=(104, 117, 123))
    assert check_first_batch(first(PIXELS, caffe), caffe, SHAPE) == ()


def test_a_constant_batch_is_a_note() -> None:
    zeros = first(np.zeros((4, 8, 6, 1), np.uint8), InputContract())
    assert any("Every value" in n for n in check_first_batch(zeros, InputContract(), [1, 1, 8, 6]))


def test_several_inputs() -> None:
    contract = InputContract(name="a", mean=(127.5,), std=(127.5,))
    data = [{"a": PIXELS[i], "b": np.zeros(2, np.float32)} for i in range(4)]
    batch = next(open_source(data, contract, inputs=["a", "b"]).batches(4))
    shapes: dict[str, list[int | None]] = {"a": SHAPE, "b": [None, 2]}
    dtypes = {"a": np.float32, "b": np.float32}
    assert check_first_batch(batch, contract, shapes, dtypes) == ()
    with pytest.raises(InputMismatch, match="inputs 'a', 'c'"):
        check_first_batch(batch, contract, {"a": SHAPE, "c": [None, 2]}, np.float32)
    with pytest.raises(InputMismatch, match=r"Input b takes samples of shape \[3\]"):
        check_first_batch(batch, contract, {"a": SHAPE, "b": [None, 3]}, np.float32)
    single = first(PIXELS, contract)
    with pytest.raises(InputMismatch, match="one array per input"):
        check_first_batch(single, contract, shapes, dtypes)
