"""A quantized network: the integer program and everything that belongs to it, run, saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, InputMismatch, ModelError, printable
from bitwright.program.file import Artefact
from bitwright.program.program import Program
from bitwright.shown import Shown
from bitwright.simulate.engine import Agreement, Engine, compare
from bitwright.simulate.inputs import dequantize_output, quantize_input

if TYPE_CHECKING:
    from bitwright.calibrate.statistics import Statistics
    from bitwright.data.contract import InputContract
    from bitwright.measured import Cost, Measured
    from bitwright.network.network import Network
    from bitwright.targets.target import Target

FOREIGN = frozenset({".onnx", ".tflite", ".lite"})
"""Files that may hold a quantized network beside our own."""

Arrays = NDArray[Any] | Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Quantized(Shown):
    """A network in the integers of a target.

    Attributes:
        artefact: What its ``.bw`` file holds.
    """

    artefact: Artefact

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Quantized:
        """Read a ``.bw`` file, or a network that came quantized (``.tflite``, ``.onnx``) in the integers of its file.

        Raises:
            BadModelFile: if it is missing, damaged or of another kind.
            ModelError: if a file of the other kinds is a float network.
        """
        from bitwright.program.file import load

        if Path(path).suffix.lower() in FOREIGN:
            from bitwright.taken import take

            return cls(take(path))
        return cls(load(path))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the ``.bw`` file, whole or not at all."""
        from bitwright.program.file import save

        return save(self.artefact, path)

    @property
    def program(self) -> Program:
        """The integer program."""
        return self.artefact.program

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where it came from: fingerprints, target, schemes, settings, formats."""
        return self.artefact.provenance

    @property
    def name(self) -> str:
        """The network's name."""
        return self.program.name

    @cached_property
    def engine(self) -> Engine:
        """The fast simulator."""
        return Engine(self.program)

    @cached_property
    def _keeping_engine(self) -> Engine:
        return Engine(self.program, keep=True)

    @cached_property
    def target(self) -> Target:
        """The target it was made for, as it was then."""
        from bitwright.targets.target import Target

        return Target.from_dict(self.provenance["target"])

    @cached_property
    def network(self) -> Network:
        """The prepared float network.

        Raises:
            ModelError: if it was too large to be carried, and the file that it was is gone or another one.
        """
        from bitwright.network.load import load

        if self.artefact.network is not None:
            return load(self.artefact.network, name=self.name)
        reference = dict(self.provenance.get("network_file") or {})
        path = Path(str(reference.get("path", "")))
        if not path.is_file():
            raise ModelError(
                f"The float network of '{printable(self.name)}' is not in the .bw file, and {printable(path)} is not "
                "there. Put the ONNX file back, or quantize again."
            )
        from bitwright.passes.prepare import prepare

        network, _ = prepare(load(path, name=self.name))
        if network.fingerprint != self.provenance.get("fingerprint"):
            raise ModelError(f"{printable(path)} is not the network that was quantized: its fingerprint differs.")
        return network

    @cached_property
    def contract(self) -> InputContract:
        """How samples become inputs."""
        from bitwright.data.contract import InputContract, default_contract

        first = self.program.buffers[self.program.inputs[0]]
        name = first.tensor or first.name
        dtype = np.int64 if first.format.bits > 16 else np.float32
        shape = [None, *first.shape[1:]]
        if self.artefact.contract is None:
            return default_contract(shape, dtype, name=name)[0]
        return InputContract.from_dict(self.artefact.contract).bind(shape, dtype, name=name)

    @cached_property
    def statistics(self) -> Statistics | None:
        """The calibration that it was made from, if the file carries it."""
        if self.artefact.calibration is None:
            return None
        from bitwright.calibrate.file import statistics_from_bytes

        return statistics_from_bytes(self.artefact.calibration)

    @cached_property
    def lowered_network(self) -> Network:
        """The float network that the integers were written from: the prepared one, or as repairs rewrote it.

        Both compute the same function; their tensors and weights may differ by factors.

        Raises:
            ModelError: as for :attr:`network`.
        """
        if self.artefact.rewritten is None:
            return self.network
        from bitwright.network.load import load

        return load(self.artefact.rewritten, name=self.name)

    @cached_property
    def lowered_statistics(self) -> Statistics | None:
        """The statistics of :attr:`lowered_network`, if the file carries them."""
        if self.artefact.recalibration is None:
            return self.statistics
        from bitwright.calibrate.file import statistics_from_bytes

        return statistics_from_bytes(self.artefact.recalibration)

    @property
    def learnable_float_bytes(self) -> int:
        """Bytes of the float network's weights and biases in float32, pruned channels included."""
        return int(self.provenance.get("learnable_float_bytes") or self.program.learnable_float_bytes)

    @property
    def input_tensors(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return tuple(self.program.buffers[b].tensor or b for b in self.program.inputs)

    @property
    def output_tensors(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return tuple(self.program.buffers[b].tensor or b for b in self.program.outputs)

    def integers(self, x: Arrays) -> dict[str, NDArray[np.integer[Any]]]:
        """Real inputs ``[n, ...]`` as the program's integers, by buffer.

        Raises:
            InputMismatch: if an input is missing or has another shape.
        """
        named = dict(x) if isinstance(x, Mapping) else {self.input_tensors[0]: x}
        result = {}
        for tensor, name in zip(self.input_tensors, self.program.inputs, strict=True):
            if tensor not in named:
                raise InputMismatch(f"The network's input '{printable(tensor)}' is missing.")
            value, buffer = np.asarray(named[tensor]), self.program.buffers[name]
            if value.shape[1:] != buffer.shape[1:]:
                raise InputMismatch(
                    f"Input '{printable(tensor)}' has the shape {value.shape}; [n, {str(list(buffer.shape[1:]))[1:-1]}] "
                    "is wanted."
                )
            result[name] = quantize_input(value, buffer.format, self.program.input_rounding, tensor)
        return result

    def reals(self, values: Mapping[str, NDArray[np.integer[Any]]]) -> list[NDArray[np.float64]]:
        """The outputs in real units, in the network's order."""
        return [dequantize_output(values[b], self.program.buffers[b].format) for b in self.program.outputs]

    def run(self, x: Arrays, *, raw: bool = False) -> Any:
        """The outputs for real inputs, computed in the target's integers.

        Args:
            x: ``[n, ...]``, or a mapping by input name.
            raw: Give the integers themselves.

        Returns:
            One array, or a list of them for a network of several outputs; float64, or integers with ``raw``.
        """
        values = self.engine.run(self.integers(x))
        outputs: Sequence[Any] = [values[b] for b in self.program.outputs] if raw else self.reals(values)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def check(self, x: Arrays) -> Agreement:
        """Compare every integer of every buffer between the fast engine and the reference, for inputs ``x``."""
        inputs = self.integers(x)
        return compare(self.program, inputs, self._keeping_engine.run(inputs))

    def deploy(self, board: str | os.PathLike[str], **options: Any) -> Measured:
        """Build it for a board, run it there, compare every integer and count; see :func:`bitwright.deploy`."""
        from bitwright import deploy

        return deploy(self, board, **options)

    def export(
        self,
        to: str,
        path: str | os.PathLike[str],
        *,
        verify: bool = False,
        data: Any = None,
        samples: int | None = None,
        **options: Any,
    ) -> Any:
        """Write the network in another form; the same as ``bitwright.export(q, to, path, ...)``, which says more."""
        import bitwright  # exporters lie above this module

        return bitwright.export(self, to, path, verify=verify, data=data, samples=samples, **options)

    def report(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """One HTML file that shows the network whole; the same as ``bitwright.report(q, path, ...)``, which says more."""
        import bitwright  # the view lies above this module

        return bitwright.report(self, path, **options)

    def estimate(self, **options: Any) -> Cost:
        """What it would cost on a device, without running it; see :func:`bitwright.estimate`."""
        from bitwright import estimate

        return estimate(self, **options)

    def facts(self) -> list[tuple[str, str]]:
        """The network in a few lines, (what, value) each."""
        program = self.program
        return [
            ("target", program.target),
            ("layers", str(len({s.layer for s in program.steps}))),
            ("integer share of multiplications", f"{program.integer_mac_share:.1%}"),
            ("learnable bytes", f"{program.learnable_bytes:,} (float {self.learnable_float_bytes:,})"),
        ]


def open_quantized(item: Quantized | str | os.PathLike[str]) -> Quantized:
    """``item`` itself, or the network in the file that it names.

    Raises:
        BadModelFile: if it is neither.
    """
    if isinstance(item, Quantized):
        return item
    if isinstance(item, (str, os.PathLike)):
        return Quantized.load(item)
    raise BadModelFile(f"A quantized network or the path of a .bw file is wanted, not {type(item).__name__}.")
