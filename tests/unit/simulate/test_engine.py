from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

import bitwright as bw
from bitwright.errors import Mismatch
from bitwright.program.program import Program
from bitwright.simulate import reference
from bitwright.simulate.engine import Agreement, Engine, compare
from bitwright.simulate.probe import int8_convolution_is_exact
from bitwright.targets.target import list_targets
from zoo import ZOO, feeds

TARGETS = list_targets()
VNNI = int8_convolution_is_exact()
WAYS = [False, True] if VNNI else [False]


@cache
def calibrated(name: str) -> tuple[bw.Model, bw.Calibration]:
    model = bw.load(ZOO[name]())
    x = feeds(ZOO[name](), batch=8, seed=1)
    return model, bw.calibrate(model, x if len(x) > 1 else next(iter(x.values())))


@cache
def quantized(name: str, target: str) -> bw.Quantized:
    model, calibration = calibrated(name)
    return bw.quantize(model, calibration, target)


def inputs(name: str, q: bw.Quantized, batch: int) -> dict[str, NDArray[np.integer]]:
    """Random inputs, some of them far outside what was calibrated, so that everything saturates somewhere."""
    x = feeds(ZOO[name](), batch=batch, seed=2)
    return q.integers(
        {k: v * np.linspace(0.5, 4, len(v), dtype=np.float32).reshape(-1, *[1] * (v.ndim - 1)) for k, v in x.items()}
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ZOO)
def test_every_integer_is_the_references(name: str, target: str) -> None:
    q = quantized(name, target)
    codes = inputs(name, q, 3)
    for int8 in WAYS:
        agreement = compare(q.program, codes, Engine(q.program, keep=True, int8=int8).run(codes))
        assert agreement.values_checked
        agreement.require(f"int8={int8}")


@pytest.mark.parametrize("target", ["fpga", "dpu", "mcu-q7", "generic"])
@pytest.mark.parametrize("name", ZOO)
def test_the_fused_engine_gives_the_same_outputs(name: str, target: str) -> None:
    """Without the intermediate buffers ONNX Runtime may merge more, and the writer leaves out more."""
    q = quantized(name, target)
    for batch in (1, 5):
        codes = inputs(name, q, batch)
        wanted = reference.run(q.program, codes)
        for int8 in WAYS:
            got = Engine(q.program, int8=int8).run(codes)
            assert set(got) == set(wanted) == set(q.program.outputs)
            for buffer in wanted:
                assert got[buffer].dtype == wanted[buffer].dtype
                assert (got[buffer] == wanted[buffer]).all(), (int8, batch, buffer)


def test_the_ways_are_said() -> None:
    q = quantized("conv_bn_relu", "fpga")
    assert set(Engine(q.program, int8=False).ways) == {step.name for step in q.program.steps}
    assert Engine(q.program, int8=False).name == "onnx-float32"
    if VNNI:
        assert Engine(q.program, int8=True).name == "onnx-int8"


def test_no_samples_give_no_outputs() -> None:
    q = quantized("conv_bn_relu", "fpga")
    codes = inputs("conv_bn_relu", q, 1)
    got = q.engine.run({k: v[:0] for k, v in codes.items()})
    assert all(len(v) == 0 for v in got.values())


def test_a_difference_is_found_and_named() -> None:
    program: Program = quantized("mlp", "fpga").program
    codes = inputs("mlp", quantized("mlp", "fpga"), 2)
    values = Engine(program, keep=True).run(codes)
    name = program.steps[0].outputs[0]
    wrong = values[name].copy()
    wrong[1, 3] += 1 if wrong[1, 3] < 127 else -1
    agreement = compare(program, codes, values | {name: wrong})
    assert agreement.mismatches == 1
    assert agreement.first is not None
    assert agreement.first[:2] == (name, (1, 3))
    with pytest.raises(Mismatch, match="This is a bug in bitwright"):
        agreement.require("The engine")
    Agreement(values_checked=5, mismatches=0).require("The engine")
