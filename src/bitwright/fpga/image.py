"""A program compiled for a configuration: instructions, parameters, and where everything is in external memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import DoesNotFit
from bitwright.fpga import limits
from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.emit import emit
from bitwright.fpga.frames import Frames, copied
from bitwright.fpga.isa import Instruction, assemble
from bitwright.fpga.jobs import ConvJob, Graph, HostJob, Place, VecJob
from bitwright.fpga.mapping import build
from bitwright.fpga.stream import Relative, Stream
from bitwright.fpga.tiles import tile_conv
from bitwright.program.program import Program


@dataclass(frozen=True)
class Region:
    """A named stretch of external memory.

    Attributes:
        name: As in the printed memory map.
        offset: First byte.
        size_bytes: A whole number of granules.
        used_bytes: What is used of it.
    """

    name: str
    offset: int
    size_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Segment:
    """Instructions that run without the host.

    Attributes:
        address: First byte of the first instruction.
        instructions: The instructions, addresses final.
        jobs: Numbers of the jobs that they are for.
    """

    address: int
    instructions: tuple[Instruction, ...]
    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """What is sent to the processor and how it is run.

    Attributes:
        program: The integer program.
        config: The processor.
        graph: Jobs and places of tensors.
        parts: Segments, and jobs of the host between them, in order.
        regions: Memory map.
        addresses: Storage → its first byte.
        memory: Initial content from ``memory_offset`` on: instructions and parameters.
        memory_offset: First byte of ``memory``.
        frames: How many frames one run of the program computes, and where their tensors are.
    """

    program: Program
    config: ProcessorConfig
    graph: Graph
    parts: tuple[Segment | HostJob, ...]
    regions: tuple[Region, ...]
    addresses: Mapping[str, int]
    memory: NDArray[np.uint8]
    memory_offset: int
    frames: Frames = field(default_factory=Frames)

    @property
    def size_bytes(self) -> int:
        """External memory that the network needs."""
        return self.regions[-1].offset

    def instructions(self) -> list[Instruction]:
        """All instructions, segment after segment."""
        return [i for part in self.parts if isinstance(part, Segment) for i in part.instructions]

    def address(self, place: Place) -> int:
        """First byte of a tensor."""
        return self.addresses[place.storage] + place.first_word * self.config.icp


def compile_program(
    program: Program, config: ProcessorConfig, *, keep: bool = False, clear: bool = False, frames: int = 1
) -> Image:
    """Compile a program for a configuration.

    Args:
        program: An integer program.
        config: The processor.
        keep: Give every tensor memory of its own, so that all can be read afterwards.
        clear: Leave maxima that could be fused as jobs of their own (their inputs can then be read too).
        frames: Frames that one run of the program computes.

    Raises:
        DoesNotFit: a layer does not fit the buffers, or the whole does not fit the external memory.
    """
    graph = build(program, config)
    unfused = {step for job in graph.jobs if isinstance(job, ConvJob) and job.pool for step in job.steps[:1]}
    if not clear:
        unfused = {
            job.steps[0] for job in graph.jobs if isinstance(job, ConvJob) and job.pool and not _fits(job, config)
        }
    if unfused:
        graph = build(program, config, frozenset(unfused))
    sizes, together = _storages(graph), Frames()
    if frames > 1:
        strides = {name: -(-sizes[name] // _align(config)) * _align(config) // config.icp
                   for name in copied(graph, program.outputs, _runs(graph))}  # fmt: skip
        sizes |= {name: words * config.icp * frames for name, words in strides.items()}
        together = Frames(frames, strides)
    streams = _streams(graph, config, together)
    return _place(program, config, graph, streams, sizes, together, keep=keep)


def _fits(job: ConvJob, config: ProcessorConfig) -> bool:
    try:
        tile_conv(job, config)
    except DoesNotFit:
        return False
    return True


Part = tuple[Stream, tuple[int, ...]] | HostJob


def _align(config: ProcessorConfig) -> int:
    return max(config.icp, 64)


def _runs(graph: Graph) -> list[list[tuple[int, ConvJob | VecJob]]]:
    """Jobs of the processor that the host does not interrupt, with their numbers."""
    runs: list[list[tuple[int, ConvJob | VecJob]]] = [[]]
    for number, job in enumerate(graph.jobs):
        if isinstance(job, HostJob):
            runs.append([])
        else:
            runs[-1].append((number, job))
    return [run for run in runs if run]


def _streams(graph: Graph, config: ProcessorConfig, frames: Frames) -> list[Part]:
    """Runs of jobs of the processor as streams, jobs of the host between them."""
    parts: list[Part] = []
    run: list[tuple[int, ConvJob | VecJob]] = []

    def flush() -> None:
        if run:
            parts.append((emit(config, frames.expand(run)), tuple(number for number, _ in run)))
            run.clear()

    for number, job in enumerate(graph.jobs):
        if isinstance(job, HostJob):
            flush()
            parts.append(job)
        else:
            run.append((number, job))
    flush()
    return parts


def _storages(graph: Graph) -> dict[str, int]:
    """Storage → bytes."""
    places = [*graph.places.values(), *(p for found in graph.inputs.values() for p in found)]
    for job in graph.jobs:
        if not isinstance(job, HostJob):
            places += [place for piece in job.pieces for place in (*piece.sources, *piece.written)]
    sizes: dict[str, int] = {}
    for place in places:
        sizes[place.storage] = max(sizes.get(place.storage, 0), place.end_word * place.layout.icp)
    return sizes


def _lifetimes(program: Program, graph: Graph) -> dict[str, tuple[int, int]]:
    """Storage → first and last job that touches it."""
    alive: dict[str, tuple[int, int]] = {}

    def touch(storage: str, at: int) -> None:
        first, last = alive.get(storage, (at, at))
        alive[storage] = min(first, at), max(last, at)

    for at, job in enumerate(graph.jobs):
        match job:
            case ConvJob() | VecJob():
                for piece in job.pieces:
                    for place in (*piece.sources, *piece.written):
                        touch(place.storage, at)
            case HostJob():
                for name in (*job.reads, *job.writes):
                    touch(graph.places[name].storage, at)
    for name in program.outputs:
        if name in graph.places:
            touch(graph.places[name].storage, len(graph.jobs))
    return alive


def _allocate(sizes: Mapping[str, int], alive: Mapping[str, tuple[int, int]], align: int) -> tuple[dict[str, int], int]:
    """First fit by size, largest first; the offsets and the total."""
    placed: list[tuple[int, int, tuple[int, int]]] = []
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        size, life = -(-sizes[name] // align) * align, alive[name]
        others = sorted((a, b) for a, b, other in placed if other[0] <= life[1] and life[0] <= other[1])
        at = 0
        for a, b in others:
            if at + size <= a:
                break
            at = max(at, b)
        offsets[name] = at
        placed.append((at, at + size, life))
    return offsets, max((b for _, b, _ in placed), default=0)


def _place(
    program: Program, config: ProcessorConfig, graph: Graph, parts: list[Part], sizes: Mapping[str, int], frames: Frames,
    *, keep: bool,
) -> Image:  # fmt: skip
    # What has a copy for each frame must stay while other frames are computed.
    alive = _lifetimes(program, graph) | dict.fromkeys(frames.strides, (0, len(graph.jobs)))
    inputs = {place.storage for found in graph.inputs.values() for place in found}
    outputs = {graph.places[name].storage for name in program.outputs if name in graph.places} - inputs
    inside = {n: s for n, s in sizes.items() if n in alive and n not in inputs | outputs}
    if keep:
        alive = {n: (0, len(graph.jobs)) for n in sizes}
    streams = [part for part in parts if not isinstance(part, HostJob)]
    dense = [(s, i) for s, _ in streams for i, data in enumerate(s.data) if data.dense]
    others = [(s, i) for s, _ in streams for i, data in enumerate(s.data) if not data.dense]
    always = dict.fromkeys(sizes, (0, 0))
    in_at, in_size = _allocate({n: sizes[n] for n in inputs}, always, _align(config))
    out_at, out_size = _allocate({n: sizes[n] for n in outputs}, always, _align(config))
    mid_at, mid_size = _allocate(inside, alive, _align(config))
    count = sum(len(s.items) for s, _ in streams)
    used = (
        ("InputDataOffset", in_size),
        ("OutputResultOffset", out_size),
        ("SystemBufferOffset", mid_size),
        ("InstructionDataOffset", count * INSTRUCTION_BYTES),
        ("ConvWeightDataOffset", sum(len(s.data[i].values) for s, i in others)),
        ("FCWeightDataOffset", sum(len(s.data[i].values) for s, i in dense)),
    )
    regions: list[Region] = []
    at = 0
    for name, size in used:
        whole = -(-size // config.bus.region_bytes) * config.bus.region_bytes
        regions.append(Region(name, at, whole, size))
        at += whole
    regions.append(Region("EndOffset", at, 0, 0))
    if at > config.bus.memory_bytes:
        raise DoesNotFit(
            f"The network needs {at} bytes of external memory, {at - config.bus.memory_bytes} more than the "
            f"{config.bus.memory_bytes} of {config.name}. The largest part is "
            f"{max(regions, key=lambda r: r.size_bytes).name}; take a configuration with more memory.",
            need_bytes=at,
            have_bytes=config.bus.memory_bytes,
        )
    start = {region.name: region.offset for region in regions}
    addresses = {n: start["InputDataOffset"] + v for n, v in in_at.items()}
    addresses |= {n: start["OutputResultOffset"] + v for n, v in out_at.items()}
    addresses |= {n: start["SystemBufferOffset"] + v for n, v in mid_at.items()}
    memory_offset = start["InstructionDataOffset"]
    memory = np.zeros(at - memory_offset, np.uint8)
    where: dict[tuple[int, int], int] = {}
    for region, pieces in (("ConvWeightDataOffset", others), ("FCWeightDataOffset", dense)):
        point = start[region]
        for stream, index in pieces:
            values = stream.data[index].values
            where[id(stream), index] = point
            memory[point - memory_offset : point - memory_offset + len(values)] = np.frombuffer(values, np.uint8)
            point += len(values)
    final: list[Segment | HostJob] = []
    point = memory_offset
    for part in parts:
        if isinstance(part, HostJob):
            final.append(part)
            continue
        stream, numbers = part
        made: list[Instruction] = []
        for item in stream.items:
            if isinstance(item, Relative):
                storage = item.storage
                base = where[id(stream), storage] if isinstance(storage, int) else addresses[storage]
                made.append(replace(item.instruction, address=item.instruction.address + base))
            else:
                made.append(item)
        limits.check(config, made)
        code = assemble(made)
        memory[point - memory_offset : point - memory_offset + len(code)] = np.frombuffer(code, np.uint8)
        final.append(Segment(point, tuple(made), numbers))
        point += len(code)
    return Image(program, config, graph, tuple(final), tuple(regions), addresses, memory, memory_offset, frames)
