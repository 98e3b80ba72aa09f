"""The ``torch`` exporter: the target's integers in PyTorch, gradients to every weight, and the way back."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import bitwright as bw
from bitwright.errors import BadModelFile, ExportError, NonFinite, ToolMissing
from bitwright.export.running import make_codes, random_samples
from bitwright.export.torch_module import EXPORTER, RUNTIME
from bitwright.quantized import Quantized
from exports import calibrated, quantized, samples
from zoo import ZOO


@contextmanager
def opened(folder: Path) -> Iterator[ModuleType]:
    """The module of a folder, as a user imports it."""
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("model", folder / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("fake_quant", None)


def equal(q: Quantized, net: torch.nn.Module, x: np.ndarray) -> int:
    """How many outputs differ from the simulator's dequantized values."""
    with torch.no_grad():
        got: Any = net(torch.from_numpy(x))
    expected: Any = q.run(x)
    got, expected = [got] if torch.is_tensor(got) else got, [expected] if isinstance(expected, np.ndarray) else expected
    return sum(int(np.count_nonzero(a.numpy() != b.astype(np.float32))) for a, b in zip(got, expected, strict=True))


OTHERS = (("residual", "dpu"), ("silu", "mcu-cmsis-nn"), ("fire", "mcu-q7"), ("depthwise_relu6", "cpu"), ("unet", "ncnn"),
          ("pools", "fpga"), ("transposed_grouped", "gpu"), ("resize", "mcu-cmsis-nn-single"))  # fmt: skip


@pytest.mark.parametrize(("network", "target"), [*((name, "generic") for name in ZOO if name != "attention"), *OTHERS])
def test_forward_is_the_simulator(network: str, target: str, tmp_path: Path) -> None:
    q = quantized(network, target)
    EXPORTER.export(q, tmp_path)
    with opened(tmp_path) as module:
        net = module.load()
        for x in (samples(network, 4)[0], random_samples(q, 4)[0]):
            assert equal(q, net, x) == 0
        assert equal(q, net.double(), x) == 0  # scales keep their digits whatever the module is cast to


@pytest.mark.parametrize("target", ["dpu", "mcu-cmsis-nn", "cpu"])
def test_training_and_the_way_back(target: str, tmp_path: Path) -> None:
    """A few steps lower the error; the learned weights, back in bitwright, compute the module's integers."""
    q = quantized("conv_bn_relu", target)
    q.save(tmp_path / "net.bw")
    q.export("torch", tmp_path / "qat")
    torch.manual_seed(0)
    x = torch.from_numpy(samples("conv_bn_relu", 16)[0])
    with opened(tmp_path / "qat") as module:
        net = module.load()
        wanted = net(x).detach().flip(0) * 0.5  # other answers than it gives
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        losses = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = (net(x) - wanted).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]
        module.save(net, str(tmp_path / "learned.safetensors"))
        back = bw.learned(tmp_path / "net.bw", tmp_path / "learned.safetensors")
        for values in (x.numpy(), random_samples(q, 8)[0]):
            assert equal(back, net, values) == 0
            assert back.check(values).mismatches == 0
    assert back.provenance["learned"]["file"] == "learned.safetensors"
    assert "learned in PyTorch" in back.provenance["notes"][-1]
    assert {b.tensor: b.format for b in back.program.buffers.values()} == {
        b.tensor: b.format for b in q.program.buffers.values()
    }
    # And once more from there: export, load, the same numbers.
    back.export("torch", tmp_path / "again")
    with opened(tmp_path / "again") as module:
        assert equal(back, module.load(), x.numpy()) == 0


def test_back_without_training_is_the_same_program(tmp_path: Path) -> None:
    from bitwright.export.verify import program_sha256

    q = quantized("residual", "dpu")
    q.export("torch", tmp_path)
    same = bw.learned(q, tmp_path / "weights.safetensors")
    assert program_sha256(same) == program_sha256(q)


