"""The registers through which a host drives the processor: one map for hardware, drivers and documentation.

All are 32 bits wide.  Whatever carries them (AXI4-Lite, Wishbone, a serial line) addresses them in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitwright.fpga.config import ISA_VERSION, ProcessorConfig

IDENTITY = 0x4C445742
"""``BWDL`` in memory, to know the processor from anything else at its address."""

Access = Literal["read", "write", "read, write"]


@dataclass(frozen=True)
class Register:
    """One register.

    Attributes:
        name: As in the C header and the hardware.
        offset: In bytes from the first.
        access: What the host may do.
        meaning: For people.
    """

    name: str
    offset: int
    access: Access
    meaning: str

    @property
    def index(self) -> int:
        """Its number."""
        return self.offset // 4


@dataclass(frozen=True)
class Bit:
    """A bit of a register that has a name.

    Attributes:
        register: Name of the register.
        name: Of the bit.
        bit: Its position.
        meaning: For people.
    """

    register: str
    name: str
    bit: int
    meaning: str


MAP = (
    Register("IDENTITY", 0x00, "read", f"always 0x{IDENTITY:08X}"),
    Register("VERSION", 0x04, "read", "version of the instruction set"),
    Register("FINGERPRINT", 0x08, "read", "of the configuration; a program says which it needs"),
    Register("SHAPE", 0x0C, "read", "rows, input channels, output channels and bytes of the bus, a byte each, lowest first"),
    Register("CONTROL", 0x10, "read, write", "START and INTERRUPT; START reads as 0"),
    Register("STATUS", 0x14, "read, write", "RUNNING, FAULT and DONE; DONE is cleared by writing 1 to it"),
    Register("PROGRAM", 0x18, "read, write", "first byte of the program, counted from MEMORY_BASE"),
    Register("MEMORY_BASE", 0x1C, "read, write", "where the processor's address 0 is on the bus; a multiple of 4096"),
    Register("CYCLES", 0x20, "read", "cycles of the last program, low 32 bits"),
    Register("CYCLES_HIGH", 0x24, "read", "the bits above"),
    Register("PROFILE_INDEX", 0x28, "read, write", "number of a layer"),
    Register("PROFILE", 0x2C, "read", "cycle at which that layer's last result was stored"),
)  # fmt: skip

BITS = (
    Bit("CONTROL", "START", 0, "run the program; ignored while one runs"),
    Bit("CONTROL", "INTERRUPT", 1, "raise the interrupt line while DONE is set"),
    Bit("STATUS", "RUNNING", 0, "a program runs"),
    Bit("STATUS", "FAULT", 1, "the memory's bus answered with an error since the start"),
    Bit("STATUS", "DONE", 2, "a program has ended since the last start"),
)

BASE_ALIGNMENT = 4096
"""Of ``MEMORY_BASE``: no burst may cross a boundary of 4096 bytes on AXI."""

BY_NAME = {register.name: register for register in MAP}


def bit(register: str, name: str) -> int:
    """Position of a named bit."""
    return next(b.bit for b in BITS if (b.register, b.name) == (register, name))


def shape(config: ProcessorConfig) -> int:
    """What ``SHAPE`` reads as."""
    return config.pp | config.icp << 8 | config.ocp << 16 | config.bus.bytes << 24


CONSTANTS = {"IDENTITY": IDENTITY, "VERSION": ISA_VERSION}
"""Registers that are the same in every configuration."""
