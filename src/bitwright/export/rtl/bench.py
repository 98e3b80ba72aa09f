"""A Verilog test bench that checks itself: memory and registers over the bus, a sample, the bytes it must give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.names import comment
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.jobs import HostJob, Place
from bitwright.fpga.registers import BY_NAME, IDENTITY, bit
from bitwright.fpga.running import Functional, run_frame
from bitwright.fpga.schedule import Fetch, Send, schedule
from bitwright.fpga.verilog import Bus

Values = NDArray[np.integer[Any]]
HERE = Path(__file__).parent
FAULTS: Mapping[Bus, tuple[str, ...]] = {
    "axi4": (
        "a request or its data changed or vanished before it was taken",
        "a burst crosses a boundary of 4096 bytes",
        "a burst is not of whole beats with increasing addresses",
        "WLAST is not with the last beat",
        "an access to a register was refused",
    ),
    "wishbone": (
        "a request changed or vanished before it was taken",
        "a request or an answer outside of a bus cycle",
        "an address is not a multiple of the width of the bus",
        "",
        "an access to a register was refused",
    ),
}


@dataclass(frozen=True)
class Bench:
    """Files of a test bench.

    Attributes:
        files: Name → text.
        compared: Bytes that it compares.
    """

    files: Mapping[str, str]
    compared: int


class _Watched(Functional):
    """Notes what the host writes before each segment, and what memory holds after it."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.written = [np.zeros(image.size_bytes, bool)]
        self.before: list[NDArray[np.uint8]] = []
        self.after: list[NDArray[np.uint8]] = []

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Put bytes into external memory."""
        super().write(address, data)
        self.written[-1][address : address + data.size] = True

    def run(self, segment: Segment) -> None:
        """Every instruction in program order."""
        self.before.append(self.state.external.copy())
        super().run(segment)
        self.after.append(self.state.external.copy())
        self.written.append(np.zeros(len(self.state.external), bool))


def bench(image: Image, inputs: Mapping[str, Values], bus: Bus) -> Bench:
    """A bench for one sample; what the host computes between segments is in files.

    Args:
        image: The compiled network.
        inputs: Input buffer → integers ``[1, ...]``.
        bus: How the processor is connected.
    """
    machine = _Watched(image)
    run_frame(image, machine, inputs)
    width = image.config.bus.bytes
    tensors = _read_by_host(image)
    files = {"image.hex": hex_words(image.memory, width, image.memory_offset)}
    steps: list[str] = []
    compared = 0
    segments = [part for part in image.parts if isinstance(part, Segment)]
    for at, segment in enumerate(segments):
        name = "input.hex" if at == 0 else f"host_{at}.hex"
        files[name] = _patch(machine.before[at], machine.written[at], width)
        if at:
            steps.append(f'$readmemh("{name}", memory);')
        steps.append(f"run(32'h{segment.address:08x});")
        known = np.zeros(image.size_bytes, bool)
        for tensor in tensors[at]:
            known |= _bytes_of(image, image.graph.places[tensor])
        if known.any():
            compared += int(known.sum())
            files[f"expected_{at}.hex"] = _patch(machine.after[at], known, width, masked=True)
            steps += ["forget;", f'$readmemh("expected_{at}.hex", expected);', "compare;"]
    files["testbench.v"] = _filled(image, bus, steps, [n for found in tensors for n in found])
    return Bench(files, compared)


def models(verilog: str) -> dict[str, str]:
    """Models, for simulation, of the device's blocks that are in the Verilog: file name → text."""
    found = sorted((HERE / "models").glob("*.v"))
    return {
        path.name: path.read_text("utf-8") for path in found if re.search(rf"^  {path.stem} ", verilog, re.MULTILINE)
    }


def _read_by_host(image: Image) -> list[list[str]]:
    """For each segment the tensors that the host reads after it, the network's outputs among them."""
    found: list[list[str]] = []
    plan = schedule(image)
    places = image.graph.places
    by_host: set[str] = set()  # storages that the host wrote last
    for action in plan.actions:
        match action:
            case Segment():
                found.append([])
                jobs = [image.graph.jobs[number] for number in action.jobs]
                by_host -= {
                    place.storage
                    for job in jobs
                    if not isinstance(job, HostJob)
                    for p in job.pieces
                    for place in p.written
                }
            case Send(_, place):
                by_host.add(place.storage)
            case Fetch(name) if found and places[name].storage not in by_host:
                found[-1].append(name)
            case _:
                pass
    if found:
        found[-1] += [name for name in plan.results if places[name].storage not in by_host]
    return found


