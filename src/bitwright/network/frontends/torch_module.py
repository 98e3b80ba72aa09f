"""PyTorch: modules, exported programs and ``.pt2`` files, through PyTorch's own exporter to ONNX.

``torch.onnx.export(dynamo=True, optimize=False).model`` is an ``onnx_ir.Model`` whose initializers refer to the
module's parameters, so no weight is copied.  Its nodes say which module they come from; with ``optimize=True`` batch
norms would be folded and the names lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import BadModelFile, ModelError, ToolMissing, printable
from bitwright.network.frontends.registry import Found

if TYPE_CHECKING:
    import onnx_ir as ir

INSTALL = "pip install 'bitwright[torch]'"
_LARGEST_JSON = 256 << 20
# What an exported program may call: PyTorch's operators and Python's arithmetic.
_CALLS = re.compile(r"#?torch\.ops\.(aten|prims|torchvision)\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+")
_SIZES = re.compile(r"[\w\s+\-*/(),]{0,500}")


def read_module(module: Any, example: Any) -> Found:
    """A ``torch.nn.Module``, traced with ``example`` in evaluation mode; the module is left as it was.

    Args:
        module: The module.
        example: A tensor or an array ``[n, ...]``, a tuple of them, or a mapping by argument.  One sample is enough.

    Raises:
        ModelError: if there is no example, or the module cannot be traced with it.
        ToolMissing: if PyTorch or its exporter is not installed.
    """
    torch = _torch()
    if example is None:
        raise ModelError(
            f"A PyTorch module says nothing about its inputs. Give an example: bitwright.load({type(module).__name__}(), "
            "torch.zeros(1, 3, 224, 224))."
        )
    args, kwargs = _example(torch, example)
    training = {m: m.training for m in module.modules()}
    try:
        module.eval()
        with _quiet():
            model = _traced(torch, module, args, kwargs)
    finally:
        for part, mode in training.items():
            part.training = mode
    notes = ("the module was exported in evaluation mode",) if any(training.values()) else ()
    return Found(model, name=type(module).__name__, notes=notes)


def read_program(program: Any) -> Found:
    """A ``torch.export.ExportedProgram``."""
    return Found(_exported(_torch(), program, (), {}, "the exported program"))


def read_pt2(path: Path) -> Found:
    """A ``.pt2`` file of ``torch.export.save``; a file that would execute anything is refused.

    Raises:
        BadModelFile: if it is damaged, or holds pickled objects, compiled code or calls of other functions than
            PyTorch's operators.
    """
    torch = _torch()
    _check_archive(path)
    try:
        with _only_weights():
            program = torch.export.load(str(path))
    except Exception as error:
        raise BadModelFile(
            f"{printable(path)} cannot be read as an exported PyTorch program: {printable(_first(error), 300)}. Save it "
            "again with torch.export.save, with the version of PyTorch that is installed here.",
            path=str(path),
        ) from error
    return Found(_exported(torch, program, (), {}, str(path)))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ToolMissing(f"PyTorch is not installed: {INSTALL}", tool="torch", install=INSTALL) from error
    try:
        import onnxscript  # noqa: F401  (torch.onnx needs it, and says so less clearly)
    except ImportError as error:
        raise ToolMissing(
            f"PyTorch's exporter to ONNX needs onnxscript, which is not installed: {INSTALL}",
            tool="onnxscript",
            install=INSTALL,
        ) from error
    return torch


def _example(torch: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments, one sample of each."""

    def tensor(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[:1] if value.ndim else value
        if isinstance(value, (np.ndarray, list, int, float)):
            array = np.asarray(value)
            if array.dtype == np.float64:
                array = array.astype(np.float32)
            return torch.from_numpy(np.ascontiguousarray(array[:1] if array.ndim else array))
        raise ModelError(
            f"An example input must be a tensor or an array, or a tuple or mapping of them, not {type(value).__name__}."
        )

    if isinstance(example, Mapping):
        return (), {str(k): tensor(v) for k, v in example.items()}
    if isinstance(example, tuple):
        return tuple(tensor(v) for v in example), {}
    return (tensor(example),), {}


def _traced(torch: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ir.Model:
    """The module with a free batch where it allows one, else with a batch of 1."""

    def two(x: Any) -> Any:
        return torch.cat([x, x]) if x.ndim else x

    def free(x: Any) -> dict[int, Any] | None:
        return {0: torch.export.Dim.DYNAMIC} if x.ndim else None

    what = type(module).__name__
    try:
        program = torch.export.export(
            module,
            tuple(two(x) for x in args),
            {k: two(x) for k, x in kwargs.items()},
            dynamic_shapes=(*(free(x) for x in args),) if not kwargs else {k: free(x) for k, x in kwargs.items()},
        )
    except Exception:  # the batch is written into the module, or the module cannot be traced: the second try says which
        return _exported(torch, module, args, kwargs, what)
    return _exported(torch, program, (), {}, what)


def _exported(torch: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> ir.Model:
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(module, args, kwargs=kwargs or None, dynamo=True, optimize=False, verbose=False)
    except Exception as error:
        raise ModelError(
            f"PyTorch cannot export {printable(what)}: {printable(_reason(error), 400)}. Check that the example has the "
            "shape and type that the module takes, and that the module has no control flow on data."
        ) from error
    model: ir.Model = program.model
    model.graph.name = ""
    return model


def _reason(error: BaseException) -> str:
    """The error below PyTorch's pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _first(error)


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns of its own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _only_weights() -> Iterator[None]:
    """PyTorch falls back to unpickling anything where reading plain tensors fails; here it must not."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        with _quiet():
            yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _check_archive(path: Path) -> None:
    """Refuse what ``torch.export.load`` would execute: see its own warning about files that one does not trust."""

    def refused(why: str) -> BadModelFile:
        return BadModelFile(
            f"{printable(path)} {why}, and loading a network must not execute it. Export the module again with "
            "torch.export.save, or load the module in Python and give it with an example.",
            path=str(path),
        )

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/aotinductor/" in f"/{name}" for name in names):
                raise refused("holds compiled code")
            if any(re.search(r"custom_obj|script_obj", name) for name in names):
                raise refused("holds pickled objects")
            programs = [i for i in archive.infolist() if re.search(r"(^|/)models/[^/]+\.json$", i.filename)]
            if not programs:
                raise BadModelFile(
                    f"{printable(path)} holds no exported program (no models/*.json). Is it a file of torch.export.save "
                    "of PyTorch 2.8 or later? Save it again.",
                    path=str(path),
                )
            for info in programs:
                if info.file_size > _LARGEST_JSON:
                    raise BadModelFile(f"{printable(path)} would unpack to an absurd size.", path=str(path))
                for key, text in _texts(json.loads(archive.read(info))):
                    if key == "target" and not _CALLS.fullmatch(text):
                        raise refused(f"calls '{printable(text, 80)}'")
                    if key == "expr_str" and ("__" in text or not _SIZES.fullmatch(text)):
                        raise refused(f"computes a size by '{printable(text, 80)}'")
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise BadModelFile(
            f"{printable(path)} is no .pt2 file or is damaged: {printable(_first(error), 200)}. Save it again with "
            "torch.export.save.",
            path=str(path),
        ) from error


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Every (key, text) of nested JSON that decides what is called."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            for key, part in item.items():
                if isinstance(part, str):
                    yield key, part
                else:
                    todo.append(part)
        elif isinstance(item, list):
            todo.extend(item)
