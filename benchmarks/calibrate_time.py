"""How long calibrating takes beside plain float inference, and beside ONNX Runtime's own Entropy calibration.

Plain inference reads and decodes the same samples through the same data source, in batches of the same size, and runs
them through an ordinary session with all cores.  Both sides build their session anew in every turn.
"""

from __future__ import annotations

import importlib
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _measure
import numpy as np
from numpy.typing import NDArray

import bitwright as bw
from bitwright.model import Model, open_samples

BATCH = 16
LIMITS = {"float": 1.5, "entropy": 1 / 20}
LIBRARIES = {
    "ours": ("bitwright.calibrate.kernels", "bitwright.calibrate.observe", "onnxruntime"),
    "entropy": ("onnxruntime.quantization.calibrate",),
}
Feeds = dict[str, NDArray[Any]]


def feeds(model: Model, data: Path, samples: int | None, size: int) -> Iterator[Feeds]:
    """Batches by input name."""
    source = open_samples(model.network, model.contract, data, samples=samples)
    for batch in source.batches(size):
        arrays = batch.x if isinstance(batch.x, dict) else {model.network.inputs[0]: batch.x}
        yield {name: np.ascontiguousarray(x) for name, x in arrays.items()}


def infer(model: Model, data: Path, samples: int | None) -> None:
    """Plain float inference over all samples."""
    session = model.network.session()
    for batch in feeds(model, data, samples, BATCH):
        session.run(None, batch)


class Reader:
    """Samples one by one, as ONNX Runtime's calibration wants them."""

    def __init__(self, batches: Iterator[Feeds]) -> None:
        self._batches = batches

    def get_next(self) -> Feeds | None:
        return next(self._batches, None)

    def __len__(self) -> int:
        return 0


def entropy(model: Model, path: Path, data: Path, samples: int | None) -> None:
    """ONNX Runtime's Entropy calibration of all tensors, as its documentation shows it."""
    import tempfile

    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            path, augmented_model_path=str(Path(folder) / "augmented.onnx"), calibrate_method=CalibrationMethod.Entropy
        )
        calibrator.collect_data(Reader(feeds(model, data, samples, 1)))
        calibrator.compute_data()


def alone(what: str, path: Path, data: Path, samples: int | None) -> dict[str, float]:
    """One calibration in this process, with its peak memory; loading libraries is not counted as time."""
    # Both sides load theirs inside functions: onnxruntime.quantization, and numba with the compiled kernels.
    for module in LIBRARIES[what]:
        importlib.import_module(module)
    model = bw.load(path)
    start = time.perf_counter()
    if what == "ours":
        bw.calibrate(model, data, samples=samples)
    else:
        entropy(model, path, data, samples)
    return {"seconds": time.perf_counter() - start, "megabytes": _measure.peak_megabytes()}


def main() -> None:
    """Measure and print."""
    parser = _measure.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--samples", type=int, default=100, metavar="N", help="samples (default 100)")
    parser.add_argument("--peer", choices=["float", "entropy", "both"], default="both", help="compare with what")
    parser.add_argument("--alone", choices=["ours", "entropy"], help="one calibration here, as JSON")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(alone(args.alone, args.model, args.data, args.samples)))
        return
    model = bw.load(args.model)
    what = f"calibrating {args.samples} samples of {model.name}"
    figures: list[dict[str, Any]] = []
    lines = []
    if args.peer != "entropy":
        pairs = _measure.in_turns(
            args.repeat,
            lambda: bw.calibrate(model, args.data, samples=args.samples),
            lambda: infer(model, args.data, args.samples),
        )
        found = _measure.ratios(pairs)
        figures.append({"benchmark": "calibrate_time", "peer": "float", **found, "at_most": LIMITS["float"]})
        lines.append(
            f"{what}: {found['ratio']:.2f} × plain ONNX Runtime inference by the clock (least {found['ratio_min']:.2f}), "
            f"{found['cpu_ratio']:.2f} × in processor time; {found['seconds']:.2f} s against {found['peer_seconds']:.2f} s; "
            f"promised: at most {LIMITS['float']}"
        )
    if args.peer != "float":
        given = (str(args.model), str(args.data), "--samples", str(args.samples))
        turns = max(1, args.repeat // 2)
        runs = [[_measure.child(*given, "--alone", side) for side in ("ours", "entropy")] for _ in range(turns)]
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in runs)
        ours, peer = runs[0]
        figures.append(
            {"benchmark": "calibrate_time", "peer": "entropy", "ratio": round(ratio, 4), "at_most": LIMITS["entropy"]}
            | {"ours": ours, "theirs": peer}
        )
        lines.append(
            f"{what}: {1 / ratio:.1f} times as fast as ONNX Runtime's Entropy calibration ({ours['seconds']:.2f} s, "
            f"{ours['megabytes']:.0f} MB against {peer['seconds']:.2f} s, {peer['megabytes']:.0f} MB; median of {turns}); "
            "promised: at least 20 on SqueezeNet 1.1"
        )
    _measure.report(args, figures, lines)


if __name__ == "__main__":
    main()
