"""``host``: this machine, with its own compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bitwright.boards.board import Board, Family, Job, Session, Values
from bitwright.boards.writing import cost, outcome, own_kernels, written
from bitwright.mcu import native
from bitwright.mcu.library import Library
from bitwright.measured import Measured

NAME, SUMMARY = "host", "This machine, with its own C compiler"


@dataclass(frozen=True)
class Loaded:
    """A compiled network in this process."""

    library: Library

    @property
    def toolchain(self) -> str:
        """See ``Session.toolchain``."""
        return native.version(tuple(self.library.compiler.split()))

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """See ``Session.run``."""
        return self.library.run(inputs)


@dataclass(frozen=True)
class Host:
    """This machine."""

    name: str = NAME
    summary: str = SUMMARY

    def measure(self, job: Job, inputs: Mapping[str, Values]) -> Measured:
        """See ``Board.measure``.

        Raises:
            ToolMissing: there is no compiler.
        """
        job.refuse(self.name, "config", "frames", "port", "strict_timing", "clock_mhz")
        own_kernels(job, self.name)
        with written(job, None) as tree:
            job.tell("compiling and running")
            counts = native.measure(tree, tree.program, inputs, cc=job.compiler)
            seconds = min(counts.totals) / counts.ticks_per_s
            measured = cost(
                tree,
                self.name,
                counts.totals[0],
                counts.steps,
                unit="cycles",
                basis="measured",
                rate=(1 / seconds if seconds else None, "measured: one thread, the least of several runs"),
                memory={
                    "constant_bytes": tree.report["flash"]["constant_bytes"],
                    "code_bytes_estimate": tree.report["flash"]["code_bytes_estimate"],
                },
            )
        return outcome(self.name, counts, measured)

    @contextmanager
    def session(self, job: Job) -> Iterator[Session]:
        """See ``Board.session``."""
        job.refuse(self.name, "config", "frames", "port", "strict_timing")
        own_kernels(job, self.name)
        with written(job, None) as tree:
            job.tell("compiling")
            yield Loaded(Library(tree, tree.program, cc=job.compiler))


def find(name: str) -> Board | None:
    """This machine, if it is meant."""
    return Host() if name == NAME else None


FAMILY = Family(names=lambda: {NAME: SUMMARY}, find=find)
