"""A board: processor, serial bridge and external memory; around them the clock and the pins of a device."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, IOPort, Module, Mux, Signal

from bitwright.fpga.board import BoardFile, Oscillator
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.limits import beat_bits
from bitwright.fpga.rtl.bridge import Bridge
from bitwright.fpga.rtl.registers import Registers
from bitwright.fpga.rtl.sdram import NOTHING, Sdram
from bitwright.fpga.rtl.sharing import share
from bitwright.fpga.rtl.spram import Spram
from bitwright.fpga.rtl.top import Processor
from bitwright.fpga.sdram import BANK_BITS, ROW_BITS, times
from bitwright.fpga.wire import LOADED

WAKE_CYCLES = 1 << 12
"""Of silence after the clock has settled."""


def most_beats(config: ProcessorConfig) -> int:
    """Beats that may be on their way to the processor; to the host it is one."""
    return max(config.bus.outstanding, 2) * config.bus.burst_beats


class System(Elaboratable):
    """All that has no pins of a certain device.

    Attributes:
        rx: The serial line from the host.
        tx: To the host.
        busy: A program runs.
        memory: The controller of external memory.
    """

    def __init__(self, board: BoardFile, config: ProcessorConfig, divisor: int, clock_hz: float) -> None:
        self.board, self.config, self.divisor = board, config, divisor
        self.rx, self.tx = Signal(init=1, name="rx"), Signal(init=1, name="tx")
        self.busy = Signal(name="is_busy")
        self.memory: Any = (
            Sdram(config.bus.bytes, times(clock_hz))
            if board.memory == "sdram"
            else Spram(config.bus.bytes, beat_bits(config))
        )

    def elaborate(self, platform: Any) -> Module:
        """Wires everything."""
        m = Module()
        core = Processor(self.config)
        registers = Registers(core, relocates=False)
        bridge = Bridge(self.divisor, self.config.bus.bytes, self.board.memory_bytes)
        m.submodules.core, m.submodules.registers, m.submodules.bridge = core, registers, bridge
        m.submodules.memory = self.memory
        share(m, self.memory, core, bridge.memory, most_beats(self.config))
        # What of the host's is loaded: a register beside those of the processor, cleared by configuration only.
        own = bridge.index[LOADED.bit_length() - 3]
        loaded = Signal(32, reset_less=True)
        with m.If(bridge.write_enable & own):
            m.d.sync += loaded.eq(bridge.write_data)
        m.d.comb += [
            registers.index.eq(Mux(own, 0, bridge.index)),
            registers.write_enable.eq(bridge.write_enable & ~own),
            registers.write_data.eq(bridge.write_data),
            registers.hold.eq(bridge.hold),
            bridge.read_data.eq(Mux(own, loaded, registers.read_data)),
            bridge.enable.eq(self.memory.ready),
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            self.busy.eq(core.busy),
        ]
        return m


class Simulated(Elaboratable):
    """The system with the pins of its memory chip as plain signals, and one clock."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.chip = {
            name: Signal(width, name=name, init=init)
            for name, width, init in (
                ("sdram_command", 3, NOTHING), ("sdram_bank", BANK_BITS, 0), ("sdram_address", ROW_BITS, 0),
                ("sdram_mask", 2, 0), ("sdram_data_out", 16, 0), ("sdram_drive", 1, 0), ("sdram_data_in", 16, 0),
            )
        }  # fmt: skip

    def ports(self) -> list[Signal]:
        """All signals that leave it."""
        chip = list(self.chip.values()) if isinstance(self.system.memory, Sdram) else []
        return [self.system.rx, self.system.tx, self.system.busy, *chip]

    def elaborate(self, platform: Any) -> Module:
        """Registers where pins have them."""
        m = Module()
        m.submodules.system = self.system
        if isinstance(self.system.memory, Sdram):
            pins, chip = self.system.memory.pins, self.chip
            for name, signal in chip.items():
                inner = getattr(pins, name.removeprefix("sdram_"))
                m.d.sync += inner.eq(signal) if name == "sdram_data_in" else signal.eq(inner)
        return m


