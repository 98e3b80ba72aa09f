"""What a person has chosen, as one value: every edit makes a new one, so undo is a list and a result knows its cause."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from bitwright.errors import BadModelFile, printable

LONGEST = 4096
"""Characters of any one text; a path or a list of options is never longer."""
MOST_UNDO = 200


class Step(StrEnum):
    """The steps of the road, in order."""

    NETWORK = "network"
    TARGET = "target"
    CALIBRATE = "calibrate"
    QUANTIZE = "quantize"
    VALIDATE = "validate"
    EXPORT = "export"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what is computed.

    Attributes:
        model: The network's file.
        shapes: Sizes that the file leaves free, as ``NAME=SHAPE``.
        contract: The input contract as JSON, or empty for the one beside the model.
        data: Calibration samples: a file or a folder.
        samples: Use so many of them; None for all.
        seed: Draw them at random; None spreads them evenly.
        skip_bad: Leave out samples that cannot be read.
        target: Name or file of the target.
        scheme: How ranges become formats; empty for the target's own.
        formats: (tensor, format) set by hand, in the order in which they were set.
        mend: Repairs to apply; empty for none.
        seconds: Time for them.
        prune: Take out channels that are constant.
        judge: Samples to validate with.
        judged: Use so many of them; None for all.
        metric: Name of the metric; empty for the task's own.
    """

    model: str = ""
    shapes: tuple[str, ...] = ()
    contract: str = ""
    data: str = ""
    samples: int | None = None
    seed: int | None = None
    skip_bad: bool = False
    target: str = "generic"
    scheme: str = ""
    formats: tuple[tuple[str, str], ...] = ()
    mend: str = ""
    seconds: int = 300
    prune: bool = False
    judge: str = ""
    judged: int | None = None
    metric: str = ""

    def key(self, step: Step) -> str:
        """What tells the result of ``step`` from that of other settings: 16 hexadecimal digits."""
        chosen = {name: getattr(self, name) for name in NEEDS[step]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def given(self) -> dict[str, str]:
        """Tensor → format set by hand."""
        return dict(self.formats)

    def with_formats(self, changes: Mapping[str, str | None]) -> Settings:
        """With other formats set by hand; None takes one back."""
        merged = {tensor: text for tensor, text in self.formats if tensor not in changes}
        merged |= {tensor: text for tensor, text in changes.items() if text is not None}
        return replace(self, formats=tuple(merged.items()))

    def to_json(self) -> dict[str, Any]:
        """Plain values, those that differ from a fresh start."""
        default = Settings()
        return {name: value for name, value in asdict(self).items() if value != getattr(default, name)}

    @classmethod
    def from_json(cls, table: Any) -> Settings:
        """The way back.

        Raises:
            BadModelFile: if something has another type.
        """
        if not isinstance(table, dict):
            raise BadModelFile("The session file is damaged: settings are a table.")
        found: dict[str, Any] = {}
        for one in fields(cls):
            if one.name in table:
                found[one.name] = _checked(one.name, table[one.name])
        return cls(**found)


_NETWORK = ("model", "shapes", "contract")
_CALIBRATE = (*_NETWORK, "data", "samples", "seed", "skip_bad")
_QUANTIZE = (*_CALIBRATE, "target", "scheme", "formats", "mend", "seconds", "prune")
NEEDS: Mapping[Step, tuple[str, ...]] = {
    Step.NETWORK: _NETWORK,
    Step.TARGET: (*_NETWORK, "target"),
    Step.CALIBRATE: _CALIBRATE,
    Step.QUANTIZE: _QUANTIZE,
    Step.VALIDATE: (*_QUANTIZE, "judge", "judged", "metric"),
    Step.EXPORT: _QUANTIZE,
}
"""Step → the settings that its result depends on."""

_NUMBERS = {"samples", "seed", "judged"}
_FLAGS = {"skip_bad", "prune"}


def _checked(name: str, value: Any) -> Any:
    """A value from a file, of the type that the setting has.

    Raises:
        BadModelFile: if it has another.
    """
    good: bool
    if name in _NUMBERS:
        good = value is None or (type(value) is int and 0 <= value < 1 << 53)
    elif name in _FLAGS:
        good = type(value) is bool
    elif name == "seconds":
        good = type(value) is int and 0 < value <= 1 << 20
    elif name == "shapes":
        good = isinstance(value, list | tuple) and all(isinstance(v, str) and len(v) <= LONGEST for v in value)
        value = tuple(value) if good else value
    elif name == "formats":
        pairs = [tuple(pair) for pair in value] if isinstance(value, list | tuple) else [()]
        good = all(len(p) == 2 and all(isinstance(v, str) for v in p) for p in pairs)
        value = tuple(pairs)
    else:
        good = isinstance(value, str) and len(value) <= (1 << 16 if name == "contract" else LONGEST)
    if not good:
        raise BadModelFile(f"The session file is damaged: {name} cannot be {printable(repr(value), 60)}.")
    return value


@dataclass(frozen=True)
class History:
    """What was chosen before, now, and what was undone.

    Attributes:
        now: The settings that count.
        past: (what was done, settings before it), the latest last.
        undone: (what was done, settings after it), the next to do again last.
    """

    now: Settings = field(default_factory=Settings)
    past: tuple[tuple[str, Settings], ...] = ()
    undone: tuple[tuple[str, Settings], ...] = ()

    def edited(self, text: str, settings: Settings) -> History:
        """After an edit; what had been undone is gone.  An edit that changes nothing is none."""
        if settings == self.now:
            return self
        return History(settings, (*self.past, (text, self.now))[-MOST_UNDO:], ())

    def undo(self) -> History:
        """One edit back, if there is one."""
        if not self.past:
            return self
        text, before = self.past[-1]
        return History(before, self.past[:-1], (*self.undone, (text, self.now)))

    def redo(self) -> History:
        """The edit that was undone last, again."""
        if not self.undone:
            return self
        text, after = self.undone[-1]
        return History(after, (*self.past, (text, self.now)), self.undone[:-1])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "now": self.now.to_json(),
            "past": [[text, s.to_json()] for text, s in self.past],
            "undone": [[text, s.to_json()] for text, s in self.undone],
        }

    @classmethod
    def from_json(cls, table: Any) -> History:
        """The way back.

        Raises:
            BadModelFile: if it is damaged.
        """
        try:
            return cls(
                Settings.from_json(table["now"]),
                tuple((str(text)[:LONGEST], Settings.from_json(s)) for text, s in table["past"][-MOST_UNDO:]),
                tuple((str(text)[:LONGEST], Settings.from_json(s)) for text, s in table["undone"][-MOST_UNDO:]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadModelFile("The session file is damaged: its history cannot be read.") from error
