"""One frame on a machine: the host's part of the work around the processor's segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.functional import execute, new_state
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import Place
from bitwright.fpga.layout import spatial
from bitwright.simulate.reference import run_step

Values = NDArray[np.integer[Any]]


class Machine(Protocol):
    """Something that runs segments: the functional model, simulated hardware, a board."""

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Put bytes into external memory."""

    def read(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Bytes of external memory."""

    def run(self, segment: Segment) -> None:
        """Run instructions to their end."""


class Functional:
    """The functional model as a machine."""

    def __init__(self, image: Image) -> None:
        external = np.zeros(image.size_bytes, np.uint8)
        external[image.memory_offset :] = image.memory
        self.state = new_state(image.config, external)

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Put bytes into external memory."""
        self.state.external[address : address + data.size] = data.reshape(-1)

    def read(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Bytes of external memory."""
        return self.state.external[address : address + size_bytes].copy()

    def run(self, segment: Segment) -> None:
        """Every instruction in program order."""
        execute(self.state, segment.instructions)


def send(image: Image, machine: Machine, place: Place, values: Values, frame: int = 0) -> None:
    """Write a frame's tensor ``[1, channels, ...]`` into external memory."""
    place = image.frames.at(place, frame)
    layout = place.layout
    data = layout.pack(np.asarray(values[0]).reshape(spatial(values.shape)))
    if (place.pixel_words, place.row_words) == (layout.words, layout.width * layout.words):
        machine.write(image.address(place), data)
        return
    # A part of a concatenation: its pixels are apart.
    for y, row in enumerate(data):
        for x, pixel in enumerate(row):
            machine.write(image.address(place) + (y * place.row_words + x * place.pixel_words) * layout.icp, pixel)


def send_input(image: Image, machine: Machine, name: str, values: Values, frame: int = 0) -> None:
    """Write a buffer that the host has before the processor starts to where it is read; others need nothing."""
    for place in image.graph.inputs.get(name, ()):
        if place.storage in image.addresses:
            send(image, machine, place, values, frame)


def fetch(image: Image, machine: Machine, name: str, frame: int = 0) -> Values:
    """Read a frame's buffer from external memory, ``[1, ...]`` in its own shape."""
    place, buffer = image.frames.at(image.graph.places[name], frame), image.program.buffers[name]
    layout = place.layout
    words = machine.read(image.address(place), place.span_bytes).reshape(-1, layout.icp)
    y, x, word = (np.arange(n) for n in (layout.height, layout.width, layout.words))
    at = (y * place.row_words)[:, None, None] + (x * place.pixel_words)[:, None] + word
    count = buffer.size // (layout.height * layout.width)
    return layout.unpack(np.ascontiguousarray(words[at]), count).reshape(buffer.shape)


def run_frame(image: Image, machine: Machine, inputs: Mapping[str, Values]) -> dict[str, Values]:
    """One sample through the network; where the program is for several frames, all of them are the same.

    Args:
        image: The compiled program.
        machine: Runs segments.
        inputs: Input buffer → integers ``[1, ...]``.

    Returns:
        Output buffer → integers ``[1, ...]``.
    """
    return run_frames(image, machine, [inputs] * image.frames.count)[0]


def run_batch(image: Image, machine: Machine, inputs: Mapping[str, Values]) -> dict[str, Values]:
    """Samples one after the other: input buffer → integers ``[n, ...]`` to output buffer → integers ``[n, ...]``."""
    count = len(next(iter(inputs.values())))
    found = [run_frame(image, machine, sample_at(inputs, at)) for at in range(count)]
    return {name: np.concatenate([one[name] for one in found]) for name in image.program.outputs}


def sample_at(inputs: Mapping[str, Values], at: int) -> dict[str, Values]:
    """One sample of a batch, ``[1, ...]``."""
    return {name: np.asarray(values[at : at + 1]) for name, values in inputs.items()}


def run_frames(image: Image, machine: Machine, frames: Sequence[Mapping[str, Values]]) -> list[dict[str, Values]]:
    """As many samples through the network as the program is for.

    Args:
        image: The compiled program.
        machine: Runs segments.
        frames: For each frame, input buffer → integers ``[1, ...]``.

    Returns:
        For each frame, output buffer → integers ``[1, ...]``.
    """
    program = image.program
    if len(frames) != image.frames.count:
        raise ValueError(f"the program is for {image.frames.count} frames, not {len(frames)}")
    known: list[dict[str, Values]] = [{name: np.asarray(one[name]) for name in program.inputs} for one in frames]
    for frame, values in enumerate(known):
        for name in program.inputs:
            send_input(image, machine, name, values[name], frame)
    for part in image.parts:
        if isinstance(part, Segment):
            machine.run(part)
            continue
        step = part.step
        for frame, values in enumerate(known):
            for name in dict.fromkeys((*part.reads, *step.inputs)):
                if name in part.reads or name not in values:
                    values[name] = fetch(image, machine, name, frame)
            results = run_step(program, step, [values[n] for n in step.inputs])
            for name, result in zip(step.outputs, results, strict=True):
                values[name] = result
                send_input(image, machine, name, result, frame)
            for name in part.writes:
                send(image, machine, image.graph.places[name], values[name], frame)
    return [
        {n: values[n] if n in values else fetch(image, machine, n, frame) for n in program.outputs}
        for frame, values in enumerate(known)
    ]
