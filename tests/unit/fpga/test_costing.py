"""What is reported: laws of the profiler's table and of the memory map, and the commands."""

from __future__ import annotations

import numpy as np
import pytest

import zoo_programs
from bitwright.boards.registry import find_board
from bitwright.deploying import deploy
from bitwright.errors import UnknownTarget
from bitwright.estimating import estimate
from bitwright.fpga.config import load_config
from bitwright.fpga.costing import memory_map, model_ends, on_host, profiler
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import Image, compile_program
from bitwright.fpga.jobs import HostJob
from bitwright.fpga.running import Functional, Values, run_frame, send_input
from bitwright.fpga.schedule import Compute, schedule


@pytest.fixture(scope="module")
def image() -> Image:
    return compile_program(zoo_programs.quantized("fire", "fpga"), load_config("dlp576"))


def test_profiler_adds_up(image: Image) -> None:
    table = profiler(image, model_ends(timing(image), image), 150_000_000)
    cycles = {row[0].strip(): int(row[1]) for row in table.rows}
    modules = [cycles[name] for name in ("conv_module", "fc_module") if name in cycles]
    layers = [int(row[1]) for row in table.rows if row[0].startswith(" " * 8)]
    assert cycles["Network"] == sum(modules) == sum(layers)
    assert table.rows[0][2] == f"{cycles['Network'] / 150e6:.5f}"
    assert table.rows[0][5] == f"{150e6 / cycles['Network']:.1f}"


def test_memory_map_is_contiguous(image: Image) -> None:
    table = memory_map(image)
    assert table.columns == ("offset_name", "offset_address", "allocated_space")
    assert [row[0] for row in table.rows] == [
        "InputDataOffset", "OutputResultOffset", "SystemBufferOffset", "InstructionDataOffset", "ConvWeightDataOffset",
        "FCWeightDataOffset", "EndOffset",
    ]  # fmt: skip
    for region, following in zip(image.regions, image.regions[1:], strict=False):
        assert region.offset + region.size_bytes == following.offset
        assert region.size_bytes % image.config.bus.region_bytes == 0
        assert region.used_bytes <= region.size_bytes
    assert table.rows[-1][2] == f"Total: {image.size_bytes / 2**20:.1f} MB"


class Counting(Functional):
    """The functional model, which counts the bytes that go in and out."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.read_bytes = self.written_bytes = 0

    def write(self, address: int, data: Values) -> None:
        super().write(address, data)
        self.written_bytes += data.size

    def read(self, address: int, size_bytes: int) -> Values:
        self.read_bytes += size_bytes
        return super().read(address, size_bytes)


@pytest.mark.parametrize("name", ["residual", "fire"])
def test_bytes_for_the_host_are_those_that_a_frame_moves(name: str) -> None:
    program = zoo_programs.quantized(name, "fpga")
    image = compile_program(program, load_config("ecp5-25f"))  # which adds nothing: sums and averages are the host's
    inputs = {n: np.zeros((1, *program.buffers[n].shape[1:]), np.int8) for n in program.inputs}
    machine, only_inputs = Counting(image), Counting(image)
    run_frame(image, machine, inputs)
    for n, values in inputs.items():
        send_input(image, only_inputs, n, values)
    known = schedule(image)
    places = [image.graph.places[n] for n in known.results]
    results_bytes = sum((place.end_word - place.first_word) * place.layout.icp for place in places)
    rows = on_host(image).rows
    assert rows
    figures = [[int(cell.replace(",", "")) for cell in row[2:]] for row in rows]
    assert machine.read_bytes - results_bytes == sum(read for _, read, _ in figures) > 0
    assert machine.written_bytes - only_inputs.written_bytes == sum(written for *_, written in figures)
    steps = [step for action in known.actions if isinstance(action, Compute) for step in action.steps]
    assert sum(program.buffers[n].size for step in steps for n in step.outputs) == sum(n for n, *_ in figures)


def test_a_network_that_needs_no_host_has_no_such_table(image: Image) -> None:
    hosts = [job for job in image.graph.jobs if isinstance(job, HostJob)]
    assert bool(on_host(image).rows) == bool(hosts)


def test_why_a_step_is_the_hosts_is_said() -> None:
    found = estimate(zoo_programs.quantized("residual", "fpga"), config="ecp5-25f")
    assert any(table.title == "On the host" for table in found.tables)
    said = [note for note in found.notes if note.startswith("On the host: ")]
    named = {row.layer for row in found.layers if row.by.startswith("host: ")}
    assert named
    assert all(any(layer in note for note in said) for layer in named)
    assert any("this configuration's vector unit does not add" in note for note in said)


def test_estimate_and_deploy_agree() -> None:
    program = zoo_programs.quantized("residual", "fpga")
    guessed = estimate(program, config="sim-tiny")
    measured = deploy(program, "sim:model", config="sim-tiny")
    assert measured.mismatches == 0
    assert measured.outputs_checked > 0
    assert guessed.unit == measured.cost.unit == "cycles"
    assert guessed.count == sum(row.count for row in guessed.layers)
    assert measured.cost.frames_per_s == pytest.approx(100e6 / measured.count)
    assert {"cycles", "frames_per_s", "memory", "layers", "mismatches", "outputs_checked"} <= set(measured.to_json())


def test_a_session_runs_batches() -> None:
    from bitwright.deploying import job_of, random_inputs
    from bitwright.simulate import reference

    program = zoo_programs.quantized("residual", "fpga")
    inputs = random_inputs(program, 3)
    with find_board("sim:model").session(job_of(program, config="sim-tiny", prune=False)) as session:
        got = session.run(inputs)
    for name, want in reference.run(program, inputs).items():
        np.testing.assert_array_equal(got[name], want)


def test_unknown_boards_name_the_near_ones() -> None:
    with pytest.raises(UnknownTarget, match="sim:model"):
        find_board("sim:modell")
