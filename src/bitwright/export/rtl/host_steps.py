"""Steps between the processor's segments as C: each group a small network of its own, written as all generated C is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitwright.errors import UnsupportedOp, printable
from bitwright.export.c import text
from bitwright.export.c.emitter import Emitter
from bitwright.export.c.interface import copy_loop
from bitwright.export.c.names import type_of
from bitwright.fpga.image import Segment
from bitwright.fpga.schedule import Compute, Fetch, Schedule, Send
from bitwright.program.forms import Island
from bitwright.program.program import Program, Step

ALIGN = 8


@dataclass(frozen=True)
class Group:
    """Steps that the host computes at one time.

    Attributes:
        number: Which.
        emitter: Its C.
        reasons: Why the processor does not.
    """

    number: int
    emitter: Emitter
    reasons: tuple[str, ...]

    @property
    def program(self) -> Program:
        """The steps as a program."""
        return self.emitter.program

    def files(self) -> dict[str, str]:
        """File name → text."""
        e = self.emitter
        return {
            f"{e.prefix}.c": text.source(e),
            f"{e.prefix}.h": text.header(e),
            f"{e.prefix}_kernels.c": text.kernel_source(e),
            f"{e.prefix}_kernels.h": text.kernel_header(e),
            f"{e.prefix}_weights.c": text.weights_source(e),
        }

    def plain(self, name: str) -> bool:
        """Whether a buffer lies there as it does in the network."""
        layout = self.emitter.layouts[name]
        return np.array_equal(layout.positions, np.arange(layout.positions.size))


def groups(program: Program, plan: Schedule, prefix: str) -> dict[Compute, Group]:
    """The C of all groups of steps on the host.

    Raises:
        UnsupportedOp: a step is computed in floats.
    """
    found: dict[Compute, Group] = {}
    for at, action in enumerate(plan.actions):
        if isinstance(action, Compute):
            for step in action.steps:
                _refuse_island(step)
            part = _part(program, action.steps, _wanted(program, plan, at))
            emitter = Emitter(part, f"{prefix}_host{len(found)}", None)
            emitter.emit()
            found[action] = Group(len(found), emitter, action.reasons)
    return found


def _refuse_island(step: Step) -> None:
    if isinstance(step.form, Island):
        raise UnsupportedOp(
            f'Layer "{printable(step.layer)}" ({printable(step.op)}) is computed in float, which neither the processor nor '
            f"generated C does: {printable(step.form.reason, 300)}. Cut the network before this layer, or run it with: "
            "bitwright deploy --board sim:verilator.",
            op=step.op,
            layer=step.layer,
        )


def _wanted(program: Program, plan: Schedule, at: int) -> set[str]:
    """Buffers that somebody reads after an action."""
    found = set(program.outputs)
    for action in plan.actions[at + 1 :]:
        match action:
            case Send():
                found.add(action.buffer)
            case Compute():
                found.update(name for step in action.steps for name in step.inputs)
            case Fetch() | Segment():
                pass
    return found


def _part(program: Program, steps: Sequence[Step], wanted: Iterable[str]) -> Program:
    made = dict.fromkeys(name for step in steps for name in step.outputs)
    read = dict.fromkeys(name for step in steps for name in step.inputs if name not in made)
    return replace(
        program,
        buffers={name: program.buffers[name] for name in (*read, *made)},
        steps=tuple(steps),
        inputs=tuple(read),
        outputs=tuple(name for name in made if name in set(wanted)),
        learnables=(),
        macs={},
        notes=(),
    )


@dataclass
class Arena:
    """Working memory of the host: what it keeps of the network's buffers, and room for one group at a time.

    Attributes:
        program: The whole network.
        offsets: Buffer → first byte.
        fixed_bytes: Bytes of all buffers.
        most_bytes: Bytes of all.
    """

    program: Program
    offsets: dict[str, int]
    fixed_bytes: int
    most_bytes: int

    def pointer(self, name: str) -> str:
        """A buffer of the host."""
        kind = type_of(self.program.buffers[name].format.dtype)
        return f"({kind} *)(void *)(a + {self.offsets[name]})"


def arena(program: Program, kept: Iterable[str], found: Iterable[Group]) -> Arena:
    """Places for buffers, one after the other, and behind them the room of the largest group."""
    at = 0
    offsets: dict[str, int] = {}
    for name in kept:
        offsets[name] = at
        at += aligned(program.buffers[name].size_bytes)
    rooms = [sum(_turned(group).values()) + aligned(group.emitter.plan.arena_bytes) for group in found]
    return Arena(program, offsets, at, at + max(rooms, default=0))


def _turned(group: Group) -> dict[str, int]:
    """Buffers that the group wants in another order, with their bytes."""
    names = dict.fromkeys((*group.program.inputs, *group.program.outputs))
    return {n: aligned(group.program.buffers[n].size_bytes) for n in names if not group.plain(n)}


def call_lines(group: Group, room: Arena, pointers: dict[str, str]) -> list[str]:
    """The lines that run a group.

    Args:
        group: The group.
        room: Working memory.
        pointers: Buffer → C expression of its first element.
    """
    program, layouts = group.program, group.emitter.layouts
    at = room.fixed_bytes
    places: dict[str, str] = {}
    for name, size in _turned(group).items():
        places[name] = f"({type_of(program.buffers[name].format.dtype)} *)(void *)(a + {at})"
        at += size
    lines: list[str] = []
    for name in program.inputs:
        if name in places:
            count = np.arange(program.buffers[name].size)
            lines += _copy(program, name, places[name], pointers[name], count, layouts[name].positions)
    given = [places.get(name, pointers[name]) for name in (*program.inputs, *program.outputs)]
    lines += [
        f"if ({group.emitter.prefix}_run({', '.join([*given, f'a + {at}'])}) != 0) {{",
        "    return BWP_HOST_STEP;",
        "}",
    ]
    for name in program.outputs:
        if name in places:
            count = np.arange(program.buffers[name].size)
            lines += _copy(program, name, pointers[name], places[name], layouts[name].positions, count)
    return lines


def _copy(program: Program, name: str, into: str, start: str, to: object, source: object) -> list[str]:
    kind = type_of(program.buffers[name].format.dtype)
    to, source = np.asarray(to), np.asarray(source)
    order = np.argsort(to, kind="stable")
    lines = copy_loop(to[order], source[order], ["t[@t] = s[@s];"])
    return ["{", f"    {kind} *const t = {into};", f"    const {kind} *const s = {start};", *lines, "}"]


def aligned(size: int) -> int:
    """``size`` up to a multiple of the alignment."""
    return -(-size // ALIGN) * ALIGN
