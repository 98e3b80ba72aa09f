"""The float islands of a program: pieces of the network that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnxruntime


@lru_cache(maxsize=64)
def _session(model: bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Sums in a fixed order, so that an island gives the same numbers whatever the load of the machine.
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_float(model: bytes, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str]) -> list[NDArray[Any]]:
    """Run a serialized piece of the network.

    Args:
        model: Serialized ONNX.
        feeds: Input → real numbers; converted to the type that the piece declares.
        fetches: Outputs wanted.

    Returns:
        The outputs, in the order of ``fetches``.
    """
    session = _session(model)
    types = {i.name: i.type for i in session.get_inputs()}
    kinds = {
        "tensor(float)": np.float32,
        "tensor(double)": np.float64,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }
    given = {name: np.ascontiguousarray(value, kinds.get(types[name], np.float32)) for name, value in feeds.items()}
    return [np.asarray(r) for r in session.run(list(fetches), given)]
