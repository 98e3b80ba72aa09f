from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitwright.data import transform
from bitwright.data.contract import InputContract
from bitwright.errors import InputMismatch


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_the_formula_is_exact_to_the_last_bit() -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    pixels = noise(9, 7, 3)
    got = InputContract(mean=mean, std=std).apply(pixels)
    assert got.shape == (3, 9, 7)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    for c in range(3):
        factor = np.float32(1 / std[c])
        expected = (pixels[..., c].astype(np.float32) - np.float32(mean[c])) * factor
        assert (got[c] == expected).all()
    real = (pixels.astype(np.float64) - mean) / std
    assert np.abs(got.transpose(1, 2, 0) - real).max() < 1e-6


def test_layout_and_color() -> None:
    pixels = noise(4, 6, 3)
    assert (InputContract(layout="NHWC").apply(pixels) == pixels).all()
    assert (InputContract(layout="NHWC", color="BGR").apply(pixels) == pixels[..., ::-1]).all()
    assert (InputContract(color="BGR").apply(pixels) == pixels[..., ::-1].transpose(2, 0, 1)).all()


def test_mean_is_listed_in_the_order_of_the_network() -> None:
    pixels = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    got = InputContract(color="BGR", mean=(30, 20, 10), std=(1, 1, 1)).apply(pixels)
    assert not got.any()


def test_images_and_arrays_give_the_same() -> None:
    pixels = noise(40, 30, 3)
    contract = InputContract(resize=24, crop=(20, 20), mean=(127.5,), std=(127.5,))
    assert (contract.apply(Image.fromarray(pixels)) == contract.apply(pixels)).all()


def test_resize_is_pils_bilinear() -> None:
    pixels = noise(40, 30, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((17, 11), Image.Resampling.BILINEAR))
    assert (InputContract(layout="NHWC", resize=(11, 17)).apply(pixels) == expected).all()


def test_resize_of_float_arrays_is_the_same_but_for_rounding() -> None:
    pixels = noise(40, 30, 3)
    contract = InputContract(resize=(11, 17))
    assert np.abs(contract.apply(pixels) - contract.apply(pixels.astype(np.float64))).max() <= 1.01


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((100, 200), 50, (50, 100)),
        ((200, 100), 50, (100, 50)),
        ((333, 500), 256, (256, 384)),
        ((1, 3000), 4, (4, 12000)),
        ((3000, 1), 4, (12000, 4)),
        ((10, 20), (7, 3), (7, 3)),
    ],
)
def test_sizes_after_resize(size: tuple[int, int], resize: int | tuple[int, int], expected: tuple[int, int]) -> None:
    assert transform.target_size(*size, resize) == expected


def test_resize_comes_before_crop() -> None:
    pixels = noise(60, 40, 3)
    whole = InputContract(resize=20).apply(pixels)
    assert whole.shape == (3, 30, 20)
    part = InputContract(resize=20, crop=(16, 16)).apply(pixels)
    assert (part == whole[:, 7:23, 2:18]).all()


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_the_crop_is_central(height: int, width: int, data: st.DataObject) -> None:
    crop = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    pixels = np.arange(height * width, dtype=np.float32).reshape(height, width)
    got = InputContract(crop=crop).apply(pixels)[0]
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    assert (got == pixels[top : top + crop[0], left : left + crop[1]]).all()
    assert 0 <= height - crop[0] - 2 * top <= 1


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputMismatch, match="smaller than crop = 32x32: add resize"):
        InputContract(crop=(32, 32)).apply(noise(40, 31, 3))


def test_gray_from_color_is_not_rounded() -> None:
    pixels = noise(5, 6, 3)
    got = InputContract(color="gray").apply(pixels)
    assert got.shape == (1, 5, 6)
    expected = pixels[..., 0] * 0.299 + pixels[..., 1] * 0.587 + pixels[..., 2] * 0.114
    assert np.abs(got[0] - expected).max() < 1e-4


def test_gray_stays_gray() -> None:
    pixels = noise(5, 6)
    assert (InputContract(color="gray").apply(pixels)[0] == pixels).all()
    assert (InputContract(color="gray").apply(Image.fromarray(pixels))[0] == pixels).all()
    assert InputContract(mean=(127.5,)).apply(pixels).shape == (1, 5, 6)


@pytest.mark.parametrize("contract", [InputContract(mean=(1, 2, 3)), InputContract().bind([1, 3, 5, 6])])
def test_gray_becomes_color_for_a_color_network(contract: InputContract) -> None:
    pixels = noise(5, 6)
    got = contract.apply(pixels)
    assert got.shape == (3, 5, 6)
    assert (got + np.reshape(contract.mean, (-1, 1, 1)) == pixels).all()


