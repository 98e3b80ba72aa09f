from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.data.contract import InputContract
from bitwright.data.source import choose, default_workers, open_source
from bitwright.errors import BadSample, InputMismatch, NoData, NonFinite

Draw = Callable[..., Path]
CONTRACT = InputContract(mean=(127.5,), std=(127.5,))


@pytest.fixture
def many(tmp_path: Path, picture: Draw) -> Path:
    """Twenty pictures in a CSV, number 7 damaged."""
    rows = ["file,label"]
    for i in range(20):
        path = picture(tmp_path / f"{i}.jpg", seed=i)
        rows.append(f"{path.name},{i}")
    damaged = tmp_path / "7.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    (tmp_path / "list.csv").write_text("\n".join(rows))
    return tmp_path / "list.csv"


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("bitwright")]


@given(st.integers(1, 300), st.integers(1, 300), st.none() | st.integers(0, 5))
def test_the_choice_is_even_ascending_and_repeatable(length: int, samples: int, seed: int | None) -> None:
    chosen = choose(length, samples, seed)
    assert chosen == choose(length, samples, seed)
    assert len(chosen) == min(length, samples)
    assert all(a < b for a, b in itertools.pairwise(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < length
    if samples < length:
        assert all(k * length // samples <= v < (k + 1) * length // samples for k, v in enumerate(chosen))


def test_a_few_samples_of_sorted_classes_hold_every_class(classes: Path) -> None:
    source = open_source(classes, CONTRACT, samples=3)
    assert len(source) == 3
    assert [s.y for s in source] == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_order_and_content_do_not_depend_on_threads(classes: Path, workers: int, size: int) -> None:
    source = open_source(classes, CONTRACT)
    batches = list(source.batches(size, workers))
    assert [len(b) for b in batches] == [size] * (6 // size) + ([6 % size] if 6 % size else [])
    assert [i for b in batches for i in b.indices] == list(range(6))
    assert [y for b in batches for y in b.y or ()] == [0, 0, 1, 1, 2, 2]
    together = np.concatenate([b.x for b in batches])  # type: ignore[arg-type]
    assert together.dtype == np.float32
    assert together.shape == (6, 3, 24, 20)
    assert all((together[s.index] == s.x).all() for s in source)
    assert batches[0].origins[0] == "ant/0.png"
    assert not ours()


def test_it_can_be_read_again(classes: Path) -> None:
    source = open_source(classes, CONTRACT)
    assert [s.index for s in source] == [s.index for s in source] == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_stops_with_its_name(many: Path, workers: int) -> None:
    batches = open_source(many, CONTRACT).batches(2, workers)
    assert [i for _ in range(3) for i in next(batches).indices] == list(range(6))
    with pytest.raises(BadSample, match=r"Sample 7 \(7.jpg\) cannot be used: .*[Tt]runcated.*skipped") as caught:
        next(batches)
    assert caught.value.index == 7
    assert not ours()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_can_be_skipped_and_is_counted(many: Path, workers: int) -> None:
    source = open_source(many, CONTRACT, on_bad="skip")
    for _ in range(2):
        batches = list(source.batches(4, workers))
        assert [i for b in batches for i in b.indices] == [i for i in range(20) if i != 7]
        assert [len(b) for b in batches] == [4, 4, 4, 4, 3]
        assert len(source.skipped) == 1
        assert any("1 samples were skipped" in note and "7.jpg" in note for note in source.notes)


def test_a_missing_file_is_named(many: Path) -> None:
    (many.parent / "3.jpg").unlink()
    with pytest.raises(BadSample, match=r"Sample 3 .*3.jpg does not exist") as caught:
        list(open_source(many, CONTRACT))
    assert caught.value.index == 3


def test_the_index_is_that_of_the_source_not_of_the_choice(many: Path) -> None:
    (many.parent / "10.jpg").unlink()
    with pytest.raises(BadSample) as caught:
        list(open_source(many, CONTRACT, samples=4))  # 0, 5, 10, 15
    assert caught.value.index == 10


def test_all_bad_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(NoData, match="All 3 samples were bad; the first: Sample 0"):
        list(open_source(tmp_path, CONTRACT, on_bad="skip").batches())


def test_a_hostile_name_is_printed_safely(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J.png").write_bytes(b"no")
    with pytest.raises(BadSample) as caught:
        list(open_source(tmp_path, CONTRACT))
    assert "\x1b" not in str(caught.value)
    assert "\\x1b" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_any_sample_is_found(bad: float) -> None:
    x = np.zeros((40, 5), np.float32)
    x[33, 2] = bad
    raw = InputContract(name="in", layout="raw")
    with pytest.raises(NonFinite, match=r"Sample 33 \(array\[33\]\)") as caught:
        list(open_source(x, raw).batches(8))
    assert (caught.value.tensor, caught.value.sample) == ("in", 33)
    source = open_source(x, raw, on_bad="skip")
    assert sum(len(b) for b in source.batches(8)) == 39


def test_different_shapes_are_refused_with_both_names(tmp_path: Path, picture: Draw) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", size=(30, 20))
    with pytest.raises(
        InputMismatch, match=r"Sample 1 \(b.png\) is \[3, 30, 20\].*sample 0 \(a.png\) is \[3, 24, 20\].*resize"
    ):
        list(open_source(tmp_path, CONTRACT).batches())
    assert len(list(open_source(tmp_path, CONTRACT))) == 2  # one by one they are fine
    assert len(next(open_source(tmp_path, InputContract(resize=(8, 8))).batches())) == 2


def test_a_contract_that_does_not_fit_names_the_first_sample(classes: Path) -> None:
    with pytest.raises(InputMismatch, match=r"Sample 0 \(ant/0.png\).*smaller than crop"):
        list(open_source(classes, InputContract(crop=(100, 100))).batches())


def test_labels_follow_the_crop(tmp_path: Path, picture: Draw) -> None:
    picture(tmp_path / "a.png", size=(20, 40))
    (tmp_path / "list.csv").write_text("file,label\na.png,3 0.5 0.5 0.25 0.5\n")
    contract = InputContract(crop=(20, 20), task="detection")
    label = next(iter(open_source(tmp_path / "list.csv", contract))).y
    assert np.allclose(np.asarray(label), [[3, 0.5, 0.5, 0.5, 0.5]])


def test_require_labels(classes: Path, tmp_path: Path) -> None:
    open_source(classes, CONTRACT).require_labels("top1")
    source = open_source(classes / "ant", CONTRACT)
    with pytest.raises(NoData, match="The metric top1 needs labels"):
        source.require_labels("top1")
    with pytest.raises(NoData, match="needs labels"):
        open_source(np.zeros((3, 4)), CONTRACT).require_labels("top1")
    open_source((np.zeros((3, 4)), np.arange(3)), CONTRACT).require_labels("top1")
    assert next(source.batches()).y is None


def test_notes_about_the_number_of_samples(classes: Path) -> None:
    assert any(
        "100 samples were asked for and there are 6" in n for n in open_source(classes, CONTRACT, samples=100).notes
    )
    stream = open_source(iter(np.zeros((9, 4, 4, 3), np.uint8)), CONTRACT, samples=5)
    assert any("first 5" in n for n in stream.notes)
    assert [s.index for s in stream] == [0, 1, 2, 3, 4]
    with pytest.raises(NoData, match="at least one"):
        open_source(classes, CONTRACT, samples=0)


def test_lengths(classes: Path) -> None:
    assert len(open_source(classes, CONTRACT, samples=4)) == 4
    stream = open_source(iter([np.zeros((4, 4, 3))]), CONTRACT)
    assert stream.length is None
    with pytest.raises(TypeError):
        len(stream)
    assert len(list(stream)) == 1


@pytest.mark.parametrize("empty", [[], iter([]), lambda: iter([])])
def test_no_samples_at_all(empty: Any) -> None:
    with pytest.raises(NoData, match="There are no samples"):
        list(open_source(empty, CONTRACT).batches())


def test_a_batch_has_at_least_one_sample(classes: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        next(open_source(classes, CONTRACT).batches(0))


def test_a_sample_of_a_data_set_that_fails_is_named_and_can_be_skipped() -> None:
    class Failing:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Any:
            if index == 2:
                raise RuntimeError("bad row")
            return np.full((4, 4, 3), index, np.uint8), index

    with pytest.raises(BadSample, match=r"Sample 2 \(Failing\[2\]\).*RuntimeError: bad row"):
        list(open_source(Failing(), CONTRACT).batches())
    skipping = open_source(Failing(), CONTRACT, on_bad="skip")
    assert [s.y for s in skipping] == [0, 1, 3, 4, 5]


def test_foreign_data_sets_are_read_by_one_thread_at_a_time() -> None:
    inside = threading.Lock()

    class Touchy:
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            assert inside.acquire(blocking=False)
            try:
                return np.full((4, 4, 3), index, np.uint8)
            finally:
                inside.release()

    assert sum(len(b) for b in open_source(Touchy(), CONTRACT).batches(8, workers=4)) == 64


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_early_and_ctrl_c_leave_no_thread(classes: Path, workers: int) -> None:
    for data in (classes, iter(np.zeros((500, 8, 8, 3), np.uint8))):
        batches = open_source(data, CONTRACT).batches(1, workers)
        next(batches)
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
        assert not ours()


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    def endless() -> Iterator[Any]:
        for i in range(2000):
            yield np.full((64, 64, 3), i % 256, np.uint8)

    peaks = []
    for samples in (100, 1500):
        tracemalloc.start()
        for _ in open_source(endless, CONTRACT, samples=samples).batches(8, workers=2):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + (1 << 20)


def test_the_fingerprint_knows_data_choice_and_contract(classes: Path, picture: Draw) -> None:
    def mark(**options: Any) -> str:
        contract = options.pop("contract", CONTRACT)
        return open_source(classes, contract, **options).fingerprint

    base = mark()
    assert len(base) == 64
    assert base == mark()
    assert base == mark(contract=CONTRACT.bind([1, 3, 24, 20], name="in"))
    assert len({base, mark(samples=3), mark(samples=2), mark(contract=InputContract()), mark(samples=3, seed=1)}) == 5
    picture(classes / "ant" / "0.png", seed=77)
    assert base != mark()
    assert mark(samples=3) != base


@pytest.mark.parametrize(
    "make", [lambda: iter(np.ones((9, 4, 4, 3), np.uint8)), lambda: list(np.ones((9, 4, 4, 3), "u1"))]
)
def test_the_fingerprint_of_objects_may_be_asked_before_or_after(make: Callable[[], Any]) -> None:
    before, after = open_source(make(), CONTRACT), open_source(make(), CONTRACT)
    mark = before.fingerprint
    assert len(list(before)) == 9
    assert mark == before.fingerprint
    assert after.fingerprint == mark
    assert len(list(after)) == 9


def test_a_source_can_be_opened_again_with_another_choice(classes: Path) -> None:
    source = open_source(classes, CONTRACT)
    assert len(open_source(source, CONTRACT, samples=2)) == 2
    assert len(open_source(source, CONTRACT)) == 6


def test_dicts_of_arrays_for_several_inputs() -> None:
    contract = InputContract(name="a", std=(255,)).bind([None, 3, 4, 4])
    data = [{"a": np.full((4, 4, 3), 255, np.uint8), "ids": np.array([1, 2])} for _ in range(3)]
    batch = next(open_source(data, contract, inputs=["a", "ids"]).batches())
    assert isinstance(batch.x, dict)
    assert batch.x["a"].shape == (3, 3, 4, 4)
    assert (batch.x["a"] == 1).all()
    assert batch.x["ids"].dtype == np.int64


def test_at_least_one_thread() -> None:
    assert 1 <= default_workers() <= 4
