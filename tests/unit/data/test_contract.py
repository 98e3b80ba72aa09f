from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.data.contract import COLORS, LAYOUTS, TASKS, InputContract, default_contract
from bitwright.errors import InputMismatch

FULL = """
[input]
name = "data"
layout = "NCHW"
color = "RGB"
resize = 256
crop = 224
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
[output]
name = "logits"
task = "classification"
offset = 1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "model.toml"
    path.write_text(text, "utf-8")
    return path


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    assert InputContract.from_toml(written(tmp_path, FULL)) == InputContract(
        name="data",
        layout="NCHW",
        color="RGB",
        resize=256,
        crop=(224, 224),
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        output="logits",
        task="classification",
        offset=1,
    )


def test_an_empty_file_means_pixels_as_they_are(tmp_path: Path) -> None:
    contract = InputContract.from_toml(written(tmp_path, ""))
    assert contract == InputContract()
    assert not contract.normalizes


def test_it_is_found_beside_the_model(tmp_path: Path) -> None:
    written(tmp_path, FULL)
    found = InputContract.find(tmp_path / "model.onnx")
    assert found is not None
    assert found.offset == 1
    assert InputContract.find(tmp_path / "other.onnx") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[input]\nlayuot = "NCHW"', "did you mean 'layout'"),
        ("[output]\noffest = 1", "did you mean 'offset'"),
        ("[inputs]\n", "did you mean 'input'"),
        ('[input]\nlayout = "nchw"', "did you mean 'NCHW'"),
        ('[input]\ncolor = "rgb"', "did you mean 'RGB'"),
        ('[output]\ntask = "segmentatoin"', "did you mean 'segmentation'"),
        ("[input]\nresize = 0", "resize must be a positive whole number or [height, width]"),
        ("[input]\nresize = true", "resize must be"),
        ("[input]\ncrop = [224]", "crop must be"),
        ("[input]\ncrop = 224.0", "crop must be"),
        ("[input]\nresize = 1000000000", "more than"),
        ('[input]\nmean = "127"', "mean must be a list of numbers"),
        ("[input]\nmean = []", "mean must be"),
        ("[input]\nstd = [0.0]", "std a positive one"),
        ("[input]\nstd = [nan]", "positive"),
        ("[input]\nmean = [inf]", "finite"),
        ("[input]\nmean = [1.0, 2.0]\nstd = [1.0, 2.0, 3.0]", "mean has 2 numbers and std 3"),
        ('[input]\ncolor = "gray"\nmean = [1.0, 2.0, 3.0]', "one channel"),
        ('[input]\nlayout = "raw"\nresize = 8', "cannot be given"),
        ("[input]\nname = 3", "name must be a text"),
        ("[output]\noffset = -1", "offset must be a whole number"),
        ("input = 3", "must be a table"),
        ("[input", "not valid TOML"),
    ],
)
def test_a_fault_is_named_with_file_and_cure(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputMismatch) as caught:
        InputContract.from_toml(path)
    assert says in str(caught.value)
    assert "model.toml" in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMismatch, match="cannot be read"):
        InputContract.from_toml(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputMismatch, match="not valid TOML"):
        InputContract.from_toml(tmp_path / "binary.toml")


def test_hostile_keys_cannot_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(InputMismatch) as caught:
        InputContract.from_toml(written(tmp_path, '[input]\n"\\u001b[2J" = 1'))
    assert "\x1b" not in str(caught.value)


sizes = st.integers(1, 512)
numbers = st.floats(0.125, 300)


@given(
    name=st.none() | st.text(min_size=1, max_size=5),
    layout=st.sampled_from(LAYOUTS[:2]),
    color=st.sampled_from(COLORS[:2]),
    resize=st.none() | sizes | st.tuples(sizes, sizes),
    crop=st.none() | st.tuples(sizes, sizes),
    mean=st.lists(numbers, min_size=3, max_size=3),
    std=st.lists(numbers, min_size=1, max_size=1) | st.lists(numbers, min_size=3, max_size=3),
    task=st.sampled_from(TASKS),
    offset=st.integers(0, 3),
    bound=st.booleans(),
)
def test_it_survives_the_trip_through_plain_values(bound: bool, **fields: object) -> None:
    contract = InputContract(**fields)  # type: ignore[arg-type]
    if bound:
        shape = [None, 3, 8, None] if contract.layout == "NCHW" else [1, 8, None, 3]
        contract = contract.bind(shape)
    assert InputContract.from_dict(contract.to_dict()) == contract


def test_binding_refuses_contradictions_about_channels() -> None:
    three = InputContract(mean=(1, 2, 3), std=(1, 1, 1))
    assert three.bind([1, 3, 8, 8]).channels == 3
    with pytest.raises(InputMismatch, match="lists mean and std for 3 channels"):
        three.bind([1, 1, 8, 8])
    with pytest.raises(InputMismatch, match="correct mean and std, or layout"):
        three.bind([1, 8, 8, 3])
    with pytest.raises(InputMismatch, match='color = "gray"'):
        InputContract(color="gray").bind([1, 3, 8, 8])


def test_binding_keeps_a_name_that_was_given() -> None:
    assert InputContract(name="a").bind([1, 3, 8, 8], name="b").name == "a"
    assert InputContract().bind([1, 3, 8, 8], name="b").name == "b"


@pytest.mark.parametrize(
    ("shape", "layout", "color", "resize"),
    [
        ([None, 3, 224, 160], "NCHW", "RGB", (224, 160)),
        ([1, 32, 24, 3], "NHWC", "RGB", (32, 24)),
        ([1, 1, 28, 28], "NCHW", "gray", (28, 28)),
        ([1, 96, 96, 1], "NHWC", "gray", (96, 96)),
        ([None, 3, None, None], "NCHW", "RGB", None),
        ([1, 640], "raw", "RGB", None),
        ([1, 49, 10, 7], "raw", "RGB", None),
    ],
)
def test_a_default_follows_from_the_shape_and_says_so(
    shape: list[int | None], layout: str, color: str, resize: object
) -> None:
    contract, notes = default_contract(shape, name="in")
    assert (contract.layout, contract.color, contract.resize, contract.name) == (layout, color, resize, "in")
    assert not contract.normalizes
    assert len(notes) == 1
    assert "MODEL.toml" in notes[0]


def test_a_default_for_token_ids_is_raw() -> None:
    contract, _ = default_contract([None, 64], np.int64)
    ids = np.arange(64)
    assert contract.apply(ids).dtype == np.int64
    assert (contract.apply(ids) == ids).all()
