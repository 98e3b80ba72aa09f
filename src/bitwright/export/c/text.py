"""The texts of the emitted files, from what the emitter decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c import interface, project, selftest
from bitwright.export.c.emitter import Emitter
from bitwright.export.c.library import HEADERS, ROUNDINGS
from bitwright.export.c.names import comment, string
from bitwright.export.c.python_face import python_face
from bitwright.mcu import runtime
from bitwright.mcu.arm import kernels, pools, sums
from bitwright.mcu.arm.dsp import Fast
from bitwright.mcu.cpu.cores import cores
from bitwright.mcu.cpu.kernels import VectorFast
from bitwright.number.render import c_prelude

Values = NDArray[np.integer[Any]]


def files(e: Emitter, samples: Sequence[Mapping[str, Values]]) -> dict[str, str]:
    """File name → text."""
    prefix = e.prefix
    sources = [f"{prefix}.c", f"{prefix}_kernels.c", f"{prefix}_weights.c"]
    # Computers have Python, microcontrollers have not.
    python = {f"{prefix}.py": python_face(e)} if e.core in cores() else {}
    return {
        f"{prefix}.c": source(e),
        f"{prefix}_kernels.c": kernel_source(e),
        f"{prefix}_weights.c": weights_source(e),
        f"{prefix}_kernels.h": kernel_header(e),
        f"{prefix}.h": header(e),
        f"{prefix}_test.c": selftest.test_source(e.program, prefix),
        f"{prefix}_vectors.h": selftest.vectors_header(e.program, e.layouts, prefix, samples),
        "CMakeLists.txt": project.cmake(prefix, sources, e.core),
        "Makefile": project.makefile(prefix, sources, e.core, e.kernels),
        **python,
    }


def arguments(e: Emitter) -> str:
    """Parameters of the run function."""
    parts = [f"const {e.scene.c_type(n)} *in{i}" for i, n in enumerate(e.program.inputs)]
    parts += [f"{e.scene.c_type(n)} *out{i}" for i, n in enumerate(e.program.outputs)]
    return ", ".join([*parts, "void *arena"])


def header(e: Emitter) -> str:
    """``<net>.h``: the interface."""
    prefix, upper, program = e.prefix, e.prefix.upper(), e.program
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
        f"#define {upper}_ARENA_BYTES {max(e.plan.arena_bytes, 1)}",
        f"#define {upper}_STEPS {len(program.steps)}",
        "",
    ]
    for role, tensors in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for i, name in enumerate(tensors):
            buffer, layout = program.buffers[name], e.layouts[name]
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
            view = e.storage.views[name]
            if view.solid and e.storage.roots[view.root].kind == ("input" if role == "INPUT" else "arena"):
                offset = e.offsets[view.root] + view.offset * e.storage.roots[view.root].item_bytes
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
        f"int {prefix}_run({arguments(e)});",
        "",
    ]
    for helper in e.helpers:
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
        f"int {prefix}_run_hooked({arguments(e)}, {prefix}_hook_t hook, void *user);",
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


def kernel_header(e: Emitter) -> str:
    """``<net>_kernels.h``: what the network's own files share."""
    renamed = [f"#define {i.name} {e.prefix}_{i.name}" for i in sorted(e.instances)]
    declared = [f"{i.prototype};" for i in sorted(e.instances)]
    float32 = [runtime.text("float32.h")] if uses_float32(e) else []
    guard = f"{e.prefix.upper()}_KERNELS_H"
    return "\n".join(
        [f"#ifndef {guard}", f"#define {guard}", "", runtime.text("bw.h"), *float32, *renamed, "", *declared, "",
         runtime.render_helpers({*e.instances, *(instance for _, instance in e.epilogues.values())}),
         kernels.declarations(fast_kernels(e), e.prefix),
         *([sums.declarations(list(e.sums.values()), e.prefix)] if e.sums else []),
         *([pools.declarations(pool_kinds(e), e.prefix)] if e.pools else []),
         *e.constants.declarations(), "", "#endif", ""]
    )  # fmt: skip


def uses_float32(e: Emitter) -> bool:
    """Whether a kernel requantizes in single precision."""
    return any(i.scale.startswith("float32") for i in e.instances) or kernels.uses_float32(fast_kernels(e))


def kernel_source(e: Emitter) -> str:
    """``<net>_kernels.c``: the shared kernels that are used."""
    parts = [f'#include "{e.prefix}_kernels.h"', ""]
    parts += [runtime.render(instance) for instance in sorted(e.instances)]
    parts.append(kernels.definitions(fast_kernels(e), e.prefix, runtime.fill_in))
    parts.append(sums.definitions(list(e.sums.values()), e.prefix, runtime.fill_in))
    parts.append(pools.definitions(pool_kinds(e), runtime.fill_in))
    return "\n".join([*parts, ""])


