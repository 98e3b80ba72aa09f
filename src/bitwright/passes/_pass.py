"""The one shape of every algorithm that changes a network.

A pass says what it wants observed (``needs``) and what it changed (``apply``).  Its dataclass fields are its options.
Laws, tested on every pass: the result checks out as ONNX, the names of the source nodes are conserved, float outputs
are unchanged unless ``changes_function``, twice is as good as once, ``modified`` is truthful.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from bitwright.errors import BitwrightError, PassError
from bitwright.passes.fold import Fold

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True)
class Needs:
    """What a pass wants to know about the data before it is applied; everything is collected in one run.

    Attributes:
        statistics: Tensors whose per-tensor statistics it reads.
        channels: Tensors whose statistics it reads per channel.
        samples: Tensors whose values it reads, for a few samples.
    """

    statistics: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def __add__(self, other: Needs) -> Needs:
        return Needs(
            _union(self.statistics, other.statistics),
            _union(self.channels, other.channels),
            _union(self.samples, other.samples),
        )


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*a, *b)))


@dataclass(frozen=True)
class Note:
    """One sentence about one layer (or about the network, if ``layer`` is empty), with its numbers."""

    text: str
    layer: str = ""


@dataclass(frozen=True)
class Change:
    """What applying a pass did.

    Attributes:
        modified: Whether the network is another one now.
        notes: What was done, and what was left alone and why.
        folds: Ranges before and after, for every weight and bias that changed.
        by: Name of the pass; filled in by :func:`run`.
    """

    modified: bool = False
    notes: tuple[Note, ...] = ()
    folds: tuple[Fold, ...] = ()
    by: str = ""


@runtime_checkable
class Pass(Protocol):
    """A frozen dataclass with these members; see the module's text for the laws."""

    name: ClassVar[str]
    summary: ClassVar[str]
    changes_function: ClassVar[bool]

    def needs(self, net: Network) -> Needs:
        """What must be observed on ``net`` before :meth:`apply`."""
        ...

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Change ``net`` in place.

        Args:
            net: A clone that nobody else holds.
            got: What was observed, as asked for by :meth:`needs`; None if nothing was.
            target: The target, or None.
        """
        ...


def run(
    net: Network, passes: Iterable[Pass], got: Any = None, target: Any = None
) -> tuple[Network, tuple[Change, ...]]:
    """Apply ``passes`` in order to a copy of ``net``; gives the copy and what each one did.

    Raises:
        PassError: if a pass fails, naming it and those before it.
    """
    net = net.clone()
    changes: list[Change] = []
    done: list[str] = []
    for one in passes:
        try:
            changes.append(replace(one.apply(net, got, target), by=one.name))
        except BitwrightError:
            raise
        except Exception as error:
            before = f" after {', '.join(done)}" if done else ""
            raise PassError(
                f"Pass {one.name} failed on {net.name}{before}: {type(error).__name__}: {error}. "
                "This is a bug of the pass; leave it out, or report it with the model."
            ) from error
        done.append(one.name)
    return net, tuple(changes)
