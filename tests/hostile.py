"""Names that files may hold and that must do no harm: markup, quotes, ten thousand letters, right to left, emoji."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMG = "<img src=x onerror=\"document.title='hit'\">"
NAMES = (
    IMG,
    "</script><script>document.title='hit'</script>",
    "\"'`&amp;<b>",
    "x" * 10_000,
    "\u202eevil\u202c שלום عربي",
    "👩🏽\u200d🚀 été\x07\x1b[31m",
    "javascript:alert(1)",
    "--><svg onload=document.title='hit'>",
    "](http://evil.example) @everyone `code` |",
)


def hostile_model(path: Path) -> Path:
    """A chain of convolutions, each with the next name for node and tensors, written to ``path``."""
    chance = np.random.default_rng(3)
    nodes, constants = [], []
    last = f"in {NAMES[0]}"
    for k, name in enumerate(NAMES):
        weights = chance.normal(size=(3, 3, 1, 1)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{k} {name}"))
        out = f"out{k} {name}"
        nodes.append(helper.make_node("Conv", [last, f"w{k} {name}"], [out], name=f"{k} {name}"))
        last = out
    # A layer that no target has in integers, so that a reason is shown too.
    nodes.append(helper.make_node("Hardmax", [last], [f"erf {IMG}"], name=f"erf {IMG}"))
    graph = helper.make_graph(
        nodes,
        f"net {IMG}",
        [helper.make_tensor_value_info(f"in {NAMES[0]}", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info(f"erf {IMG}", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
