"""What the float model means: an ONNX graph in one normal form, with shapes and the names of where each node came from.

The only folder that imports ``onnx`` and ``onnx_ir``; both are slow to import and are imported inside functions.
"""

from __future__ import annotations
