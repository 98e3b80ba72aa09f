"""Repairs on every network of a pack: before, after, what each step gained, and the seconds it took.

A pack is as for ``networks.py``.  Repairs see the calibration samples and the even rows (0, 2, 4, …) of the validation
samples; every figure is measured on the odd rows, which nothing has learned from.  Each pair of a network and a target
is written to ``--out`` as soon as it is done, and a run that was broken off goes on with the pairs that are missing;
``--mend`` searches that were broken off go on from their last step.  Without a pack, the demo's network is the pack.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import networks
import numpy as np

import bitwright as bw
from bitwright.api import Calibration
from bitwright.errors import BitwrightError

COLUMNS = ("network", "target", "n", "float", "before", "after", "drop", "SQNR before", "SQNR after", "s", "processor s",
           "steps kept")  # fmt: skip


def split(job: networks.Job, folder: Path) -> tuple[Path, Path]:
    """Files with the samples to tune with (calibration and even rows of validation) and those to measure on (odd)."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "-".join(job.val.parts[-3:-1])
    if job.val.suffix == ".csv":
        tune, held = folder / f"{stem}-tune.csv", folder / f"{stem}-held.csv"
        val = _rows(job.val)
        _write(tune, [*_rows(job.calib), *val[0::2]])
        _write(held, val[1::2])
        return tune, held
    tune, held = folder / f"{stem}-tune.npz", folder / f"{stem}-held.npz"
    with np.load(job.calib) as calib, np.load(job.val) as val_arrays:
        names = [name for name in val_arrays.files if name in calib.files]
        np.savez(tune, **{name: np.concatenate([calib[name], val_arrays[name][0::2]]) for name in names})
        np.savez(held, **{name: val_arrays[name][1::2] for name in names})
    return tune, held


def on_other(job: networks.Job, pack: Path | None, use: Mapping[str, str]) -> networks.Job:
    """The job with the data set that ``use`` names for its network."""
    if pack is None or job.name not in use:
        return job
    data = json.loads((pack / "index.json").read_text())["datasets"][use[job.name]]
    return replace(job, calib=pack / data["calib"], val=pack / data["val"])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{**row, "file": str(path.parent / row["file"])} for row in csv.DictReader(file)]


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label"])
        writer.writeheader()
        writer.writerows({"file": row["file"], "label": row["label"]} for row in rows)


def measure(
    job: networks.Job, calibration: Calibration, files: tuple[Path, Path], target: str, args: Any
) -> dict[str, Any]:
    """The network on the target as it is, and mended."""
    tune, held = files
    metric = job.metric if job.metric in ("top1", "miou") else None
    plain = bw.quantize(calibration.model, calibration, target)
    first = bw.validate(plain, held, metric, samples=args.limit).to_json()
    start, busy = time.perf_counter(), time.process_time()
    mended = bw.quantize(
        calibration.model, calibration, target, mend=args.mend, mend_seconds=args.time, max_drop=args.max_drop,
        data=tune, seed=args.seed, progress=_tell if args.verbose else None,
    )  # fmt: skip
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    last = bw.validate(mended, held, metric, samples=args.limit).to_json()
    if args.save is not None:
        args.save.mkdir(parents=True, exist_ok=True)
        mended.save(args.save / f"{job.name}-{Path(target).stem}.bw")
    return {
        "network": job.name,
        "target": target,
        "metric": first["metric"],
        "samples": first["samples"],
        "float": first["float"],
        "before": first["quantized"],
        "after": last["quantized"],
        "sqnr_before": first["output_sqnr_db"],
        "sqnr_after": last["output_sqnr_db"],
        "agreement_before": first["agreement"],
        "agreement_after": last["agreement"],
        "mismatches": first["bit_exact"]["mismatches"] + last["bit_exact"]["mismatches"],
        "bytes": last["learnable_bytes"]["quantized"],
        "seconds": seconds,
        "processor_seconds": busy,
        "mend": args.mend,
        "repairs": list(mended.provenance["repairs"]),
    }