def _bytes_of(image: Image, place: Place) -> NDArray[np.bool_]:
    """Which bytes of external memory are channels of a tensor."""
    layout = place.layout
    known = np.zeros(image.size_bytes, bool)
    rows = np.arange(layout.height)[:, None, None] * place.row_words
    pixels = np.arange(layout.width)[:, None] * place.pixel_words
    bytes_of_pixel = np.flatnonzero(np.asarray(layout.channels) >= 0)
    known[(image.address(place) + (rows + pixels) * layout.icp + bytes_of_pixel).reshape(-1)] = True
    return known


def hex_words(data: NDArray[np.uint8], width: int, offset: int = 0) -> str:
    """Words of ``width`` bytes as ``$readmemh`` reads them, the highest byte first; ``offset`` in bytes."""
    words = data.reshape(-1, width)[:, ::-1]
    flat = np.ascontiguousarray(words).tobytes().hex()
    step = 2 * width
    return "\n".join([f"@{offset // width:x}", *(flat[i : i + step] for i in range(0, len(flat), step))]) + "\n"


def _patch(data: NDArray[np.uint8], wanted: NDArray[np.bool_], width: int, *, masked: bool = False) -> str:
    """The words in which a byte is wanted; with a mask of the wanted bytes before each, if asked for."""
    words, wants = data.reshape(-1, width)[:, ::-1], wanted.reshape(-1, width)
    chosen = np.flatnonzero(wants.any(1))
    lines: list[str] = []
    digits = -(-width // 4)
    before = -2
    for at in chosen.tolist():
        if at != before + 1:
            lines.append(f"@{at:x}")
        mask = sum(1 << i for i in np.flatnonzero(wants[at]).tolist())
        text = words[at].tobytes().hex()
        lines.append(f"{mask:0{digits}x}{text}" if masked else text)
        before = at
    return "\n".join(lines) + "\n"


def _filled(image: Image, bus: Bus, steps: Sequence[str], tensors: Sequence[str]) -> str:
    config = image.config.bus
    names = []
    for name in dict.fromkeys(tensors):
        place = image.graph.places[name]
        first = image.addresses[place.storage]
        last = first + place.end_word * place.layout.icp
        names.append(
            f"            if (address >= 32'h{first:08x} && address < 32'h{last:08x}) "
            f'$display("    in tensor {text(name)}");'
        )
    values = {
        "BUS": (HERE / f"testbench_{bus}.v").read_text("utf-8").rstrip(),
        "BYTES": config.bytes,
        "SHIFT": (config.bytes - 1).bit_length(),
        "WORDS": image.size_bytes // config.bytes,
        "LATENCY": config.latency_cycles,
        "IDENTITY": f"{IDENTITY:08x}",
        "FINGERPRINT": f"{image.config.fingerprint:08x}",
        "FAULTS": "\n".join(
            f'                {at}: $display("bus: {said}");' for at, said in enumerate(FAULTS[bus], 1) if said
        ),
        "NAMES": "\n".join(names),
        "STEPS": "\n".join(f"        {step}" for step in steps),
        "IDENTITY_AT": offset("IDENTITY"),
        "FINGERPRINT_AT": offset("FINGERPRINT"),
        **{name: offset(name) for name in ("PROGRAM", "CONTROL", "STATUS", "CYCLES")},
        "START": bit("CONTROL", "START"),
        **{name: bit("STATUS", name) for name in ("RUNNING", "FAULT")},
    }
    found = (HERE / "testbench.v").read_text("utf-8")
    for key, value in values.items():
        found = found.replace(f"@{key}@", str(value))
    return found


def offset(register: str) -> str:
    """A register's offset in Verilog."""
    return f"8'h{BY_NAME[register].offset:02x}"


def text(name: str) -> str:
    """A foreign name inside a string of Verilog."""
    return comment(name).replace('"', "_").replace("%", "_").replace("`", "_")