def pool_kinds(e: Emitter) -> list[str]:
    """Types of the kernels for maxima that are used."""
    return [pool.source for pool in e.pools.values()]


def fast_kernels(e: Emitter) -> list[Fast | VectorFast]:
    """The kernels for a core that are used."""
    return [call.fast for call in e.fast.values()]


def weights_source(e: Emitter) -> str:
    """``<net>_weights.c``: the constants."""
    return "\n".join([f'#include "{e.prefix}_kernels.h"', "", *e.constants.definitions(), ""])


def source(e: Emitter) -> str:
    """``<net>.c``: the network."""
    prefix, upper, program = e.prefix, e.prefix.upper(), e.program
    functions = [text.replace("@", name, 1) for text, name in e.functions.items()]
    own = [instance for _, instance in e.epilogues.values()]
    epilogues = [text for text, _ in e.epilogues.values()]
    helper_text = [helper.definition for helper in e.helpers]
    everything = "\n".join([*functions, *epilogues, *(runtime.render(i) for i in own)])
    prelude = c_prelude(everything)
    math = any("fabs(" in t or "floor(" in t for t in helper_text)
    roundings = sorted({call.rounding for call in e.library.values() if call.rounding})
    lines = [
        f'#include "{prefix}.h"',
        f'#include "{prefix}_kernels.h"',
        *(HEADERS[e.kernels] if e.library else ()),
        *(line for rounding in roundings for line in ROUNDINGS[rounding]),
        *(["#include <math.h>"] if math else []),
        "",
    ]
    lines += [prelude, *functions, *epilogues]
    lines += [runtime.render(i) for i in own]
    lines += [*e.descriptions, "", *run_lines(e), *helper_text]
    steps = []
    for step in program.steps:
        view, buffer = e.storage.views[step.outputs[0]], program.buffers[step.outputs[0]]
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


def run_lines(e: Emitter) -> list[str]:
    """The run function, with and without hooks."""
    prefix, upper, program = e.prefix, e.prefix.upper(), e.program
    inputs = [f"in{i}" for i in range(len(program.inputs))]
    passed = ", ".join([*inputs, *(f"out{i}" for i in range(len(program.outputs))), "arena, NULL, NULL"])
    missing = " || ".join([*(f"{name} == NULL" for name in inputs), "arena == NULL"])
    lines = [
        f"#if {upper}_HOOKS",
        f"#define {upper}_AFTER(step, data) do {{ if (hook != NULL) {{ hook(user, step, data); }} }} while (0)",
        f"int {prefix}_run({arguments(e)})",
        "{",
        f"    return {prefix}_run_hooked({passed});",
        "}",
        "",
        f"int {prefix}_run_hooked({arguments(e)}, {prefix}_hook_t hook, void *user)",
        "#else",
        f"#define {upper}_AFTER(step, data) do {{ }} while (0)",
        f"int {prefix}_run({arguments(e)})",
        "#endif",
        "{",
        "    unsigned char *const a = (unsigned char *)arena;",
        f"    if ({missing} || (uintptr_t)arena % 8 != 0) {{",
        "        return -1;",
        "    }",
    ]
    if not any("a +" in line for call in e.calls for line in call):
        lines.append("    (void)a;")
    for at, (step, call) in enumerate(zip(program.steps, e.calls, strict=True)):
        lines.append(f"    /* {comment(step.layer)}: {comment(step.op)}, {e.how[at]} */")
        lines += [line if line.startswith("#") else f"    {line}" for line in call]
        lines.append(f"    {upper}_AFTER({at}, {e.address(step.outputs[0])});")
    for i, name in enumerate(program.outputs):
        lines += output_lines(e, i, name)
    return [*lines, "    return 0;", "}", ""]


def output_lines(e: Emitter, i: int, name: str) -> list[str]:
    """The lines that copy an output to where the caller wants it."""
    view, buffer, kind = e.storage.views[name], e.program.buffers[name], e.scene.c_type(name)
    source = f"(const {kind} *)({e.address(name)})"
    copy = f"        memcpy(out{i}, {source}, {buffer.size} * sizeof(*out{i}));"
    if not view.solid:
        copy = (
            f"        for (int32_t i = 0; i < {buffer.size // view.run}; i++) {{\n"
            f"            memcpy(out{i} + i * {view.run}, {source} + i * {view.pitch}, {view.run} * sizeof(*out{i}));\n"
            "        }"
        )
    return [f"    if (out{i} != NULL) {{", copy, "    }"]
