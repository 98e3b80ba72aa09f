"""The most memory that loading a network of more than 2 GB takes, beside ``onnx.load``.

The network is made in a temporary folder: a few dense layers whose weights lie in a sparse file beside the model, so
that it costs no disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import _measure

LAYERS, WIDTH = 9, 8192
LIMIT = 200


def write(folder: Path) -> Path:
    """A network of ``LAYERS`` dense layers of ``WIDTH`` × ``WIDTH`` float32 weights, 256 MiB each."""
    import onnx
    from onnx import TensorProto, helper

    size = 4 * WIDTH * WIDTH
    weights, nodes = [], []
    for i in range(LAYERS):
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", str(i * size)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
        nodes.append(helper.make_node("Gemm", ["x" if i == 0 else f"t{i}", f"w{i}"], [f"t{i + 1}"], name=f"dense{i}"))
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])
    graph = helper.make_graph(nodes, "large", [info("x")], [info(f"t{LAYERS}")], weights)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(LAYERS * size)
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    _measure.common(parser, repeat=1)
    parser.add_argument("--alone", nargs=2, metavar=("SIDE", "MODEL"), help="one load here, as JSON")
    args = parser.parse_args()
    if args.alone:
        side, path = args.alone
        if side == "ours":
            import bitwright as bw

            network = bw.load(path).network
            assert len(network.layers()) == LAYERS
        else:
            import onnx

            onnx.load(path)
        print(json.dumps({"megabytes": _measure.peak_megabytes()}))
        return
    with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
        path = write(Path(folder))
        size = (Path(folder) / "weights.bin").stat().st_size / (1 << 20)
        ours, peer = (
            min(_measure.child("--alone", side, str(path))["megabytes"] for _ in range(args.repeat))
            for side in ("ours", "onnx")
        )
    figures = {"benchmark": "load_memory", "megabytes": ours, "peer_megabytes": peer, "ratio": round(ours / peer, 4)}
    line = (
        f"loading a network of {size:.0f} MB: {ours:.0f} MB, {ours / peer:.2f} × onnx.load ({peer:.0f} MB); promised: under "
        f"{LIMIT} MB"
    )
    _measure.report(args, figures | {"under_megabytes": LIMIT}, [line])


if __name__ == "__main__":
    main()
