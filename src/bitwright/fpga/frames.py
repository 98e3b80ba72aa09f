"""Several frames in one program: what comes one frame after the other, and what is done for all of them at once.

Jobs are repeated frame after frame, so that the loads of one frame stand before the last results of the one before.
Dense layers at the end of a run are done once for all frames, which lie side by side like the pixels of a row: their
weights are read once.  What the host sends or reads, and what is kept for that end, has a copy for each frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bitwright.fpga.jobs import POINT, ConvJob, Graph, HostJob, Place, VecJob

Numbered = tuple[int, ConvJob | VecJob]


@dataclass(frozen=True)
class Frames:
    """How frames share memory.

    Attributes:
        count: Frames of one program.
        strides: Storage that has a copy for each frame → words from one copy to the next.
    """

    count: int = 1
    strides: Mapping[str, int] = field(default_factory=dict)

    def at(self, place: Place, frame: int) -> Place:
        """The place of a frame's tensor."""
        return replace(place, first_word=place.first_word + frame * self.strides.get(place.storage, 0))

    def expand(self, jobs: Sequence[Numbered]) -> list[Numbered]:
        """The jobs of a run for all frames."""
        if self.count == 1:
            return list(jobs)
        head, tail = split(jobs)
        made = [(number, self._frame(job, frame)) for frame in range(self.count) for number, job in head]
        return made + [(number, self._row(job)) for number, job in tail]

    def _frame(self, job: ConvJob | VecJob, frame: int) -> ConvJob | VecJob:
        if isinstance(job, ConvJob):
            return replace(
                job,
                source=self.at(job.source, frame),
                out=self.at(job.out, frame),
                apart=tuple(self.at(place, frame) for place in job.apart),
                also=tuple(_conv(self._frame(other, frame)) for other in job.also),
            )
        return replace(
            job,
            sources=tuple(self.at(place, frame) for place in job.sources),
            out=self.at(job.out, frame),
            copies=tuple(self.at(place, frame) for place in job.copies),
            also=tuple(_vec(self._frame(other, frame)) for other in job.also),
        )

    def _row(self, job: ConvJob | VecJob) -> ConvJob | VecJob:
        """One pixel of each frame as a row of pixels."""

        def row(place: Place) -> Place:
            stride = self.strides[place.storage]
            layout = replace(place.layout, width=self.count)
            return replace(place, layout=layout, pixel_words=stride, row_words=stride * self.count)

        if isinstance(job, ConvJob):
            return replace(job, source=row(job.source), out=row(job.out))
        return replace(job, sources=tuple(row(place) for place in job.sources), out=row(job.out))


def _conv(job: ConvJob | VecJob) -> ConvJob:
    assert isinstance(job, ConvJob)
    return job


def _vec(job: ConvJob | VecJob) -> VecJob:
    assert isinstance(job, VecJob)
    return job


def split(jobs: Sequence[Numbered]) -> tuple[list[Numbered], list[Numbered]]:
    """The jobs that are repeated for each frame, and those at the end that are done once for all."""
    at = len(jobs)
    while at and _of_one_pixel(jobs[at - 1][1]):
        at -= 1
    if not any(isinstance(job, ConvJob) for _, job in jobs[at:]):
        at = len(jobs)
    return list(jobs[:at]), list(jobs[at:])


def _of_one_pixel(job: ConvJob | VecJob) -> bool:
    places = (*job.sources, *job.written)
    alone = not job.also and len(job.written) == 1 and job.window == POINT
    return alone and not (isinstance(job, ConvJob) and job.pool) and all(
        place.layout.height == place.layout.width == 1 for place in places
    )  # fmt: skip


def copied(graph: Graph, outputs: Sequence[str], runs: Sequence[Sequence[Numbered]]) -> set[str]:
    """Storages that need a copy for each frame: what the host or another run touches, and what the end of a run does."""
    found = {place.storage for places in graph.inputs.values() for place in places}
    found |= {graph.places[name].storage for name in outputs if name in graph.places}
    for job in graph.jobs:
        if isinstance(job, HostJob):
            found |= {graph.places[name].storage for name in (*job.reads, *job.writes, *job.step.inputs)
                      if name in graph.places}  # fmt: skip
    seen: dict[str, int] = {}
    for at, run in enumerate(runs):
        _, tail = split(run)
        late = {number for number, _ in tail}
        for number, job in run:
            for piece in job.pieces:
                for place in (*piece.sources, *piece.written):
                    if number in late or seen.setdefault(place.storage, at) != at:
                        found.add(place.storage)
    return found
