"""Every network of a pack through load, calibrate, quantize and validate, as a Markdown table.

A pack is a folder with an ``index.json``: ``models`` (each with ``name``, ``file``, ``dataset``, ``metric``) and
``datasets`` by name (each with ``calib`` and ``val``); an input contract lies beside each model.  Without a pack, the
demo's network is the pack.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _measure

import bitwright as bw
from bitwright.errors import BitwrightError

TARGETS = "generic,cpu,fpga,dpu,mcu-q7"
OWN_METRICS = {"top1", "top5", "miou", "map50", "mse", "auc", "sqnr", "agreement"}
COLUMNS = (
    "network",
    "target",
    "metric",
    "n",
    "float",
    "quantized",
    "agreement",
    "SQNR dB",
    "integer MACs",
    "checked",
    "differ",
)
COLUMNS = (*COLUMNS, "bytes", "× float", "s", "verdict")


@dataclass(frozen=True)
class Job:
    """One network of the pack."""

    name: str
    model: Path
    calib: Path
    val: Path
    metric: str | None


def jobs(pack: Path | None) -> Iterator[Job]:
    """What the pack holds."""
    if pack is None:
        demo = _measure.DEMO
        yield Job("digits", demo / "digits.onnx", demo / "digits-calib.npz", demo / "digits-val.npz", "top1")
        return
    index = json.loads((pack / "index.json").read_text())
    for model in index["models"]:
        data = index["datasets"][model["dataset"]]
        metric = model.get("metric")
        known = metric if metric in OWN_METRICS else None
        yield Job(model["name"], pack / model["file"], pack / data["calib"], pack / data["val"], known)


def named(text: str) -> tuple[str, Any]:
    """``NAME=module:function``."""
    name, _, path = text.partition("=")
    module, _, function = path.partition(":")
    if not function:
        raise argparse.ArgumentTypeError("NAME=module:function is wanted")
    sys.path.insert(0, "")
    return name, getattr(importlib.import_module(module), function)


def rows(job: Job, args: argparse.Namespace, decode: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each target; one row with the error where a network cannot be used."""
    try:
        model = bw.load(job.model)
        calibration = bw.calibrate(model, job.calib, samples=args.samples)
    except BitwrightError as error:
        yield {"network": job.name, "error": str(error)}
        return
    for target in args.targets.split(","):
        start = time.perf_counter()
        try:
            quantized = bw.quantize(model, calibration, target, scheme=args.scheme, data=job.calib)
            result = bw.validate(quantized, job.val, job.metric, samples=args.limit, decode=decode.get(job.name))
        except BitwrightError as error:
            yield {"network": job.name, "target": target, "error": f"{type(error).__name__}: {error}"}
            continue
        seconds = time.perf_counter() - start
        ratio = result.seconds.quantized / result.seconds.float if result.seconds.float else math.nan
        yield {"network": job.name, **result.to_json(), "ratio": ratio, "seconds_in_all": seconds}


def markdown(row: Mapping[str, Any]) -> str:
    """The row as a line of the table."""
    if "error" in row:
        return f"| {row['network']} | {row.get('target', '')} | {row['error']} |" + " |" * (len(COLUMNS) - 3)
    figure = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    cells = (
        row["network"],
        row["target"],
        row["metric"],
        row["samples"],
        figure(row["float"], 4),
        figure(row["quantized"], 4),
        figure(row["agreement"], 4),
        figure(row["output_sqnr_db"], 1),
        figure(row["integer_mac_share"], 3),
        f"{row['bit_exact']['values_checked']:,}",
        row["bit_exact"]["mismatches"],
        f"{row['learnable_bytes']['quantized']:,}",
        figure(row["ratio"], 2),
        figure(row["seconds_in_all"], 1),
        row["verdict"]["kind"],
    )
    return "| " + " | ".join(str(c) for c in cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("pack", nargs="?", type=Path, help="folder with index.json (default: the demo's network)")
    parser.add_argument("--targets", default=TARGETS, help="comma-separated (default: %(default)s)")
    parser.add_argument("--scheme", help="how ranges become formats (default: each target's own)")
    parser.add_argument("--models", help="only these, comma-separated")
    parser.add_argument("--samples", type=int, metavar="N", help="calibrate with so many (default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="validate with so many (default: all)")
    parser.add_argument("--decode", type=named, action="append", default=[], metavar="NAME=module:function",
                        help="how a detector's outputs become boxes; may be given again")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    wanted = set(args.models.split(",")) if args.models else None
    found = []
    if not args.json:
        print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for job in jobs(args.pack):
        if wanted is not None and job.name not in wanted:
            continue
        for row in rows(job, args, dict(args.decode)):
            found.append(row)
            if not args.json:
                print(markdown(row), flush=True)
    if args.json:
        print(json.dumps(found, indent=2))
    if any(row.get("bit_exact", {}).get("mismatches") for row in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
