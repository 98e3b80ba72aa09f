"""What the host does around the processor's segments, in order: the same for every machine, and for generated C."""

from __future__ import annotations

from dataclasses import dataclass

from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import HostJob, Place
from bitwright.program.program import Step


@dataclass(frozen=True)
class Send:
    """The host writes a buffer that it has to a place in external memory."""

    buffer: str
    place: Place


@dataclass(frozen=True)
class Fetch:
    """The host reads a buffer from external memory."""

    buffer: str


@dataclass(frozen=True, eq=False)
class Compute:
    """The host computes steps, one after the other; ``reasons`` say why the processor does not."""

    steps: tuple[Step, ...]
    reasons: tuple[str, ...]


Action = Send | Fetch | Compute | Segment


@dataclass(frozen=True)
class Schedule:
    """A frame.

    Attributes:
        actions: In order; neighboring steps of the host are together, with what they fetch before and send after.
        host: Buffers that the host has when all is done, inputs among them.
        results: Outputs of the network that it then fetches.
    """

    actions: tuple[Action, ...]
    host: frozenset[str]
    results: tuple[str, ...]


def schedule(image: Image) -> Schedule:
    """What the host does for one frame."""
    graph, program = image.graph, image.program
    known = set(program.inputs)
    actions: list[Action] = []
    fetches: list[Action] = []
    steps: list[HostJob] = []
    sends: list[Action] = []

    read = {
        place.storage for job in graph.jobs if not isinstance(job, HostJob) for p in job.pieces for place in p.sources
    }

    def inputs(name: str) -> list[Action]:
        return [Send(name, place) for place in graph.inputs.get(name, ()) if place.storage in read]

    def flush() -> None:
        compute = Compute(tuple(job.step for job in steps), tuple(job.reason for job in steps))
        actions.extend([*fetches, *([compute] if steps else []), *sends])
        for found in (fetches, steps, sends):
            found.clear()

    for name in program.inputs:
        actions += inputs(name)
    for part in image.parts:
        if isinstance(part, Segment):
            flush()
            actions.append(part)
            continue
        missing = [name for name in dict.fromkeys((*part.reads, *part.step.inputs)) if name not in known]
        sent = {action.place.storage for action in sends if isinstance(action, Send)}
        if sent & {graph.places[name].storage for name in missing}:
            flush()  # what it reads is another view of what the host has just made
        fetches += [Fetch(name) for name in missing]
        known.update(missing)
        steps.append(part)
        known.update(part.step.outputs)
        for name in part.step.outputs:
            sends += inputs(name)
        sends += [Send(name, graph.places[name]) for name in part.writes]
    flush()
    return Schedule(
        actions=tuple(actions),
        host=frozenset(known),
        results=tuple(dict.fromkeys(name for name in program.outputs if name not in known)),
    )
