from __future__ import annotations

import errno
import json
import os
import stat
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.errors import BadModelFile, ExportError
from bitwright.program import file as module
from bitwright.program.codec import program_to_dict
from bitwright.program.file import Artefact, load, plain, save
from bitwright.program.program import Program
from small_programs import every_form, random_program


def same_program(a: Program, b: Program) -> bool:
    equal = all(np.array_equal(b.tensors[k], t) and b.tensors[k].dtype == t.dtype for k, t in a.tensors.items())
    return equal and a.tensors.keys() == b.tensors.keys() and program_to_dict(a) == program_to_dict(b)


def same(a: Artefact, b: Artefact) -> bool:
    rest = ("provenance", "contract", "network", "calibration")
    return same_program(a.program, b.program) and all(getattr(a, k) == getattr(b, k) for k in rest)


WHOLE = Artefact(
    program=every_form(),
    provenance={"bitwright": "0.1.0", "seed": 7, "target": {"name": "générique"}, "notes": ["a", "b"]},
    contract={"layout": "NCHW", "mean": [0.5, 1.0]},
    network=b"onnx" * 10,
    calibration=b"\x00\xff",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(WHOLE, tmp_path_factory.mktemp("bw") / "net.bw")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same zip with other members, as bitwright packs it; the member table is kept true."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with target.open("w+b") as stream:
        module._write_zip(stream, members)
    return target


def edit(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    """Change the parsed program.json."""

    def apply(members: dict[str, bytes]) -> None:
        head = json.loads(members["program.json"])
        change(head)
        members["program.json"] = json.dumps(head).encode()

    return apply


def test_what_is_saved_is_loaded(written: Path) -> None:
    assert same(load(written), WHOLE)


def test_optional_members_may_be_left_out(tmp_path: Path) -> None:
    short = Artefact(program=WHOLE.program, provenance={})
    assert same(load(save(short, tmp_path / "a.bw")), short)


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 30))
def test_random_programs_survive(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = random_program(seed)
    assert same_program(load(save(Artefact(program, {}), tmp_path_factory.mktemp("r") / "r.bw")).program, program)


def test_equal_artefacts_give_equal_bytes(tmp_path: Path) -> None:
    again = replace(WHOLE, program=every_form(), provenance=dict(reversed(WHOLE.provenance.items())))
    assert save(WHOLE, tmp_path / "a.bw").read_bytes() == save(again, tmp_path / "b.bw").read_bytes()


def test_loaded_constants_cannot_be_changed(written: Path) -> None:
    tensor = next(iter(load(written).program.tensors.values()))
    with pytest.raises(ValueError, match="read-only"):
        tensor.reshape(-1)[0] = 1


def test_plain_values() -> None:
    class Color(Enum):
        RED = "red"

    given = {
        "a": np.float32(0.5),
        2: (np.int8(3), np.arange(2)),
        "c": Color.RED,
        "d": Path("x"),
        "e": float("inf"),
        "f": {"z", "y"},
    }
    assert plain(given) == {"a": 0.5, "2": [3, [0, 1]], "c": "red", "d": "x", "e": "inf", "f": ["y", "z"]}
    assert plain(np.float64("nan")) == "nan"
    assert plain(np.bool_(True)) is True
    with pytest.raises(TypeError, match="not object"):
        plain(object())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = save(WHOLE, tmp_path / "a.bw")
    old = target.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match=r"No space left on device.*existing file is unchanged"):
        save(replace(WHOLE, network=b"other"), target)
    assert target.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.bw"]


def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def new_file(path: Path) -> BinaryIO:
        path.touch()
        return os.fdopen(os.open("/dev/full", os.O_RDWR), "w+b")

    monkeypatch.setattr(module, "_new_file", new_file)
    with pytest.raises(ExportError, match="Cannot write"):
        save(WHOLE, tmp_path / "a.bw")
    assert not list(tmp_path.iterdir())


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No such file or directory"):
        save(WHOLE, tmp_path / "none" / "a.bw")


