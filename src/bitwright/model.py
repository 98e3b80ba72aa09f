"""A float network, loaded and prepared, with the contract of its input, and samples for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import ModelError, NoData, printable
from bitwright.shown import Shown

if TYPE_CHECKING:
    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.data.batch import Batch
    from bitwright.data.contract import InputContract
    from bitwright.data.source import Source
    from bitwright.network.network import Network
    from bitwright.passes._pass import Change
    from bitwright.passes.fold import Fold
    from bitwright.passes.norms import Norm
    from bitwright.targets.target import Target

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Model(Shown):
    """A network that was loaded and prepared.

    Attributes:
        network: Folded and grouped into layers; every node knows the source nodes it came from.
        changes: What the folding passes did, in order.
        contract: How samples become inputs.
        notes: What the user should know, in sentences.
        path: The file, if it came from one.
        norms: What the batch normalizations nearest to the input saw in training.
    """

    network: Network
    changes: tuple[Change, ...]
    contract: InputContract
    notes: tuple[str, ...] = ()
    path: Path | None = None
    norms: tuple[Norm, ...] = ()

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def folds(self) -> tuple[Fold, ...]:
        """What folding did to the range of each weight and bias."""
        return tuple(fold for change in self.changes for fold in change.folds)

    def spec(self, target: Target) -> NetworkSpec:
        """Its layers as ``target`` sees them."""
        from bitwright.calibrate.spec import read_layers

        return read_layers(self.network, target)


def load(
    model: Any,
    example: Any = None,
    *,
    input_spec: PathLike | Mapping[str, Any] | InputContract | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    name: str | None = None,
) -> Model:
    """Load a float network and prepare it: fold, fuse, group, with every source name kept.

    Args:
        model: Path of a network (ONNX; PyTorch ``.pt2``; Keras ``.keras``, ``.h5`` or a SavedModel; TensorFlow Lite),
            a PyTorch module or exported program, a Keras model, ONNX bytes, a ``ModelProto`` or an ``onnx_ir.Model``.
        example: An example input, which a PyTorch module needs: a tensor or array ``[n, ...]``, a tuple of them, or a
            mapping by argument.
        input_spec: The input contract, or its TOML file; by default ``MODEL.toml`` beside the model.
        shapes: Sizes for free dimensions other than the batch.
        name: A name for reports.

    Raises:
        ModelError: if the network cannot be used; the subclass and message say why.
        DataError: if the input contract cannot be used.
    """
    from bitwright.data.contract import InputContract, default_contract
    from bitwright.network.load import load as read
    from bitwright.passes.norms import trained_norms
    from bitwright.passes.prepare import prepare

    if isinstance(model, Model):
        return model
    source = read(model, name=name, shapes=shapes, example=example)
    network, changes = prepare(source)
    stated = network.stated
    if stated is not None:
        from bitwright.network.stated import take_pairs

        network = network.clone()
        found = take_pairs(network, stated)
        network.stated = found if found.activations else None
        if not found.activations:
            network.notes = (*network.notes, "the file holds its weights in integers; they are read as real numbers")
    if not network.inputs or not network.outputs:
        raise ModelError(f"{printable(network.name)} has no inputs or no outputs, so there is nothing to quantize.")
    path = Path(model) if isinstance(model, (str, os.PathLike)) else None
    contract: InputContract | None
    if input_spec is None:
        contract = InputContract.find(path) if path is not None else None
    elif isinstance(input_spec, InputContract):
        contract = input_spec
    elif isinstance(input_spec, Mapping):
        contract = InputContract.from_dict(input_spec)
    else:
        contract = InputContract.from_toml(Path(input_spec))
    first = contract.name if contract is not None and contract.name in network.inputs else network.inputs[0]
    shape: list[int | None] = list(network.shape(first))
    if network.batchable and shape:
        shape[0] = None
    notes: tuple[str, ...] = network.notes
    if contract is None:
        bound, more = default_contract(shape, network.dtype(first), name=first)
        notes = (*notes, *more)
    else:
        bound = contract.bind(shape, network.dtype(first), name=first)
    norms = trained_norms(source, [fold for change in changes for fold in change.folds])
    return Model(network=network, changes=changes, contract=bound, notes=notes, path=path, norms=norms)


def open_samples(
    net: Network,
    contract: InputContract,
    data: Any,
    *,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
) -> Samples:
    """Open ``data`` for a network; see ``data/source.py`` for what it may be."""
    from bitwright.data.source import open_source

    source = open_source(
        data, contract, samples=samples, seed=seed, on_bad="skip" if skip_bad else "error", inputs=net.inputs
    )
    return Samples(net, contract, source)


@dataclass
class Samples:
    """A source whose first batch is checked against the network and the contract before anything is computed.

    Attributes:
        network: The network that the samples are for.
        contract: How they became tensors.
        source: Where they come from.
        found: What the first batch had to say, in sentences; known once it has been read.
    """

    network: Network
    contract: InputContract
    source: Source
    found: tuple[str, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Of the source."""
        return self.source.fingerprint

    @property
    def length(self) -> int | None:
        """How many samples there are, if that is known."""
        return self.source.length

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the source and the first batch."""
        return (*self.found, *self.source.notes)

    def batches(self, size: int = 16) -> Iterator[Batch]:
        """As ``Source.batches``, checking the first.

        Raises:
            DataError: if the first batch cannot be right (shape, layout, type, normalized twice), or a sample is bad.
        """
        batches = self.source.batches(size if self.network.batchable else 1)
        first = next(batches, None)
        if first is None:
            raise NoData(f"{self.source.title} gives no sample.")
        self.found = check_batch(self.network, self.contract, first)
        yield first
        yield from batches


def check_batch(net: Network, contract: InputContract, batch: Batch) -> tuple[str, ...]:
    """What a batch has to say: shape, layout, range, "looks normalized twice".

    Raises:
        DataError: if it cannot be right.
    """
    from bitwright.data.first_batch import check_first_batch

    shapes: dict[str, list[int | None]] = {name: list(net.shape(name)) for name in net.inputs}
    if net.batchable:
        shapes = {name: [None, *shape[1:]] for name, shape in shapes.items()}
    types = {name: net.dtype(name) for name in net.inputs}
    if len(net.inputs) == 1:
        only = net.inputs[0]
        return check_first_batch(batch, contract, shapes[only], types[only])
    return check_first_batch(batch, contract, shapes, types)
