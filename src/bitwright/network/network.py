"""The float network: an ONNX graph in normal form that knows its shapes and where each node came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bitwright.errors import UnknownShape, printable
from bitwright.network.defaults import complete
from bitwright.network.evaluate import constant_of
from bitwright.network.layer import Layer, Removed, make_layer
from bitwright.network.marks import ATTRIBUTES, LAYER, OP, SOURCES
from bitwright.network.names import fresh
from bitwright.network.shapes import Shape, infer_shapes
from bitwright.network.values import stored, transposed
from bitwright.shown import Shown

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime

    from bitwright.network.stated import Stated


class Network(Shown):
    """An ``onnx_ir.Model`` with shapes, provenance, layers and the few edits that passes need.

    Networks come from :func:`bitwright.network.load.load`.  Passes change a clone in place through the methods below,
    which keep shapes, provenance and graph outputs right; nobody else changes one.

    Attributes:
        model: The model in opset 18 or later.  Treat it as read-only.
        name: A short name for reports.
        path: The file it came from, or None.
        notes: What loading changed, in sentences.
        batchable: Axis 0 of every activation is the batch, which can have any size.
        stated: The formats that the file states, if it holds a quantized network.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        name: str,
        path: Path | None,
        shapes: Mapping[str, Shape],
        types: Mapping[str, int],
        batchable: bool,
        removed: Iterable[Removed] = (),
        notes: Iterable[str] = (),
        stated: Stated | None = None,
        channels_last: Iterable[str] = (),
    ) -> None:
        self.model, self.name, self.path, self.batchable = model, name, path, batchable
        self.stated = stated
        self._channels_last = frozenset(channels_last)
        self.notes = tuple(notes)
        self._shapes, self._types = dict(shapes), dict(types)
        self._removed = list(removed)
        self._alias: dict[str, str] = {}
        self._fingerprint: str | None = None
        self._tensors: dict[str, ir.Value] | None = None
        self._names: set[str] | None = None
        self._counts: dict[str, int] = {}

    # ---------------------------------------------------------------- reading

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph inputs, initializers excluded."""
        return tuple(str(v.name) for v in self.model.graph.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph outputs."""
        return tuple(str(v.name) for v in self.model.graph.outputs)

    @property
    def channels_last(self) -> frozenset[str]:
        """Tensors that are held with their channels second, while the user's network has them last."""
        return frozenset(self._resolve(name) for name in self._channels_last)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return int(self.model.graph.opset_imports[""])

    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes in topological order."""
        return tuple(self.model.graph)

    def node(self, name: str) -> ir.Node:
        """The node called ``name``; linear in the number of nodes.

        Raises:
            KeyError: if there is none.
        """
        for node in self.model.graph:
            if node.name == name:
                return node
        raise KeyError(name)

    def value(self, tensor: str) -> ir.Value:
        """The ``onnx_ir.Value`` called ``tensor``.

        Raises:
            KeyError: if there is none.
        """
        if self._tensors is None:
            self._tensors = self._index()
        return self._tensors[tensor]

    def _index(self) -> dict[str, ir.Value]:
        graph = self.model.graph
        tensors: dict[str, ir.Value] = {str(v.name): v for v in graph.inputs} | dict(graph.initializers)
        for node in graph:
            tensors.update({str(v.name): v for v in node.outputs if v.name})
        return tensors

    def producer(self, tensor: str) -> ir.Node | None:
        """The node that makes ``tensor``; None for inputs and constants."""
        return self.value(tensor).producer()

    def consumers(self, tensor: str) -> tuple[ir.Node, ...]:
        """The nodes that read ``tensor``, each once, in order of registration."""
        return tuple(dict.fromkeys(self.value(tensor).consumers()))

    def only_consumer(self, tensor: str) -> ir.Node | None:
        """The node that alone reads ``tensor`` (once), or None; graph outputs have a reader outside."""
        value = self.value(tensor)
        uses = list(value.uses())
        return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None

    def shape(self, tensor: str) -> Shape:
        """Shape of ``tensor`` with the batch fixed to 1.

        Raises:
            UnknownShape: if it does not follow from the input shapes.
        """
        try:
            return self._shapes[tensor]
        except KeyError:
            raise UnknownShape(
                f"The shape of tensor '{printable(tensor)}' in {printable(self.name)} does not follow from the input "
                "shapes. Fix the free dimensions with --shape NAME=1,3,224,224 (or load(..., shapes={...})).",
                tensor=tensor,
            ) from None

    def has_shape(self, tensor: str) -> bool:
        """Whether :meth:`shape` knows ``tensor``."""
        return tensor in self._shapes

    def dtype(self, tensor: str) -> np.dtype[Any]:
        """Element type of ``tensor``.

        Raises:
            UnknownShape: if it is not known.
        """
        import onnx_ir as ir

        if tensor not in self._types:
            raise UnknownShape(
                f"The element type of tensor '{printable(tensor)}' in {printable(self.name)} is not known.",
                tensor=tensor,
            )
        return np.dtype(ir.DataType(self._types[tensor]).numpy())

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """The value of an initializer or a ``Constant`` node's output; None for everything else.

        External data is memory-mapped, not read.
        """
        value = self.value(tensor)
        if value.is_initializer() and value.const_value is not None:
            return np.asarray(value.const_value.numpy())
        node = value.producer()
        return constant_of(node) if node is not None and node.op_type == "Constant" else None

    def is_constant(self, tensor: str) -> bool:
        """Whether :meth:`constant` would give a value, without reading it."""
        value = self.value(tensor)
        node = value.producer()
        return value.is_initializer() or (node is not None and node.op_type == "Constant")

    def attributes(self, node: ir.Node) -> dict[str, object]:
        """Attributes of ``node`` as plain values; what the file leaves out has ONNX's default for the opset.

        Strides, dilations, pads, kernel_shape and perm are always there for the operators that have them.  For the
        main node of a pattern (see :meth:`group`) the attributes of the pattern's operator are there too.
        """
        version = self.model.graph.opset_imports.get(node.domain, 1)
        found = complete(node, version, self._shapes)
        if ATTRIBUTES in node.metadata_props:
            found.update(json.loads(node.metadata_props[ATTRIBUTES]))
        return found

    def sources(self, node: ir.Node) -> tuple[str, ...]:
        """Names of all source nodes that ``node`` came from."""
        text = node.metadata_props.get(SOURCES)
        return tuple(json.loads(text)) if text else (str(node.name),)

    @property
    def removed(self) -> tuple[Removed, ...]:
        """Source nodes that are gone because they changed nothing, with the tensors that carry their values now."""
        return tuple(Removed(r.name, r.op, self._resolve(r.tensor), r.constant) for r in self._removed)

    def layers(self) -> tuple[Layer, ...]:
        """Every node exactly once, grouped into layers, in the order of each layer's last node."""
        groups: dict[str, list[ir.Node]] = {}
        for node in self.model.graph:
            name = node.metadata_props.get(LAYER, str(node.name))
            # A group is ordered by its last node: everything it reads has been made by then.
            groups[name] = [*groups.pop(name, []), node]
        return tuple(make_layer(self, name, tuple(nodes)) for name, nodes in groups.items())

    # ---------------------------------------------------------------- editing, for passes

    def fuse(self, into: ir.Node, *gone: ir.Node) -> None:
        """Add the sources of ``gone`` to those of ``into``; the nodes themselves are not touched."""
        names = dict.fromkeys(self.sources(into))
        for node in gone:
            names.update(dict.fromkeys(self.sources(node)))
        into.metadata_props[SOURCES] = json.dumps(list(names))

    def new_constant(self, hint: str, array: ArrayLike) -> ir.Value:
        """A new initializer with a name like ``hint``."""
        value = stored(self.model.graph, self._fresh_tensor(hint), array)
        assert value.dtype is not None
        self._declare(value, np.shape(array), int(value.dtype))
        return value

    def new_transposed(self, hint: str, matrix: ir.Value) -> ir.Value:
        """A new initializer: the stored ``matrix`` transposed, computed when it is read, so that it takes no memory."""
        assert matrix.const_value is not None
        assert matrix.dtype is not None
        value = transposed(self.model.graph, self._fresh_tensor(hint), matrix.const_value)
        self._declare(value, self.shape(str(matrix.name))[::-1], int(matrix.dtype))
        return value

    def new_node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        before: ir.Node,
        name: str,
        sources: Sequence[str],
        shape: Shape,
        dtype: DTypeLike = np.float32,
        domain: str = "",
    ) -> ir.Value:
        """Insert a node with one output before ``before``; gives that output.

        Args:
            op: Operator type.
            inputs: Values of this network, None for an optional input that is left out.
            attributes: Plain values.
            before: A node of this network.
            name: Wanted name; made unique.
            sources: Names of the source nodes it stands for.
            shape: Shape of the output with batch 1.
            dtype: Element type of the output.
            domain: Operator domain.
        """
        import onnx_ir as ir

        if self._names is None:
            self._names = {str(node.name) for node in self.model.graph}
        name = fresh(name, self._names)
        self._names.add(name)
        kind = ir.DataType.from_numpy(np.dtype(dtype))
        node = ir.node(op, inputs, attributes or {}, domain=domain, name=name)
        output = node.outputs[0]
        output.name = self._fresh_tensor(f"{name}.out")
        output.type = ir.TensorType(kind)
        node.metadata_props[SOURCES] = json.dumps(list(sources))
        self.model.graph.insert_before(before, node)
        self._declare(output, shape, int(kind))
        return output

    def set_input(self, node: ir.Node, index: int, value: ir.Value | None) -> None:
        """Let input ``index`` of ``node`` be ``value``; missing optional inputs before it become empty."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)
        self._touch()

    def set_attributes(self, node: ir.Node, **attributes: Any) -> None:
        """Set attributes to plain values; None removes one."""
        import onnx_ir as ir

        for name, value in attributes.items():
            if value is None:
                node.attributes.pop(name, None)
            else:
                node.attributes[name] = ir.convenience.convert_attribute(name, value)
        self._touch()

    def replace(self, old: ir.Value, new: ir.Value) -> bool:
        """Let everybody who reads ``old`` read ``new``; a graph output keeps its name.

        Returns:
            False, with nothing changed, if that is impossible: ``old`` is a graph output and ``new`` is an input, a
            constant or an output already.
        """
        graph = self.model.graph
        if not old.is_graph_output():
            old.replace_all_uses_with(new)
            self._alias[str(old.name)] = str(new.name)
            self._touch()
            return True
        if new.producer() is None or new.is_graph_output() or sum(v is old for v in graph.outputs) > 1:
            return False
        name, before = str(old.name), str(new.name)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = self._fresh_tensor(f"{name}.gone")
        new.name = name
        self._shapes[name] = self._shapes.pop(before, self._shapes.get(name, ()))
        self._types[name] = self._types.pop(before, self._types.get(name, 1))
        self._alias.pop(name, None)
        self._alias[before] = name
        if self._tensors is not None:
            self._tensors.pop(before, None)
            self._tensors[str(old.name)], self._tensors[name] = old, new
        self._touch()
        return True

    def remove(self, node: ir.Node, *, because: Removed | None = None) -> None:
        """Take a node out whose outputs nobody reads; its sources must have been merged or be named in ``because``."""
        if node.metadata_props.get(LAYER) == node.name:
            # The layer loses its main node: its other nodes stand on their own until they are grouped again.
            for other in self.model.graph:
                if other.metadata_props.get(LAYER) == node.name:
                    for key in (LAYER, OP, ATTRIBUTES):
                        other.metadata_props.pop(key, None)
        self.model.graph.remove(node, safe=True)
        if self._tensors is not None:
            for value in node.outputs:
                self._tensors.pop(str(value.name), None)
        if because is not None:
            for name in self.sources(node):
                self._removed.append(Removed(name, because.op, because.tensor, because.constant))
        self._touch()

    def note_removed(self, node: ir.Node, tensor: str, *, constant: bool = False) -> Removed:
        """The record for a node that changes nothing and whose value ``tensor`` carries from now on."""
        return Removed(str(node.name), node.op_type, tensor, constant)

    def sweep(self) -> bool:
        """Remove initializers that nobody reads and is no output; says whether there were any."""
        unused = [
            name
            for name, value in self.model.graph.initializers.items()
            if not value.uses() and not value.is_graph_output()
        ]
        for name in unused:
            del self.model.graph.initializers[name]
            self._shapes.pop(name, None)
            self._types.pop(name, None)
        if unused:
            self._tensors = None
            self._touch()
        return bool(unused)

    def group(
        self,
        main: ir.Node,
        nodes: Iterable[ir.Node],
        op: str | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Let ``nodes`` belong to the layer of ``main``; the graph itself does not change.

        Args:
            main: The node whose name the layer has.
            nodes: All nodes of the layer.
            op: The operator that the nodes are together, if that is not the main node's.
            attributes: That operator's attributes, plain values.
        """
        layer = main.metadata_props.get(LAYER, str(main.name))
        for node in nodes:
            node.metadata_props[LAYER] = layer
        main.metadata_props[LAYER] = layer
        if op is not None:
            main.metadata_props[OP] = op
            main.metadata_props[ATTRIBUTES] = json.dumps(dict(attributes or {}))
        self._touch()

    def layer_of(self, node: ir.Node) -> str:
        """Name of the layer that ``node`` belongs to; its own name if it stands alone."""
        return node.metadata_props.get(LAYER, str(node.name))

    def is_grouped(self, node: ir.Node) -> bool:
        """Whether ``node`` is in a layer of several nodes (or of a named function)."""
        return LAYER in node.metadata_props

    def is_pattern(self, main: ir.Node) -> bool:
        """Whether ``main`` is the main node of a function written as several nodes."""
        return OP in main.metadata_props

    def reinfer(self) -> None:
        """Compute all shapes again, after edits that change them."""
        found = infer_shapes(self.model, {name: self._shapes[name] for name in self.inputs})
        self._shapes, self._types = found.shapes, found.types

    def _declare(self, value: ir.Value, shape: Shape, kind: int) -> None:
        self._shapes[str(value.name)], self._types[str(value.name)] = shape, kind
        if self._tensors is not None:
            self._tensors[str(value.name)] = value
        self._touch()

    def _fresh_tensor(self, hint: str) -> str:
        if self._tensors is None:
            self._tensors = self._index()
        name, number = hint, self._counts.get(hint, 1)
        while name in self._tensors or name in self._alias or not name:
            number += 1
            name = f"{hint}_{number}"
        self._counts[hint] = number
        return name

    def _resolve(self, tensor: str) -> str:
        seen = set()
        while tensor in self._alias and tensor not in seen:
            seen.add(tensor)
            tensor = self._alias[tensor]
        return tensor

    def _touch(self) -> None:
        self._fingerprint = None

    # ---------------------------------------------------------------- copies, files, running

    def clone(self) -> Network:
        """An independent copy; weights are shared, because nobody changes a tensor in place."""
        copy = Network(
            self.model.clone(),
            name=self.name,
            path=self.path,
            shapes=self._shapes,
            types=self._types,
            batchable=self.batchable,
            removed=self._removed,
            notes=self.notes,
            stated=self.stated,
            channels_last=self._channels_last,
        )
        copy._alias = dict(self._alias)
        copy._fingerprint = self._fingerprint
        return copy

    @property
    def fingerprint(self) -> str:
        """SHA-256 over structure and weights, in hex: equal for equal networks, whatever their file is called."""
        if self._fingerprint is None:
            from bitwright.network.fingerprint import fingerprint

            self._fingerprint = fingerprint(self)
        return self._fingerprint

    def save(self, path: str | Path) -> None:
        """Write an .onnx file that any ONNX runtime runs; provenance and layers travel in its metadata.

        Weights beyond 1.5 GB go to ``NAME.onnx.data`` beside it, because protobuf ends at 2 GB.
        """
        from bitwright.network.running import save

        save(self, Path(path))

    def serialize(self, extra_outputs: Sequence[str] = ()) -> bytes:
        """The model as ONNX bytes, with ``extra_outputs`` as further graph outputs; external weights stay external.

        Raises:
            ModelError: if more than 1.5 GB of weights lie in memory; then use :meth:`save`.
        """
        from bitwright.network.running import serialize

        return serialize(self, extra_outputs)

    def session(
        self, outputs: Sequence[str] | None = None, *, threads: int | None = None, optimize: bool = True
    ) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session (CPU) that can give the tensors ``outputs`` (default: the graph's own).

        Args:
            outputs: Any tensors of the network; the graph outputs stay available too.
            threads: Threads inside an operator; None leaves it to ONNX Runtime.
            optimize: Let ONNX Runtime fuse and reorder; False keeps every node as it is.

        Raises:
            ModelError: if ONNX Runtime refuses the network.
        """
        from bitwright.network.running import session

        return session(self, self.outputs if outputs is None else outputs, threads, optimize)

    def __repr__(self) -> str:
        return f"<Network {printable(self.name)}: {len(self.model.graph)} nodes, inputs {self.inputs}>"
