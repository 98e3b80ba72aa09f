"""The most memory that calibrating takes, for few samples and for many: it must not grow."""

from __future__ import annotations

import json

import _measure

import bitwright as bw

FEW, MANY = 50, 400


def main() -> None:
    """Measure and print."""
    parser = _measure.parser(str(__doc__), repeat=3, data="digits-val.npz")
    parser.add_argument("--alone", type=int, metavar="SAMPLES", help="one calibration here, as JSON")
    args = parser.parse_args()
    if args.alone:
        result = bw.calibrate(bw.load(args.model), args.data, samples=args.alone)
        print(json.dumps({"samples": result.statistics.samples, "megabytes": _measure.peak_megabytes()}))
        return
    few, many = (
        min((_measure.child(str(args.model), str(args.data), "--alone", str(n)) for _ in range(args.repeat)), key=_size)
        for n in (FEW, MANY)
    )
    ratio = many["megabytes"] / few["megabytes"]
    figures = {"benchmark": "calibrate_memory", "ratio": round(ratio, 3), "few": few, "many": many}
    line = (
        f"calibrating {args.model.stem}: {few['megabytes']:.0f} MB for {few['samples']} samples, "
        f"{many['megabytes']:.0f} MB for {many['samples']}: {ratio:.2f} ×; promised: does not grow"
    )
    _measure.report(args, figures, [line])


def _size(run: dict[str, float]) -> float:
    return run["megabytes"]


if __name__ == "__main__":
    main()
