"""The generated self-test: inputs, the checksum of every step, the outputs; and a mode that streams files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.layout import Layout
from bitwright.export.c.names import array_body, type_of
from bitwright.program.program import Program
from bitwright.simulate.reference import run

Values = NDArray[np.integer[Any]]


def checksums(program: Program, layouts: Mapping[str, Layout], inputs: Mapping[str, Values]) -> list[int]:
    """CRC-32 of what each step writes, in storage order and little-endian, by the reference simulator."""
    found = run(program, inputs, keep=True)
    return [zlib.crc32(stored_bytes(program, layouts, step.outputs[0], found)) for step in program.steps]


def stored_bytes(program: Program, layouts: Mapping[str, Layout], name: str, values: Mapping[str, Values]) -> bytes:
    """A buffer as it lies in the memory of a little-endian machine, without gaps."""
    dtype = program.buffers[name].format.dtype
    return layouts[name].stored(np.asarray(values[name])).astype(dtype.newbyteorder("<")).tobytes()


def vectors_header(
    program: Program, layouts: Mapping[str, Layout], prefix: str, samples: Sequence[Mapping[str, Values]]
) -> str:
    """``<net>_vectors.h``: inputs, checksums and outputs of the samples."""
    upper = prefix.upper()
    lines = [f"#ifndef {upper}_VECTORS_H", f"#define {upper}_VECTORS_H", "", "#include <stdint.h>", ""]
    lines.append(f"#define {upper}_VECTORS {len(samples)}")
    for i, name in enumerate(program.inputs):
        buffer = program.buffers[name]
        stored = [layouts[name].stored(np.asarray(sample[name])) for sample in samples]
        lines.append(
            f"static const {type_of(buffer.format.dtype)} {prefix}_vector_in{i}[{upper}_VECTORS][{buffer.size}] = {{"
        )
        for values in stored:
            lines += ["    {", *array_body(np.asarray(values, buffer.format.dtype)), "    },"]
        lines.append("};")
    results = [run(program, sample, keep=True) for sample in samples]
    lines.append(f"static const uint32_t {prefix}_vector_crc[{upper}_VECTORS][{max(len(program.steps), 1)}] = {{")
    for found in results:
        sums = [zlib.crc32(stored_bytes(program, layouts, step.outputs[0], found)) for step in program.steps]
        lines.append("    {" + ", ".join(f"0x{value:08x}u" for value in sums or [0]) + "},")
    lines.append("};")
    for i, name in enumerate(program.outputs):
        buffer = program.buffers[name]
        lines.append(
            f"static const {type_of(buffer.format.dtype)} {prefix}_vector_out{i}[{upper}_VECTORS][{buffer.size}] = {{"
        )
        for found in results:
            values = layouts[name].stored(np.asarray(found[name]))
            lines += ["    {", *array_body(np.asarray(values, buffer.format.dtype)), "    },"]
        lines.append("};")
    return "\n".join([*lines, "", "#endif", ""])


def test_source(program: Program, prefix: str) -> str:
    """``<net>_test.c``: compares every step with the vectors; with two file names, runs samples from one to the other."""
    upper = prefix.upper()
    inputs = [(type_of(program.buffers[n].format.dtype), program.buffers[n].size) for n in program.inputs]
    outputs = [(type_of(program.buffers[n].format.dtype), program.buffers[n].size) for n in program.outputs]
    compare = "\n".join(
        f"        if (memcmp(out{i}, {prefix}_vector_out{i}[v], sizeof out{i}) != 0) {{\n"
        f'            printf("vector %d: output {i} differs\\n", v);\n            failures++;\n        }}'
        for i in range(len(outputs))
    )
    given = ", ".join(
        [f"{prefix}_vector_in{i}[v]" for i in range(len(inputs))] + [f"out{i}" for i in range(len(outputs))]
    )
    streamed = ", ".join([f"in{i}" for i in range(len(inputs))] + [f"out{i}" for i in range(len(outputs))])
    statics = [f"static {kind} out{i}[{size}];" for i, (kind, size) in enumerate(outputs)]
    file_inputs = [f"static {kind} in{i}[{size}];" for i, (kind, size) in enumerate(inputs)]
    read = " && ".join(f"fread(in{i}, sizeof in{i}, 1, from) == 1" for i in range(len(inputs)))
    return f"""\
/* Self-test.  Without arguments: runs the vectors, compares every step, prints PASS and returns 0 if all is equal.
   With two file names: reads samples from the first and writes what every step computes to the second.
   For boards without files: -DBW_NO_FILES.  Compile everything with -D{upper}_HOOKS=1. */
#include "{prefix}.h"
#include "{prefix}_vectors.h"
#include <stdio.h>
#include <string.h>

#if !{upper}_HOOKS
#error "compile the self-test and the network with -D{upper}_HOOKS=1"
#endif

static union {{
    int64_t align;
    unsigned char bytes[{upper}_ARENA_BYTES];
}} arena;
{chr(10).join(statics)}

static uint32_t crc_add(uint32_t crc, const unsigned char *bytes, size_t count)
{{
    for (size_t i = 0; i < count; i++) {{
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {{
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
        }}
    }}
    return crc;
}}

typedef struct {{
    int vector;
    int failures;
}} check_t;

static void check(void *user, int step, const void *data)
{{
    check_t *state = (check_t *)user;
    const {prefix}_step_t *s = &{prefix}_steps[step];
    const unsigned char *from = (const unsigned char *)data;
    uint32_t crc = 0xffffffffu;
    for (int32_t i = 0; i < s->runs; i++) {{
        crc = crc_add(crc, from + (size_t)i * (size_t)s->pitch * s->item_bytes, (size_t)s->run * s->item_bytes);
    }}
    if (~crc != {prefix}_vector_crc[state->vector][step]) {{
        printf("vector %d: step %d (%s) differs\\n", state->vector, step, s->name);
        state->failures++;
    }}
}}

static int run_vectors(void)
{{
    int failures = 0;
    for (int v = 0; v < {upper}_VECTORS; v++) {{
        check_t state = {{v, 0}};
        if ({prefix}_run_hooked({given}, &arena, check, &state) != 0) {{
            printf("vector %d: {prefix}_run refused its arguments\\n", v);
            return 1;
        }}
        failures += state.failures;
{compare}
    }}
    printf(failures == 0 ? "PASS %d vectors, %d steps\\n" : "FAIL\\n", {upper}_VECTORS, {upper}_STEPS);
    return failures == 0 ? 0 : 1;
}}

#ifndef BW_NO_FILES
{chr(10).join(file_inputs)}

static void dump(void *user, int step, const void *data)
{{
    const {prefix}_step_t *s = &{prefix}_steps[step];
    const unsigned char *from = (const unsigned char *)data;
    for (int32_t i = 0; i < s->runs; i++) {{
        fwrite(from + (size_t)i * (size_t)s->pitch * s->item_bytes, s->item_bytes, (size_t)s->run, (FILE *)user);
    }}
}}

static int run_files(const char *source, const char *target)
{{
    FILE *from = fopen(source, "rb"), *to = fopen(target, "wb");
    int bad = from == NULL || to == NULL;
    while (!bad && {read}) {{
        bad = {prefix}_run_hooked({streamed}, &arena, dump, to) != 0;
    }}
    if (from != NULL) {{
        fclose(from);
    }}
    if (to != NULL) {{
        bad |= fclose(to) != 0;
    }}
    return bad;
}}

int main(int argc, char **argv) {{ return argc == 3 ? run_files(argv[1], argv[2]) : run_vectors(); }}
#else
int main(void) {{ return run_vectors(); }}
#endif
"""