def test_fast_values_are_near(tmp_path: Path) -> None:
    """With ``exact`` off, values are those of rounded real arithmetic."""
    q = quantized("residual", "generic")
    q.export("torch", tmp_path)
    x = torch.from_numpy(samples("residual", 4)[0])
    with opened(tmp_path) as module:
        net = module.load()
        whole = net(x)
        sys.modules["fake_quant"].exact(False)
        fast = net(x)
        fast.sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    step = float(q.program.buffers[q.program.outputs[0]].format.scale)
    steps = ((whole - fast).abs() / step).round()
    assert steps.max() <= 6
    assert (steps > 0).float().mean() < 0.2


def test_gradients_are_those_of_the_float_network(tmp_path: Path) -> None:
    """The gradient of every parameter points where that of the float network does."""
    from torch import nn

    from bitwright.api import calibrate, quantize
    from zoo import Graph

    g = Graph("dense")
    hidden = g.relu(g.gemm(g.input("x", ["N", 12]), 12, 16))
    model = g.build(g.gemm(hidden, 16, 5))
    x = np.random.default_rng(4).normal(size=(64, 12)).astype(np.float32)
    collected = calibrate(model, [{"x": row} for row in x])
    quantize(collected.model, collected, "generic").export("torch", tmp_path)
    with opened(tmp_path) as module:
        net = module.load()
        layers = [m for m in net.modules() if hasattr(m, "weight_scale")]
        plain = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
        for ours, theirs in zip(layers, (plain[0], plain[2]), strict=True):
            theirs.load_state_dict({"weight": ours.weight.detach(), "bias": ours.bias.detach()})
        for one in (net, plain):
            one(torch.from_numpy(x)).square().mean().backward()
        for ours, theirs in zip(layers, (plain[0], plain[2]), strict=True):
            for name in ("weight", "bias"):
                a, b = getattr(ours, name).grad.flatten(), getattr(theirs, name).grad.flatten()
                assert torch.cosine_similarity(a, b, dim=0) > 0.95
                assert 0.9 < a.norm() / b.norm() < 1.1


def test_nothing_in_the_folder_is_pickled_or_machine_specific(tmp_path: Path) -> None:
    q = quantized("fire", "generic")
    report = EXPORTER.export(q, tmp_path / "a")
    again = EXPORTER.export(q, tmp_path / "b")
    assert sorted(p.name for p in report.files) == ["fake_quant.py", "formats.json", "model.py", "weights.safetensors"]
    for first, second in zip(report.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert b"pickle" not in first.read_bytes().replace(b"Nothing pickled", b"")
    assert report.files[1].read_bytes() == RUNTIME.read_bytes()
    found = json.loads(report.files[3].read_text("utf-8"))
    assert set(found["layers"]) == {step.layer for step, _ in q.program.contracts()}


def test_names_of_layers_become_names_of_attributes(tmp_path: Path) -> None:
    """Dots, keywords and clashes."""
    import onnx

    from bitwright.api import calibrate, quantize
    from zoo import Graph

    g = Graph("names")
    x = g.input("x", ["N", 4])
    for name in ("layer1.0.fc", "layer1/0/fc", "lambda", "forward", "0"):
        x = g.node("Gemm", x, g.weight(4, 4), transB=1, name=name)
    model: onnx.ModelProto = g.build(x)
    collected = calibrate(model, [{"x": np.ones(4, np.float32) * i} for i in range(4)])
    q = quantize(collected.model, collected, "generic")
    q.export("torch", tmp_path)
    with opened(tmp_path) as module:
        net = module.load()
        assert len(list(net.parameters())) == 5
        assert equal(q, net, np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)) == 0


# ---------------------------------------------------------------- refusals


