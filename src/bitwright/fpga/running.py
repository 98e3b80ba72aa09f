"""One frame on a machine: the host's part of the work around the processor's segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.functional import execute, new_state
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import Place, whole
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


def send(image: Image, machine: Machine, place: Place, values: Values) -> None:
    """Write a tensor ``[1, channels, ...]`` into external memory."""
    layout = place.layout
    data = layout.pack(np.asarray(values[0]).reshape(spatial(values.shape)))
    if place == whole(place.storage, layout):
        machine.write(image.address(place), data)
        return
    # A part of a concatenation: its pixels are apart.
    for y, row in enumerate(data):
        for x, pixel in enumerate(row):
            machine.write(image.address(place) + (y * place.row_words + x * place.pixel_words) * layout.icp, pixel)


def send_input(image: Image, machine: Machine, name: str, values: Values) -> None:
    """Write a buffer that the host has before the processor starts to where it is read; others need nothing."""
    for place in image.graph.inputs.get(name, ()):
        if place.storage in image.addresses:
            send(image, machine, place, values)


def fetch(image: Image, machine: Machine, name: str) -> Values:
    """Read a buffer from external memory, ``[1, ...]`` in its own shape."""
    place, buffer = image.graph.places[name], image.program.buffers[name]
    layout = place.layout
    words = machine.read(image.addresses[place.storage], place.end_word * layout.icp).reshape(-1, layout.icp)
    y, x, word = (np.arange(n) for n in (layout.height, layout.width, layout.words))
    at = place.first_word + (y * place.row_words)[:, None, None] + (x * place.pixel_words)[:, None] + word
    count = buffer.size // (layout.height * layout.width)
    return layout.unpack(np.ascontiguousarray(words[at]), count).reshape(buffer.shape)


def run_frame(image: Image, machine: Machine, inputs: Mapping[str, Values]) -> dict[str, Values]:
    """One sample through the network.

    Args:
        image: The compiled program.
        machine: Runs segments.
        inputs: Input buffer → integers ``[1, ...]``.

    Returns:
        Output buffer → integers ``[1, ...]``.
    """
    program = image.program
    values: dict[str, Values] = {name: np.asarray(inputs[name]) for name in program.inputs}
    for name in program.inputs:
        send_input(image, machine, name, values[name])
    for part in image.parts:
        if isinstance(part, Segment):
            machine.run(part)
            continue
        step = part.step
        for name in part.reads:
            values[name] = fetch(image, machine, name)
        for name in step.inputs:
            if name not in values:
                values[name] = fetch(image, machine, name)
        for name, result in zip(step.outputs, run_step(program, step, [values[n] for n in step.inputs]), strict=True):
            values[name] = result
            send_input(image, machine, name, result)
        for name in part.writes:
            send(image, machine, image.graph.places[name], values[name])
    return {name: values[name] if name in values else fetch(image, machine, name) for name in program.outputs}
