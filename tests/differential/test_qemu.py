"""Generated C on imitated boards against the reference, in every integer of every step; and what it costs there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from bitwright.deploying import deploy
from bitwright.errors import DoesNotFit, ToolMissing, UnknownTarget
from bitwright.export.c.writer import Exported, random_samples, write
from bitwright.mcu import firmware, host
from bitwright.mcu.board import list_boards, load_board
from bitwright.mcu.qemu import measure
from bitwright.program.program import Program
from random_layers import random_layers
from zoo_programs import quantized

LAYERS = 16
BUDGETS = tomllib.loads((Path(__file__).parent / "instructions.toml").read_text("utf-8"))
TOLERANCE = 1.02  # compilers of one version differ a little from distribution to distribution


def inputs_of(program: Program, count: int = 2) -> dict[str, np.ndarray]:
    samples = random_samples(program, count, seed=3)
    return {name: np.concatenate([s[name] for s in samples]) for name in program.inputs}


def kernels_of(tree: Exported) -> set[str]:
    return {str(row["by"]).split()[0] for row in tree.report["layers"]}


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("seed", [100, 101])
def test_what_stands_for_the_assembly_computes_the_same(core: str, seed: int, tmp_path: Path) -> None:
    program = random_layers(seed, LAYERS)
    tree = write(program, tmp_path, core=core)
    family = "bw_mve" if core == "cortex-m55" else "bw_dsp"
    assert {f"{family}_conv", f"{family}_depthwise"} <= kernels_of(tree)
    assert host.check(tree, program, inputs_of(program), flags=host.SANITIZE).samples == 2


@pytest.mark.parametrize(
    ("board", "seed"),
    [(board, 1) for board in list_boards()] + [("qemu:mps2-an386", 2), ("qemu:mps3-an547", 2)],
)
def test_random_layers_on_every_board(board: str, seed: int, tmp_path: Path) -> None:
    program, chosen = random_layers(seed, LAYERS), load_board(board)
    tree = write(program, tmp_path, core=chosen.core)
    measured = measure(tree, program, chosen, inputs_of(program))
    assert measured.mismatches == 0, measured.first
    assert measured.checked == 2 * sum(program.buffers[s.outputs[0]].size for s in program.steps)
    assert any(k.startswith("bw_dsp_") for k in kernels_of(tree)) == (chosen.core not in ("cortex-m3", "rv32imc"))


def test_a_changed_constant_is_seen(tmp_path: Path) -> None:
    program, board = random_layers(5, 2), load_board("qemu:mps2-an386")
    tree = write(program, tmp_path, core=board.core)
    weights = tmp_path / f"{tree.prefix}_weights.c"
    head, brace, rest = weights.read_text().partition("= {\n    ")
    first, comma, others = rest.partition(",")
    weights.write_text(f"{head}{brace}{(int(first) + 70000) % (1 << 32)}{comma}{others}")
    measured = measure(tree, program, board, inputs_of(program))
    assert measured.mismatches > 0
    assert "instead of" in measured.first


CASES = [(t, n, b) for t, networks in BUDGETS.items() for n, boards in networks.items() for b in boards]


@pytest.mark.parametrize(("target", "network", "board"), CASES)
def test_networks_stay_within_their_instructions(target: str, network: str, board: str) -> None:
    program, most = quantized(network, target), BUDGETS[target][network][board]
    measured = deploy(program, f"qemu:{board}", inputs=inputs_of(program))
    measured.require_equal()
    assert measured.cost.unit == "instructions"
    assert measured.count <= most * TOLERANCE, f"{measured.count / most - 1:.1%} over"
    assert sum(row.count for row in measured.layers) == pytest.approx(measured.count, rel=0.2)


def test_the_count_is_the_same_every_time() -> None:
    program = quantized("fire", "mcu-cmsis-nn")
    first, again = (deploy(program, "qemu:mps2-an386", inputs=inputs_of(program)).count for _ in range(2))
    assert again == pytest.approx(first, abs=2)  # two ticks of the timer


@pytest.mark.parametrize("board", ["qemu:riscv32-virt", "qemu:mps2-an386"])
def test_code_may_lie_far_from_where_it_starts(board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = firmware.linker_script
    far = lambda chosen: real(chosen).replace("KEEP(*(.vectors))", "KEEP(*(.vectors)) . = . + 0x200000;")
    monkeypatch.setattr(firmware, "linker_script", far)
    program, chosen = random_layers(5, 2), load_board(board)
    found = measure(write(program, tmp_path), program, chosen, inputs_of(program))
    assert found.mismatches == 0, found.first
    assert found.flash_bytes > 0x200000


def test_what_the_linker_cannot_place_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = firmware.linker_script
    program, chosen = random_layers(5, 2), load_board("qemu:mps2-an386")
    tree = write(program, tmp_path)
    for which in ("gcc", "zig"):
        with monkeypatch.context() as patch:
            patch.setattr(
                firmware, "linker_script", lambda b: real(b).replace("LENGTH = 0x400000", "LENGTH = 0x900", 1)
            )
            with pytest.raises(DoesNotFit, match="bytes of flash") as caught:
                measure(tree, program, chosen, inputs_of(program), which=which)  # type: ignore[arg-type]
            assert caught.value.need_bytes > caught.value.have_bytes


def test_sums_run_on_kernels(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    for core, stem in (("cortex-m4", "bw_sum"), ("cortex-m55", "bw_vsum")):
        tree = write(program, tmp_path / core, core=core)
        assert any(k.startswith(stem) for k in kernels_of(tree))
        host.check(tree, program, inputs_of(program), flags=host.SANITIZE)


def test_a_missing_tool_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = random_layers(5, 2)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt install qemu-system-arm"):
        deploy(program, "qemu:mps2-an386")


def test_a_network_that_does_not_fit_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    text = (Path(__file__).parents[2] / "src/bitwright/mcu/boards/mps2-an386.toml").read_text("utf-8")
    small.write_text(text.replace("origin = 0x20000000\nbytes = 0x00400000", "origin = 0x20000000\nbytes = 0x00006600"))
    with pytest.raises(DoesNotFit, match="too many"):
        deploy(quantized("residual", "mcu-cmsis-nn"), small)


def test_a_board_that_is_not_there_names_the_near_ones() -> None:
    with pytest.raises(UnknownTarget, match="Did you mean qemu:mps2-an386"):
        deploy(random_layers(5, 2), "an386")
