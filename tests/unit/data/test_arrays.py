from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitwright.data import arrays
from bitwright.data.arrays import Arrays, PackedArrays, open_npy, open_npz
from bitwright.data.contract import InputContract
from bitwright.data.reader import Item
from bitwright.errors import NoData

X = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
Y = np.array([4, 3, 2, 1, 0])


def items(reader: Arrays | PackedArrays, wanted: list[int]) -> list[Item]:
    if isinstance(reader, Arrays):
        return [reader.read(i) for i in wanted]
    return [item for item in reader.items(wanted) if isinstance(item, Item)]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_npz_however_it_is_stored(tmp_path: Path, save: Any, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "UNPACKED_BYTES", limit)
    save(tmp_path / "a.npz", x=X, y=Y, other=np.zeros(3))
    reader = open_npz(tmp_path / "a.npz", InputContract())
    assert isinstance(reader, PackedArrays) == (limit == 0 and save is np.savez_compressed)
    assert reader.length == 5
    assert reader.labelled
    for wanted in ([0, 1, 2, 3, 4], [1, 4], [2]):
        got = items(reader, wanted)
        assert [i.index for i in got] == wanted
        assert all((i.x == X[i.index]).all() and i.y == Y[i.index] for i in got)
    assert got[0].origin == "a.npz[2]"


def test_stored_arrays_are_mapped_not_loaded(tmp_path: Path) -> None:
    big = np.zeros((400, 100, 100), np.float32)
    np.savez(tmp_path / "a.npz", x=big)
    np.save(tmp_path / "a.npy", big)
    del big
    tracemalloc.start()
    for reader in (open_npz(tmp_path / "a.npz", InputContract()), open_npy(tmp_path / "a.npy")):
        assert isinstance(reader, Arrays)
        assert sum(float(np.sum(reader.read(i).x)) for i in range(400)) == 0  # type: ignore[call-overload]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_packed_arrays_are_read_through_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((400, 100, 100), np.float32))
    monkeypatch.setattr(arrays, "UNPACKED_BYTES", 1 << 20)
    tracemalloc.start()
    reader = open_npz(tmp_path / "a.npz", InputContract())
    assert isinstance(reader, PackedArrays)
    assert sum(1 for _ in reader.items(None)) == 400
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_column_order_and_versions(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(X))
    reader = open_npz(tmp_path / "a.npz", InputContract())
    assert all((i.x == X[i.index]).all() for i in items(reader, [0, 3]))


def test_members_named_as_the_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=X, y=Y)
    reader = open_npz(tmp_path / "a.npz", InputContract(name="data"))
    assert (items(reader, [1])[0].x == X[1]).all()
    np.savez(tmp_path / "b.npz", left=X, right=X + 1, y=Y)
    both = items(open_npz(tmp_path / "b.npz", InputContract(), ["left", "right"]), [1])[0]
    assert isinstance(both.x, dict)
    assert (both.x["right"] == X[1] + 1).all()
    assert both.y == 3


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"images": X}, "no array 'x'"),
        ({"x": X, "y": Y[:3]}, "different lengths"),
        ({"x": X[:0]}, "holds no samples"),
        ({"x": np.zeros((10**12, 0), np.float32)}, "holds no samples"),
        ({"x": np.float32(3)}, "single number"),
        ({"x": np.array(["a", "b"])}, "not real numbers"),
        ({"x": np.zeros(3, complex)}, "not real numbers"),
        ({"x": np.array([{}, []], object)}, "never loaded"),
        ({"x": X, "y": np.array([None] * 5)}, "never loaded"),
        ({}, "no array 'x'"),
    ],
)
def test_a_faulty_npz_is_refused(tmp_path: Path, members: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(NoData) as caught:
        open_npz(tmp_path / "a.npz", InputContract())
    assert says in str(caught.value)


class Trap:
    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (Trap.spring, ())

    @staticmethod
    def spring() -> int:
        Trap.sprung = True
        return 1


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "object.npy", np.array([Trap()], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([Trap()], object))
    for name in ("raw.npy", "object.npy"):
        with pytest.raises(NoData, match="never loaded"):
            open_npy(tmp_path / name)
    with pytest.raises(NoData, match="never loaded"):
        open_npz(tmp_path / "a.npz", InputContract())
    assert not Trap.sprung


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X)
    np.save(tmp_path / "a.npy", X)
    whole_z, whole = (tmp_path / "a.npz").read_bytes(), (tmp_path / "a.npy").read_bytes()
    for data in (b"", b"hello", whole_z[: len(whole_z) // 2], b"PK\x05\x06" + b"\0" * 10):
        (tmp_path / "b.npz").write_bytes(data)
        with pytest.raises(NoData, match="no readable"):
            open_npz(tmp_path / "b.npz", InputContract())
    for data in (b"", b"\x93NUMPY\x09\x00", whole[:20], whole[:-10]):
        (tmp_path / "b.npy").write_bytes(data)
        with pytest.raises(NoData, match=r"no readable|\.npy file"):
            open_npy(tmp_path / "b.npy")


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("shape", ["(99999999, 99999999)", "(4294967296, 4294967296, 4)", "(2, 3)", "(-1, 5)"])
def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path, shape: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", header(shape))
    with pytest.raises(NoData, match=r"damaged|no samples"):
        open_npz(tmp_path / "a.npz", InputContract())


def test_packed_data_damaged_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "UNPACKED_BYTES", 0)
    x = np.random.default_rng(0).integers(0, 256, (50, 40, 40), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    (tmp_path / "a.npz").write_bytes(data)
    reader = open_npz(tmp_path / "a.npz", InputContract())
    assert isinstance(reader, PackedArrays)
    with pytest.raises(NoData, match="damaged at sample"):
        list(reader.items(None))


def test_a_sample_is_along_the_first_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    reader = open_npy(tmp_path / "a.npy")
    assert reader.length == 5
    assert not reader.labelled
    assert (reader.read(3).x == X[3]).all()


def test_digests_tell_contents_apart(tmp_path: Path) -> None:
    def digest(name: str, **members: Any) -> bytes:
        np.savez(tmp_path / name, **members)
        return open_npz(tmp_path / name, InputContract()).digest(None)

    base = digest("a.npz", x=X, y=Y)
    assert base == digest("b.npz", x=X, y=Y)
    assert base != digest("a.npz", x=X + 1, y=Y)
    assert base != digest("a.npz", x=X, y=Y + 1)
    assert base != digest("a.npz", x=X.reshape(5, 3, 4), y=Y)
    memory = Arrays("t", X, Y, "n")
    assert memory.digest([0, 1]) == memory.digest([0, 1])
    assert memory.digest([0, 1]) != memory.digest([0, 2])
    assert memory.digest([0]) != Arrays("t", X, Y[::-1], "n").digest([0])
