"""Pictures of any size in C: resized and cropped to the very integers that data/transform.py gives."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from bitwright.data.contract import InputContract
from bitwright.data.transform import target_size
from bitwright.export.c.picture import MOST_SHRINK
from bitwright.export.c.writer import write
from bitwright.mcu import host
from bitwright.mcu.library import Library
from bitwright.number.format import Format
from bitwright.program.program import Program
from unit.export.c.programs import Net

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CONTRACTS = {
    "resize and crop": InputContract(resize=9, crop=(6, 5), mean=MEAN, std=STD),
    "exact": InputContract(resize=(6, 5), color="BGR", mean=MEAN, std=STD),
    "crop": InputContract(crop=(6, 5)),
    "large": InputContract(resize=(31, 40), crop=(6, 5)),
}
SIZES = ((6, 5), (9, 9), (9, 14), (40, 23), (37, 120), (96, 64), (7, 200))


def small(channels: int) -> Program:
    net = Net("net", Format(8, True, np.asarray(1 / 57), np.asarray(-3)))
    return net.program(net.conv(net.input(1, channels, 6, 5), 2, 3))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("flags", [host.OPTIMIZE, (*host.OPTIMIZE, "-march=native", "-ffp-contract=fast")])
@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_pictures_become_the_integers_that_were_measured(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    program = small(3)
    bound = CONTRACTS[name].bind((1, 3, 6, 5), name="x")
    library = Library(write(program, tmp_path, contract=bound), program, flags=flags)
    buffer, rng = program.buffers["x"], np.random.default_rng(0)
    done = 0
    for height, width in SIZES:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        made = np.zeros(90, np.int8)
        status = library.handle.net_quantize_image(pointer(pixels), height, width, pointer(made))
        new = (height, width) if bound.resize is None else target_size(height, width, bound.resize)
        if height > MOST_SHRINK * new[0] or width > MOST_SHRINK * new[1]:
            assert status == -1
            continue
        assert status == 0
        want = buffer.format.quantize(bound.apply(pixels)[None], program.input_rounding)
        np.testing.assert_array_equal(library.tree.layouts["x"].restored(made), want)
        done += 1
    assert done >= len(SIZES) - 1
    made = np.zeros(90, np.int8)
    run = library.handle.net_quantize_image
    assert run(pointer(made), 0, 5, pointer(made)) == -1
    if bound.resize is None:
        assert run(pointer(made), 5, 5, pointer(made)) == -1
    else:
        assert run(pointer(made), 100_000, 100_000, pointer(made)) == -1


def test_gray_pictures(tmp_path: Path) -> None:
    program = small(1)
    bound = InputContract(resize=(6, 5), color="gray", mean=(127.5,), std=(127.5,)).bind((1, 1, 6, 5), name="x")
    library = Library(write(program, tmp_path, contract=bound), program)
    pixels = np.random.default_rng(1).integers(0, 256, (28, 33), dtype=np.uint8)
    made = np.zeros(30, np.int8)
    assert library.handle.net_quantize_image(pointer(pixels), 28, 33, pointer(made)) == 0
    want = program.buffers["x"].format.quantize(bound.apply(pixels)[None], program.input_rounding)
    np.testing.assert_array_equal(library.tree.layouts["x"].restored(made), want)


def test_it_compiles_under_the_sanitizers_and_for_boards_without_a_library(tmp_path: Path) -> None:
    from bitwright.deploying import random_inputs
    from bitwright.mcu.board import load_board
    from bitwright.mcu.qemu import measure

    program, board = small(3), load_board("qemu:mps2-an386")
    bound = CONTRACTS["resize and crop"].bind((1, 3, 6, 5), name="x")
    tree = write(program, tmp_path, core=board.core, contract=bound)
    host.check(tree, program, random_inputs(program, 1), flags=host.SANITIZE)
    assert measure(tree, program, board, random_inputs(program, 1)).mismatches == 0
