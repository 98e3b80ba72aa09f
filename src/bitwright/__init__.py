"""bitwright: quantize neural networks to integers, and measure them in the very integers the hardware will compute.

The public API and nothing else.  What is named here is loaded when it is first used, so that ``import bitwright`` costs
next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitwright import errors
    from bitwright.api import Calibration, Model, calibrate, export, learned, load, quantize, validate
    from bitwright.comparing import compare
    from bitwright.compiling import compile_c
    from bitwright.deploying import deploy
    from bitwright.detailing import details
    from bitwright.estimating import estimate, fit
    from bitwright.explain.entry import explain
    from bitwright.familiar.dlquantizer import Quantizer
    from bitwright.familiar.nnom import generate_model
    from bitwright.flipping import flips
    from bitwright.inspection import inspect
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target, list_targets, load_target
    from bitwright.view.faces import faces
    from bitwright.view.report import report

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Model",
    "Quantized",
    "Quantizer",
    "Target",
    "__version__",
    "calibrate",
    "compare",
    "compile_c",
    "deploy",
    "details",
    "errors",
    "estimate",
    "explain",
    "export",
    "faces",
    "fit",
    "flips",
    "generate_model",
    "inspect",
    "learned",
    "list_targets",
    "load",
    "load_target",
    "quantize",
    "report",
    "validate",
]

# Public name → the module that has it.
_HOMES = {
    "Calibration": "api",
    "Model": "api",
    "Quantized": "quantized",
    "Quantizer": "familiar.dlquantizer",
    "Target": "targets.target",
    "calibrate": "api",
    "compare": "comparing",
    "compile_c": "compiling",
    "deploy": "deploying",
    "details": "detailing",
    "explain": "explain.entry",
    "estimate": "estimating",
    "fit": "estimating",
    "export": "api",
    "faces": "view.faces",
    "flips": "flipping",
    "generate_model": "familiar.nnom",
    "inspect": "inspection",
    "learned": "api",
    "list_targets": "targets.target",
    "load": "api",
    "load_target": "targets.target",
    "quantize": "api",
    "report": "view.report",
    "validate": "api",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("bitwright.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'bitwright' has no attribute {name!r}")
    value = getattr(import_module(f"bitwright.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Callable(ModuleType):
    """A folder of modules that is a function as well: calling it calls the public function of its name."""

    @property
    def __wrapped__(self) -> Any:
        """The function, for ``help`` and ``inspect.signature``."""
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"bitwright.{_HOMES[name]}"), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__wrapped__(*args, **options)


class _Package(ModuleType):
    """Importing anything from ``bitwright.calibrate`` puts that folder in the place of the function of the same name.

    So the folder becomes callable, and what people call works whatever was imported before.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
