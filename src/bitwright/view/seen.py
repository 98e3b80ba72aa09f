"""What is seen of a network: plain frozen values, no drawing in them and no arrays.

A :class:`Page` is all that a report, the app or a notebook shows.  It goes into JSON and comes back equal, so that a
report can be read by programs and compared with another one.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from itertools import zip_longest
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bitwright.errors import BadModelFile

SCHEMA = 1

Kind = Literal["Weights", "Bias", "Activations"]
State = Literal["integer", "table", "float", "input", "output", "removed"]


@dataclass(frozen=True, kw_only=True)
class TypeSeen:
    """A number format.

    Attributes:
        text: As it is printed, ``int8·2^-5``.
        bits: Width of its integers.
        signed: Two's complement.
        top: The highest power of two whose numbers it holds (of its widest channel).
        bottom: The power of two of its step (of its finest channel).
        step: The step itself, in real units.
        low: Smallest number that it holds.
        high: Largest.
        exponent: The exponent of a power-of-two format for the whole tensor, or None.
        zero_point: The integer that means 0.
        per_channel: One step for each channel.
    """

    text: str
    bits: int
    signed: bool
    top: int
    bottom: int
    step: float
    low: float
    high: float
    exponent: int | None = None
    zero_point: int = 0
    per_channel: bool = False


@dataclass(frozen=True, kw_only=True)
class BitsSeen:
    """Where the most significant bits of a tensor's values lie, a column per power of two, downward from ``top``.

    Attributes:
        top: The power of two of the first column.
        inside: Values per column that the format holds; zeros at the end are left out here and below.
        over: Values that lie beyond its range.
        under: Values below its step.
        zeros: Values that are zero, in no column.
    """

    top: int
    inside: tuple[int, ...]
    over: tuple[int, ...] = ()
    under: tuple[int, ...] = ()
    zeros: int = 0

    @property
    def columns(self) -> tuple[tuple[int, int, int], ...]:
        """(inside, over, under) of each column."""
        return tuple(zip_longest(self.inside, self.over, self.under, fillvalue=0))

    @property
    def totals(self) -> tuple[int, ...]:
        """Values per column."""
        return tuple(map(sum, self.columns))

    @property
    def count(self) -> int:
        """All values, zeros included."""
        return sum(self.totals) + self.zeros


@dataclass(frozen=True, kw_only=True)
class TensorSeen:
    """One tensor in its format.

    Attributes:
        name: Name in the float network; ``LAYER.Weights`` or ``LAYER.Bias`` for learnables.
        layer: The layer that makes it or owns it; empty for an input of the network.
        kind: What it is.
        type: Its format.
        min: Smallest value seen; None if unknown.
        max: Largest.
        overflow: Share of the values that saturate; None if unknown.
        underflow: Share of the values that are not zero and become it.
        sqnr_db: Signal to noise of storing it, in decibel; None if unknown or without loss.
        lossless: The format loses nothing.
        bits: Where its values lie, or None.
        shape: Its shape, ``64×3×3×3``.
        shares: Another tensor whose format it must have, or empty.
    """

    name: str
    layer: str
    kind: Kind
    type: TypeSeen
    min: float | None = None
    max: float | None = None
    overflow: float | None = None
    underflow: float | None = None
    sqnr_db: float | None = None
    lossless: bool = False
    bits: BitsSeen | None = None
    shape: str = ""
    shares: str = ""


@dataclass(frozen=True, kw_only=True)
class BoxSeen:
    """One box of a layer graph.

    Attributes:
        name: Name of the layer or the source node.
        op: Its operator.
        shape: Shape of what it makes.
        state: What computes it.
        reason: Why it stays float, or why it is gone; empty otherwise.
        sqnr_db: Signal to noise of what it makes.
        bits_lost: Bits that folding cost its weights; None where nothing was folded.
        layer: Index of the box in the optimized graph that it became part of.
        macs: Multiply-accumulates.
        sources: Names of the source nodes that it stands for.
        tensors: Names of its tensors in the table.
    """

    name: str
    op: str
    shape: str = ""
    state: State = "integer"
    reason: str = ""
    sqnr_db: float | None = None
    bits_lost: int | None = None
    layer: int = -1
    macs: int = 0
    sources: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphSeen:
    """Boxes in the order of execution, and who feeds whom.

    Attributes:
        boxes: The boxes.
        edges: (from, to), indices of boxes, ``from < to``.
        shared: Groups of boxes that must share one format, indices of boxes.
    """

    boxes: tuple[BoxSeen, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    shared: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TileSeen:
    """One figure of the summary.

    Attributes:
        label: What it is.
        value: The figure of the integers, as text.
        before: That of the float network, or empty.
        change: By how much it changed, or empty.
        tone: How the change is meant.
        note: A remark under it.
    """

    label: str
    value: str
    before: str = ""
    change: str = ""
    tone: Literal["good", "bad", "plain"] = "plain"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class FindingSeen:
    """One finding.

    Attributes:
        title: The layer or tensor that it is about, or what it is about.
        text: The sentence, with numbers.
        kind: A word for its cause.
        severity: How much it matters.
        figure: The figure that stands out, ``14.8 dB``.
        remedy: What to do, in words; empty if nothing.
        command: The command that does it; empty if none.
        gain: What it is expected to gain; empty if unknown.
        layer: The layer that it is about, or empty.
        tensor: The tensor that it is about, or empty.
        action: What the app sends to apply the remedy, as ``option=value`` pairs.
    """

    title: str
    text: str
    kind: str = ""
    severity: Literal["bad", "note", "good"] = "note"
    figure: str = ""
    remedy: str = ""
    command: str = ""
    gain: str = ""
    layer: str = ""
    tensor: str = ""
    action: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FoldSeen:
    """What folding did to one tensor of one layer.

    Attributes:
        layer: The layer.
        kind: ``weights`` or ``bias``.
        sources: Source nodes that were folded in.
        before: Smallest and largest value before.
        after: The same after.
        factor: How much larger the largest magnitude became.
        bits_lost: By how many bits the whole tensor's step rose.
        worst_channel: The channel with the largest factor, or None.
        worst_scale: That factor.
        channel_bits_lost: Bits that each channel loses; negative where it gained.
        text: The sentence.
    """

    layer: str
    kind: str
    sources: tuple[str, ...]
    before: tuple[float, float]
    after: tuple[float, float]
    factor: float
    bits_lost: int
    worst_channel: int | None
    worst_scale: float
    channel_bits_lost: tuple[int, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class PointSeen:
    """A point of the profile.

    Attributes:
        layer: The layer.
        sqnr_db: Signal to noise there, errors of all layers before included if the profile is measured.
    """

    layer: str
    sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class RegionSeen:
    """A stretch of memory.

    Attributes:
        name: What is in it.
        offset: Its first byte.
        size: Its bytes.
        first: First step that needs it, or None if always.
        last: Last step that needs it, or None.
    """

    name: str
    offset: int
    size: int
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemorySeen:
    """A memory and what lies where.

    Attributes:
        name: Which memory.
        size: Bytes in all.
        regions: What lies in it.
        steps: Number of steps, where regions live and die; 0 where they do not.
        note: A remark.
    """

    name: str
    size: int
    regions: tuple[RegionSeen, ...]
    steps: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class LaneSeen:
    """What one unit does in one stretch of time.

    Attributes:
        unit: The unit.
        layer: For which layer.
        start: First cycle.
        end: The cycle after the last.
    """

    unit: str
    layer: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class CyclesSeen:
    """The time of one layer.

    Attributes:
        layer: The layer.
        cycles: Its cycles.
        share: Of all cycles.
        note: What holds it up, or empty.
    """

    layer: str
    cycles: int
    share: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SideSeen:
    """What a comparison says of each network.

    Attributes:
        name: The network.
        target: Its target.
        schemes: (role, scheme).
        learnable_bytes: In float and in integers.
        integer_mac_share: 0 to 1.
        samples: Calibration samples.
        fingerprint: SHA-256 of the float network.
    """

    name: str
    target: str
    schemes: tuple[tuple[str, str], ...] = ()
    learnable_bytes: tuple[int, int] = (0, 0)
    integer_mac_share: float = 1.0
    samples: int = 0
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class FigureSeen:
    """A measured figure that a gate may ask for.

    Attributes:
        name: Metric: ``top1``, ``agreement``, ``output_sqnr_db``, …
        value: Of the integers; None if it is infinite.
        before: Of the float network, or None.
        samples: How many samples it is from.
        better: Which way is better.
        infinite: The figure is infinite: nothing is lost.
    """

    name: str
    value: float | None
    before: float | None = None
    samples: int = 0
    better: Literal["higher", "lower"] = "higher"
    infinite: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that is seen of a network.

    Attributes:
        side: The network, its target, its sizes.
        verdict: The sentence of the validation, or empty.
        verdict_kind: Its kind: ``same``, ``noise``, ``loss``, ``gain``, ``collapse``, ``untested``, or empty.
        facts: (what, value), enough to do it again.
        tiles: The summary.
        findings: What stands out, the heaviest first.
        figures: What was measured.
        tensors: Every tensor, in the order of the network: learnables, then activations.
        optimized: The layers as they are computed.
        network: The source network's nodes.
        profile: Signal to noise in the order of execution.
        profile_of: What the profile shows, in words.
        folds: What folding did.
        floats: (layer, operator, reason) of layers in float.
        memory: Memories, where a back end gives them.
        cycles: Time per layer, where a back end gives it.
        lanes: What each unit does when, where a back end gives it.
        settings: (name, value): schemes and every override.
        notes: What else the reader should know.
        version: Of bitwright.
        schema: Of this document.
    """

    side: SideSeen
    verdict: str = ""
    verdict_kind: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tiles: tuple[TileSeen, ...] = ()
    findings: tuple[FindingSeen, ...] = ()
    figures: tuple[FigureSeen, ...] = ()
    tensors: tuple[TensorSeen, ...] = ()
    optimized: GraphSeen = field(default_factory=GraphSeen)
    network: GraphSeen = field(default_factory=GraphSeen)
    profile: tuple[PointSeen, ...] = ()
    profile_of: str = ""
    folds: tuple[FoldSeen, ...] = ()
    floats: tuple[tuple[str, str, str], ...] = ()
    memory: tuple[MemorySeen, ...] = ()
    cycles: tuple[CyclesSeen, ...] = ()
    lanes: tuple[LaneSeen, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    version: str = ""
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """The network's name."""
        return self.side.name

    def tensor(self, name: str) -> TensorSeen:
        """The tensor called ``name``.

        Raises:
            KeyError: if there is none.
        """
        return next_named(self.tensors, name)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what has its default value is left out."""
        return {"schema": self.schema, **to_json(self)}

    @classmethod
    def from_json(cls, document: Any) -> Page:
        """A page from what :meth:`to_json` gave.

        Raises:
            BadModelFile: if it is of another version, or something is missing or of another type.
        """
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise BadModelFile(
                f"The report is not of version {SCHEMA}, which this bitwright reads. Write it again with this version."
            )
        try:
            page: Page = from_json(cls, document)
        except (TypeError, KeyError, ValueError) as error:
            raise BadModelFile("The report's JSON is damaged: a value is missing or of another type.") from error
        return page


def next_named(tensors: tuple[TensorSeen, ...], name: str) -> TensorSeen:
    """The tensor called ``name``.

    Raises:
        KeyError: if there is none.
    """
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    raise KeyError(name)


def to_json(value: Any) -> Any:
    """A value of this module as plain values."""
    if is_dataclass(value):
        return {
            f.name: to_json(getattr(value, f.name)) for f in fields(value) if not _is_default(f, getattr(value, f.name))
        }
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def _is_default(f: Any, value: Any) -> bool:
    return bool(value == f.default) or (value == () and f.default == ()) or value == GraphSeen()


def from_json(kind: Any, value: Any) -> Any:
    """A value of type ``kind`` from plain values.

    Raises:
        TypeError: if it is of another type.
        ValueError: if it is no choice that there is.
    """
    return _reader(kind)(value)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What reads values of one type; made once, for a page holds hundreds of thousands of them."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return _row(_reader(inner[0]), plain=inner[0] if inner[0] in {int, str} else None)
    if origin is tuple:
        return _fixed([_reader(one) for one in inner])
    if origin is Literal:
        return _choice(inner)
    if origin in {Union, types.UnionType}:
        read = _reader(next(one for one in inner if one is not type(None)))
        return lambda value: None if value is None else read(value)
    return _number if kind is float else _exactly(kind)


def _record(kind: type) -> Callable[[Any], Any]:
    readers: dict[str, Callable[[Any], Any]] = {}  # filled when first used: a type may hold itself

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} is wanted")
        if not readers:
            readers.update({name: _reader(hint) for name, hint in get_type_hints(kind).items()})
        return kind(**{key: readers[key](item) for key, item in value.items() if key in readers})

    return read


def _row(read: Callable[[Any], Any], plain: type | None) -> Callable[[Any], Any]:
    def row(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError("a list is wanted")
        if plain is not None and set(map(type, value)) <= {plain}:
            return tuple(value)
        return tuple(map(read, value))

    return row


def _fixed(readers: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def fixed(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError("a list is wanted")
        if len(value) != len(readers):
            raise TypeError(f"{len(readers)} values are wanted")
        return tuple(read(item) for read, item in zip(readers, value, strict=True))

    return fixed


def _choice(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    def chosen(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {choices}")
        return value

    return chosen


def _number(value: Any) -> float:
    if type(value) is int:
        return float(value)
    if type(value) is not float:
        raise TypeError("float is wanted")
    return value


def _exactly(kind: type) -> Callable[[Any], Any]:
    def exactly(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{kind.__name__} is wanted")
        return value

    return exactly
