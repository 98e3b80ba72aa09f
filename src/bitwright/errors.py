"""Every error that bitwright raises on purpose, on one screen.

BitwrightError
├─ ModelError        UnsupportedOp · UnknownShape · BadModelFile
├─ DataError         NoData · BadSample(index) · InputMismatch
├─ TargetError       UnknownTarget(nearest) · BadTargetFile(path, key, hint)
├─ CalibrationError  NonFinite(tensor, sample) · StaleCalibration
├─ PassError
├─ Mismatch          two back ends differ: always our bug, with tensor, index, both values
├─ ExportError       DoesNotFit(need_bytes, have_bytes) · TimingMissed(clock, wanted_hz, reached_hz)
└─ ToolMissing       the tool and the command that installs it

A message is one paragraph: what is wrong, where, and what to do.  ``code`` is stable and names the page of the
error in the reference; the facts are attributes.  A loss of accuracy is never an error, it is a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


def printable(name: object, limit: int = 120) -> str:
    """``name`` made safe to print: control characters escaped, at most ``limit`` characters.

    Names come from files that we did not write; they must not move the cursor, hide text or fill the screen.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class BitwrightError(Exception):
    """Root of all errors that the user can do something about."""

    code: ClassVar[str] = "BW000"
    exit_code: ClassVar[int] = 2


class ModelError(BitwrightError):
    """The network cannot be used as it is."""

    code = "BW100"


class UnsupportedOp(ModelError):
    """A target has no integer form for an operator, and the user asked for integers only."""

    code = "BW101"
    exit_code = 3

    def __init__(self, message: str, *, op: str = "", layer: str = "", target: str = "") -> None:
        super().__init__(message)
        self.op, self.layer, self.target = op, layer, target


class UnknownShape(ModelError):
    """The shape of a tensor is neither written in the file nor follows from the input shape."""

    code = "BW102"

    def __init__(self, message: str, *, tensor: str = "") -> None:
        super().__init__(message)
        self.tensor = tensor


class BadModelFile(ModelError):
    """A file is not what its name says, is damaged, or would need more memory than it may."""

    code = "BW103"

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class DataError(BitwrightError):
    """The samples cannot be used."""

    code = "BW200"


class NoData(DataError):
    """A source holds no samples, or no labels where a metric needs them."""

    code = "BW201"


class BadSample(DataError):
    """One sample cannot be read."""

    code = "BW202"

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class InputMismatch(DataError):
    """Samples do not fit the network's input: shape, layout, type or range."""

    code = "BW203"


class TargetError(BitwrightError):
    """A target description cannot be used."""

    code = "BW300"


class UnknownTarget(TargetError):
    """No target has this name."""

    code = "BW301"

    def __init__(self, message: str, *, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


class BadTargetFile(TargetError):
    """A target file has an unknown key or a value out of range."""

    code = "BW302"

    def __init__(self, message: str, *, path: str = "", key: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.path, self.key, self.hint = path, key, hint


class CalibrationError(BitwrightError):
    """Statistics cannot be collected or used."""

    code = "BW400"


class NonFinite(CalibrationError):
    """A tensor holds NaN or infinity."""

    code = "BW401"

    def __init__(self, message: str, *, tensor: str = "", sample: int | None = None) -> None:
        super().__init__(message)
        self.tensor, self.sample = tensor, sample


class StaleCalibration(CalibrationError):
    """Statistics were collected on another network, or with other data, than they are used for."""

    code = "BW402"

    def __init__(self, message: str, *, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.expected, self.found = expected, found


class PassError(BitwrightError):
    """A pass cannot be applied, or broke its promise."""

    code = "BW500"


class Mismatch(BitwrightError):
    """Two back ends compute different integers from one Program.  Always a bug of ours: please report it."""

    code = "BW600"
    exit_code = 70

    def __init__(
        self, message: str, *, tensor: str = "", index: tuple[int, ...] = (), expected: int = 0, got: int = 0
    ) -> None:
        super().__init__(message)
        self.tensor, self.index, self.expected, self.got = tensor, index, expected, got


class ExportError(BitwrightError):
    """A network cannot be written in the wanted form."""

    code = "BW700"


class DoesNotFit(ExportError):
    """The network needs more memory than the device has."""

    code = "BW701"

    def __init__(self, message: str, *, need_bytes: int = 0, have_bytes: int = 0) -> None:
        super().__init__(message)
        self.need_bytes, self.have_bytes = need_bytes, have_bytes


class TimingMissed(ExportError):
    """A clock of a bitstream is slower than it has to be, and that was asked to be refused."""

    code = "BW702"

    def __init__(self, message: str, *, clock: str = "", wanted_hz: float = 0.0, reached_hz: float = 0.0) -> None:
        super().__init__(message)
        self.clock, self.wanted_hz, self.reached_hz = clock, wanted_hz, reached_hz


class NobodyAnswers(ExportError):
    """There is no bridge at the other end of a board's serial line."""

    code = "BW703"


class ToolMissing(BitwrightError):
    """An optional tool or package is not installed; the message holds the command that installs it."""

    code = "BW800"

    def __init__(self, message: str, *, tool: str = "", install: str = "") -> None:
        super().__init__(message)
        self.tool, self.install = tool, install
