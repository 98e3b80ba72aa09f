from __future__ import annotations

from pathlib import Path

import pytest

from bitwright.errors import BadTargetFile, UnknownTarget
from bitwright.mcu.board import FOLDER, list_boards, load_board
from bitwright.mcu.firmware import linker_script
from bitwright.mcu.qemu import instructions


@pytest.mark.parametrize("name", list_boards())
def test_every_board_reads_and_is_called_like_its_file(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.qemu.machine in name
    script = linker_script(board)
    assert f"ORIGIN = {board.ram.origin:#x}" in script
    assert "@" not in script


def test_the_boards_of_the_documentation_are_there() -> None:
    cores = {load_board(name).core for name in list_boards()}
    assert cores == {"cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("qemu:an386", "qemu:mps2-an386"), ("qemu:mps2-an547", "qemu:mps3-an547"), ("qemu:riscv32", "qemu:riscv32-virt")],
)
def test_the_series_may_be_left_out(written: str, meant: str) -> None:
    assert load_board(written).name == meant


@pytest.mark.parametrize("name", ["an386", "qemu:", "qemu:mps2", "host", "qemu:an38"])
def test_unknown_boards_are_refused(name: str) -> None:
    with pytest.raises(UnknownTarget, match="qemu:mps2-an386"):
        load_board(name)


def test_a_bad_board_file_says_which_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text((FOLDER / "mps2-an386.toml").read_text("utf-8").replace("[timer]", "[timr]"))
    with pytest.raises(BadTargetFile, match=r'timr.*Did you mean "timer"'):
        load_board(file)
    file.write_text("name = ")
    with pytest.raises(BadTargetFile, match="cannot be read"):
        load_board(file)
    with pytest.raises(BadTargetFile, match="cannot be read"):
        load_board(tmp_path / "none.toml")


def test_ticks_become_instructions() -> None:
    # 25 MHz: a tick is 40 ns, an instruction 64 ns of virtual time.
    assert instructions(load_board("qemu:mps2-an386"), 1600) == 1000
    assert instructions(load_board("qemu:mps2-an505"), 1280) == 1000
    assert instructions(load_board("qemu:riscv32-virt"), 1000) == 1000
