"""Networks behind a serial line: the generated program on this machine and in an emulator, on good lines and bad ones."""

from __future__ import annotations

import os
import pty
import threading
import tty
from pathlib import Path

import numpy as np
import pytest

from bitwright.boards.board import Job
from bitwright.boards.registry import find_board
from bitwright.deploying import deploy, random_inputs
from bitwright.errors import ExportError, UnknownTarget
from bitwright.export.c.writer import write
from bitwright.mcu.board import load_board
from bitwright.mcu.link import Link
from bitwright.mcu.port import open_port
from bitwright.program.prune import prune
from bitwright.simulate import reference
from serial_boards import in_an_emulator, on_this_machine
from zoo_programs import quantized


def test_every_integer_over_a_line(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    tree = write(program, tmp_path)
    with on_this_machine(tree, tmp_path) as path:
        found = deploy(program, f"serial:{path}", samples=2, clock_mhz=100)
        every = sum(program.buffers[s.outputs[0]].size for s in program.steps)
        assert found.outputs_checked == 2 * (every + sum(program.buffers[n].size for n in program.outputs))
        assert found.mismatches == 0, found.first_mismatch
        assert found.cost.frames_per_s is not None
        assert any("bw_serial_ticks" in note for note in found.cost.notes)
        with find_board(f"serial:{path}").session(Job(program=program)) as session:
            inputs = random_inputs(program, 3, seed=7)
            got, want = session.run(inputs), reference.run(program, inputs)
        for name in program.outputs:
            np.testing.assert_array_equal(got[name], want[name])


def test_a_line_that_loses_changes_and_doubles_bytes(tmp_path: Path) -> None:
    program = prune(quantized("mlp", "mcu-cmsis-nn"))[0]
    tree = write(program, tmp_path)
    with on_this_machine(tree, tmp_path, damage=1501) as path:
        link = Link(open_port(path), patience_s=0.3)
        for sample in range(6):
            data = bytes((7 * i + sample) % 256 for i in range(link.greeting.input_bytes))
            link.put(data)
            link.run(detailed=True)
            sums = link.table(1)
            link.run(detailed=True)
            assert link.table(1) == sums
        link.close()
        assert link.repeats > 0, "nothing was damaged: the test shows nothing"


def test_a_changed_constant_is_named(tmp_path: Path) -> None:
    program = quantized("mlp", "mcu-cmsis-nn")
    tree = write(program, tmp_path)
    weights = tmp_path / f"{tree.prefix}_weights.c"
    head, brace, rest = weights.read_text().partition("= {\n    ")
    first, comma, others = rest.partition(",")
    weights.write_text(f"{head}{brace}{int(first) ^ 64}{comma}{others}")
    with on_this_machine(tree, tmp_path) as path:
        found = deploy(program, f"serial:{path}", samples=1)
    assert found.mismatches > 0
    assert "instead of" in found.first_mismatch


def test_the_uart_of_an_emulated_board(tmp_path: Path) -> None:
    program, board = prune(quantized("depthwise_relu6", "mcu-cmsis-nn"))[0], load_board("qemu:mps2-an386")
    tree = write(program, tmp_path, core=board.core)
    with in_an_emulator(tree, board, tmp_path) as path:
        found = deploy(program, f"serial:{path}", core=board.core, samples=1)
    assert found.mismatches == 0, found.first_mismatch
    assert found.cost.memory["arena_bytes"] == tree.plan.arena_bytes


def test_another_network_on_the_board_is_refused(tmp_path: Path) -> None:
    tree = write(quantized("mlp", "mcu-cmsis-nn"), tmp_path)
    with on_this_machine(tree, tmp_path) as path, pytest.raises(ExportError, match="runs another network"):
        deploy(quantized("mlp", "mcu-q7"), f"serial:{path}")


def test_a_board_that_says_nothing_or_rubbish() -> None:
    for reply in (b"", b"\xb1\x7e" * 400):
        master, slave = pty.openpty()
        tty.setraw(slave)
        stop = threading.Event()

        def talk(data: bytes = reply, end: int = master, stopped: threading.Event = stop) -> None:
            while not stopped.wait(0.01):
                if data:
                    os.write(end, data[: 1 + len(data) // 50])

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            with pytest.raises(ExportError, match="does not answer"):
                Link(open_port(os.ttyname(slave)), patience_s=0.02)
        finally:
            stop.set()
            thread.join()
            os.close(master)
            os.close(slave)


def test_ports_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be opened"):
        open_port(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="no serial port"):
        open_port(str(tmp_path / "file"))
    with pytest.raises(ExportError, match="no speed of 123 baud"):
        open_port("/dev/tty@123")
    with pytest.raises(UnknownTarget, match="serial:PORT"):
        find_board("serial:")
