"""How many bits of each field of an instruction a configuration has registers for, and which queues use which tokens.

A buffer of 256 words needs addresses of 8 bits, not 16.  Hardware is made with these widths, and every compiled program is
checked against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from bitwright.errors import Mismatch
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import FIELDS, HEADER, TOKENS, Dest, Instruction, Unit

STAMP_BITS = 8

# Token by token, who gives it and who takes it.  Counters, adders and waiting are made for these only.
_L, _C, _V, _S = Unit.LOAD, Unit.CONV, Unit.VEC, Unit.STORE
GIVERS: tuple[frozenset[Unit], ...] = tuple(
    frozenset(u)
    for u in ((_L,), (_C,), (_L,), (_C, _V), (_C,), (_V,), (_C, _V), (_S,), (_S,), (_L,), (_V,), (_V,), (), (), (), ())
)
TAKERS: tuple[frozenset[Unit], ...] = tuple(
    frozenset(u)
    for u in ((_C,), (_L,), (_C,), (_L,), (_V,), (_C,), (_S,), (_C, _V), (_L,), (_V,), (_L,), (_L,), (), (), (), ())
)
assert len(GIVERS) == len(TAKERS) == TOKENS


def pieces(config: ProcessorConfig) -> dict[Dest, int]:
    """Words that LOAD writes for one word of each buffer."""
    return {
        Dest.ACT: 1,
        Dest.MID: 1,
        Dest.WEIGHT: config.ocp,
        Dest.BIAS: 4 * config.ocp // config.icp,
        Dest.VECTOR_WEIGHT: 1,
        Dest.VECTOR_BIAS: 4,
        Dest.CONV_ROWS: config.row_entry_words,
        Dest.VECTOR_ROWS: config.row_entry_words,
        Dest.TABLE: 1,
    }


def depths(config: ProcessorConfig) -> dict[Dest, int]:
    """Words of each buffer that LOAD writes, a bank's where there are banks."""
    memory = config.memory
    return {
        Dest.ACT: memory.act,
        Dest.MID: memory.mid,
        Dest.WEIGHT: memory.weight,
        Dest.BIAS: memory.bias,
        Dest.VECTOR_WEIGHT: memory.vector_weight if config.units.multiply else 1,
        Dest.VECTOR_BIAS: memory.vector_bias if config.units.multiply else 1,
        Dest.CONV_ROWS: memory.rows,
        Dest.VECTOR_ROWS: memory.rows,
        Dest.TABLE: 256 if config.units.table else 1,
    }


