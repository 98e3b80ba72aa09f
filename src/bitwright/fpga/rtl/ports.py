"""Bundles of signals between the units of the processor."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Mux, Signal, Value, signed

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import FIELDS, HEADER, TOKENS, Unit
from bitwright.fpga.limits import BURST_BITS, widths


def instruction_bits(unit: Unit) -> int:
    """Bits of an instruction that have a meaning."""
    return sum(f.bits for f in (*HEADER, *FIELDS[unit]))


def fields(unit: Unit, word: Any, config: ProcessorConfig) -> dict[str, Any]:
    """The fields of an instruction as slices of ``word``, as wide as the configuration needs them."""
    found: dict[str, Any] = {}
    position = 0
    for f in (*HEADER, *FIELDS[unit]):
        part = Value.cast(word)[position : position + widths(config, unit)[f.name]]
        found[f.name] = part.as_signed() if f.signed and len(part) else part
        position += f.bits
    return found


def held(m: Any, head: Head, config: ProcessorConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the instruction that runs, and of the one that comes.

    Small control keeps an instruction where it came until it is done; else it is copied, and the next one may come.
    """
    coming = fields(head.unit, head.word, config)
    if config.control == "small":
        return coming, coming
    now = Signal(instruction_bits(head.unit), name=f"{head.unit.name.lower()}_now")
    with m.If(head.start):
        m.d.sync += now.eq(head.word)
    return fields(head.unit, now, config), coming


class Loop:
    """Counts the turns of a loop, of which there are at least one.

    What is left is counted down to 1, which is quick to see.  With ``small`` turns are counted up to the limit: a register
    that is set to 1 takes less logic than one that is set to a limit.

    Attributes:
        last: The last turn.
    """

    def __init__(self, m: Any, name: str, limit: Any, small: bool) -> None:
        self.limit, self.small = limit, small
        self.count = Signal(len(limit), name=name, init=int(small))
        self.last = Signal(name=f"{name}_is_last")
        m.d.comb += self.last.eq(self.count == (limit if small else 1))

    def next(self, *, again: bool = True) -> Any:
        """The statement that ends a turn; after the last one the first begins, if ``again``."""
        then = self.count + 1 if self.small else self.count - 1
        return self.count.eq(Mux(self.last, 1 if self.small else self.limit, then) if again else then)

    def begin(self, limit: Any) -> Any:
        """The statement that begins the loop, with the limit that will stand in its place."""
        return self.count.eq(1 if self.small else limit)


class Requests:
    """A channel of burst requests: address in bytes, length in beats."""

    def __init__(self, name: str, beat_bits: int = BURST_BITS) -> None:
        self.valid = Signal(name=f"{name}_valid")
        self.ready = Signal(name=f"{name}_ready")
        self.address = Signal(32, name=f"{name}_address")
        self.beats = Signal(beat_bits, name=f"{name}_beats")


class Beats:
    """A channel of data."""

    def __init__(self, name: str, width: int) -> None:
        self.valid = Signal(name=f"{name}_valid")
        self.ready = Signal(name=f"{name}_ready")
        self.data = Signal(width, name=f"{name}_data")
        self.last = Signal(name=f"{name}_last")


class Head:
    """The oldest instruction of a queue, and the tokens that its unit takes and gives."""

    def __init__(self, unit: Unit) -> None:
        name = unit.name.lower()
        self.unit = unit
        self.valid = Signal(name=f"{name}_head_valid")
        self.word = Signal(instruction_bits(unit), name=f"{name}_head")
        self.ready = Signal(name=f"{name}_unit_ready")
        self.start = Signal(name=f"{name}_start")
        self.post = Signal(TOKENS, name=f"{name}_post")
        self.done = Signal(name=f"{name}_done")
        self.over = Signal(name=f"{name}_over")  # the instruction is no longer looked at
        self.busy = Signal(name=f"{name}_busy")


class BankWrite:
    """A write to the banks of a buffer.

    Attributes:
        enable: One bit for each bank and column.
        address: A word address for each column.
        data: A word for each bank.
    """

    def __init__(self, name: str, banks: int, columns: int, word_bits: int) -> None:
        self.enable = [Signal(columns, name=f"{name}_enable{b}") for b in range(banks)]
        self.address = [Signal(16, name=f"{name}_address{c}") for c in range(columns)]
        self.data = [Signal(word_bits, name=f"{name}_data{b}") for b in range(banks)]


def delayed(m: Any, value: Any, cycles: int, name: str) -> Any:
    """``value`` after ``cycles`` clock edges."""
    value = Value.cast(value)
    for at in range(cycles):
        shape = signed(len(value)) if value.shape().signed else len(value)
        register = Signal(shape, name=f"{name}_{at + 1}")
        m.d.sync += register.eq(value)
        value = register
    return value
