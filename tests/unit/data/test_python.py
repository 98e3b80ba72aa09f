from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitwright.data.contract import InputContract
from bitwright.data.python import Iterated, Sequenced, find_function, open_function, open_object, parts
from bitwright.data.reader import Item
from bitwright.errors import BadSample, InputMismatch, NoData

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 6, 3), np.uint8)
NCHW = InputContract().bind([None, 3, 8, 6], name="in")


def items(reader: Sequenced | Iterated) -> list[Item]:
    if isinstance(reader, Sequenced):
        return [reader.read(i) for i in range(reader.length)]
    return [item for item in reader.items() if isinstance(item, Item)]


def same(got: list[Item], images: Any = IMAGES, labels: Any = None) -> None:
    assert [i.index for i in got] == list(range(len(images)))
    for item, image in zip(got, images, strict=True):
        assert (np.asarray(item.x) == image).all()
    assert [None if i.y is None else int(i.y) for i in got] == (  # type: ignore[call-overload]
        [None] * len(images) if labels is None else list(labels)
    )


def pairs() -> Iterator[tuple[Any, int]]:
    for i, image in enumerate(IMAGES):
        yield image, i


def test_lists_of_arrays_pairs_and_images() -> None:
    same(items(open_object(list(IMAGES), NCHW)))
    same(items(open_object(list(pairs()), NCHW)), labels=range(10))
    same(items(open_object([Image.fromarray(x) for x in IMAGES], NCHW)))
    assert open_object(list(pairs()), NCHW).labelled
    assert not open_object(list(IMAGES), NCHW).labelled


def test_batches_are_taken_apart() -> None:
    batches = [(IMAGES[i : i + 4], np.arange(10)[i : i + 4]) for i in range(0, 10, 4)]
    same(items(open_object(iter(batches), NCHW)), labels=range(10))
    with pytest.raises(InputMismatch, match="4 samples and 3 labels"):
        items(open_object(iter([(IMAGES[:4], [1, 2, 3])]), NCHW))


def test_batches_of_raw_arrays_are_known_by_the_shape_of_the_input() -> None:
    windows = np.zeros((6, 40), np.float32)
    bound = InputContract(layout="raw").bind([None, 40])
    assert len(items(open_object(iter([windows]), bound))) == 6
    assert len(items(open_object(iter([windows]), InputContract(layout="raw")))) == 1


class Tensor:
    """As much of a torch tensor as matters."""

    def __init__(self, x: Any) -> None:
        self.x = np.asarray(x)
        self.shape, self.ndim = self.x.shape, self.x.ndim

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.x

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.x


class Loader:
    """As much of a torch DataLoader as matters: batches are lists of tensors, or single samples without batch size."""

    collate_fn = None

    def __init__(self, batch_size: int | None, *, sampler: Any = range(10), drop_last: bool = False) -> None:
        self.dataset = list(pairs())
        self.batch_size, self.sampler, self.drop_last = batch_size, sampler, drop_last
        self.batch_sampler = None if batch_size is None else "made of sampler and batch size"

    def __len__(self) -> int:
        size = self.batch_size or 1
        return len(self.sampler) // size if self.drop_last else -(-len(self.sampler) // size)

    def __iter__(self) -> Iterator[Any]:
        chosen = [self.dataset[i] for i in (self.sampler or range(10))]
        if self.batch_size is None:
            yield from ([Tensor(x), y] for x, y in chosen)
            return
        for i in range(0, len(chosen), self.batch_size):
            xs, ys = zip(*chosen[i : i + self.batch_size], strict=True)
            if len(xs) == self.batch_size or not self.drop_last:
                yield [Tensor(np.stack(xs)), Tensor(np.array(ys))]


@pytest.mark.parametrize(
    ("loader", "count"),
    [
        (Loader(4), 10),
        (Loader(4, drop_last=True), 8),
        (Loader(1), 10),
        (Loader(None), 10),
        (Loader(2, sampler=range(5)), 5),
    ],
)
def test_a_torch_loader(loader: Loader, count: int) -> None:
    reader = open_object(loader, NCHW)
    assert isinstance(reader, Iterated)
    assert reader.length == count
    for _ in range(2):
        same(items(reader), IMAGES[:count], range(count))


def test_a_torch_loader_of_a_stream_has_no_length() -> None:
    reader = open_object(Loader(3, sampler=None), NCHW)
    assert reader.length is None
    same(items(reader), labels=range(10))


def test_a_torch_loader_splits_what_is_no_image_too() -> None:
    loader = Loader(4)
    loader.dataset = [(np.full(3, i, np.float32), i) for i in range(10)]
    assert len(items(open_object(loader, InputContract(layout="raw")))) == 10


class HuggingFace:
    """As much of a data set of Hugging Face as matters."""

    column_names = ("id", "image", "label")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": f"row {index}", "image": Image.fromarray(IMAGES[index]), "label": index}


def test_a_hugging_face_data_set() -> None:
    same(items(open_object(HuggingFace(), NCHW)), labels=range(10))


class EagerTensor:
    """As much of a TensorFlow tensor as matters."""

    def __init__(self, x: Any) -> None:
        self.x = np.asarray(x)
        self.shape, self.ndim, self.dtype = self.x.shape, self.x.ndim, self.x.dtype

    def numpy(self) -> Any:
        return self.x

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.x


class TfData:
    element_spec = None

    def __iter__(self) -> Iterator[Any]:
        for i in range(0, 10, 4):
            yield EagerTensor(IMAGES[i : i + 4]), EagerTensor(np.arange(10)[i : i + 4])


def test_a_tf_data_set() -> None:
    same(items(open_object(TfData(), NCHW)), labels=range(10))