class Top(Elaboratable):
    """The system on a device.  Its ports have the names that the board's constraints use.

    Args:
        board: The board.
        config: The processor.
        system: What is on it, in place of the processor's.
    """

    def __init__(self, board: BoardFile, config: ProcessorConfig, system: Any = None) -> None:
        self.board, self.config = board, config
        self.clocks: Oscillator = board.clocks(config)
        self.system = system
        self.pins = {name: IOPort(len(places), name=name) for name, places in board.ports().items()}

    def ports(self) -> list[Any]:
        """All pins."""
        return list(self.pins.values())

    def elaborate(self, platform: Any) -> Module:
        """Clock, first values, pins."""
        m = Module()
        if self.system is None:
            self.system = System(self.board, self.config, self.clocks.divisor, self.clocks.clock_hz)
        m.submodules.system = self.system
        # Registers have their first values from the configuration, and a system that hears nothing changes none of them,
        # however its clock comes up; only a chip of memory is told things unasked.  A reset would be a wire to all registers:
        # on an ECP5 a seventh of all connections, and the logic of an iCE40's registers.
        m.domains.sync = ClockDomain(reset_less=True)
        m.domains.wake = ClockDomain(reset_less=True)
        settled, clock = Signal(), Signal()
        if self.board.family == "ecp5":
            shifted = Signal()
            self._ecp5_clock(m, clock, shifted, settled)
        else:
            self._ice40_clock(m, clock, settled)
        count = Signal(range(WAKE_CYCLES + 1))
        m.d.comb += [
            ClockSignal("sync").eq(clock),
            ClockSignal("wake").eq(clock),
        ]
        with m.If(settled & (count != WAKE_CYCLES)):
            m.d.wake += count.eq(count + 1)
        awake = Signal()
        m.d.wake += awake.eq(count == WAKE_CYCLES)
        m.d.comb += self.system.rx.eq(self._in(m, "rx") | ~awake)
        self._plain(m)
        if self.board.memory == "sdram":
            m.d.comb += self.system.memory.awake.eq(awake)
            self._sdram(m, shifted)
        return m

    def _in(self, m: Module, name: str) -> Signal:
        value = Signal(name=f"{name}_in")
        if self.board.family == "ecp5":
            m.submodules[f"pad_{name}"] = Instance("IB", i_I=self.pins[name], o_O=value)
        else:
            m.submodules[f"pad_{name}"] = Instance(
                "SB_IO", p_PIN_TYPE=Const(0b000001, 6), io_PACKAGE_PIN=self.pins[name], o_D_IN_0=value
            )
        return value

    def _out(self, m: Module, name: str, value: Any) -> None:
        if self.board.family == "ecp5":
            m.submodules[f"pad_{name}"] = Instance("OB", i_I=value, o_O=self.pins[name])
        else:
            m.submodules[f"pad_{name}"] = Instance(
                "SB_IO", p_PIN_TYPE=Const(0b011001, 6), io_PACKAGE_PIN=self.pins[name], i_D_OUT_0=value
            )

    def _plain(self, m: Module) -> None:
        self._out(m, "tx", self.system.tx)
        if "led" in self.pins:
            self._out(m, "led", ~self.system.busy if self.board.pins.led_low else self.system.busy)
        for name in self.pins:
            if name.startswith("high"):
                self._out(m, name, Const(1, 1))

    def _ecp5_clock(self, m: Module, clock: Signal, shifted: Signal, settled: Signal) -> None:
        pll = self.clocks.ecp5
        assert pll is not None
        coarse, fine = pll.shifted
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Charge pump and loop filter as Lattice's own tool sets them.
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_FEEDBK_PATH="CLKOP", p_CLKI_DIV=pll.input_div, p_CLKFB_DIV=pll.feedback_div,
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=pll.output_div, p_CLKOP_CPHASE=pll.coarse, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=pll.output_div, p_CLKOS_CPHASE=coarse, p_CLKOS_FPHASE=fine,
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            i_CLKI=self._in(m, "clock"), i_CLKFB=clock, i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0), i_PHASEDIR=Const(1), i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0), i_ENCLKOS=Const(0),
            o_CLKOP=clock, o_CLKOS=shifted, o_LOCK=settled,
        )  # fmt: skip

    def _ice40_clock(self, m: Module, clock: Signal, settled: Signal) -> None:
        pll = self.clocks.ice40
        if pll is None:
            m.submodules.clock = Instance(
                "SB_GB_IO",
                p_PIN_TYPE=Const(0b000001, 6),
                io_PACKAGE_PIN=self.pins["clock"],
                o_GLOBAL_BUFFER_OUTPUT=clock,
            )
            m.d.comb += settled.eq(1)
            return
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE", p_DIVR=Const(pll.divr, 4), p_DIVF=Const(pll.divf, 7), p_DIVQ=Const(pll.divq, 3),
            p_FILTER_RANGE=Const(pll.filter_range, 3), i_RESETB=Const(1), i_BYPASS=Const(0),
            io_PACKAGEPIN=self.pins["clock"], o_PLLOUTGLOBAL=clock, o_LOCK=settled,
        )  # fmt: skip

    def _sdram(self, m: Module, shifted: Signal) -> None:
        """Registers in the pads, so that all signals take the same time there and back."""
        pins, chip, clock = self.pins, self.system.memory.pins, ClockSignal("sync")

        def register(kind: str, name: str, data: Any) -> Signal:
            value = Signal(name=f"pad_{name}")
            m.submodules[f"register_{name}"] = Instance(
                kind, i_D=data, i_SP=Const(1), i_SCLK=clock, i_CD=Const(0), o_Q=value
            )
            return value

        def out(name: str, data: Any) -> None:
            for bit in range(len(pins[name])):
                m.submodules[f"pad_{name}{bit}"] = Instance(
                    "OB", i_I=register("OFS1P3DX", f"{name}{bit}", data[bit]), o_O=pins[name][bit]
                )

        out("sdram_a", chip.address)
        out("sdram_ba", chip.bank)
        out("sdram_dqm", chip.mask)
        for bit, name in enumerate(("sdram_we", "sdram_cas", "sdram_ras")):
            out(name, chip.command[bit : bit + 1])
        self._out(m, "sdram_cs", Const(0, 1))
        self._out(m, "sdram_cke", Const(1, 1))
        # The clock leaves through a register of its own, a high half and a low one, to be as late as the rest.
        chip_clock = Signal(name="pad_sdram_clk")
        m.submodules.register_clk = Instance(
            "ODDRX1F", i_SCLK=shifted, i_RST=Const(0), i_D0=Const(1), i_D1=Const(0), o_Q=chip_clock
        )
        self._out(m, "sdram_clk", chip_clock)
        # Wires of a word are released a cycle after the last write.
        released = Signal(16, init=0xFFFF, attrs={"keep": 1})
        m.d.sync += released.eq(Mux(chip.drive, 0, 0xFFFF))
        for bit in range(16):
            came = Signal(name=f"sdram_came{bit}")
            m.submodules[f"pad_dq{bit}"] = Instance(
                "BB",
                i_I=register("OFS1P3DX", f"dq_out{bit}", chip.data_out[bit]),
                i_T=released[bit],
                o_O=came,
                io_B=pins["sdram_dq"][bit],
            )
            m.d.comb += chip.data_in[bit].eq(register("IFS1P3DX", f"dq_in{bit}", came))
