"""Program → C99: a directory that compiles by itself.

NAME.h             the interface
NAME.c             the network as straight-line calls, and functions for what no kernel does
NAME_weights.c     constants; BW_WEIGHTS_SECTION puts them where the linker script wants them
NAME_kernels.h/.c  the kernels that are used, and no others
NAME_test.c        self-test, with NAME_vectors.h
CMakeLists.txt, Makefile, report.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract
from bitwright.errors import DoesNotFit, ExportError, UnsupportedOp, printable
from bitwright.export.c import interface, project, selftest
from bitwright.export.c.constants import Constants
from bitwright.export.c.contract import KernelCall, contract
from bitwright.export.c.layout import Layout, choose_layouts
from bitwright.export.c.names import Names, comment, plain, string
from bitwright.export.c.nests import FORMS, Function, Scene, move_function
from bitwright.export.c.storage import Storage, share
from bitwright.mcu import runtime
from bitwright.mcu.planner import Block, Plan, plan
from bitwright.mcu.runtime import Instance
from bitwright.number.render import C_PRELUDE
from bitwright.program.forms import Contract, Island, Move
from bitwright.program.program import Program, Step

Values = NDArray[np.integer[Any]]
KNOWN_SAMPLES = 1  # test vectors where the caller gives none


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        directory: Where.
        prefix: Name of the network in C: of the files, the functions and, in capitals, the macros.
        files: Files, relative to the directory; C sources of the library first.
        layouts: Storage order of every buffer, to read what the C program writes.
        plan: The memory plan.
        report: What ``report.json`` holds.
    """

    directory: Path
    prefix: str
    files: tuple[str, ...]
    layouts: Mapping[str, Layout]
    plan: Plan
    report: Mapping[str, Any]

    @property
    def library_sources(self) -> tuple[str, ...]:
        """The C files that belong into a firmware."""
        return tuple(f"{self.prefix}{tail}.c" for tail in ("", "_kernels", "_weights"))


def write(
    program: Program,
    directory: str | Path,
    *,
    name: str | None = None,
    contract: InputContract | None = None,
    samples: Sequence[Mapping[str, Values]] | None = None,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
) -> Exported:
    """Write a program as C99.

    Args:
        program: An integer program without float islands.
        directory: Where to; made if it is not there.
        name: Name of the network in C; the program's name by default.
        contract: The input contract, from which the function that takes pixels is made.
        samples: Input buffer → integers ``[1, ...]``: vectors of the self-test.  One random sample by default.
        flash_bytes: Refuse to write what needs more constant memory and code.
        ram_bytes: Refuse to write what needs a larger arena.

    Raises:
        UnsupportedOp: a layer is a float island.
        DoesNotFit: more memory is needed than there is.
        ExportError: the directory cannot be written.
    """
    _refuse_islands(program)
    emitter = _Emitter(program, plain(name or program.name), contract)
    emitter.emit()
    report = emitter.report()
    _refuse_too_large(report, emitter, flash_bytes, ram_bytes)
    given = list(samples) if samples else random_samples(program, KNOWN_SAMPLES)
    files = emitter.files(given)
    files["report.json"] = json.dumps(report, indent=1) + "\n"
    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (target / file).write_text(text, "utf-8", newline="\n")
    except OSError as error:
        raise ExportError(
            f"The C files cannot be written to {printable(target)}: {error.strerror}. Choose another directory with -o."
        ) from error
    return Exported(
        directory=target,
        prefix=emitter.prefix,
        files=tuple(files),
        layouts=emitter.layouts,
        plan=emitter.plan,
        report=report,
    )


