"""One file or two per kind of network that can be loaded; each gives an ``onnx_ir.Model`` and nothing else."""
