"""What can be seen of a network before anything was run: its graph, what folding did, its weights, what stays float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitwright.calibrate.statistics import Statistics
    from bitwright.model import Model
    from bitwright.targets.target import Target
    from bitwright.view.seen import BoxSeen, GraphSeen, Page


def opened(model: Model, target: Target, scheme: str | None = None) -> Page:
    """The page of a network that nobody has calibrated yet.

    Formats of weights are those of the scheme.  Activations are not known, so nothing that depends on them is shown:
    no activation, no bias in steps of an accumulator, no signal to noise of a layer.
    """
    from bitwright.api import Calibration, packed, role_schemes
    from bitwright.calibrate.assign import RoleSchemes, assign
    from bitwright.calibrate.scheme import load as load_scheme
    from bitwright.inspection import other_notes
    from bitwright.lower import lower
    from bitwright.view.look import look

    spec = model.spec(target)
    named = role_schemes(target, scheme)
    whole = load_scheme("minmax")
    schemes = RoleSchemes(input=whole, activation=whole, weight=named.made.weight, bias=named.made.bias)
    statistics = made_up(model)
    formats = assign(spec, statistics, target, schemes)
    program = lower(model.network, spec, formats, target)
    q = packed(model, Calibration(model, statistics), target, named.names, spec, program, formats)
    page = look(q)
    notes = tuple(dict.fromkeys((*model.notes, *other_notes(model))))
    return replace(
        page,
        side=replace(page.side, samples=0),
        findings=tuple(f for f in page.findings if f.kind == "float"),
        tensors=tuple(t for t in page.tensors if t.kind == "Weights"),
        optimized=_quiet(page.optimized),
        network=_quiet(page.network),
        profile=(),
        memory=(),
        notes=notes,
    )


def made_up(model: Model) -> Statistics:
    """Statistics whose constants are real and whose activations are not."""
    from bitwright.calibrate.constants import constant_statistics
    from bitwright.calibrate.observe import observed_tensors
    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats

    net = model.network
    example = TensorStats.of([-4.0, 4.0])
    activations = dict.fromkeys(observed_tensors(net), example)
    return Statistics(net.fingerprint, (), 1, activations, **constant_statistics(net))


def _quiet(graph: GraphSeen) -> GraphSeen:
    """A graph without what only a calibration can tell."""

    def quiet(box: BoxSeen) -> BoxSeen:
        return replace(box, sqnr_db=None, tensors=tuple(t for t in box.tensors if t.endswith(".Weights")))

    return replace(graph, boxes=tuple(map(quiet, graph.boxes)))
