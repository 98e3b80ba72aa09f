"""Configurations of the processor: how many multipliers, how much memory, how wide the bus.

A configuration is a file, ``configs/NAME.toml``; hardware, compiler and models are functions of it.  Its fingerprint is
in a register of the hardware and in every compiled program, and a program for another configuration is refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import tomllib
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from pathlib import Path
from typing import Literal

from bitwright.errors import BadTargetFile, UnknownTarget, printable
from bitwright.number.format import Rounding
from bitwright.targets.read import Where, build

FOLDER = Path(__file__).parent / "configs"

Multiplier = Literal["infer", "ecp5", "ecp5-pack2", "ice40-mac16"]
Control = Literal["fast", "small"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Buffers on the chip, in words.  A word is ``icp`` bytes, but for weights, where it is ``icp * ocp`` bytes.

    Attributes:
        act: Words of each of the ``pp`` banks that the array reads.
        weight: Words of the array's weights.
        bias: Groups of ``ocp`` biases for the array.
        mid: Words of each of the ``pp`` banks between the array and the vector unit.
        out: Words of each of the ``pp`` banks that are written to memory.
        vector_weight: Words of the vector unit's weights.
        vector_bias: Groups of ``icp`` biases for the vector unit.
        rows: Entries of each of the two row tables.
    """

    act: int
    weight: int
    bias: int
    mid: int
    out: int
    vector_weight: int
    vector_bias: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The way to external memory.

    Attributes:
        bytes: Bytes of one beat; one read beat and one write beat a cycle at best.
        latency_cycles: From a read request to its first beat, and from the last write beat to its answer, in the
            memory model.
        outstanding: Read requests that may be on their way.
        burst_beats: Longest burst, in beats; with as many as the memory has, runs are never split.
        memory_bytes: Size of the external memory.
        region_bytes: Granule of the regions in it.
    """

    bytes: int
    latency_cycles: int
    outstanding: int
    burst_beats: int
    memory_bytes: int
    region_bytes: int

    @property
    def splits(self) -> bool:
        """Whether a run of neighboring bytes may need several bursts."""
        return self.burst_beats * self.bytes < self.memory_bytes


@dataclass(frozen=True, kw_only=True)
class Units:
    """What the vector unit can do besides maxima and copies.

    Attributes:
        multiply: Depthwise convolution, sums of two tensors, averages and products.
        scale: A multiplier after the sum, for averages that do not divide by a power of two.
        table: 256-entry tables.
    """

    multiply: bool
    scale: bool
    table: bool


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """A processor.

    Attributes:
        name: As on the command line.
        summary: One line for people.
        pp: Rows of output pixels computed at once.
        icp: Input channels multiplied at once; bytes of a word.
        ocp: Output channels computed at once, at most ``icp``.
        multiplier: How the array's multipliers are made.
        rounding: Of the shift after the accumulator.
        clock_hz: Of the finished design.
        memory: Buffers on the chip.
        bus: The way to external memory.
        units: What the vector unit has.
        queue: Instructions that each queue holds, or all together where control is small.
        control: ``fast``: instructions wait in queues of their own, and a load may ask before the one before is done.
            ``small``: they wait in one block of memory, and each unit holds one at a time.
    """

    name: str
    summary: str
    pp: int
    icp: int
    ocp: int
    multiplier: Multiplier
    rounding: Rounding
    clock_hz: int
    memory: Memory
    bus: Bus
    units: Units
    queue: int = 8
    control: Control = "fast"

    def __post_init__(self) -> None:
        for name in ("pp", "icp", "ocp", "clock_hz", "queue"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.ocp > self.icp:
            raise ValueError(f"ocp = {self.ocp} is above icp = {self.icp}: a result must fit one word")
        if self.icp > 64 or self.pp > 16:
            raise ValueError("icp may be at most 64 and pp at most 16")
        if self.icp & (self.icp - 1):
            raise ValueError(f"icp = {self.icp} must be a power of two")
        if self.icp % self.bus.bytes:
            raise ValueError(f"a word of icp = {self.icp} bytes is not a whole number of beats of {self.bus.bytes}")
        if 4 * self.ocp % self.icp:
            raise ValueError(f"the {4 * self.ocp} bytes of ocp biases are not a whole number of words of {self.icp}")
        if self.bus.burst_beats < INSTRUCTION_BYTES // self.bus.bytes:
            raise ValueError(f"an instruction of {INSTRUCTION_BYTES} bytes must fit one burst")
        if self.icp > INSTRUCTION_BYTES:
            raise ValueError("a word must not be longer than an instruction")
        if self.control == "small" and (self.queue & (self.queue - 1) or self.queue < 2 or self.bus.bytes > 16):
            raise ValueError("small control needs a queue of 2, 4, 8, … instructions and a bus of at most 16 bytes")
        for field in dataclasses.fields(self.memory):
            if not 2 <= getattr(self.memory, field.name) <= 1 << 16:
                raise ValueError(f"memory.{field.name} must lie in 2..65536 words")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the array in one cycle."""
        return self.pp * self.icp * self.ocp

    @property
    def granule(self) -> int:
        """Bytes that the array's results and the words of a bank have as a common measure."""
        return gcd(self.icp, self.ocp)

    @property
    def granules_per_word(self) -> int:
        """Granules of a word: columns of a bank that are written apart."""
        return self.icp // self.granule

    @property
    def granules_per_result(self) -> int:
        """Granules that the array gives for one pixel."""
        return self.ocp // self.granule

    @property
    def row_entry_words(self) -> int:
        """Words of one entry of a row table in external memory: offsets, banks, coefficient."""
        return -(-(3 * self.pp + 2) // self.icp)

    @property
    def beats_per_word(self) -> int:
        """Bus beats of one word."""
        return self.icp // self.bus.bytes

    @cached_property
    def fingerprint(self) -> int:
        """32 bits that tell this configuration from any other; name, summary and clock do not count."""
        facts = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("name", "summary", "clock_hz")}
        facts["version"] = ISA_VERSION
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:4], "little")


INSTRUCTION_BYTES = 64
ISA_VERSION = 1


def list_configs() -> tuple[str, ...]:
    """Names of the configurations that are shipped."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_config(name: str | os.PathLike[str]) -> ProcessorConfig:
    """A configuration by name or by the path of its file.

    Raises:
        UnknownTarget: there is none of that name; the nearest are named.
        BadTargetFile: the file is not a configuration.
    """
    text = os.fspath(name)
    if text.endswith(".toml"):
        return _read(Path(text))
    known = list_configs()
    if text not in known:
        near = difflib.get_close_matches(text.lower(), known, 3, 0.4)
        did_you_mean = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTarget(
            f'There is no processor configuration called "{printable(text, 60)}".{did_you_mean} The configurations '
            f"are {', '.join(known)}; for one of your own give its file, ending in .toml.",
            nearest=near,
        )
    return _read(FOLDER / f"{text}.toml")


def _read(path: Path) -> ProcessorConfig:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadTargetFile(
            f"Processor configuration {printable(path)} cannot be read: {printable(error)}. Give the path of a TOML "
            "file like those in the folder bitwright/fpga/configs.",
            path=str(path),
        ) from error
    return build(ProcessorConfig, table, Where(str(path)))
