"""Which contract each graph input has, and what that asks of calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract
    from bitwright.network.network import Network

Contracts = Mapping[str, "InputContract"]


def contracts_of(net: Network, contract: InputContract | Contracts | None) -> dict[str, InputContract]:
    """Input → contract; a single contract belongs to the input that it names, or else to the first."""
    if contract is None:
        return {}
    if isinstance(contract, Mapping):
        return dict(contract)
    name = contract.name if contract.name in net.inputs else net.inputs[0]
    return {str(name): contract}


def input_channels(net: Network, contract: InputContract | Contracts | None) -> dict[str, int]:
    """The inputs (and their axis) whose channels must be told apart, so that the range of the pixels can be given."""
    axes = {}
    for name, one in contracts_of(net, contract).items():
        several = len(one.mean) > 1 or len(one.std) > 1
        if several and name in net.inputs and net.dtype(name).kind == "f":
            axes[name] = 1 if one.layout == "NCHW" else len(net.shape(name)) - 1
    return axes
