"""What a network costs on a device, and what running it there proved: the same words for all devices.

A cost is *measured* on a board or *estimated* from a model of its kernels, and says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bitwright.errors import Mismatch
from bitwright.shown import Shown

Unit = Literal["instructions", "cycles"]
Basis = Literal["measured", "estimated"]


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one step of a program costs.

    Attributes:
        step: The step.
        layer: Its layer.
        op: Its operator.
        by: What computes it: a kernel, a loop nest, a part of the hardware.
        count: Instructions or cycles.
        macs: Multiply-accumulates of its layer, on the first step of that layer that multiplies.
        constant_bytes: Weights and other constants that it added.
    """

    step: str
    layer: str
    op: str
    by: str
    count: int
    macs: int
    constant_bytes: int = 0

    @property
    def per_mac(self) -> float | None:
        """Instructions or cycles for one multiply-accumulate."""
        return self.count / self.macs if self.macs else None


@dataclass(frozen=True, kw_only=True)
class MemoryBlock:
    """A stretch of working memory and the steps for which it is needed.

    Attributes:
        name: What lies there.
        offset: Its first byte.
        bytes: Its size.
        first: First step that needs it; -1 is before the first.
        last: Last step that needs it.
    """

    name: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """A table of a device's own, in the words of its users.

    Attributes:
        title: What it is.
        columns: Names of the columns.
        rows: Cells as text.
        note: A line below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one inference costs.

    Attributes:
        device: The board, or the core.
        unit: What is counted.
        count: How many.
        basis: Whether it was counted or estimated.
        frames_per_s: Inferences in a second; None where no clock is known.
        frames_basis: In words, where that figure comes from.
        throughput_per_s: Inferences in a second where several are under way at once; None where that is no other figure.
        throughput_basis: In words, where that figure comes from.
        resources: Part of the device → how many of it are needed.
        resources_basis: In words, where those figures come from.
        memory: Kind of memory → bytes.
        limits: Kind of memory → bytes that there are.
        blocks: The map of the working memory.
        layers: A row per step.
        notes: What else the user should know.
        tables: Tables of the device's own.
    """

    device: str
    unit: Unit
    count: int
    basis: Basis
    frames_per_s: float | None
    frames_basis: str
    memory: Mapping[str, int]
    limits: Mapping[str, int] = field(default_factory=dict)
    blocks: Sequence[MemoryBlock] = ()
    layers: Sequence[LayerCost] = ()
    notes: tuple[str, ...] = ()
    tables: tuple[CostTable, ...] = ()
    throughput_per_s: float | None = None
    throughput_basis: str = ""
    resources: Mapping[str, int] = field(default_factory=dict)
    resources_basis: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(row.macs for row in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "device": self.device,
            self.unit: self.count,
            "basis": self.basis,
            "macs": self.macs,
            "frames_per_s": None if self.frames_per_s is None else round(self.frames_per_s, 3),
            "frames_basis": self.frames_basis,
            **(
                {}
                if self.throughput_per_s is None
                else {
                    "throughput_frames_per_s": round(self.throughput_per_s, 3),
                    "throughput_basis": self.throughput_basis,
                }
            ),
            **({"resources": dict(self.resources), "resources_basis": self.resources_basis} if self.resources else {}),
            "memory": {
                **self.memory,
                "limits": dict(self.limits),
                "map": [
                    {
                        "name": block.name,
                        "offset": block.offset,
                        "bytes": block.bytes,
                        "first_step": block.first,
                        "last_step": block.last,
                    }
                    for block in self.blocks
                ],
            },
            "layers": [
                {
                    "step": row.step,
                    "layer": row.layer,
                    "op": row.op,
                    "by": row.by,
                    "macs": row.macs,
                    self.unit: row.count,
                    f"{self.unit}_per_mac": None if row.per_mac is None else round(row.per_mac, 3),
                    "constant_bytes": row.constant_bytes,
                }
                for row in self.layers
            ],
            "notes": list(self.notes),
            **({"tables": [_plain(table) for table in self.tables]} if self.tables else {}),
        }


def _plain(table: CostTable) -> dict[str, Any]:
    return {"title": table.title, "columns": list(table.columns), "rows": [list(row) for row in table.rows],
            "note": table.note}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured(Shown):
    """A network that was run on a board, and compared with the reference in every integer.

    Attributes:
        board: The board.
        toolchain: What built and ran it, with versions.
        cost: What one inference costs, the first sample's.
        samples: Samples that were run.
        outputs_checked: Integers compared.
        mismatches: How many of them differ.
        first_mismatch: In words, or empty.
        count_range: Fewest and most instructions or cycles of all samples.
        seconds: Time that running took, here.
    """

    board: str
    toolchain: str
    cost: Cost
    samples: int
    outputs_checked: int
    mismatches: int
    first_mismatch: str
    count_range: tuple[int, int]
    seconds: float

    @property
    def count(self) -> int:
        """Instructions or cycles of one inference."""
        return self.cost.count

    @property
    def layers(self) -> Sequence[LayerCost]:
        """A row per step."""
        return self.cost.layers

    @property
    def memory(self) -> Mapping[str, int]:
        """Kind of memory → bytes."""
        return self.cost.memory

    def to_json(self) -> dict[str, Any]:
        """What ``deploy --json`` prints."""
        return {
            "board": self.board,
            "toolchain": self.toolchain,
            "samples": self.samples,
            "outputs_checked": self.outputs_checked,
            "mismatches": self.mismatches,
            "first_mismatch": self.first_mismatch,
            **self.cost.to_json(),
            f"{self.cost.unit}_range": list(self.count_range),
            "seconds": round(self.seconds, 3),
        }

    def require_equal(self) -> None:
        """Raise if any integer differs.

        Raises:
            Mismatch: with the first one.
        """
        if self.mismatches:
            raise Mismatch(
                f"{self.mismatches} of {self.outputs_checked} integers differ on {self.board}. {self.first_mismatch}"
            )