def test_new_files_follow_the_umask_and_links_stay_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.bw", tmp_path / "link.bw"
    old = os.umask(0o027)
    try:
        save(WHOLE, real)
    finally:
        os.umask(old)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    link.symlink_to(real)
    save(replace(WHOLE, network=None), link)
    assert link.is_symlink()
    assert load(real).network is None


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.LARGEST, "network.onnx", 39)  # type: ignore[index]
    with pytest.raises(ExportError, match="Refer to the network by path"):
        save(WHOLE, tmp_path / "a.bw")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not start like a zip"),
        (b"\x08\x07onnx", "does not start like a zip"),
        (b"PK\x03\x04", "cut short"),
        (b"PK\x03\x04" + bytes(500), "end is missing"),
        (bytes(range(256)) * 9, "does not start like a zip"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.bw"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=why) as caught:
        load(path)
    assert caught.value.path == str(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="No such file"):
        load(tmp_path / "none.bw")
    with pytest.raises(BadModelFile, match="directory"):
        load(tmp_path)


def test_every_truncation_is_noticed(written: Path, tmp_path: Path) -> None:
    content, path = written.read_bytes(), tmp_path / "cut.bw"
    for length in range(0, len(content), max(1, len(content) // 97)):
        path.write_bytes(content[:length])
        with pytest.raises(BadModelFile):
            load(path)
    path.write_bytes(content + b"x")
    with pytest.raises(BadModelFile, match="something was appended"):
        load(path)


@settings(max_examples=100)
@given(data=st.data())
def test_flipped_bits_are_noticed_or_harmless(written: Path, data: st.DataObject) -> None:
    content = bytearray(written.read_bytes())
    tail = st.integers(max(0, len(content) - 600), len(content) - 1)  # the directory, where the leniency of zips is
    for place in data.draw(st.lists(st.one_of(st.integers(0, len(content) - 1), tail), min_size=1, max_size=4)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    assert equal_or_refused(bytes(content), written.with_name("flipped.bw"))


@settings(max_examples=100)
@given(data=st.data())
def test_changed_values_are_noticed_or_make_another_valid_program(written: Path, data: st.DataObject) -> None:
    """The attacker who repairs checksums: one value of the JSON replaced, anywhere."""
    values = st.one_of(
        st.integers(-(1 << 70), 1 << 70), st.integers(-3, 300), st.none(), st.booleans(), st.text(max_size=3),
        st.floats(), st.just([]), st.just({}), st.lists(st.integers(0, 9), max_size=4), st.just("a" * 5000),
    )  # fmt: skip

    def change(head: dict[str, Any]) -> None:
        at: Any = head
        while True:
            keys = list(at) if isinstance(at, dict) else range(len(at))
            key = data.draw(st.sampled_from(list(keys)))
            inner = at[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 9)):
                at = inner
                continue
            if isinstance(at, dict) and data.draw(st.integers(0, 9)) == 0:
                del at[key]
            else:
                at[key] = data.draw(values)
            return

    path = rewritten(written, written.with_name("changed.bw"), edit(change))
    try:
        program = load(path).program
    except BadModelFile:
        return
    assert isinstance(program, Program)  # whatever it is, its structure and ranges have been proven


def equal_or_refused(content: bytes, path: Path) -> bool:
    path.write_bytes(content)
    try:
        found = load(path)
    except BadModelFile as why:
        return str(path) in str(why)
    return same(found, WHOLE)


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile):
            load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_zip_bomb_with_a_true_size(written: Path, tmp_path: Path) -> None:
    bomb = rewritten(written, tmp_path / "b.bw", lambda m: m.update({"program.json": b" " * (33 << 20)}))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BadModelFile, match="would unpack to 34603008 bytes"):
        load(bomb)
    assert peak_bytes(bomb) < 1 << 20


def test_zip_bomb_that_understates_its_size(written: Path, tmp_path: Path) -> None:
    bomb = rewritten(written, tmp_path / "b.bw", lambda m: m.update({"program.json": b" " * (200 << 20)}))
    content = bomb.read_bytes().replace(struct.pack("<L", 200 << 20), struct.pack("<L", 1000))
    bomb.write_bytes(content)
    assert peak_bytes(bomb) < 8 << 20


def test_json_of_very_many_values_and_very_deep(written: Path, tmp_path: Path) -> None:
    many = rewritten(
        written, tmp_path / "m.bw", lambda m: m.update({"provenance.json": b"[" + b"[]," * 3_000_000 + b"1]"})
    )
    assert peak_bytes(many) < 64 << 20
    for text in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":1,"a":2}',
        b"[1]",
        b"NaN",
        b"\xff\xfe",
        b'{"a":' + b"9" * 9000 + b"}",
    ):
        deep = rewritten(written, tmp_path / "d.bw", lambda m, text=text: m.update({"contract.json": text}))
        with pytest.raises(BadModelFile):
            load(deep)


