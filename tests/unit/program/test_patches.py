"""Programs by patches: every integer of every patch is that of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.errors import ExportError
from bitwright.export.c.patching import by_patches, estimated_bytes, grids, parse_patches
from bitwright.program.forms import Axis, Contract
from bitwright.program.patches import Region, cuts, inputs_of, needed, patch, reach, stage_ends
from bitwright.program.program import Program
from bitwright.simulate import reference
from zoo_programs import quantized

NETWORKS = ("residual", "depthwise_relu6", "fire", "pools", "pads")


def batch(program: Program) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    (name,) = program.inputs
    buffer = program.buffers[name]
    return {name: rng.integers(buffer.format.lo, buffer.format.hi, (2, *buffer.shape[1:]), endpoint=True)}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_integer_of_every_patch(network: str) -> None:
    program = quantized(network, "mcu-cmsis-nn")
    inputs = {n: x.astype(program.buffers[n].format.dtype) for n, x in batch(program).items()}
    want = reference.run(program, inputs, keep=True)
    ends = stage_ends(program)
    assert ends
    for end in ends:
        result = program.buffers[program.steps[end].outputs[0]]
        for grid in ((2, 1), (3, 2)):
            if any(parts > size for parts, size in zip(grid, result.shape[2:], strict=True)):
                continue
            made, report = patch(program, end, grid)
            got = reference.run(made, inputs, keep=True)
            for name in set(program.buffers) & set(made.buffers):
                np.testing.assert_array_equal(got[name], want[name])
            stage = program.steps[: end + 1]
            places = [cuts(size, parts) for size, parts in zip(result.shape[2:], grid, strict=True)]
            for i, rows in enumerate(places[0]):
                for j, columns in enumerate(places[1]):
                    for name, region in needed(program, stage, Region(rows, columns)).items():
                        if f"{name}@{i},{j}" in made.buffers:
                            part = want[name][:, :, slice(*region.rows), slice(*region.columns)]
                            np.testing.assert_array_equal(got[f"{name}@{i},{j}"], part)
            assert report.added_macs >= 0
            assert sum(made.macs.values()) == report.macs[1]


def test_patches_that_overlap_compute_more() -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    ends = stage_ends(program)
    shallow, deep = (patch(program, end, (4, 1))[1].added_macs for end in (ends[0], ends[-1]))
    assert 0 <= shallow < deep


def test_impossible_stages() -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    with pytest.raises(ValueError, match="cannot end"):
        patch(program, 10_000, (2, 1))
    with pytest.raises(ValueError, match="do not fit"):
        patch(program, stage_ends(program)[0], (1000, 1))
    assert stage_ends(quantized("mlp", "mcu-cmsis-nn")) == ()
    assert by_patches(quantized("mlp", "mcu-cmsis-nn"), "auto").patched is None


def test_windows_read_their_neighbors() -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    step = next(s for s in program.steps if isinstance(s.form, Contract) and s.form.axes[0].taps == 3)
    height = program.buffers[step.inputs[0]].shape[2]
    region = inputs_of(program, step, Region((2, 4), (0, 1)))[step.inputs[0]]
    axis = step.form.axes[0]  # type: ignore[union-attr]
    start, stop = reach(axis, 2, 4)
    assert region.rows == (max(start, 0), min(stop, height))
    assert reach(Axis(taps=3, stride=2, before=1), 0, 2) == (-1, 4)


@pytest.mark.parametrize("wish", ["auto", "6"])
def test_planning_never_needs_more(wish: str) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    found = by_patches(program, wish, "cortex-m4")
    assert found.arena_bytes[1] <= found.arena_bytes[0]
    if found.patched is None:  # the overlap of so small a picture is more than "auto" may add
        assert wish == "auto"
        assert "No stage" in found.sentence
        return
    assert found.arena_bytes[1] < found.arena_bytes[0]
    rows, columns = found.patched.grid
    assert rows * columns <= (16 if wish == "auto" else 6)
    if wish == "auto":
        assert found.patched.added_macs <= 0.2 * found.patched.macs[0]
    assert f"{rows} x {columns} patches" in found.sentence
    assert by_patches(program, "off").program is program


def test_estimates_are_near_the_plan() -> None:
    from bitwright.export.c.emitter import Emitter

    program = quantized("residual", "mcu-cmsis-nn")
    for end in stage_ends(program)[:3]:
        for grid in list(grids(program, end, 4))[:3]:
            planned = Emitter(patch(program, end, grid)[0], "net", None).plan.bound_bytes
            assert estimated_bytes(program, end, grid) == pytest.approx(planned, rel=0.25)


def test_what_a_user_may_say() -> None:
    assert parse_patches("off") is None
    assert parse_patches("auto") == (16, 0.2)
    assert parse_patches("9") == (9, float("inf"))
    for text in ("0", "65", "many", "-2", "2.5"):
        with pytest.raises(ExportError, match="auto, off or a number"):
            parse_patches(text)
