"""Repairs against those of other tools: the same networks, the same calibration samples, the same rows to measure on.

A pack is as for ``networks.py``.  Every tool, bitwright too, learns from the calibration samples alone; the figures are of
the odd rows of the validation samples, as in ``mend.py``.  The float network's answers are ONNX Runtime's for all.  Each tool
runs in an environment of its own, made with pip when it is first needed, and gets arrays, so that no two decode an image
differently.  Each cell is written to ``--out`` as soon as it is done, and a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mend
import networks
import numpy as np
from numpy.typing import NDArray

import bitwright as bw
from bitwright.data.batch import by_name
from bitwright.mend.bench import sqnr
from bitwright.model import open_samples

HERE = Path(__file__).parent / "peers"
OURS = "bitwright"
TARGETS = {"fpga-unsigned": HERE / "fpga-unsigned.toml"}
"""Targets that are for comparing alone."""


@dataclass(frozen=True)
class Tool:
    """A peer.

    Attributes:
        script: Of ``peers/``.
        packages: What pip installs; nothing where this environment has it.
        ways: Target → ways to go under the same constraint.
    """

    script: str
    packages: tuple[str, ...]
    ways: Mapping[str, tuple[str, ...]]


TOOLS = {
    "brevitas": Tool(
        "brevitas_ptq.py",
        # torchvision's operators load only beside the torch that they were built for.
        ("brevitas==0.13.4", "onnx2torch==1.5.15", "torch==2.15.0", "torchvision==0.29.2", "onnx", "tqdm", "pyyaml"),
        {"fpga": ("po2-w8", "po2-w8+gptq"), "fpga-unsigned": ("po2-w8", "po2-w8+gptq"),
         "generic": ("scale-w8", "scale-w8+gptq"), "fpga-w4": ("po2-w4+gptq",), "generic-w4": ("scale-w4+gptq",)},
    ),
    "quark": Tool(
        "quark_ptq.py", ("amd-quark==0.13", "onnxruntime", "torch"),
        {"fpga": ("xint8", "xint8+cle", "xint8+adaround", "xint8+adaquant")},
    ),
    "esp-ppq": Tool("ppq_ptq.py", ("esp-ppq==1.3.12", "onnxruntime", "torch"), {"fpga": ("s3", "s3-mse", "s3+equalize")}),
    "aimet": Tool(
        "aimet_ptq.py", ("aimet-onnx==2.42.0",),
        {"generic": ("w8", "w8+cle"), "generic-w4": ("w4+seqmse", "w4+cle+seqmse", "w4+adaround")},
    ),
    "onnxruntime": Tool("ort_ptq.py", (), {"generic": ("w8",)}),
}  # fmt: skip


@dataclass(frozen=True)
class Arrays:
    """One network's samples as every tool gets them.

    Attributes:
        model: A copy of the network's file that tools may overwrite.
        name: Of its input.
        calib: ``.npy``.
        held: ``.npy``.
        labels: Of the held samples.
        wanted: The float network's answers, ``[n, classes]``.
        offset: First class in the output.
    """

    model: Path
    name: str
    calib: Path
    held: Path
    labels: NDArray[np.int64]
    wanted: NDArray[np.float32]
    offset: int


def arrays(job: networks.Job, folder: Path, samples: int) -> Arrays:
    """Decode once for all."""
    import onnxruntime as ort

    folder.mkdir(parents=True, exist_ok=True)
    model = bw.load(job.model)
    session = ort.InferenceSession(str(job.model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    _, held = mend.split(job, folder)
    labels: list[int] = []
    for part, data, count in (("calib", job.calib, samples), ("held", held, None)):
        source = open_samples(model.network, model.contract, data, samples=count)
        batches = list(source.batches(16))
        x = np.concatenate([by_name(batch.x, name)[name] for batch in batches]).astype(np.float32)
        if list(x.shape[1:]) != list(session.get_inputs()[0].shape[1:]):
            raise SystemExit(
                f"{job.name}: the file's input is not what bitwright's network takes; no peer can be compared"
            )
        np.save(folder / f"{part}.npy", x)
        if part == "held":
            labels = [int(y) for batch in batches for y in batch.y or ()]
            wanted = np.concatenate([session.run(None, {name: x[i : i + 16]})[0] for i in range(0, len(x), 16)])
    return Arrays(
        job.model, name, folder / "calib.npy", folder / "held.npy", np.asarray(labels),
        wanted.reshape(len(wanted), -1), model.contract.offset,
    )  # fmt: skip


def figures(got: NDArray[Any], data: Arrays) -> dict[str, float]:
    """What is compared, the same for all."""
    got = got.reshape(len(got), -1)
    answers, wanted = got[:, data.offset :].argmax(1), data.wanted[:, data.offset :].argmax(1)
    return {
        "float": float((wanted == data.labels).mean()),
        "quantized": float((answers == data.labels).mean()),
        "agreement": float((answers == wanted).mean()),
        "sqnr": sqnr([data.wanted], [got]),
        "samples": len(got),
    }


def ours(job: networks.Job, data: Arrays, target: str, args: argparse.Namespace) -> dict[str, Any]:
    """Bitwright's cell."""
    model = bw.load(job.model)
    start, busy = time.perf_counter(), time.process_time()
    calibration = bw.calibrate(model, job.calib, samples=args.samples)
    made = bw.quantize(
        model,
        calibration,
        str(TARGETS.get(target, target)),
        mend=args.mend,
        mend_seconds=args.time,
        data=job.calib,
        seed=args.seed,
    )
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    held = np.load(data.held, mmap_mode="r")
    parts = [np.asarray(_first(made.run(np.array(held[i : i + 16])))) for i in range(0, len(held), 16)]
    kept = [step["repair"].split("{")[0] for step in made.provenance["repairs"] if step["kept"]]
    return {"tool": f"bitwright {bw.__version__}", **took, **figures(np.concatenate(parts), data), "kept": kept}


