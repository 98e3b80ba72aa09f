"""What a network costs on the processor: cycles of every layer, the memory map, the profiler's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitwright.fpga.cycles import Timing
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import ConvJob, HostJob, VecJob
from bitwright.fpga.resources import in_words, resources
from bitwright.fpga.schedule import Compute, Fetch, Send, schedule
from bitwright.measured import Basis, Cost, CostTable, LayerCost

MIB = 1 << 20
WAITS = {
    "array": "the array",
    "vector unit": "the vector unit",
    "weights": "weights",
    "input": "memory",
    "results": "memory, which takes results",
    "latency": "the layer before it",
}
"""What ``LayerCycles.bound`` says of a layer that could be faster."""
NAMED = 4
"""Layers that a reason for the host names."""


@dataclass(frozen=True)
class Ends:
    """When each job's last result was stored, by segment.

    Attributes:
        segments: For each segment ``(cycles, {job: end})``.
    """

    segments: tuple[tuple[int, dict[int, int]], ...]

    def layers(self) -> dict[int, int]:
        """Cycles of each job: from the end of the one before."""
        found: dict[int, int] = {}
        for total, ends in self.segments:
            before = 0
            for number in sorted(ends):
                found[number] = ends[number] - before
                before = ends[number]
            if ends:
                found[max(ends)] += total - before
        return found

    @property
    def cycles(self) -> int:
        """Of all segments."""
        return sum(total for total, _ in self.segments)


def model_ends(timing: Timing, image: Image) -> Ends:
    """The cycle model's ends."""
    rows = {row.stamp: row for row in timing.layers}
    segments: list[tuple[int, dict[int, int]]] = []
    base = 0
    for part in image.parts:
        if isinstance(part, Segment):
            ends = {number: rows[number].end - base for number in part.jobs}
            total = timing.segments[len(segments)]
            segments.append((total, ends))
            base += total
    return Ends(tuple(segments))


@dataclass(frozen=True)
class Batch:
    """A program for several frames.

    Attributes:
        frames: How many.
        cycles: Of all of them.
    """

    frames: int
    cycles: int


def cost(
    image: Image, ends: Ends, timing: Timing, *, device: str, basis: Basis, clock_mhz: float | None,
    batch: Batch | None = None,
) -> Cost:  # fmt: skip
    """Cycles in the words that all devices share.

    Args:
        image: The compiled network.
        ends: When layers ended, by the hardware or the model.
        timing: The model's times, which say what a layer waits for.
        device: Name for the reader.
        basis: ``measured`` or ``estimated``.
        clock_mhz: Clock; the configuration's by default.
        batch: What several frames in one program take, if that was found out.
    """
    clock_hz = image.config.clock_hz if clock_mhz is None else round(clock_mhz * 1e6)
    cycles = ends.layers()
    bound = {row.stamp: row for row in timing.layers}
    rows: list[LayerCost] = []
    for number, job in enumerate(image.graph.jobs):
        if isinstance(job, HostJob):
            rows.append(LayerCost(step=job.step.name, layer=job.step.layer, op=job.step.op, by=f"host: {job.reason}",
                                  count=0, macs=job.macs))  # fmt: skip
            continue
        row = bound[number]
        by = "array" if isinstance(job, ConvJob) else "vector unit"
        waits = "" if row.bound == by else f", waits for {WAITS[row.bound]}"
        rows.append(
            LayerCost(
                step=job.name,
                layer=job.layer,
                op=_op(image, job),
                by=f"{by}{waits}",
                count=cycles[number],
                macs=job.macs,
                constant_bytes=job.weights.size if job.weights is not None and job.macs else 0,
            )
        )
    hosts = [job for job in image.graph.jobs if isinstance(job, HostJob)]
    notes = []
    needed = resources(image.config)
    if hosts:
        share = sum(job.macs for job in hosts) / max(sum(image.program.macs.values()), 1)
        notes.append(
            f"{len(hosts)} of {len(image.graph.jobs)} steps run on the host, with {100 * share:.1f} % of the "
            "multiply-accumulates; their time is not counted."
        )
        notes += _reasons(hosts)
    return Cost(
        device=device,
        unit="cycles",
        count=ends.cycles,
        basis=basis,
        frames_per_s=clock_hz / ends.cycles if ends.cycles else None,
        frames_basis=f"at {clock_hz / 1e6:g} MHz, one frame after the other",
        memory={"external_bytes": image.size_bytes},
        limits={"external_bytes": image.config.bus.memory_bytes},
        layers=rows,
        notes=tuple(notes),
        tables=(
            profiler(image, ends, clock_hz, batch),
            stalls(image, cycles, timing),
            *([on_host(image)] if hosts else []),
            memory_map(image),
        ),
        resources={n: getattr(needed, n) for n in ("dsp", "lut", "ff", "bram")} | {"ram_bytes": needed.ram_bytes},
        resources_basis=in_words(needed),
        throughput_per_s=clock_hz * batch.frames / batch.cycles if batch is not None else None,
        throughput_basis=f"with {batch.frames} frames in one program, {batch.cycles:,} cycles"
        if batch is not None
        else "",
    )


def _op(image: Image, job: ConvJob | VecJob) -> str:
    steps = {step.name: step for step in image.program.steps}
    return " + ".join(dict.fromkeys(steps[name].op for name in job.steps))