def random_samples(program: Program, count: int, seed: int = 0) -> list[dict[str, Values]]:
    """Inputs that use the whole range of the input formats."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: rng.integers(b.format.lo, b.format.hi, b.shape, endpoint=True).astype(b.format.dtype)
            for name, b in ((name, program.buffers[name]) for name in program.inputs)
        }
        for _ in range(count)
    ]


def _refuse_islands(program: Program) -> None:
    for step in program.steps:
        if isinstance(step.form, Island):
            raise UnsupportedOp(
                f"Layer '{printable(step.layer)}' ({printable(step.op)}) runs in float, and generated C holds integers "
                f"only: {printable(step.form.reason, 300)}. Quantize for a target that computes it in integers "
                "(--target generic computes the most), or cut the network before this layer.",
                op=step.op,
                layer=step.layer,
                target=program.target,
            )


def _refuse_too_large(report: Mapping[str, Any], emitter: _Emitter, flash: int | None, ram: int | None) -> None:
    arena = emitter.plan.arena_bytes
    if ram is not None and arena > ram:
        at = report["ram"]["busiest_step"]
        raise DoesNotFit(
            f"The arena needs {arena} bytes of RAM and there are {ram}: {arena - ram} too many. Step "
            f"'{printable(at['name'])}' of layer '{printable(at['layer'])}' alone needs {at['alive_bytes']}. Make its "
            "input or output smaller (fewer channels, a smaller picture, an earlier stride or pooling), or choose a "
            "device with more RAM.",
            need_bytes=arena,
            have_bytes=ram,
        )
    need = report["flash"]["estimate_bytes"]
    if flash is not None and need > flash:
        largest = max(report["layers"], key=lambda layer: layer["constant_bytes"], default=None)
        where = f" Layer '{printable(largest['layer'])}' has the most, {largest['constant_bytes']}." if largest else ""
        raise DoesNotFit(
            f"Constants and code need about {need} bytes of flash and there are {flash}: {need - flash} too many."
            f"{where} Fewer channels, or weights of fewer bits, make it fit.",
            need_bytes=need,
            have_bytes=flash,
        )


@dataclass
class _Emitter:
    """Everything that is known while the files are put together."""

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
        self.plan: Plan = plan(blocks)
        self.offsets = dict(zip((b.name for b in blocks), self.plan.offsets, strict=True))

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
        if step.name in self.storage.elided:
            return "nothing to do", []
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

    def call(self, step: Step, function: Function) -> str:
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
        kind = self.scene.c_type(name)
        return f"(const {kind} *)({self.address(name)})"

    def written(self, step: Step) -> str:
        kind = self.scene.c_type(step.outputs[0])
        return f"({kind} *)({self.address(step.outputs[0])})"

    # Files

    def files(self, samples: Sequence[Mapping[str, Values]]) -> dict[str, str]:
        """File name → text."""
        prefix = self.prefix
        sources = [f"{prefix}.c", f"{prefix}_kernels.c", f"{prefix}_weights.c"]
        return {
            f"{prefix}.c": self.source(),
            f"{prefix}_kernels.c": self.kernel_source(),
            f"{prefix}_weights.c": self.weights_source(),
            f"{prefix}_kernels.h": self.kernel_header(),
            f"{prefix}.h": self.header(),
            f"{prefix}_test.c": selftest.test_source(self.program, prefix),
            f"{prefix}_vectors.h": selftest.vectors_header(self.program, self.layouts, prefix, samples),
            "CMakeLists.txt": project.cmake(prefix, sources),
            "Makefile": project.makefile(prefix, sources),
        }

    def arguments(self) -> str:
        parts = [f"const {self.scene.c_type(n)} *in{i}" for i, n in enumerate(self.program.inputs)]
        parts += [f"{self.scene.c_type(n)} *out{i}" for i, n in enumerate(self.program.outputs)]
        return ", ".join([*parts, "void *arena"])

    def header(self) -> str:
        prefix, upper, program = self.prefix, self.prefix.upper(), self.program
        lines = [
            f"/* {comment(program.name)} for target {comment(program.target)}, written by bitwright.",
            "   Nothing here allocates, keeps state or changes its inputs; calls with different arenas may overlap. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* Bytes of working memory, aligned to 8. */",
            f"#define {upper}_ARENA_BYTES {max(self.plan.arena_bytes, 1)}",
            f"#define {upper}_STEPS {len(program.steps)}",
            "",
        ]
        for role, tensors in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
            for i, name in enumerate(tensors):
                buffer, layout = program.buffers[name], self.layouts[name]
                suffix = "" if len(tensors) == 1 else str(i)
                shape = [buffer.shape[a] for a in layout.order or ()]
                macro = f"{upper}_{role}{suffix}"
                lines += [
                    f"/* {role.lower()} {comment(name)}: {comment(buffer.format)}, real = scale * (integer - zero point).",
                    f"   In memory: {' x '.join(map(str, shape))}: axes {list(layout.order or ())} of {list(buffer.shape)}. */",
                    f"#define {macro}_SIZE {buffer.size}",
                    f"#define {macro}_SCALE {interface.real(float(buffer.format.scale))}",
                    f"#define {macro}_ZERO_POINT {int(buffer.format.zero_point)}",
                ]
                view = self.storage.views[name]
                if view.solid and self.storage.roots[view.root].kind == ("input" if role == "INPUT" else "arena"):
                    offset = self.offsets[view.root] + view.offset * self.storage.roots[view.root].item_bytes
                    what = (
                        "A place in the arena that is free until the input has been read."
                        if role == "INPUT"
                        else ("Where in the arena the output lies after a run.")
                    )
                    lines += [f"/* {what} */", f"#define {macro}_OFFSET {offset}"]
                lines.append("")
        lines += [
            "/* Runs the network once.  Inputs may lie anywhere, also at their offset in the arena.  An output pointer may",
            "   be NULL: the result is then read from the arena.  Returns 0, or -1 if a pointer is missing or the arena is",
            "   not aligned. */",
            f"int {prefix}_run({self.arguments()});",
            "",
        ]
        for helper in self.helpers:
            lines += [f"/* {helper.comment} */", f"{helper.prototype};", ""]
        lines += [
            f"/* With -D{upper}_HOOKS=1, a function that sees what every step computes, for tests and for finding faults. */",
            f"#ifndef {upper}_HOOKS",
            f"#define {upper}_HOOKS 0",
            "#endif",
            f"#if {upper}_HOOKS",
            "typedef struct {",
            "    const char *name;",
            "    int32_t runs, run, pitch; /* `runs` runs of `run` elements, `pitch` elements from one to the next */",
            "    uint8_t item_bytes;",
            f"}} {prefix}_step_t;",
            f"extern const {prefix}_step_t {prefix}_steps[];",
            f"typedef void (*{prefix}_hook_t)(void *user, int step, const void *data);",
            f"int {prefix}_run_hooked({self.arguments()}, {prefix}_hook_t hook, void *user);",
            "#endif",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def kernel_header(self) -> str:
        renamed = [f"#define {i.name} {self.prefix}_{i.name}" for i in sorted(self.instances)]
        declared = [f"{i.prototype};" for i in sorted(self.instances)]
        float32 = [runtime.text("float32.h")] if self.uses_float32() else []
        guard = f"{self.prefix.upper()}_KERNELS_H"
        return "\n".join(
            [f"#ifndef {guard}", f"#define {guard}", "", runtime.text("bw.h"), *float32, *renamed, "", *declared, "",
             *self.constants.declarations(), "", "#endif", ""]
        )  # fmt: skip

    def uses_float32(self) -> bool:
        return any(i.scale.startswith("float32") for i in self.instances)

    def kernel_source(self) -> str:
        parts = [f'#include "{self.prefix}_kernels.h"', "", runtime.render_helpers(self.instances)]
        parts += [runtime.render(instance) for instance in sorted(self.instances)]
        return "\n".join([*parts, ""])

    def weights_source(self) -> str:
        return "\n".join([f'#include "{self.prefix}_kernels.h"', "", *self.constants.definitions(), ""])

    def source(self) -> str:
        prefix, upper, program = self.prefix, self.prefix.upper(), self.program
        functions = [text.replace("@", name, 1) for text, name in self.functions.items()]
        own = [instance for _, instance in self.epilogues.values()]
        epilogues = [text for text, _ in self.epilogues.values()]
        helper_text = [helper.definition for helper in self.helpers]
        everything = "\n".join([*functions, *epilogues])
        prelude = C_PRELUDE if "BW_ASR" in everything or "BW_FLOOR" in everything or "bw_scale32" in everything else ""
        math = any("fabs(" in t or "floor(" in t for t in helper_text)
        lines = [
            f'#include "{prefix}.h"',
            f'#include "{prefix}_kernels.h"',
            *(["#include <math.h>"] if math else []),
            "",
        ]
        lines += [prelude, *functions, *epilogues]
        lines += [runtime.render_helpers(set(own)), *(runtime.render(i) for i in own)]
        lines += [*self.descriptions, "", *self.run_lines(), *helper_text]
        steps = []
        for step in program.steps:
            view, buffer = self.storage.views[step.outputs[0]], program.buffers[step.outputs[0]]
            run = view.run if not view.solid else buffer.size
            steps.append(
                f"    {{{string(step.name)}, {buffer.size // run}, {run}, {view.pitch}, {buffer.format.dtype.itemsize}}},"
            )
        lines += [
            "",
            f"#if {upper}_HOOKS",
            f"const {prefix}_step_t {prefix}_steps[] = {{",
            *(steps or ['    {"", 0, 0, 0, 0},']),
            "};",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def run_lines(self) -> list[str]:
        prefix, upper, program = self.prefix, self.prefix.upper(), self.program
        inputs = [f"in{i}" for i in range(len(program.inputs))]
        passed = ", ".join([*inputs, *(f"out{i}" for i in range(len(program.outputs))), "arena, NULL, NULL"])
        missing = " || ".join([*(f"{name} == NULL" for name in inputs), "arena == NULL"])
        lines = [
            f"#if {upper}_HOOKS",
            f"#define {upper}_AFTER(step, data) do {{ if (hook != NULL) {{ hook(user, step, data); }} }} while (0)",
            f"int {prefix}_run({self.arguments()})",
            "{",
            f"    return {prefix}_run_hooked({passed});",
            "}",
            "",
            f"int {prefix}_run_hooked({self.arguments()}, {prefix}_hook_t hook, void *user)",
            "#else",
            f"#define {upper}_AFTER(step, data) do {{ }} while (0)",
            f"int {prefix}_run({self.arguments()})",
            "#endif",
            "{",
            "    unsigned char *const a = (unsigned char *)arena;",
            f"    if ({missing} || (uintptr_t)arena % 8 != 0) {{",
            "        return -1;",
            "    }",
        ]
        if not any("a +" in line for call in self.calls for line in call):
            lines.append("    (void)a;")
        for at, (step, call) in enumerate(zip(program.steps, self.calls, strict=True)):
            lines.append(f"    /* {comment(step.layer)}: {comment(step.op)}, {self.how[at]} */")
            lines += [f"    {line}" for line in call]
            lines.append(f"    {upper}_AFTER({at}, {self.address(step.outputs[0])});")
        for i, name in enumerate(program.outputs):
            lines += self.output_lines(i, name)
        return [*lines, "    return 0;", "}", ""]

    def output_lines(self, i: int, name: str) -> list[str]:
        view, buffer, kind = self.storage.views[name], self.program.buffers[name], self.scene.c_type(name)
        source = f"(const {kind} *)({self.address(name)})"
        copy = f"        memcpy(out{i}, {source}, {buffer.size} * sizeof(*out{i}));"
        if not view.solid:
            copy = (
                f"        for (int32_t i = 0; i < {buffer.size // view.run}; i++) {{\n"
                f"            memcpy(out{i} + i * {view.run}, {source} + i * {view.pitch}, {view.run} * sizeof(*out{i}));\n"
                "        }"
            )
        return [f"    if (out{i} != NULL) {{", copy, "    }"]

    # Report

    def report(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        program = self.program
        code = code_bytes(self.instances, len(self.functions), sum(map(len, self.functions)), len(program.steps))
        descriptions = 80 * len(self.descriptions)
        busiest = self.plan.busiest_step
        at = max(min(busiest, len(program.steps) - 1), 0)
        counted: set[str] = set()
        rows = []
        for step, bytes_, how in zip(program.steps, self.step_bytes, self.how, strict=True):
            macs = 0
            if isinstance(step.form, Contract) and step.layer not in counted:
                macs = program.macs.get(step.layer, 0)
                counted.add(step.layer)
            rows.append(
                {
                    "step": step.name,
                    "layer": step.layer,
                    "op": step.op,
                    "by": how,
                    "macs": macs,
                    "constant_bytes": bytes_,
                }
            )
        return {
            "network": program.name,
            "target": program.target,
            "prefix": self.prefix,
            "macs": sum(program.macs.values()),
            "flash": {
                "weights_bytes": self.constants.bytes_of("weights"),
                "bias_bytes": self.constants.bytes_of("bias"),
                "requantization_bytes": self.constants.bytes_of("requantization"),
                "table_bytes": self.constants.bytes_of("table") + self.constants.bytes_of("indices"),
                "constant_bytes": self.constants.size_bytes,
                "description_bytes": descriptions,
                "code_bytes_estimate": code,
                "estimate_bytes": self.constants.size_bytes + descriptions + code,
            },
            "ram": {
                "arena_bytes": self.plan.arena_bytes,
                "bound_bytes": self.plan.bound_bytes,
                "orders_tried": self.plan.tries,
                "busiest_step": {
                    "name": program.steps[at].name if program.steps else "",
                    "layer": program.steps[at].layer if program.steps else "",
                    "alive_bytes": self.plan.bound_bytes,
                },
                "blocks": [
                    {
                        "name": block.name,
                        "offset": offset,
                        "bytes": block.size_bytes,
                        "first_step": block.first,
                        "last_step": block.last,
                        "buffers": self.storage.roots[block.name].members,
                    }
                    for block, offset in zip(self.plan.blocks, self.plan.offsets, strict=True)
                ],
            },
            "layers": rows,
        }


def code_bytes(instances: set[Instance], functions: int, text: int, steps: int) -> int:
    """A rough size of Thumb-2 code: shared kernels, own functions by their text, one call per step."""
    kernels = {"conv": 560, "pointwise": 380, "depthwise": 420}
    return sum(kernels.get(i.kernel, 400) for i in instances) + 60 * functions + text // 6 + 20 * steps + 100