def _first(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def python_of(name: str, args: argparse.Namespace) -> Path:
    """The tool's Python, in an environment that is made when it is missing."""
    given = dict(text.split("=", 1) for text in args.env)
    if name in given:
        return Path(given[name])
    if not TOOLS[name].packages:
        return Path(sys.executable)
    folder = args.cache / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "ready").exists():
        print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *TOOLS[name].packages], check=True)
        (folder / "ready").touch()
    return python


def theirs(name: str, way: str, data: Arrays, args: argparse.Namespace) -> dict[str, Any]:
    """A peer's cell."""
    python = python_of(name, args)
    with tempfile.TemporaryDirectory() as folder:
        model, answers = Path(folder) / "model.onnx", Path(folder) / "answers.npy"
        model.write_bytes(data.model.read_bytes())
        command = [python, HERE / TOOLS[name].script, model, data.name, data.calib, data.held, answers, way]
        try:
            done = subprocess.run(
                [str(part) for part in command], capture_output=True, text=True, timeout=args.limit, cwd=folder,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {args.limit:.0f} s"}
        if done.returncode or not answers.exists():
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            return {"error": f"failed: {last[:200]}"}
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return {**told, **figures(np.load(answers), data)}


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table: a block for each network and target, and how far bitwright is ahead."""
    lines = [
        "| network | target | tool | top-1 | drop | SQNR dB | s | processor s | bitwright is ahead by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = list(rows)
    own = {(row["network"], row["target"]): row for row in rows if row["peer"] == OURS and "error" not in row}
    for row in rows:
        head = f"| {row['network']} | {row['target']} | {row['peer']} {row['way']} | "
        if "error" in row:
            lines.append(f"{head}{row['error']} | | | | | |")
            continue
        us = own.get((row["network"], row["target"]))
        ahead = ""
        if us is not None and row["peer"] != OURS:
            points, decibels = 100 * (us["quantized"] - row["quantized"]), us["sqnr"] - row["sqnr"]
            ahead = f"{points:+.2f} points, {decibels:+.1f} dB, {row['seconds'] / us['seconds']:.2f} × its time"
        lines.append(
            f"{head}{100 * row['quantized']:.2f} of {100 * row['float']:.2f} | "
            f"{100 * (row['float'] - row['quantized']):+.2f} | {row['sqnr']:.1f} | {row['seconds']:.0f} | "
            f"{row['processor_seconds']:.0f} | {ahead} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and print everything."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("pack", type=Path, help="folder with index.json")
    parser.add_argument("--models", help="only these, comma-separated (default: all classifiers)")
    parser.add_argument("--targets", default="fpga,generic,generic-w4,fpga-w4", help="default: %(default)s")
    parser.add_argument("--tools", default=",".join([OURS, *TOOLS]), help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=100, help="calibration samples (default: %(default)s)")
    parser.add_argument("--mend", default="auto", help="bitwright's repairs (default: %(default)s)")
    parser.add_argument("--time", type=float, default=300.0, metavar="S", help="seconds of its search (default: 300)")
    parser.add_argument("--limit", type=float, default=1800.0, metavar="S", help="seconds a peer may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--env", action="append", default=[], metavar="TOOL=PYTHON", help="a tool's own Python")
    parser.add_argument("--use", action="append", default=[], metavar="NETWORK=DATASET", help="as in mend.py")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "bitwright" / "peers")
    parser.add_argument("--out", type=Path, default=Path("build/mend_peers"), help="default: %(default)s")
    args = parser.parse_args()
    args.out = args.out.resolve()  # tools run in folders of their own
    tools = args.tools.split(",")
    wanted = set(args.models.split(",")) if args.models else None
    rows: list[dict[str, Any]] = []
    for job in networks.jobs(args.pack):
        if job.name not in wanted if wanted is not None else job.metric != "top1":
            continue
        job = mend.on_other(job, args.pack, dict(text.split("=", 1) for text in args.use))
        data: Arrays | None = None
        for target in args.targets.split(","):
            ways = [(OURS, args.mend)] if OURS in tools else []
            ways += [(name, way) for name, tool in TOOLS.items() if name in tools for way in tool.ways.get(target, ())]
            for name, way in ways:
                cell = args.out / f"{job.name}-{target}-{name}-{way if name != OURS else 'mend'}.json"
                if not cell.exists():
                    data = data or arrays(job, args.out / "data" / job.name, args.samples)
                    found = ours(job, data, target, args) if name == OURS else theirs(name, way, data, args)
                    row = {"network": job.name, "target": target, "peer": name, "way": way, **found}
                    part = cell.with_suffix(".part")
                    part.write_text(json.dumps(row, indent=1))
                    part.replace(cell)
                    print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
                rows.append(json.loads(cell.read_text()))
        for part in ("calib.npy", "held.npy"):
            (args.out / "data" / job.name / part).unlink(missing_ok=True)
    print(markdown(rows))


if __name__ == "__main__":
    main()
