"""``README.md`` of an export, and the bench's ``Makefile``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitwright.errors import printable
from bitwright.export.c.names import comment
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
        bench_files: Its files.
    """

    image: Image
    bus: Bus
    driver: Driver
    cycles: int
    compared: int
    bench_files: Sequence[str]


def makefile() -> str:
    """Runs the bench in the simulator that is there."""
    return """\
# make                    the bench in Icarus Verilog
# make STALL=50           the same with memory and bus that refuse half of the time
# make verilator          the same in Verilator 5, faster for large configurations
STALL ?= 0
SEED ?= 1
OPTIONS = +stall=$(STALL) +seed=$(SEED)
SOURCES = testbench.v ../rtl/processor.v

check: testbench.vvp
\tvvp -n testbench.vvp $(OPTIONS) | tee result.txt
\t@grep -q '^PASS' result.txt

testbench.vvp: $(SOURCES)
\tiverilog -g2012 -o $@ $(SOURCES)

verilator: obj_dir/Vtestbench
\tobj_dir/Vtestbench $(OPTIONS) | tee result.txt
\t@grep -q '^PASS' result.txt

obj_dir/Vtestbench: $(SOURCES)
\tverilator --binary --timing -O3 -Wno-fatal -Wno-lint -Wno-style --top-module testbench $(SOURCES)

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
    hosts = ""
    if driver.host_steps:
        hosts = (
            f"\n{driver.host_steps} steps run on the host, in C of this folder and in the integers that were validated: see "
            "`image/memory_map.txt` for\nwhich and why. `NAME_run` does all of it in order.\n"
        )
    return f"""\
# {name} on bitwright's open processor

{config.pp} × {config.icp} × {config.ocp} = {config.macs} multipliers, configuration `{printable(config.name, 60)}`, \
fingerprint 0x{config.fingerprint:08x}, with {BUS_WORDS[facts.bus]}.
A frame takes {facts.cycles:,} cycles by the cycle model ({config.clock_hz / facts.cycles:.1f} a second at \
{config.clock_hz / 1e6:g} MHz), in {len(segments)} program{"s" if len(segments) != 1 else ""}, and
{image.size_bytes:,} bytes of external memory.

| folder | what |
|---|---|
| `rtl/` | `processor.v`, module `processor`, one file of Verilog-2005 without vendor primitives; `configuration.toml`, which it was made from |
| `image/` | `image.bin`, instructions and parameters; `memory_map.txt`, regions, tensors and the order of a frame; `program.txt`, the instructions |
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
{instantiation(facts.bus, config.bus.bytes)}
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


def instantiation(bus: Bus, beat_bytes: int) -> str:
    """The module with its ports, to be pasted."""
    wide, strobes = 8 * beat_bytes - 1, beat_bytes - 1
    data, lanes = f"[{wide}:0]", f"[{strobes}:0]"
    if bus == "axi4":
        groups = [
            ("aclk", "aresetn", "interrupt"),
            ("m_axi_araddr [31:0]", "m_axi_arlen [7:0]", "m_axi_arsize [2:0]", "m_axi_arburst [1:0]",
             "m_axi_arcache [3:0]", "m_axi_arprot [2:0]", "m_axi_arvalid", "m_axi_arready"),
            (f"m_axi_rdata {data}", "m_axi_rresp [1:0]", "m_axi_rlast", "m_axi_rvalid", "m_axi_rready"),
            ("m_axi_awaddr [31:0]", "m_axi_awlen [7:0]", "m_axi_awsize [2:0]", "m_axi_awburst [1:0]",
             "m_axi_awcache [3:0]", "m_axi_awprot [2:0]", "m_axi_awvalid", "m_axi_awready"),
            (f"m_axi_wdata {data}", f"m_axi_wstrb {lanes}", "m_axi_wlast", "m_axi_wvalid", "m_axi_wready"),
            ("m_axi_bresp [1:0]", "m_axi_bvalid", "m_axi_bready"),
            ("s_axi_awaddr [7:0]", "s_axi_awprot [2:0]", "s_axi_awvalid", "s_axi_awready"),
            ("s_axi_wdata [31:0]", "s_axi_wstrb [3:0]", "s_axi_wvalid", "s_axi_wready"),
            ("s_axi_bresp [1:0]", "s_axi_bvalid", "s_axi_bready"),
            ("s_axi_araddr [7:0]", "s_axi_arprot [2:0]", "s_axi_arvalid", "s_axi_arready"),
            ("s_axi_rdata [31:0]", "s_axi_rresp [1:0]", "s_axi_rvalid", "s_axi_rready"),
        ]  # fmt: skip
    else:
        groups = [
            ("clk_i", "rst_i", "interrupt"),
            ("wbm_adr_o [31:0]", f"wbm_dat_o {data}", f"wbm_dat_i {data}", f"wbm_sel_o {lanes}", "wbm_we_o"),
            ("wbm_cyc_o", "wbm_stb_o", "wbm_stall_i", "wbm_ack_i", "wbm_err_i"),
            ("wbs_adr_i [7:0]", "wbs_dat_i [31:0]", "wbs_dat_o [31:0]", "wbs_sel_i [3:0]", "wbs_we_i"),
            ("wbs_cyc_i", "wbs_stb_i", "wbs_stall_o", "wbs_ack_o", "wbs_err_o"),
        ]
    lines = []
    for at, group in enumerate(groups):
        comma = "," if at + 1 < len(groups) else ""
        widths = (
            f"    // {', '.join(p.replace(' ', '') for p in group if ' ' in p)}" if any(" " in p for p in group) else ""
        )
        plain = [f".{port.partition(' ')[0]}({port.partition(' ')[0]})" for port in group]
        lines.append(f"    {', '.join(plain)}{comma}{widths}")
    return "processor processor_0 (\n" + "\n".join(lines) + "\n);"
