"""Where the buffers of a program are: in external memory, on the host, as parts of concatenations, as views of others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.jobs import HostJob, Job, Place, whole
from bitwright.fpga.layout import HOLE, Layout, padded, spatial
from bitwright.program.forms import Join, Motion, Move
from bitwright.program.program import Buffer, Program, Step


class NotOnProcessor(Exception):
    """Why a step is not for the processor."""


def image_shape(buffer: Buffer) -> tuple[int, int, int] | None:
    """``(channels, height, width)`` of a tensor that the processor can hold, or None."""
    shape = buffer.shape
    if buffer.format.dtype != np.dtype(np.int8) or not 2 <= len(shape) <= 4:
        return None
    return spatial(shape)


class Places:
    """Places are made at first sight; steps of the host make jobs of the host.

    Attributes:
        jobs: Jobs so far.
        found: Buffer → its place.
        flat: Flattened buffer → the buffer that it is a view of.
        inputs: Buffer that the host has before the processor starts → places that it fills.
        host: Buffers whose values the host has.
        joined: Buffer that is written right into a concatenation → the concatenation and its first word there.
        parts: Concatenation → first word of each part.
        moved: Buffer that need not exist → the buffer that it is made of, and how.
    """

    def __init__(self, program: Program, config: ProcessorConfig) -> None:
        self.program, self.config = program, config
        self.jobs: list[Job] = []
        self.found: dict[str, Place] = {}
        self.flat: dict[str, str] = {}
        self.inputs: dict[str, list[Place]] = {}
        self.host: set[str] = set()
        self.readers = Counter(name for step in program.steps for name in step.inputs)
        self.parts: dict[str, tuple[int, ...]] = {}
        self.joined = self._joins()
        self.moved: dict[str, tuple[str, tuple[Motion, ...]]] = {}
        self._claimed: set[str] = set()
        for name in program.inputs:
            self._host_has(name)

    def shape(self, name: str) -> tuple[int, int, int]:
        """``(channels, height, width)`` of a buffer.

        Raises:
            NotOnProcessor: if it has none.
        """
        shape = image_shape(self.program.buffers[name])
        if shape is None:
            raise NotOnProcessor(f"{name} is not a tensor of bytes with channels, rows and columns")
        return shape

    def plain(self, name: str) -> Place:
        """The place of a buffer, made at first sight; part of a concatenation where it goes into one."""
        if name in self.found:
            return self.found[name]
        channels, height, width = self.shape(name)
        layout = Layout(height, width, padded(channels, self.config.icp), self.config.icp)
        if name in self.joined:
            parent, first = self.joined[name]
            place = replace(self.plain(parent), layout=layout, first_word=first)
        else:
            place = whole(name, layout)
        self.found[name] = place
        return place

    def like(self, name: str, layout: Layout) -> Place:
        """The place of a buffer, its channels as in ``layout`` if nothing has said yet where they are."""
        if name not in self.found and name not in self.joined:
            _, height, width = self.shape(name)
            self.found[name] = whole(name, replace(layout, height=height, width=width))
        return self.plain(name)

    def part(self, name: str, parent: str, at: int) -> Place:
        """Where a copy of ``name`` goes as part ``at`` of the concatenation ``parent``, its channels as that has them."""
        place, firsts = self.plain(parent), (*self.parts[parent], self.plain(parent).layout.words)
        own = place.layout.channels[firsts[at] * self.config.icp : firsts[at + 1] * self.config.icp]
        base = min(c for c in own if c != HOLE)
        layout = replace(place.layout, channels=tuple(c - base if c != HOLE else HOLE for c in own))
        return replace(place, layout=layout, first_word=firsts[at])

    def _joins(self) -> dict[str, tuple[str, int]]:
        """Buffers that can be written right into the concatenation that reads them."""
        joined: dict[str, tuple[str, int]] = {}
        made = {name for step in self.program.steps for name in step.outputs}
        for step in self.program.steps:
            if not isinstance(step.form, Move) or step.form.motions != (Join(1),):
                continue
            shapes = [image_shape(self.program.buffers[name]) for name in (*step.inputs, *step.outputs)]
            if any(shape is None for shape in shapes):
                continue
            channels: list[int] = []
            first: list[int] = []
            total = 0
            for name, shape in zip(step.inputs, shapes, strict=False):
                assert shape is not None
                first.append(len(channels) // self.config.icp)
                # A concatenation has a place of its own and is copied into another one.
                once = step.inputs.count(name) == 1 and name not in joined and name not in self.found
                if once and name in made and name not in self.program.outputs:
                    joined[name] = (step.outputs[0], first[-1])
                own = self.found[name].layout.channels if name in self.found else padded(shape[0], self.config.icp)
                channels += [total + c if c != HOLE else HOLE for c in own]
                total += shape[0]
            out = shapes[-1]
            assert out is not None
            self.parts[step.outputs[0]] = tuple(first)
            self.found[step.outputs[0]] = whole(
                step.outputs[0], Layout(out[1], out[2], tuple(channels), self.config.icp)
            )
        return joined

    def source(self, name: str) -> Place:
        """The place of a buffer that a job reads; sent by the host where only the host has it."""
        place = self.plain(name)
        if name in self.host and name not in self._claimed:
            self._claimed.add(name)
            if name not in self.inputs:
                for at, job in enumerate(self.jobs):
                    if isinstance(job, HostJob) and name in job.step.outputs:
                        self.jobs[at] = replace(job, writes=(*job.writes, name))
        return place

    def _host_has(self, name: str) -> None:
        """The host has a buffer before the processor starts."""
        self.host.add(name)
        if image_shape(self.program.buffers[name]) is not None and name not in self.joined:
            self.inputs[name] = [self.plain(name)]

    def on_host(self, step: Step, reason: str, macs: int) -> None:
        """A step that the host computes."""
        first = all(isinstance(job, HostJob) for job in self.jobs)
        reads = tuple(name for name in step.inputs if name not in self.host)
        for name in reads:
            self.plain(name)
        self.jobs.append(HostJob(step=step, reason=reason, reads=reads, writes=(), macs=macs))
        for name in step.outputs:
            if first:
                self._host_has(name)
            self.host.add(name)
            # A part of a concatenation that the host makes is sent to where the others are.
            if name in self.joined:
                self.source(name)