class OrtReader:
    def __init__(self) -> None:
        self.left = [{"in": IMAGES[i : i + 1]} for i in range(10)]

    def get_next(self) -> Any:
        return self.left.pop(0) if self.left else None


def test_a_calibration_data_reader() -> None:
    same(items(open_object(OrtReader(), NCHW)))


def test_a_generator_is_read_once_and_then_refused() -> None:
    reader = open_object(pairs(), NCHW)
    same(items(reader), labels=range(10))
    with pytest.raises(NoData, match="read once already"):
        items(reader)


def test_the_digest_of_a_generator_loses_nothing() -> None:
    reader = open_object(pairs(), NCHW)
    digest = reader.digest(None)
    same(items(reader), labels=range(10))
    assert digest == reader.digest(None) == open_object(pairs(), NCHW).digest(None)
    assert digest != open_object(iter(IMAGES[::-1]), NCHW).digest(None)


def test_the_digest_of_a_loader_leaves_it_as_it_was() -> None:
    reader = open_object(TfData(), NCHW)
    reader.digest(None)
    same(items(reader), labels=range(10))
    same(items(reader), labels=range(10))


def vitis(iter: int) -> dict[str, Any]:  # noqa: A002
    if iter >= 5:
        raise StopIteration
    return {"in": IMAGES[2 * iter : 2 * iter + 2]}


def endless(number: int) -> Any:
    return {"in": IMAGES[:1]}


def test_functions_of_a_number_as_vitis_has_them() -> None:
    same(items(open_function(vitis, NCHW)))
    assert len(items(open_function(endless, NCHW))) == 100
    assert any("100 times" in n for n in open_function(endless, NCHW).notes)
    reader = open_function(endless, NCHW, samples=150)
    assert isinstance(reader, Iterated)
    assert sum(1 for _, _ in zip(range(150), reader.items(), strict=False)) == 150
    assert len(items(open_function(lambda i: IMAGES[i] if i < 3 else None, NCHW))) == 3


@pytest.mark.parametrize("function", [pairs, lambda: map(tuple, pairs()), lambda: list(pairs())])
def test_functions_without_arguments(function: Callable[[], Any]) -> None:
    reader = open_function(function, NCHW)
    same(items(reader), labels=range(10))
    same(items(reader), labels=range(10))  # each reading calls it again


def test_functions_that_cannot_serve() -> None:
    with pytest.raises(NoData, match="takes 2 arguments"):
        open_function(lambda a, b: None, NCHW)
    with pytest.raises(NoData, match="ZeroDivisionError"):
        open_function(lambda: 1 / 0, NCHW)


def test_an_exception_inside_a_generator_names_the_sample() -> None:
    def failing() -> Iterator[Any]:
        yield IMAGES[0]
        raise ValueError("disk \x1b[2J on fire")

    with pytest.raises(BadSample, match="before sample 1 with ValueError") as caught:
        items(open_object(failing(), NCHW))
    assert caught.value.index == 1
    assert "\x1b" not in str(caught.value)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_samples").mkdir()
    (tmp_path / "my_samples" / "__init__.py").write_text("")
    path = tmp_path / "my_samples" / "cats.py"
    path.write_text(
        "import numpy as np\n\ndef calibration():\n    for i in range(3):\n        yield np.full((8, 6, 3), i, 'u1')\n"
        "class Box:\n    @staticmethod\n    def more():\n        yield 1\n"
    )
    (tmp_path / "broken_samples.py").write_text("1 / 0\n")
    yield tmp_path
    for name in ("my_samples", "my_samples.cats", "broken_samples"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("module")
def test_functions_are_found_from_the_working_directory() -> None:
    before = list(sys.path)
    assert len(items(open_function(find_function("my_samples.cats:calibration"), NCHW))) == 3
    assert callable(find_function("my_samples.cats:Box.more"))
    assert sys.path == before


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("my_samples.cats:calibratoin", "did you mean 'calibration'"),
        ("my_samples.dogs:calibration", "'my_samples.dogs', which cannot be found"),
        ("nosuchpackage:f", "'nosuchpackage', which cannot be found"),
        ("broken_samples:f", "ZeroDivisionError"),
    ],
)
def test_functions_that_are_not_there(text: str, says: str) -> None:
    with pytest.raises(NoData) as caught:
        find_function(text)
    assert says in str(caught.value)


X = np.zeros((8, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("value", "label", "inputs"),
    [
        (X, None, ()),
        ((X, 3), 3, ()),
        ([X, 3], 3, ()),
        ((X,), None, ()),
        ({"in": X, "label": 3}, 3, ()),
        ({"whatever": X, "y": 3}, 3, ()),
        ({"image": X, "id": "a", "target": 3}, 3, ()),
        ({"in": X, "noise": X}, None, ("in",)),
        (({"in": X}, 3), 3, ()),
    ],
)
def test_parts_of_a_sample(value: Any, label: Any, inputs: tuple[str, ...]) -> None:
    x, y = parts(value, NCHW, inputs)
    assert x is X
    assert y == label


def test_several_inputs_stay_by_name() -> None:
    other = np.zeros(3)
    for inputs in (("in", "other"), ()):
        x, y = parts({"in": X, "other": other, "label": 1, "name": "a"}, NCHW, inputs)
        assert isinstance(x, dict)
        assert x.keys() == {"in", "other"}
        assert y == 1


def test_a_dict_of_unknown_keys_is_refused() -> None:
    with pytest.raises(InputMismatch, match="keys 'a', 'b'"):
        parts({"a": X, "b": X}, NCHW)


@pytest.mark.parametrize("thing", [3, 3.5, {"a": 1}])
def test_what_gives_no_samples_is_refused(thing: object) -> None:
    with pytest.raises(InputMismatch, match="gives no samples"):
        open_object(thing, NCHW)
