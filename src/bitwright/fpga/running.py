"""One frame on a machine: the host's part of the work around the processor's segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.functional import execute, new_state
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import Place
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
    x = np.asarray(values[0]).reshape(-1, *_rows(values))
    if place.pixel_words == layout.words:
        machine.write(image.address(place), layout.pack(x))
        return
    # A part of a concatenation: its pixels are apart.
    data = layout.pack(x).reshape(layout.height * layout.width, -1)
    step = place.pixel_words * layout.icp
    for at, pixel in enumerate(data):
        machine.write(image.address(place) + at * step, pixel)


def _rows(values: Values) -> tuple[int, int]:
    return (values.shape[2], values.shape[3]) if values.ndim == 4 else (1, 1)


def fetch(image: Image, machine: Machine, name: str) -> Values:
    """Read a buffer from external memory, ``[1, ...]`` in its own shape."""
    place, buffer = image.graph.places[name], image.program.buffers[name]
    layout = place.layout
    step = place.pixel_words * layout.icp
    pixels = layout.height * layout.width
    raw = machine.read(image.addresses[place.storage], pixels * step).reshape(pixels, step)
    first = place.first_word * layout.icp
    data = np.ascontiguousarray(raw[:, first : first + layout.words * layout.icp])
    count = buffer.size // pixels
    return layout.unpack(data, count).reshape(buffer.shape)


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
    for name, places in image.graph.inputs.items():
        for place in places:
            if place.storage in image.addresses:
                send(image, machine, place, values[name])
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
        for name in part.writes:
            send(image, machine, image.graph.places[name], values[name])
    return {name: values[name] if name in values else fetch(image, machine, name) for name in program.outputs}
