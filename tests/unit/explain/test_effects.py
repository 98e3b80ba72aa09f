"""Errors taken apart, added to the float network, and brought back together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bitwright
from bitwright.explain.effects import Effects, Meter, batch_size, decibel
from bitwright.explain.finding import Cause
from bitwright.explain.split import Splitter
from bitwright.explain.subject import Subject, subject_of
from bitwright.mend.bench import quantized_inputs
from bitwright.network.injected import injected
from bitwright.simulate.engine import Engine
from zoo import ZOO, feeds

RAW = {"input": {"layout": "raw"}, "output": {"task": "none"}}
NAMES = ("conv_bn_relu", "residual", "fire", "unet", "depthwise_relu6", "silu", "pools", "mlp")


def quantized(name: str, target: str, **options: Any) -> tuple[Subject, Mapping[str, NDArray[Any]]]:
    model = ZOO[name]()
    x = feeds(model, batch=6)
    loaded = bitwright.load(model, input_spec=RAW)
    data = [{key: value[i] for key, value in x.items()} for i in range(6)]
    q = bitwright.quantize(loaded, bitwright.calibrate(loaded, data), target, **options)
    return subject_of(q), x


def measured(subject: Subject, x: Mapping[str, NDArray[Any]]) -> Effects:
    return Meter(Splitter(subject)).measure([x], 6)


@pytest.mark.parametrize("target", ["fpga", "mcu-q7", "generic"])
@pytest.mark.parametrize("name", NAMES)
def test_causes_add_up_to_the_integers(name: str, target: str) -> None:
    subject, x = quantized(name, target)
    program = subject.program
    integers = quantized_inputs(program, subject.network.inputs, x)
    values = {**integers, **Engine(program, keep=True).run(integers)}
    splitter = Splitter(subject)
    for split in (*splitter.inputs(x), *splitter.split(values)):
        got = program.buffers[split.piece.buffer].format.dequantize(values[split.piece.buffer])
        size = np.abs(got).max() + 1e-9
        np.testing.assert_allclose(split.exact + split.total, got, atol=1e-5 * size)


@pytest.mark.parametrize("name", NAMES)
def test_all_errors_in_the_float_network_give_the_integers(name: str) -> None:
    subject, x = quantized(name, "fpga")
    effects = measured(subject, x)
    assert effects.output_db is not None
    assert effects.modeled_db == pytest.approx(effects.output_db, abs=0.01)


def test_batches_add_up() -> None:
    subject, x = quantized("conv_bn_relu", "fpga")
    halves = [{key: value[part] for key, value in x.items()} for part in (slice(0, 3), slice(3, 6))]
    whole, parts = measured(subject, x), Meter(Splitter(subject)).measure(halves, 6)
    assert parts.samples == whole.samples == 6
    assert parts.output_db == pytest.approx(whole.output_db, abs=1e-6)
    for tensor, sums in whole.sums.items():
        assert parts.sums[tensor].injected == pytest.approx(sums.injected, rel=1e-6)


def test_an_error_is_added_where_it_is_meant() -> None:
    subject, x = quantized("conv_bn_relu", "fpga")
    net = subject.network
    tensors = Splitter(subject).tensors
    place = injected(net, tensors)
    plain = place.run(x, {})
    np.testing.assert_allclose(plain[0], net.session().run(None, dict(x))[0], rtol=1e-5, atol=1e-6)
    moved = place.run(x, {net.outputs[0]: np.float32(0.5)})
    np.testing.assert_allclose(moved[0], plain[0] + 0.5, rtol=1e-5, atol=1e-6)
    shifted = place.run({name: value - 1 for name, value in x.items()}, {net.inputs[0]: np.float32(1)})
    np.testing.assert_allclose(shifted[0], plain[0], rtol=1e-4, atol=1e-5)


def test_a_pruned_network_is_explained_as_if_it_were_whole() -> None:
    subject, _ = quantized("depthwise_relu6", "fpga", prune=True)
    whole, _ = quantized("depthwise_relu6", "fpga")
    assert {k: v.shape for k, v in subject.program.buffers.items()} == {
        k: v.shape for k, v in whole.program.buffers.items()
    }


def test_repairs_that_rewrite_the_network_travel_in_the_file(tmp_path: Any) -> None:
    from faults import FAULTS, images

    fault = FAULTS["fold"]()
    q = bitwright.quantize(fault.model, images("calib"), "fpga", mend="equalize", data=images("calib"))
    again = bitwright.Quantized.load(q.save(tmp_path / "x.bw"))
    subject = subject_of(again)
    assert subject.network.fingerprint != again.network.fingerprint
    effects = measured(subject, {"image": np.asarray(images("val")[0][:6, None] / np.float32(255), np.float32)})
    assert effects.output_db is not None
    assert effects.output_db > 20
    assert effects.modeled_db == pytest.approx(effects.output_db, abs=0.01)


def test_causes_that_a_target_rules_out_do_not_appear() -> None:
    subject, x = quantized("conv_bn_relu", "generic")
    causes = {row.cause for row in measured(subject, x).causes()}
    assert subject.schemes.weight.name == "minmax"  # type: ignore[attr-defined]
    assert not causes & {Cause.WEIGHT_RANGE, Cause.FOLD, Cause.SHIFT_LIMITS}


def test_batches_fit_memory() -> None:
    subject, _ = quantized("conv_bn_relu", "fpga")
    assert batch_size(subject, Splitter(subject).tensors) == 16


def test_decibels() -> None:
    assert decibel(100, 1) == pytest.approx(20)
    assert decibel(1, 0) == float("inf")
    assert decibel(0, 1) is None