def test_members_that_do_not_belong_there(written: Path, tmp_path: Path) -> None:
    def add(name: str) -> Callable[[dict[str, bytes]], None]:
        def change(members: dict[str, bytes]) -> None:
            del members["contract.json"]
            members[name] = b"1"

        return change

    for name in ("../../x", "/etc/passwd", "a.pkl", "program.json/", "\x1b[2J"):
        with pytest.raises(BadModelFile, match="does not belong there") as caught:
            load(rewritten(written, tmp_path / "a.bw", add(name)))
        assert "\x1b" not in str(caught.value)
    for name in ("program.json", "tensors.safetensors", "provenance.json"):
        with pytest.raises(BadModelFile, match=f"{name} is missing"):
            load(rewritten(written, tmp_path / "a.bw", lambda m, name=name: m.pop(name)))
    with pytest.raises(BadModelFile, match="not the ones that its table lists"):
        load(rewritten(written, tmp_path / "a.bw", lambda m: m.pop("network.onnx")))


def test_member_packed_twice_or_compressed(written: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(written) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "a.bw"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(BadModelFile, match="packed in a way"):
        load(path)
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for name in ("program.json", "provenance.json", "tensors.safetensors", "program.json"):
            archive.writestr(name, b"")
    with pytest.raises(BadModelFile, match="twice"):
        load(path)


def set_schema(value: object) -> Callable[[dict[str, bytes]], None]:
    return edit(lambda head: head.update(schema=value))


def test_other_schemas(written: Path, tmp_path: Path) -> None:
    for value, advice in (
        (2, "update bitwright"),
        (0, "quantize again"),
        ("1", "quantize again"),
        (True, "quantize again"),
    ):
        with pytest.raises(BadModelFile, match=advice):
            load(rewritten(written, tmp_path / "a.bw", set_schema(value)))
    with pytest.raises(BadModelFile, match="does not describe a bitwright program"):
        load(rewritten(written, tmp_path / "a.bw", edit(lambda head: head.pop("magic"))))


def test_constants_of_other_shape_type_or_name(written: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load as load_tensors
    from safetensors.numpy import save as save_tensors

    def change(how: Callable[[dict[str, np.ndarray]], None]) -> Callable[[dict[str, bytes]], None]:
        def apply(members: dict[str, bytes]) -> None:
            tensors = load_tensors(members["tensors.safetensors"])
            how(tensors)
            members["tensors.safetensors"] = save_tensors(tensors)
            edit(lambda head: head["members"].update({"tensors.safetensors": len(members["tensors.safetensors"])}))(
                members
            )

        return apply

    name = "layer1.weight"
    cases: list[tuple[Callable[[dict[str, np.ndarray]], Any], str]] = [
        (lambda t: t.pop(name), "its constants are missing"),
        (lambda t: t.update(other=t[name]), "no such constants"),
        (lambda t: t.update({name: t[name].reshape(-1)}), "not what the program declares"),
        (lambda t: t.update({name: t[name].astype(np.int16)}), "not what the program declares"),
        (lambda t: t.update({name: t[name].astype(np.float32)}), "of type float32, which no program holds"),
        # Right in all but its values: the ranges that follow from them are not the ones that the program states.
        (lambda t: t.update({"layer1.right": np.full_like(t["layer1.right"], 63)}), "'right' lies in"),
    ]
    for how, why in cases:
        with pytest.raises(BadModelFile, match=why):
            load(rewritten(written, tmp_path / "a.bw", change(how)))

    def garbage(members: dict[str, bytes]) -> None:
        members["tensors.safetensors"] = b"\xff" * 64
        edit(lambda head: head["members"].update({"tensors.safetensors": 64}))(members)

    with pytest.raises(BadModelFile, match="cannot be read"):
        load(rewritten(written, tmp_path / "a.bw", garbage))


def test_stated_ranges_are_proven_not_believed(written: Path, tmp_path: Path) -> None:
    def narrow(head: dict[str, Any]) -> None:
        name = head["program"]["outputs"][0]
        head["program"]["buffers"][name].update(lo=0, hi=0)

    with pytest.raises(BadModelFile, match="ranges that the program states do not hold"):
        load(rewritten(written, tmp_path / "a.bw", edit(narrow)))