def memory_map(image: Image) -> CostTable:
    """The regions of external memory, as the compilers of such processors print them."""
    granule = image.config.bus.region_bytes
    unit, name = (MIB, "MB") if granule >= MIB else (1024, "KB")
    rows = [(r.name, f"0x{r.offset:08x}", f"{r.size_bytes / unit:.1f} {name}") for r in image.regions[:-1]]
    end = image.regions[-1]
    rows.append((end.name, f"0x{end.offset:08x}", f"Total: {end.offset / unit:.1f} {name}"))
    return CostTable(title="Memory map", columns=("offset_name", "offset_address", "allocated_space"), rows=tuple(rows))


def stalls(image: Image, cycles: Mapping[int, int], timing: Timing) -> CostTable:
    """For how much of a layer's time each part of the processor works, and what it waits for."""
    rows = []
    for row in timing.layers:
        job, count = image.graph.jobs[row.stamp], max(cycles[row.stamp], 1)
        assert not isinstance(job, HostJob)
        parts = (row.conv, row.vec, row.read, row.weights, row.write)
        busy = [f"{min(100 * part / count, 100):.0f} %" if part else "" for part in parts]
        rows.append((job.layer, f"{cycles[row.stamp]}", *busy, row.bound))
    host = [job for job in image.graph.jobs if isinstance(job, HostJob)]
    rows += [(job.step.layer, "", "", "", "", "", "", "host") for job in host]
    return CostTable(
        title="Where the cycles go",
        columns=("", "cycles", "array", "vector unit", "loads input", "loads weights", "stores", "bound by"),
        rows=tuple(rows),
        note="* Parts work at the same time, also for neighboring layers",
    )


def _reasons(jobs: Sequence[HostJob]) -> list[str]:
    """Why layers are the host's, a sentence for those with the same reasons."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        reasons.setdefault(job.step.layer, []).append(job.reason)
    layers: dict[str, list[str]] = {}
    for layer, found in reasons.items():
        layers.setdefault("; ".join(dict.fromkeys(found)), []).append(layer)
    return [
        f"On the host: {', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}, because {why}."
        for why, names in layers.items()
    ]


def on_host(image: Image) -> CostTable:
    """What the host computes between the processor's runs, and the bytes of a frame that go there and back."""
    program = image.program
    rows: list[tuple[str, str, int, int, int]] = []
    read_bytes = 0
    between = False
    for action in schedule(image).actions:
        if isinstance(action, Fetch):
            read_bytes += image.graph.places[action.buffer].span_bytes
        elif isinstance(action, Compute):
            layers = ", ".join(dict.fromkeys(step.layer for step in action.steps))
            ops = ", ".join(dict.fromkeys(step.op for step in action.steps))
            values = sum(program.buffers[name].size for step in action.steps for name in step.outputs)
            rows.append((layers, ops, values, read_bytes, 0))
            read_bytes, between = 0, True
        elif isinstance(action, Send) and between:
            layers, ops, values, before, written_bytes = rows[-1]
            rows[-1] = (layers, ops, values, before, written_bytes + action.place.layout.size_bytes)
        else:
            between = False
    return CostTable(
        title="On the host",
        columns=("", "operator", "values", "bytes read", "bytes written"),
        rows=tuple((layers, ops, *(f"{count:,}" for count in counts)) for layers, ops, *counts in rows),
        note="* For each frame: values that are computed, and bytes from and to the processor's memory",
    )


def profiler(image: Image, ends: Ends, clock_hz: int, batch: Batch | None = None) -> CostTable:
    """Latency of the network, its two modules and their layers; a module's cycles are the sum of its layers'.

    The last columns are those of ``batch``, or of one frame: frames, cycles of all, frames in a second.
    """
    cycles = ends.layers()
    dense = [n for n in cycles if _dense(image, n)]
    conv = [n for n in cycles if n not in dense]
    total = sum(cycles.values())

    def row(name: str, count: int, last: Sequence[str] = ("", "", "")) -> tuple[str, ...]:
        return (name, f"{count}", f"{count / clock_hz:.5f}", *last)

    all_of = batch or Batch(1, total)
    rate = f"{clock_hz * all_of.frames / all_of.cycles:.1f}" if all_of.cycles else ""
    whole = (str(all_of.frames), str(all_of.cycles), rate)
    rows = [row("Network", total, whole)]
    for title, numbers in (("conv_module", conv), ("fc_module", dense)):
        if numbers:
            rows.append(row(f"    {title}", sum(cycles[n] for n in numbers)))
            rows += [row(f"        {_name(image, n)}", cycles[n]) for n in numbers]
    return CostTable(
        title="Profiler",
        columns=(
            "",
            "LastFrameLatency(cycles)",
            "LastFrameLatency(seconds)",
            "FramesNum",
            "Total Latency",
            "Frames/s",
        ),
        rows=tuple(rows),
        note=f"* The clock frequency of the DL processor is: {clock_hz / 1e6:g}MHz",
    )


def _dense(image: Image, number: int) -> bool:
    job = image.graph.jobs[number]
    return isinstance(job, ConvJob) and job.dense


def _name(image: Image, number: int) -> str:
    job = image.graph.jobs[number]
    assert not isinstance(job, HostJob)
    return job.layer
