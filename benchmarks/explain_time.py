"""How long it takes to take a quantized network apart, beside running the float network once for each layer.

Remedies are not tried here: they take what ``--time`` gives them.
"""

from __future__ import annotations

import _measure
import numpy as np

import bitwright as bw
from bitwright.explain.entry import explain
from bitwright.model import open_samples

AT_MOST = 6.0


def main() -> None:
    """Measure and print, a line for each target."""
    parser = _measure.parser(str(__doc__).splitlines()[0], repeat=3, data="digits-val.npz")
    parser.add_argument("--targets", default="fpga,mcu-q7", help="comma-separated (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="samples given (default %(default)s)")
    args = parser.parse_args()
    model = bw.load(args.model)
    calibration = bw.calibrate(model, args.data, samples=50)
    source = open_samples(model.network, model.contract, args.data, samples=args.samples)
    x = np.concatenate([batch.x for batch in source.batches(16)])
    figures, lines = [], []
    for target in args.targets.split(","):
        q = bw.quantize(model, calibration, target)
        found = explain(q, args.data, samples=args.samples, seconds=0)  # compiles and warms up
        layers, measured = len(found.layers), found.totals.samples
        session = model.network.session()
        name = model.network.inputs[0]

        def once_for_each_layer(x=x, session=session, layers=layers, measured=measured, name=name) -> None:  # type: ignore[no-untyped-def]
            for _ in range(layers):
                for start in range(0, measured, 16):
                    session.run(None, {name: x[start : min(start + 16, measured)]})

        turns = [
            (
                _measure.timed(lambda q=q: explain(q, args.data, samples=args.samples, seconds=0)),  # type: ignore[misc]
                _measure.timed(once_for_each_layer),
            )
            for _ in range(args.repeat)
        ]
        seconds = sorted(ours.cpu for ours, _ in turns)[args.repeat // 2]
        ratio = sorted(ours.cpu / max(peer.cpu, 1e-9) for ours, peer in turns)[args.repeat // 2]
        gap = abs((found.totals.modeled_db or 0.0) - (found.totals.output_db or 0.0))
        figures.append(
            {
                "benchmark": "explain_time", "target": target, "layers": layers, "samples": measured, "cpu_seconds": seconds,
                "ratio": ratio, "gap_db": gap, "at_most": AT_MOST,
            }
        )  # fmt: skip
        lines.append(
            f"explaining {model.name} for {target}: {layers} layers on {measured} samples in {seconds:.1f} s of processor "
            f"time, {ratio:.1f} × one float run for each layer; all errors together are {gap:.4f} dB from the integers"
        )
    _measure.report(args, figures, lines)


if __name__ == "__main__":
    main()
