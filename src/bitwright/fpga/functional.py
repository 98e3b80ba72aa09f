"""What a program computes, without time: every instruction in program order, in NumPy.

This is the meaning of the instruction set; the hardware must leave the same bytes in external memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Conv, Dest, Instruction, Load, Mode, Store, Vec
from bitwright.fpga.requant import requantize

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class State:
    """Memory inside and outside; arrays are written in place.

    Attributes:
        config: The processor.
        external: External memory, bytes.
        act: ``[pp, words, icp]`` int8.
        mid: The same.
        out: The same.
        weight: ``[words, ocp, icp]`` int8.
        bias: ``[groups, ocp]`` int32.
        vector_weight: ``[words, icp]`` int8.
        vector_bias: ``[groups, icp]`` int32.
        conv_rows: ``[entries, row bytes]`` uint8.
        vector_rows: The same.
        table: ``[256]`` int8.
    """

    config: ProcessorConfig
    external: Bytes
    act: NDArray[np.int8]
    mid: NDArray[np.int8]
    out: NDArray[np.int8]
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    vector_weight: NDArray[np.int8]
    vector_bias: NDArray[np.int32]
    conv_rows: Bytes
    vector_rows: Bytes
    table: NDArray[np.int8]


def new_state(config: ProcessorConfig, external: Bytes) -> State:
    """Memory after reset: all zeros inside."""
    m, entry = config.memory, config.row_entry_words * config.icp
    return State(
        config,
        external,
        np.zeros((config.pp, m.act, config.icp), np.int8),
        np.zeros((config.pp, m.mid, config.icp), np.int8),
        np.zeros((config.pp, m.out, config.icp), np.int8),
        np.zeros((m.weight, config.ocp, config.icp), np.int8),
        np.zeros((m.bias, config.ocp), np.int32),
        np.zeros((m.vector_weight, config.icp), np.int8),
        np.zeros((m.vector_bias, config.icp), np.int32),
        np.zeros((m.rows, entry), np.uint8),
        np.zeros((m.rows, entry), np.uint8),
        np.zeros(256, np.int8),
    )


def execute(state: State, instructions: Iterable[Instruction]) -> None:
    """Run instructions in program order.

    Raises:
        IndexError: if an instruction reaches outside of a memory.
    """
    for instruction in instructions:
        match instruction:
            case Load():
                _load(state, instruction)
            case Conv():
                _conv(state, instruction)
            case Vec():
                _vec(state, instruction)
            case Store():
                _store(state, instruction)


def _read(state: State, address: int, words: int) -> NDArray[np.int8]:
    icp = state.config.icp
    end = address + words * icp
    if end > len(state.external):
        raise IndexError(f"a load reads up to byte {end} of {len(state.external)}")
    return state.external[address:end].view(np.int8).reshape(words, icp)


def _load(state: State, i: Load) -> None:
    if i.dest in (Dest.ACT, Dest.MID):
        _load_rows(state, i, state.act if i.dest == Dest.ACT else state.mid)
        return
    words = _read(state, i.address, i.words)
    if i.dest == Dest.TABLE:
        state.table[i.base : i.base + i.words] = words[:, 0]
        return
    memories: dict[Dest, NDArray[Any]] = {
        Dest.WEIGHT: state.weight,
        Dest.BIAS: state.bias,
        Dest.VECTOR_WEIGHT: state.vector_weight,
        Dest.VECTOR_BIAS: state.vector_bias,
        Dest.CONV_ROWS: state.conv_rows,
        Dest.VECTOR_ROWS: state.vector_rows,
    }
    memory = memories[Dest(i.dest)]
    pieces = memory.view(np.int8).reshape(-1, state.config.icp)
    first = i.base * (len(pieces) // len(memory))
    if first + i.words > len(pieces):
        raise IndexError(f"a load writes piece {first + i.words} of {len(pieces)} of {Dest(i.dest).name}")
    pieces[first : first + i.words] = words


def _load_rows(state: State, i: Load, banks: NDArray[np.int8]) -> None:
    pp = state.config.pp
    bank, phase, base = i.bank, i.phase, i.base
    for j in range(i.above + i.rows + i.below):
        if base + i.width > banks.shape[1]:
            raise IndexError(f"a load writes word {base + i.width} of {banks.shape[1]} of {Dest(i.dest).name}")
        row = banks[bank, base : base + i.width]
        row[:] = i.fill
        if i.above <= j < i.above + i.rows:
            start = i.address + (j - i.above) * i.row_stride
            for run in range(i.runs):
                at = i.left + run * i.words
                row[at : at + i.words] = _read(state, start + run * i.run_stride, i.words)
        if phase + 1 < i.spread:
            phase, base = phase + 1, base + i.pitch
        elif bank + 1 < pp:
            phase, bank, base = 0, bank + 1, base - i.back
        else:
            phase, bank, base = 0, 0, base + i.pitch


def _entries(rows: Bytes, first: int, count: int, pp: int) -> tuple[Ints, Ints, Ints]:
    """Offsets ``[count, bank]``, banks ``[count, lane]`` and coefficients ``[count]`` of row-table entries."""
    if first + count > len(rows):
        raise IndexError(f"row-table entry {first + count} of {len(rows)}")
    entries = np.ascontiguousarray(rows[first : first + count])
    offsets = entries[:, : 2 * pp].copy().view(np.uint16).astype(np.int64)
    banks = entries[:, 2 * pp : 3 * pp].astype(np.int64)
    coefficients = entries[:, 3 * pp : 3 * pp + 2].copy().view(np.int16)[:, 0].astype(np.int64)
    return offsets, banks, coefficients


def _gather(banks: NDArray[np.int8], start: Ints, offsets: Ints, select: Ints, lane: int) -> NDArray[np.int8]:
    """Words that lane ``lane`` reads: ``start`` is ``[..., taps]`` without row offsets, ``[r, ...]`` first axis taps."""
    bank = select[:, lane]
    offset = offsets[np.arange(len(bank)), bank]
    address = (start + offset.reshape(-1, *([1] * (start.ndim - 1)))) & 0xFFFF
    if address.size and int(address.max()) >= banks.shape[1]:
        raise IndexError(f"word {int(address.max())} of a bank of {banks.shape[1]}")
    return np.asarray(banks[bank.reshape(-1, *([1] * (start.ndim - 1))), address])


def _conv(state: State, i: Conv) -> None:
    config = state.config
    if min(i.ocs, i.groups, i.xs) == 0:
        return
    offsets, select, _ = _entries(state.conv_rows, i.rows, i.kh, config.pp)
    g, x, k, c = (np.arange(n) for n in (i.groups, i.xs, i.kw, i.ics))
    # Axes: row of the window, group, pixel, column of the window, word.
    start = (
        i.base
        + (g * i.g_step)[:, None, None, None]
        + (x * i.x_step)[:, None, None]
        + (k * i.k_step)[:, None]
        + c
        + np.zeros((i.kh, 1, 1, 1, 1), np.int64)
    )
    taps = i.kh * i.kw * i.ics
    banks = state.out if i.to_out else state.mid
    columns = config.granules_per_word
    flat = banks.reshape(config.pp, -1, config.granule)
    pixels = (i.out_base + (g * i.out_g_step)[:, None] + x * i.out_x_step).reshape(-1)
    found: list[NDArray[np.float64]] = []
    for oc in range(i.ocs):
        if oc == 0 or i.oc_step:
            found = []
            for lane in range(config.pp):
                words = _gather(state.act, start + oc * i.oc_step, offsets, select, lane)
                found.append(np.moveaxis(words, 0, 2).reshape(len(pixels), taps * config.icp).astype(np.float64))
        first = i.weight + oc * taps
        if first + taps > len(state.weight):
            raise IndexError(f"weight {first + taps} of {len(state.weight)}")
        weight = state.weight[first : first + taps].transpose(1, 0, 2).reshape(config.ocp, -1).astype(np.float64)
        for lane in range(config.pp):
            acc = (found[lane] @ weight.T).astype(np.int64)
            total = acc + state.bias[i.bias + oc].astype(np.int64)
            result = requantize(config.rounding, total, i.shift, i.lo, i.hi).astype(np.int8)
            granule = pixels * columns + i.granule + oc * config.granules_per_result
            for part in range(config.granules_per_result):
                piece = result[:, part * config.granule : (part + 1) * config.granule]
                flat[lane, granule + part] = piece


def _vec(state: State, i: Vec) -> None:
    config = state.config
    if min(i.groups, i.xs, i.cs) == 0:
        return
    offsets, select, coefficients = _entries(state.vector_rows, i.rows, i.kh, config.pp)
    g, x, c, k = (np.arange(n) for n in (i.groups, i.xs, i.cs, i.kw))
    # Axes: row and column of the window, group, pixel, word.
    start = (
        i.base
        + (k * i.k_step)[:, None, None, None]
        + (g * i.g_step)[:, None, None]
        + (x * i.x_step)[:, None]
        + c
        + np.zeros((i.kh, 1, 1, 1, 1), np.int64)
    )
    where = i.out_base + (g * i.out_g_step)[:, None, None] + (x * i.out_x_step)[:, None] + c
    for lane in range(config.pp):
        if not i.lanes >> lane & 1:
            continue
        taps = _gather(state.mid, start, offsets, select, lane).astype(np.int64)
        taps = taps.reshape(i.kh * i.kw, *taps.shape[2:])  # [taps, g, x, c, icp]
        match Mode(i.mode):
            case Mode.MAX:
                acc = taps.max(axis=0)
            case Mode.CHANNEL:
                weight = state.vector_weight[i.weight : i.weight + i.cs * len(taps)].astype(np.int64)
                acc = np.einsum("tgxci,cti->gxci", taps, weight.reshape(i.cs, len(taps), -1))
            case Mode.ROW:
                acc = np.einsum("tgxci,t->gxci", taps, np.repeat(coefficients, i.kw))
            case Mode.PRODUCT:
                acc = taps.prod(axis=0)
        bias = state.vector_bias[i.bias : i.bias + i.cs].astype(np.int64) if i.per_channel else i.add
        result = requantize(config.rounding, acc * i.scale + bias, i.shift, i.lo, i.hi).astype(np.int8)
        if i.table:
            result = state.table[result.view(np.uint8)]
        state.out[lane, where] = result


def _store(state: State, i: Store) -> None:
    config = state.config
    for j in range(i.rows):
        start = i.base + (j // config.pp) * i.pitch
        for x in range(i.xs):
            at = i.address + j * i.row_stride + x * i.pixel_stride
            source = start + x * i.x_step
            if source + i.words > state.out.shape[1] or at + i.words * config.icp > len(state.external):
                raise IndexError("a store reaches outside of a memory")
            data = state.out[j % config.pp, source : source + i.words]
            state.external[at : at + data.size] = data.reshape(-1).view(np.uint8)