@cache
def widths(config: ProcessorConfig, unit: Unit) -> Mapping[str, int]:
    """Bits of each field that the hardware looks at, the lowest ones; no field has more than it is encoded in."""
    memory, units = config.memory, config.units
    external = _address(config.bus.memory_bytes)
    act, mid, out = _address(memory.act), _address(memory.mid), _address(memory.out)
    result, results = max(mid, out), _count(max(memory.mid, memory.out))
    most = max(size * pieces(config)[dest] for dest, size in depths(config).items())
    banked = _count(config.pp * max(memory.act, memory.mid))
    several = 0 if config.pp == 1 else 16
    wide: dict[str, int] = {"stamp": STAMP_BITS}
    match unit:
        case Unit.LOAD:
            wide |= dict.fromkeys(("address", "row_stride", "run_stride"), external)
            wide |= dict.fromkeys(("base", "pitch"), max(_address(size) for size in depths(config).values()))
            wide |= dict.fromkeys(("words", "width", "left", "runs"), _count(most))
            wide |= dict.fromkeys(("rows", "above", "below"), banked)
            wide |= dict.fromkeys(("bank", "phase", "spread", "back"), several)
        case Unit.CONV:
            wide |= {"ocs": _count(max(memory.mid, memory.out) * config.granules_per_word), "ics": _count(memory.act)}
            wide |= dict.fromkeys(("groups", "xs"), results)
            wide |= {"kh": _count(memory.rows), "kw": _count(memory.act)}
            wide |= dict.fromkeys(("base", "oc_step", "g_step", "x_step", "k_step"), act)
            wide |= {"rows": _address(memory.rows), "weight": _address(memory.weight), "bias": _address(memory.bias)}
            wide |= dict.fromkeys(("out_base", "out_g_step", "out_x_step"), result)
            wide |= {"granule": result + config.granules_per_word.bit_length() - 1}
        case Unit.VEC:
            wide |= dict.fromkeys(("groups", "xs", "cs"), results)
            wide |= {"kh": _count(memory.rows), "kw": _count(memory.mid), "rows": _address(memory.rows)}
            wide |= dict.fromkeys(("base", "g_step", "x_step", "k_step"), mid)
            wide |= {"lanes": config.pp}
            wide |= dict.fromkeys(("out_base", "out_g_step", "out_x_step"), out)
            wide |= {"weight": _address(memory.vector_weight), "bias": _address(memory.vector_bias)}
            if not units.multiply:
                wide |= dict.fromkeys(("mode", "weight", "bias", "per_channel", "add", "shift"), 0)
            if not units.scale:
                wide["scale"] = 0
            if not units.table:
                wide["table"] = 0
            if not (units.table or units.multiply):
                wide |= dict.fromkeys(("lo", "hi"), 0)  # maxima alone; those clamp nothing
        case Unit.STORE:
            wide |= dict.fromkeys(("address", "row_stride", "pixel_stride"), external)
            wide |= dict.fromkeys(("base", "pitch", "x_step"), out)
            wide |= {"rows": _count(config.pp * memory.out)}
            wide |= dict.fromkeys(("xs", "words", "run_words", "runs"), _count(memory.out))
    return MappingProxyType({f.name: min(f.bits, wide.get(f.name, f.bits)) for f in (*HEADER, *FIELDS[unit])})


BURST_BITS = 9
"""Of the length of a burst, where runs are split."""


def beat_bits(config: ProcessorConfig) -> int:
    """Bits of the number of beats in one burst."""
    if config.bus.splits:
        return BURST_BITS
    most = max(widths(config, Unit.LOAD)["words"], widths(config, Unit.STORE)["run_words"])
    return max(most + (config.beats_per_word - 1).bit_length(), BURST_BITS)


# What may be cut: addresses within a buffer go around, and what is left is not looked at.
_AROUND = frozenset(("base", "pitch", "back", "oc_step", "g_step", "x_step", "k_step", "out_base", "out_g_step", "out_x_step",
                     "granule", "lanes", "bank", "phase", "spread"))  # fmt: skip
_PLAIN = {"scale": 1}


def check(config: ProcessorConfig, instructions: Iterable[Instruction]) -> None:
    """Check that the hardware sees all of every instruction.

    Raises:
        Mismatch: it does not; our bug.
    """
    for i in instructions:
        for name, bits in widths(config, i.unit).items():
            value = int(getattr(i, name))
            if name in ("wait", "post"):
                users = TAKERS if name == "wait" else GIVERS
                wrong = [t for t in range(TOKENS) if value >> t & 1 and i.unit not in users[t]]
                if wrong:
                    raise Mismatch(f"{i.unit.name} has token {wrong[0]} in {name}, for which it has no wires.")
            elif (
                value >= 0
                and bits + (name not in ("lo", "hi"))
                and name not in _AROUND
                and value >> bits
                and value != _PLAIN.get(name, 0)
            ):
                raise Mismatch(f"{i.unit.name}.{name} = {value} needs more than the {bits} bits of {config.name}.")


def _address(size: int) -> int:
    """Bits of ``0 .. size - 1``."""
    return max((size - 1).bit_length(), 1)


def _count(size: int) -> int:
    """Bits of ``0 .. size``."""
    return size.bit_length()
