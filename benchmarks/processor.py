"""The open processor: cycles of LogoNet's layers beside those of a closed one, and of networks of yours.

    python benchmarks/processor.py                                 # the cycle model
    python benchmarks/processor.py --board sim:verilator           # the hardware description, every integer compared
    python benchmarks/processor.py a.bw b.bw --config dlp512

The anchor is the profiler's table that MathWorks prints for ``arria10soc_int8`` at 150 MHz; the shapes of LogoNet's
layers are those of the published network, the weights here are random.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bitwright as bw

# Cycles of a layer and of the maximum after it.
ANCHOR = {
    "conv_1": 3_939_296 + 1_544_371,
    "conv_2": 2_910_747 + 577_654,
    "conv_3": 2_551_829 + 676_548,
    "conv_4": 455_396 + 11_355,
    "fc_1": 536_206,
    "fc_2": 342_688,
    "fc_3": 24_365,
}
ANCHOR_TOTAL = 13_570_364
CONVOLUTIONS = ((3, 96, 5, 1), (96, 128, 3, 1), (128, 384, 3, 1), (384, 128, 3, 2))
DENSE = ((3200, 2048), (2048, 2048), (2048, 32))


def logonet() -> onnx.ModelProto:
    """The layers with random weights."""
    numbers = np.random.default_rng(0)
    nodes, constants, x = [], [], "input"

    def constant(name: str, shape: tuple[int, ...], deviation: float) -> str:
        constants.append(numpy_helper.from_array(numbers.normal(0, deviation, shape).astype(np.float32), name))
        return name

    for at, (inputs, outputs, size, stride) in enumerate(CONVOLUTIONS, 1):
        name = f"conv_{at}"
        weight = constant(f"{name}_Weights", (outputs, inputs, size, size), float(np.sqrt(2 / (inputs * size * size))))
        bias = constant(f"{name}_Bias", (outputs,), 0.05)
        shape = {"kernel_shape": [size, size], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [x, weight, bias], [name], name=name, **shape))
        nodes.append(helper.make_node("Relu", [name], [f"relu_{at}"], name=f"relu_{at}"))
        x = f"maxpool_{at}"
        nodes.append(helper.make_node("MaxPool", [f"relu_{at}"], [x], name=x, kernel_shape=[3, 3], strides=[2, 2]))
    nodes.append(helper.make_node("Flatten", [x], ["flat"], name="flat"))
    x = "flat"
    for at, (inputs, outputs) in enumerate(DENSE, 1):
        name = f"fc_{at}"
        weight = constant(f"{name}_Weights", (outputs, inputs), float(np.sqrt(2 / inputs)))
        bias = constant(f"{name}_Bias", (outputs,), 0.05)
        nodes.append(helper.make_node("Gemm", [x, weight, bias], [name], name=name, transB=1))
        x = name
        if at < len(DENSE):
            x = f"relu_{at + 4}"
            nodes.append(helper.make_node("Relu", [name], [x], name=x))
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "logonet",
        [helper.make_tensor_value_info("input", float32, ["N", 3, 227, 227])],
        [helper.make_tensor_value_info(x, float32, ["N", 32])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def quantized(folder: Path) -> Path:
    """LogoNet's layers in the target's integers."""
    onnx.save(logonet(), folder / "logonet.onnx")
    samples = np.random.default_rng(1).uniform(-1, 1, (4, 3, 227, 227)).astype(np.float32)
    net = bw.load(str(folder / "logonet.onnx"))
    q = bw.quantize(net, bw.calibrate(net, samples), target="fpga")
    return Path(q.save(folder / "logonet.bw"))


def main() -> None:
    """Print a table for each network."""
    made = argparse.ArgumentParser(description="Cycles of networks on the open processor.")
    made.add_argument("networks", nargs="*", type=Path, help=".bw files (default: LogoNet's layers)")
    made.add_argument("--config", default="dlp576", help="configuration (default dlp576)")
    made.add_argument(
        "--board", help="run on this board (sim:model, sim:cxxrtl, sim:verilator); default: only estimate"
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    chosen = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for path in chosen.networks or [quantized(Path(name))]:
            report(path, chosen)


def report(path: Path, chosen: argparse.Namespace) -> None:
    """One network."""
    q = bw.Quantized.load(path)
    if chosen.board:
        measured = bw.deploy(q, chosen.board, config=chosen.config, samples=1)
        cost, checked = measured.cost, f", {measured.mismatches} of {measured.outputs_checked:,} integers differ"
    else:
        cost, checked = bw.estimate(q, config=chosen.config), ""
    if chosen.json:
        print(json.dumps({"network": q.name, **cost.to_json()}))
        return
    print(f"{q.name} on {cost.device}: {cost.count:,} cycles, {cost.frames_per_s:.1f} frames/s, {cost.basis}{checked}")
    anchored = set(ANCHOR) == {row.layer for row in cost.layers}
    for row in cost.layers:
        beside = f"   {ANCHOR[row.layer]:>10,} closed" if anchored else ""
        print(f"  {row.layer[:40]:40s} {row.count:>10,}{beside}   {row.by}")
    if anchored:
        print(
            f"  {'network':40s} {cost.count:>10,}   {ANCHOR_TOTAL:>10,} closed   {ANCHOR_TOTAL / cost.count:.2f} times fewer"
        )


if __name__ == "__main__":
    main()
