"""How long a network takes as compiled C for this machine (``bitwright.compile_c``), beside ONNX Runtime's own int8 and float.

The peer is the network quantized by ONNX Runtime's tool (``quantize_static``, QDQ, uint8 activations, int8 weights per
channel).  One thread, one sample at a time; the three run by turns.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import _measure
import numpy as np

import bitwright as bw
from bitwright.model import open_samples

CALIBRATE = 16


def quantized_by_onnx_runtime(path: Path, samples: list[dict[str, np.ndarray]]) -> Path:
    """The network as ONNX Runtime quantizes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    target = path.with_name("int8.onnx")
    quantize_static(
        str(path),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return target


def session(path: Path) -> Any:
    """ONNX Runtime with one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure and print."""
    parser = _measure.parser(str(__doc__).splitlines()[0], repeat=60)
    parser.add_argument("--target", default="cpu", help="of the compiled network (default: %(default)s)")
    parser.add_argument("--core", default="this", help="whose instructions (default: the best that this machine has)")
    args = parser.parse_args()
    q = bw.quantize(bw.load(args.model), args.data, target=args.target, samples=CALIBRATE)
    compiled = bw.compile_c(q, core=args.core)
    name, source = q.input_tensors[0], open_samples(q.network, q.contract, args.data, samples=CALIBRATE)
    real = np.concatenate([b.x[name] if isinstance(b.x, dict) else b.x for b in source.batches(8)]).astype(np.float32)
    integers = q.integers(real)
    want, got = q.engine.run(integers), compiled.integers(integers)
    differing = sum(int((want[n] != got[n]).sum()) for n in want)
    one = {n: x[:1] for n, x in integers.items()}
    sample = {name: real[:1]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        path.write_bytes(q.network.serialize())
        peer = quantized_by_onnx_runtime(path, [{name: real[i : i + 1]} for i in range(len(real))])
        plain, int8 = session(path), session(peer)
        sides = {
            "compiled": lambda: compiled.integers(one),
            "int8": lambda: int8.run(None, sample),
            "float": lambda: plain.run(None, sample),
        }
        for run in sides.values():
            run()
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(args.repeat):
            for side, run in sides.items():
                start = perf_counter()
                run()
                times[side].append(perf_counter() - start)
    middle = {side: statistics.median(values) * 1e3 for side, values in times.items()}
    ratio = middle["compiled"] / middle["int8"]
    figures = {
        "benchmark": "compiled_time",
        "network": q.name,
        "core": compiled.core,
        "milliseconds": middle,
        "ratio": ratio,
        "integers_differing": differing,
    }
    line = (
        f"{q.name} on {compiled.core}: compiled {middle['compiled']:.3f} ms, ONNX Runtime int8 {middle['int8']:.3f} ms, "
        f"float {middle['float']:.3f} ms: {ratio:.2f} x its int8; {differing} integers differ"
    )
    _measure.report(args, figures, [line])


if __name__ == "__main__":
    main()