def test_float_pieces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"'matmul14'.*stays in float"):
        EXPORTER.export(quantized("attention", "generic"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_changed_parameter_is_seen(tmp_path: Path) -> None:
    q = quantized("residual", "dpu")
    report = EXPORTER.export(q, tmp_path)
    tensors = load_file(report.files[2])
    name = next(n for n in tensors if n.endswith(".weight"))
    tensors[name] = np.roll(tensors[name], 1)
    save_file(tensors, report.files[2])
    found = EXPORTER.read(q, report, make_codes(q, random_samples(q, 2), "random"))
    assert found.differing > 0


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    q = quantized("residual", "dpu")
    report = EXPORTER.export(q, tmp_path / "a")
    with pytest.raises(BadModelFile, match=r"no \.safetensors file"):
        bw.learned(q, tmp_path / "nothing.safetensors")
    other = quantized("residual", "generic")
    with pytest.raises(BadModelFile, match="not saved by the module of this network"):
        bw.learned(other, report.files[2])
    tensors = load_file(report.files[2])
    metadata = {"program_sha256": json.loads(report.files[3].read_text("utf-8"))["program_sha256"]}
    name = next(n for n in tensors if n.endswith(".weight"))
    save_file({**tensors, name: tensors[name][:1]}, tmp_path / "short.safetensors", metadata)
    with pytest.raises(BadModelFile, match="has the shape"):
        bw.learned(q, tmp_path / "short.safetensors")
    save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "less.safetensors", metadata)
    with pytest.raises(BadModelFile, match="is missing"):
        bw.learned(q, tmp_path / "less.safetensors")
    broken = tensors[name].copy()
    broken.flat[0] = np.nan
    save_file({**tensors, name: broken}, tmp_path / "nan.safetensors", metadata)
    with pytest.raises(NonFinite, match="diverged"):
        bw.learned(q, tmp_path / "nan.safetensors")


def test_pruned_programs_are_refused(tmp_path: Path) -> None:
    from bitwright.api import calibrate, quantize
    from zoo import Graph

    g = Graph("dead")
    x = g.input("x", ["N", 3, 6, 6])
    weights = g.random.normal(size=(6, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    bias = np.asarray([0.1, 0.2, -1.0, 0.3, 0.1, 0.2], np.float32)
    x = g.node("Conv", x, g.constant(weights), g.constant(bias), kernel_shape=[3, 3])
    model = g.build(g.conv(g.relu(x), 6, 4, 1))
    collected = calibrate(
        model, [{"x": np.random.default_rng(i).normal(size=(3, 6, 6)).astype(np.float32)} for i in range(4)]
    )
    q = quantize(collected.model, collected, "generic", prune=True)
    with pytest.raises(ExportError, match="channels taken out"):
        EXPORTER.export(q, tmp_path)


@pytest.mark.parametrize("repair", ["reconstruct", "correct-bias", "equalize"])
def test_repaired_networks_keep_their_integers(repair: str, tmp_path: Path) -> None:
    """Training starts from the integers that a repair chose, and they come back."""
    from bitwright.api import quantize

    collected = calibrated("conv_bn_relu")
    data = [{"x": x} for x in samples("conv_bn_relu", 8)[0]]
    q = quantize(collected.model, collected, "dpu", mend=repair, data=data, mend_seconds=20)
    report = EXPORTER.export(q, tmp_path)
    with opened(tmp_path) as module:
        assert equal(q, module.load(), random_samples(q, 4)[0]) == 0
    assert equal_programs(bw.learned(q, report.files[2]), q)


def equal_programs(a: Quantized, b: Quantized) -> bool:
    return all(np.array_equal(a.program.tensors[k], v) for k, v in b.program.tensors.items())


def test_without_torch_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = quantized("mlp", "generic")
    report = EXPORTER.export(q, tmp_path)
    monkeypatch.setattr("bitwright.export.torch_module.PROBE", "raise ModuleNotFoundError(\"No module named 'torch'\")")
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[torch\]'"):
        EXPORTER.read(q, report, make_codes(q, random_samples(q, 1), "random"))
    monkeypatch.setattr("bitwright.export.torch_module.PROBE", "raise ValueError('odd')")
    with pytest.raises(ExportError, match="does not run: ValueError: odd"):
        EXPORTER.read(q, report, make_codes(q, random_samples(q, 1), "random"))
