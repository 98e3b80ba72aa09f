"""Which tensors must have one format, by the nature of operators and the rules of a target."""

from __future__ import annotations

from collections.abc import Mapping

from bitwright.calibrate.spec import LayerSpec, NetworkSpec


class Groups:
    """Tensors that share a format: a union-find whose representative is the earliest tensor."""

    def __init__(self, order: Mapping[str, int]) -> None:
        self._parent = {name: name for name in order}
        self._order = order

    def find(self, tensor: str) -> str:
        """The representative of ``tensor``'s group."""
        while self._parent[tensor] != tensor:
            self._parent[tensor] = self._parent[self._parent[tensor]]
            tensor = self._parent[tensor]
        return tensor

    def union(self, a: str, b: str) -> None:
        """Put two tensors into one group."""
        first, second = sorted((self.find(a), self.find(b)), key=lambda t: self._order[t])
        self._parent[second] = first

    def members(self) -> dict[str, list[str]]:
        """Representative → all its tensors, in order."""
        groups: dict[str, list[str]] = {}
        for name in self._parent:
            groups.setdefault(self.find(name), []).append(name)
        return groups


def passes_format_on(spec: LayerSpec) -> bool:
    """Whether the layer's output holds codes of its input unchanged (pooling maxima, moving elements)."""
    return not spec.reason and spec.operator is not None and spec.operator.relation == "input"


def share_formats(net: NetworkSpec) -> Groups:
    """Which tensors must have one format, by the operators' nature and the target's rules."""
    tensors = [*net.inputs, *(t for spec in net.layers for t in spec.outputs)]
    groups = Groups({name: i for i, name in enumerate(dict.fromkeys(tensors))})
    for spec in net.layers:
        if spec.reason or spec.operator is None or not spec.tensors:
            continue
        shared = [t for t in spec.tensors if t not in net.integer]
        if passes_format_on(spec) or (spec.rule.output == "shared" and spec.operator.relation == "own"):
            for output in spec.outputs:
                if shared and output not in net.integer:
                    groups.union(shared[0], output)
        join = spec.operator.relation == "all"
        if spec.rule.inputs == "shared" or (join and spec.rule.inputs == "best"):
            # "best": a tensor that nobody else reads is best produced in the output's format, with one rounding.
            free = [
                t for t in shared if len(net.consumers.get(t, ())) == 1 and t not in net.outputs and t not in net.inputs
            ]
            chosen = shared if spec.rule.inputs == "shared" else free
            anchors = [*chosen, *(spec.outputs if join else ())]
            for other in anchors[1:]:
                groups.union(anchors[0], other)
    return groups


def sources_of_group(net: NetworkSpec, members: list[str]) -> list[str]:
    """The members whose values are computed, not copied from another member."""
    inside = set(members)
    roots = []
    for tensor in members:
        spec = net.producer(tensor)
        copies = spec is not None and spec.operator is not None and spec.operator.relation in ("input", "all")
        if spec is None or not copies or not inside.issuperset(spec.tensors):
            roots.append(tensor)
    return roots or members[:1]