def test_color_for_a_gray_network_is_refused_unless_it_says_gray() -> None:
    with pytest.raises(InputMismatch, match='set color = "gray"'):
        InputContract().bind([1, 1, 5, 6]).apply(noise(5, 6, 3))
    assert InputContract(color="gray").bind([1, 1, 5, 6]).apply(noise(5, 6, 3)).shape == (1, 5, 6)


def test_alpha_is_dropped() -> None:
    pixels = noise(5, 6, 4)
    expected = pixels[..., :3].transpose(2, 0, 1)
    assert (InputContract().bind([1, 3, 5, 6]).apply(pixels) == expected).all()
    assert (InputContract().bind([1, 3, 5, 6]).apply(Image.fromarray(pixels)) == expected).all()


def test_four_channels_stay_for_a_network_of_four() -> None:
    pixels = noise(5, 6, 4)
    assert (InputContract().bind([1, 4, 5, 6]).apply(pixels) == pixels.transpose(2, 0, 1)).all()


def test_channels_first_arrays_are_recognized() -> None:
    pixels = noise(3, 8, 6)
    for array in (pixels, pixels.astype(np.float32)):
        assert (InputContract().apply(array) == pixels).all()
        assert (InputContract(layout="NHWC").apply(array) == pixels.transpose(1, 2, 0)).all()


def test_where_both_ends_could_be_channels_bytes_are_taken_as_pictures() -> None:
    pixels = noise(3, 8, 3)
    contract = InputContract().bind([1, 3, None, None])
    assert (contract.apply(pixels) == pixels.transpose(2, 0, 1)).all()
    assert (contract.apply(pixels.astype(np.float32)) == pixels).all()


def test_a_batch_axis_of_one_is_taken_away() -> None:
    assert InputContract().apply(noise(1, 8, 6, 3)).shape == (3, 8, 6)


@pytest.mark.parametrize("shape", [(7,), (2, 8, 6, 3), (8, 6, 5)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputMismatch, match='layout = "raw"'):
        InputContract().apply(noise(*shape))


def test_wrong_number_of_means_is_refused() -> None:
    with pytest.raises(InputMismatch, match="neither first nor last 3 channels"):
        InputContract(mean=(1, 2, 3)).apply(noise(8, 6, 2))


def test_raw_arrays_pass_unchanged() -> None:
    x = np.random.default_rng(0).normal(size=(49, 10)).astype(np.float32)
    raw = InputContract(layout="raw")
    assert (raw.apply(x) == x).all()
    assert raw.bind([1, 1, 49, 10]).apply(x).shape == (1, 49, 10)
    assert raw.bind([1, 490]).apply(x).shape == (490,)
    assert raw.apply(x.astype(np.float64)).dtype == np.float32


def test_raw_shapes_are_not_guessed() -> None:
    x = np.zeros((10, 49), np.float32)
    assert InputContract(layout="raw").bind([1, 1, 49, 10]).apply(x).shape == (10, 49)


def test_mean_and_std_hold_for_raw_too() -> None:
    got = InputContract(layout="raw", mean=(1, 2), std=(2, 4)).apply(np.array([[3.0, 6.0]]))
    assert got.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_token_ids_keep_their_integers(dtype: type) -> None:
    contract = InputContract(layout="raw").bind([None, 4], np.int64)
    got = contract.apply(np.array([1, 2, 3, 60000], dtype))
    assert got.dtype == np.int64
    assert got.tolist() == [1, 2, 3, 60000]
    assert InputContract(layout="raw").apply(np.array([2**40])).tolist() == [2**40]


@pytest.mark.parametrize("bad", [[0.5, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_numbers_that_are_no_token_ids_are_refused(bad: list[float]) -> None:
    with pytest.raises(InputMismatch, match="token ids"):
        InputContract(layout="raw").bind([None, 2], np.int64).apply(np.array(bad))


class Tensor:
    """As much of a torch tensor as matters."""

    def __init__(self, x: Any) -> None:
        self.x, self.requires_grad = np.asarray(x), True

    def detach(self) -> Tensor:
        result = Tensor(self.x)
        result.requires_grad = False
        return result

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        if self.requires_grad:
            raise RuntimeError("detach first")
        return self.x


def test_tensors_of_other_packages_become_arrays() -> None:
    pixels = noise(3, 8, 6)
    assert (InputContract().apply(Tensor(pixels)) == pixels).all()


@pytest.mark.parametrize("thing", ["text", [[1, 2], [3]], None, np.array(["a"]), np.array([{}]), np.zeros(3, "c8")])
def test_things_that_are_no_numbers_are_refused(thing: object) -> None:
    with pytest.raises(InputMismatch):
        InputContract(layout="raw").apply(thing)