def _tell(done: int, total: int | None, text: str) -> None:
    print(f"\r{text:<100.100}", end="", file=sys.stderr, flush=True)


def drop(row: Mapping[str, Any], side: str = "after") -> float:
    """Points of a hundred that the integers lose."""
    return 100 * (float(row["float"]) - float(row[side]))


def markdown(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    if "error" in row:
        return f"| {row['network']} | {row['target']} | {row['error']} |" + " |" * (len(COLUMNS) - 3)
    kept = ", ".join(step["repair"].split("{")[0] for step in row["repairs"] if step["kept"])
    points = [f"{100 * float(row[side]):.2f}" for side in ("float", "before", "after")]
    noise = [f"{float(row[side]):.1f}" for side in ("sqnr_before", "sqnr_after")]
    cells = (row["network"], row["target"], row["samples"], *points, f"{drop(row):+.2f}", *noise,
             f"{row['seconds']:.0f}", f"{row['processor_seconds']:.0f}", kept)  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def details(row: Mapping[str, Any]) -> str:
    """What each step did, a line each."""
    return "\n".join(f"    {step['sentence']}" for step in row.get("repairs", ()))


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """Mean and largest drop of each target."""
    lines = []
    good = [row for row in rows if "error" not in row]
    for target in dict.fromkeys(row["target"] for row in good):
        own = [row for row in good if row["target"] == target]
        drops, before = [drop(row) for row in own], [drop(row, "before") for row in own]
        lines.append(
            f"{target}: {len(own)} networks, mean drop {statistics.mean(before):.2f} before and "
            f"{statistics.mean(drops):.2f} points after, largest {max(drops):.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and print everything."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("pack", nargs="?", type=Path, help="folder with index.json (default: the demo's network)")
    parser.add_argument("--targets", default="fpga,dpu,mcu-q7", help="comma-separated (default: %(default)s)")
    parser.add_argument("--models", help="only these, comma-separated (default: all classifiers)")
    parser.add_argument("--mend", default="auto", help="repairs (default: %(default)s)")
    parser.add_argument("--time", type=float, default=300.0, metavar="S", help="seconds of each search (default: 300)")
    parser.add_argument("--max-drop", type=float, metavar="P", help="end a search at so few changed answers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, metavar="N", help="calibrate with so many (default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="measure on so many (default: all)")
    parser.add_argument(
        "--out", type=Path, default=Path("build/mend"), help="folder for results (default: %(default)s)"
    )
    parser.add_argument("--use", action="append", default=[], metavar="NETWORK=DATASET",
                        help="another data set of the pack for a network; may be given again")  # fmt: skip
    parser.add_argument("--save", type=Path, help="keep the mended networks in this folder")
    parser.add_argument("--verbose", action="store_true", help="show progress")
    args = parser.parse_args()
    wanted = set(args.models.split(",")) if args.models else None
    rows: list[dict[str, Any]] = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for job in networks.jobs(args.pack):
        if job.name not in wanted if wanted is not None else job.metric != "top1":
            continue
        job = on_other(job, args.pack, dict(text.split("=", 1) for text in args.use))
        calibration: Calibration | None = None
        files = split(job, args.out / "data")
        for target in args.targets.split(","):
            done = args.out / f"{job.name}-{Path(target).stem}.json"
            if done.exists():
                row = json.loads(done.read_text())
            else:
                try:
                    calibration = calibration or bw.calibrate(job.model, files[0], samples=args.samples)
                    row = measure(job, calibration, files, target, args)
                except BitwrightError as error:
                    row = {"network": job.name, "target": target, "error": f"{type(error).__name__}: {error}"}
                part = done.with_suffix(".part")
                part.write_text(json.dumps(row, indent=1))
                part.replace(done)
            rows.append(row)
            print(markdown(row), flush=True)
            print(details(row), file=sys.stderr, flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
