"""How long the bit-exact simulation takes beside the float network in ONNX Runtime.

Simulating means the whole way of ``Quantized.run``: real inputs to integers, every integer of the target, integers to
real outputs.  The float network runs in an ordinary session on the same batch with the same number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import _measure
import numpy as np

import bitwright as bw
from bitwright.model import open_samples
from bitwright.simulate.engine import Engine

POWER_OF_TWO = ("fpga", "dpu", "mcu-q7")
TARGETS = (*POWER_OF_TWO, "generic", "cpu")
WITH_INT8, WITHOUT = 0.6, 1.5


@dataclass(frozen=True)
class Setting:
    """How both sides run."""

    batch: int
    threads: int | None
    int8: bool
    repeat: int


def main() -> None:
    """Measure and print, a line for each target."""
    parser = _measure.parser(str(__doc__).splitlines()[0], repeat=9)
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="samples per run (default 16)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of both sides (default: all cores)")
    parser.add_argument("--no-int8", action="store_true", help="as on a machine without VNNI")
    args = parser.parse_args()
    model = bw.load(args.model)
    calibration = bw.calibrate(model, args.data, samples=50)
    setting = Setting(args.batch, args.threads, _measure.vnni() and not args.no_int8, args.repeat)
    figures, lines = [], []
    for target in args.targets.split(","):
        found = measure(model, args.data, bw.quantize(model, calibration, target), setting)
        limit = (WITH_INT8 if setting.int8 else WITHOUT) if target in POWER_OF_TWO else None
        figures.append({"benchmark": "simulate_time", "target": target, "at_most": limit, **found})
        lines.append(
            f"simulating {model.name} for {target}, {'int8 instructions' if setting.int8 else 'no int8 instructions'}, batch "
            f"{found['batch']}: {found['ratio']:.2f} × the float network by the clock (least {found['ratio_min']:.2f}), "
            f"{found['cpu_ratio']:.2f} × in processor time" + (f"; promised: at most {limit}" if limit else "")
        )
    _measure.report(args, figures, lines)


def measure(model: bw.Model, data: Path, quantized: bw.Quantized, setting: Setting) -> dict[str, object]:
    """Figures of one target."""
    net = model.network
    size = setting.batch if net.batchable else 1
    batch = next(open_samples(net, model.contract, data).batches(size))
    arrays = batch.x if isinstance(batch.x, dict) else {net.inputs[0]: batch.x}
    x = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    session = net.session(threads=setting.threads)
    engine = Engine(quantized.program, int8=setting.int8, threads=setting.threads)
    pairs = _measure.in_turns(
        setting.repeat,
        lambda: quantized.reals(engine.run(quantized.integers(x))),
        lambda: session.run(None, x),
        burst=4,
    )
    return {"int8": setting.int8, "batch": size, "engine": engine.name, **_measure.ratios(pairs)}


if __name__ == "__main__":
    main()
