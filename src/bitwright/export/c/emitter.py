"""Steps to calls: memory is planned, each step gets a kernel or a function, and its constants are collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitwright.data.contract import InputContract
from bitwright.export.c import interface
from bitwright.export.c.constants import Constants
from bitwright.export.c.contract import KernelCall, contract
from bitwright.export.c.elements import map_function, table_function
from bitwright.export.c.fast import FastCall, fast_contract
from bitwright.export.c.fast_pool import FastPool, fast_pool
from bitwright.export.c.fast_sum import description, fast_sum
from bitwright.export.c.layout import Layout, choose_layouts
from bitwright.export.c.library import Kernels, LibraryCall, Question, library_call
from bitwright.export.c.moves import move_function
from bitwright.export.c.names import Names, comment
from bitwright.export.c.scene import Function, Scene
from bitwright.export.c.storage import Storage, share
from bitwright.export.c.windows import reduce_function
from bitwright.mcu.arm.sums import FastSum
from bitwright.mcu.planner import MOST_TRIES, Block, Plan, plan
from bitwright.mcu.runtime import Instance
from bitwright.program.forms import Contract, Map, Move, Reduce, Table
from bitwright.program.program import Program, Step

FORMS: Mapping[type[Any], Callable[[Scene, Step], Function]] = {
    Map: map_function,
    Table: table_function,
    Reduce: reduce_function,
}


@dataclass
class Emitter:
    """A program on its way to C: what is decided and written so far, before it is put into files.

    Attributes:
        program: The program.
        prefix: Name of the network in C.
        contract: The input contract.
        names: Identifiers given to foreign names.
        calls: For each step its lines in the run function.
        functions: Functions of the network's own: text with ``@`` for the name → name.
        descriptions: ``bw_conv_t`` constants.
        instances: Shared kernels that are called.
        epilogues: Requantizers of the network's own: key → text, and the kernel that calls it.
        step_bytes: For each step the constants that it added.
        how: For each step, in words, what computes it.
        core: The core that kernels are chosen for; None for portable C.
        fast: Step → its kernel for that core.
        sums: Step → its kernel for sums.
        pools: Step → its kernel for maxima.
        kernels: Whose kernels are wanted: ours, or those of the user's own library.
        library: Step → its call of that library.
        uncovered: Step → why that library does not compute it.
        most_tries: Orders of memory blocks that are tried.
    """

    program: Program
    prefix: str
    contract: InputContract | None
    names: Names = field(default_factory=Names)
    calls: list[list[str]] = field(default_factory=list)
    functions: dict[str, str] = field(default_factory=dict)  # text without name → name
    descriptions: list[str] = field(default_factory=list)
    instances: set[Instance] = field(default_factory=set)
    epilogues: dict[str, tuple[str, Instance]] = field(default_factory=dict)
    step_bytes: list[int] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    core: str | None = None
    fast: dict[str, FastCall] = field(default_factory=dict)
    sums: dict[str, FastSum] = field(default_factory=dict)
    pools: dict[str, FastPool] = field(default_factory=dict)
    kernels: Kernels = "own"
    library: dict[str, LibraryCall] = field(default_factory=dict)
    uncovered: dict[str, str] = field(default_factory=dict)
    most_tries: int = MOST_TRIES

    def __post_init__(self) -> None:
        self.constants = Constants(self.prefix, self.names)
        self.layouts: dict[str, Layout] = choose_layouts(self.program)
        self.storage: Storage = share(self.program, self.layouts)
        self.scene = Scene(self.program, self.layouts, self.storage.views, self.constants)
        blocks = [
            Block(
                name=root.name,
                size_bytes=root.size_bytes,
                first=root.first,
                last=root.last,
                align=max(4, root.item_bytes),
            )
            for root in self.storage.roots.values()
        ]
        for at, step in enumerate(self.program.steps):
            if self.from_library(at, step):
                size = self.library[step.name].scratch_bytes
                if size:
                    blocks.append(Block(name=scratch_name(step), size_bytes=size, first=at, last=at))
                continue
            found = fast_contract(self.scene, step, self.core)
            if found is not None:
                self.fast[step.name] = found
                name, size = scratch_name(step), found.fast.scratch_bytes
                blocks.append(Block(name=name, size_bytes=size, first=at, last=at))
        for step in self.program.steps:
            total = None if step.name in self.library else fast_sum(self.scene, step, self.core)
            if total is not None:
                self.sums[step.name] = total
            pool = None if step.name in self.library else fast_pool(self.scene, step, self.core)
            if pool is not None:
                self.pools[step.name] = pool
        self.plan: Plan = plan(blocks, most_tries=self.most_tries)
        self.offsets = dict(zip((b.name for b in blocks), self.plan.offsets, strict=True))

    def from_library(self, at: int, step: Step) -> bool:
        """Whether the user's library computes a step."""
        if self.kernels == "own" or step.name in self.storage.elided or isinstance(step.form, Move):
            return False
        root = self.storage.roots[self.storage.views[step.inputs[0]].root]
        question = Question(self.scene, step, self.core, root.kind == "arena" and root.last <= at)
        found = library_call(self.kernels, question)
        if isinstance(found, str):
            self.uncovered[step.name] = found
            return False
        self.library[step.name] = found
        return True

    # Steps

    def emit(self) -> None:
        """Turn every step into calls."""
        for step in self.program.steps:
            before = self.constants.size_bytes
            how, lines = self.step(step)
            self.how.append(how)
            self.calls.append(lines)
            self.step_bytes.append(self.constants.size_bytes - before)
        self.helpers = interface.helpers(self.program, self.layouts, self.prefix, self.contract, self.constants)

    def step(self, step: Step) -> tuple[str, list[str]]:
        """What computes a step, in words, and its calls."""
        if step.name in self.storage.elided:
            return "nothing to do", []
        if step.name in self.library:
            return self.library_function(step, self.library[step.name])
        if step.name in self.fast:
            return self.fast_kernel(step, self.fast[step.name])
        if step.name in self.sums:
            return self.fast_sum(step, self.sums[step.name])
        if step.name in self.pools:
            pool, name = self.pools[step.name], f"pool_{len(self.descriptions)}"
            self.descriptions.append(pool.description(name, comment(step.layer)))
            return pool.name, [f"{pool.name}(&{name}, {self.read(step.inputs[0])}, {self.written(step)});"]
        form = step.form
        if isinstance(form, Contract):
            found = contract(self.scene, step, lambda: f"{self.prefix}_epilogue_{len(self.epilogues)}")
            if isinstance(found, KernelCall):
                return self.kernel(step, found)
            return "loop nest", [self.call(step, found)]
        if isinstance(form, Move):
            return "copy", [
                self.call(step, move_function(self.scene, step, self.storage.placed.get(step.name, frozenset())))
            ]
        return "loop nest", [self.call(step, FORMS[type(form)](self.scene, step))]

    def kernel(self, step: Step, call: KernelCall) -> tuple[str, list[str]]:
        """A call of a shared kernel; its constants become a description."""
        instance = call.instance
        if instance.own:
            # The same text under another name is the same function.
            key = call.epilogue.replace(instance.scale, "@") + instance.prototype.replace(instance.scale, "@")
            if key in self.epilogues:
                instance = self.epilogues[key][1]
            else:
                self.epilogues[key] = call.epilogue, instance
        else:
            self.instances.add(instance)
        number = len(self.descriptions)
        self.descriptions.append(
            f"static const bw_conv_t conv_{number} = {{ /* {comment(step.layer)} */\n    {', '.join(call.fields)}}};"
        )
        return instance.name, [f"{instance.name}(&conv_{number}, {self.read(step.inputs[0])}, {self.written(step)});"]

    def library_function(self, step: Step, call: LibraryCall) -> tuple[str, list[str]]:
        """A call of the user's library, in a block of its own."""
        symbols = {
            key: self.constants.add(step.layer, role, key, values) for key, (role, values) in call.tables.items()
        }
        given = {f"x{i}": self.read(name) for i, name in enumerate(step.inputs)}
        scratch = f"(void *)(a + {self.offsets[scratch_name(step)]})" if call.scratch_bytes else "NULL"
        lines = [line.format(**symbols, **given, y=self.written(step), scratch=scratch) for line in call.lines]
        return call.function, ["{", *(line if line.startswith("#") else f"    {line}" for line in lines), "}"]

    def fast_kernel(self, step: Step, call: FastCall) -> tuple[str, list[str]]:
        """A call of a kernel for the core."""
        stream = self.constants.add(step.layer, "weights", "stream", call.fast.stream)
        name = f"conv_{len(self.descriptions)}"
        self.descriptions.append(call.description(stream, name, comment(step.layer)))
        scratch = f"a + {self.offsets[scratch_name(step)]}"
        driver = call.fast.driver
        how = f"{driver} {call.fast.finish.name}"
        return how, [f"{driver}(&{name}, {self.read(step.inputs[0])}, {self.written(step)}, {scratch});"]

    def fast_sum(self, step: Step, fast: FastSum) -> tuple[str, list[str]]:
        """A call of a kernel for sums."""
        add = self.constants.add
        tables = add(step.layer, "table", "adds0", fast.tables[0]), add(step.layer, "table", "adds1", fast.tables[1])
        name = f"sum_{len(self.descriptions)}"
        count = self.program.buffers[step.outputs[0]].size
        self.descriptions.append(description(fast, tables, count, name, comment(step.layer)))
        operands = ", ".join(self.read(source) for source in step.inputs)
        return fast.name, [f"{fast.name}(&{name}, {operands}, {self.written(step)});"]

    def call(self, step: Step, function: Function) -> str:
        """A call of a function of the network's own; equal functions become one."""
        text = function.text("@")
        if text not in self.functions:
            self.functions[text] = f"step_{self.names.identifier(step.name + ' function')}"
        arguments = [*(self.read(name) for name in step.inputs), self.written(step)]
        return f"{self.functions[text]}({', '.join(arguments)});"

    def address(self, name: str) -> str:
        """A pointer to the first element of a buffer, without its type."""
        view = self.storage.views[name]
        root = self.storage.roots[view.root]
        if root.kind == "input":
            return f"in{self.program.inputs.index(root.name)}" + (f" + {view.offset}" if view.offset else "")
        return f"a + {self.offsets[root.name] + view.offset * root.item_bytes}"

    def read(self, name: str) -> str:
        """A pointer for reading a buffer."""
        kind = self.scene.c_type(name)
        return f"(const {kind} *)({self.address(name)})"

    def written(self, step: Step) -> str:
        """A pointer for writing the output of a step."""
        kind = self.scene.c_type(step.outputs[0])
        return f"({kind} *)({self.address(step.outputs[0])})"


def scratch_name(step: Step) -> str:
    """The memory block that a kernel works in."""
    return f"{step.name} (working memory)"
