"""The way of a network on a microcontroller, told under NNoM's rules (``mcu-q7``): ranges, divergence, channels, repairs.

NNoM's users report 99.2 % in float, 95.0 with max-min ranges, 97.4 with Kullback-Leibler divergence and 99.0 with a step
per channel.  This tells the same story on a network of yours, and goes on to repairs with one step per tensor, which the
older kernels need.  Repairs see the calibration samples and the even rows of the validation samples, and every line is
measured on the odd rows, as in ``mend.py``; with ``--calib-only`` they see the calibration samples alone, and all validation
samples are measured on.  Where few answers differ from the float network's, which of them were right is chance: the share of
same answers says more than accuracy, and the last column says whether accuracy has changed at all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import mend
import networks

import bitwright as bw
from bitwright.targets.target import load_target


def story(
    job: networks.Job, seconds: float, folder: Path, samples: int | None, *, calib_only: bool
) -> list[dict[str, Any]]:
    """A row for each chapter."""
    tune, held = (job.calib, job.val) if calib_only else mend.split(job, folder)
    model = bw.load(job.model)
    calibration = bw.calibrate(model, tune, samples=samples)
    q7 = load_target("mcu-q7")
    channels = q7.with_overrides({"weight": {"per_channel": True}})
    chapters: list[tuple[str, Any, dict[str, Any]]] = [
        ("max-min", q7, {"scheme": "minmax"}),
        ("KL divergence", q7, {"scheme": "kl"}),
        ("KL divergence, a step per channel", channels, {"scheme": "kl"}),
        ("one step per tensor, repaired", q7, {"mend": "auto", "mend_seconds": seconds, "data": tune}),
        ("a step per channel, repaired", channels, {"mend": "auto", "mend_seconds": seconds, "data": tune}),
    ]
    rows = []
    for name, target, options in chapters:
        start, busy = time.perf_counter(), time.process_time()
        quantized = bw.quantize(model, calibration, target, **options)
        spent = time.perf_counter() - start, time.process_time() - busy
        found = bw.validate(quantized, held, job.metric).to_json()
        rows.append(
            {
                "chapter": name,
                "float": found["float"],
                "quantized": found["quantized"],
                "sqnr": found["output_sqnr_db"],
                "agreement": found["agreement"],
                "verdict": found["verdict"]["kind"],
                "samples": found["samples"],
                "seconds": spent[0],
                "processor_seconds": spent[1],
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("pack", nargs="?", type=Path, help="folder with index.json (default: the demo's network)")
    parser.add_argument("--model", help="its network (default: the first)")
    parser.add_argument("--time", type=float, default=300.0, metavar="S", help="seconds of each search (default: 300)")
    parser.add_argument("--samples", type=int, metavar="N", help="calibrate with so many (default: all)")
    parser.add_argument("--calib-only", action="store_true", help="keep all validation samples for measuring")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    job = next(job for job in networks.jobs(args.pack) if args.model in (None, job.name))
    with tempfile.TemporaryDirectory() as folder:
        rows = story(job, args.time, Path(folder), args.samples, calib_only=args.calib_only)
    if args.json:
        print(json.dumps({"network": job.name, "chapters": rows}, indent=2))
        return
    print(f"{job.name}, {rows[0]['samples']} samples, float {100 * rows[0]['float']:.2f}")
    print("| mcu-q7 | quantized | same answers | SQNR dB | s | verdict |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        shares = f"{100 * row['quantized']:.2f} | {100 * row['agreement']:.2f}"
        print(f"| {row['chapter']} | {shares} | {row['sqnr']:.1f} | {row['seconds']:.0f} | {row['verdict']} |")


if __name__ == "__main__":
    main()
