"""Samples from Python objects: iterables, loaders, data sets, and ``package.module:function``.

Nothing of torch, TensorFlow or Hugging Face is imported: their objects are known by what they offer.  They are read
from one thread only, since most of them may not be shared.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bitwright.data.contract import InputContract, nearest
from bitwright.data.reader import Failure, Fingerprint, Item, value_digest
from bitwright.data.transform import as_array
from bitwright.errors import BadSample, BitwrightError, InputMismatch, NoData, printable

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
LABEL_KEYS = ("y", "label", "labels", "target", "targets", "fine_label")
IMAGE_KEYS = ("x", "image", "img", "images", "pixel_values", "input", "inputs", "input_ids")
PEEKED = 8
VITIS_CALLS = 100
PAIR = 2


class Sequenced:
    """A data set with a length and an index, such as a list, a torch ``Dataset`` or a Hugging Face data set."""

    parallel = False
    costly = True
    selects = True

    def __init__(self, data: Any, contract: InputContract, inputs: Sequence[str] = ()) -> None:
        self.data, self.contract, self.inputs = data, contract, tuple(inputs)
        self.name = type(data).__name__
        self.title = f"{len(data)} samples of a {self.name}"
        self.notes: list[str] = []
        self.length = len(data)

    @property
    def labelled(self) -> bool:
        """Whether the first sample has a label (true if it cannot be read, which shows later)."""
        try:
            return self.read(0).y is not None
        except Exception:
            return True

    def read(self, index: int) -> Item:
        """Sample ``index``."""
        x, y = parts(self.data[index], self.contract, self.inputs)
        return Item(x, y, index, self.origin(index))

    def origin(self, index: int) -> str:
        """``TYPE[index]``."""
        return f"{self.name}[{index}]"

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """Type, number, and the content of eight of the chosen samples, spread over them."""
        result = Fingerprint()
        indices = range(self.length) if indices is None else indices
        result.add(self.name, self.length, len(indices))
        few = min(PEEKED, len(indices))
        for k in range(few):
            index = indices[k * len(indices) // few]
            try:
                item = self.read(index)
            except Exception as error:
                result.add(index, type(error).__name__)
            else:
                result.add(value_digest(item.x), value_digest(item.y))
        return result.digest()


class Iterated:
    """Samples of anything that can be iterated, in its own order; batches are taken apart.

    Args:
        title: What to call the source.
        make: Gives an iterator from the first sample on.
        contract: Tells how many axes a sample has.
        inputs: Names of the graph inputs.
        length: Number of samples if it is known.
        batched: Whether the items are batches; None to tell by the number of axes.
        once: ``make`` may be called once only, as with a generator.
    """

    costly = True
    selects = False
    labelled = None

    def __init__(
        self,
        title: str,
        make: Callable[[], Iterator[Any]],
        contract: InputContract,
        inputs: Sequence[str] = (),
        *,
        length: int | None = None,
        batched: bool | None = None,
        once: bool = False,
    ) -> None:
        self.title, self.make, self.contract, self.inputs = title, make, contract, tuple(inputs)
        self.length, self.batched, self.once = length, batched, once
        self.notes: list[str] = []
        self._used = False
        self._peeked: Iterator[Any] | None = None
        self._digest: bytes | None = None

    def items(self, wanted: Sequence[int] | None = None) -> Iterator[Item | Failure]:
        """The samples; an exception of the foreign code becomes ``BadSample``, as nothing can follow it."""
        index = 0
        source = self._fresh()
        while True:
            try:
                value = next(source)
            except StopIteration:
                return
            except BitwrightError:
                raise
            except Exception as error:
                raise BadSample(
                    f"The data source {self.title} failed before sample {index} with {type(error).__name__}: "
                    f"{printable(error)}.",
                    index=index,
                ) from error
            for x, y in self._samples(value):
                yield Item(x, y, index, f"sample {index}")
                index += 1

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """Number, if known, and the content of the first eight samples.

        The whole content of a stream is only known when it has gone by; the items peeked at are kept for iterators that
        can be used only once.
        """
        if self._digest is None:
            result = Fingerprint()
            result.add(self.length)
            source = self._fresh()
            values = list(itertools.islice(source, PEEKED))
            if self.once:
                self._peeked, self._used = itertools.chain(values, source), False
            elif isinstance(source, Generator):
                source.close()
            pairs = itertools.chain.from_iterable(self._samples(value) for value in values)
            for x, y in itertools.islice(pairs, PEEKED):
                result.add(value_digest(x), value_digest(y))
            self._digest = result.digest()
        return self._digest

    def _fresh(self) -> Iterator[Any]:
        """An iterator from the first sample on."""
        if self.once and self._used:
            raise NoData(
                f"{self.title} was read once already and cannot be read again: pass a list, or a function that makes a "
                "new generator."
            )
        self._used = True
        peeked, self._peeked = self._peeked, None
        return self.make() if peeked is None else peeked

    def _samples(self, value: Any) -> Iterator[tuple[object, object]]:
        x, y = parts(value, self.contract, self.inputs)
        batched = self._is_batch(x) if self.batched is None else self.batched
        if not batched:
            yield x, y
            return
        columns = {k: _rows(v) for k, v in x.items()} if isinstance(x, Mapping) else {"": _rows(x)}
        count = len(next(iter(columns.values())))
        labels = [None] * count if y is None else _rows(y)
        if len(labels) != count or any(len(c) != count for c in columns.values()):
            raise InputMismatch(
                f"A batch of {self.title} has {count} samples and {len(labels)} labels, or arrays of other lengths."
            )
        for i in range(count):
            yield ({k: c[i] for k, c in columns.items()} if isinstance(x, Mapping) else columns[""][i]), labels[i]

    def _is_batch(self, x: object) -> bool:
        """A batch has one axis more than a sample: known for images, and for raw arrays once the contract is bound."""
        contract = self.contract
        if isinstance(x, Mapping):
            if not x:
                return False
            x = x.get(contract.name, next(iter(x.values())))
        axes = getattr(x, "ndim", None)
        if axes is None:
            shape = getattr(x, "shape", None)
            axes = len(shape) if shape is not None else 0
        if contract.layout != "raw":
            return int(axes) == 4
        return contract.shape is not None and int(axes) == len(contract.shape) + 1


def open_object(data: Any, contract: InputContract, inputs: Sequence[str] = ()) -> Sequenced | Iterated:
    """The samples of a Python object that is no array.

    Raises:
        InputMismatch: if it cannot be iterated.
    """
    name = f"a {type(data).__name__}"
    if all(hasattr(data, a) for a in ("batch_size", "dataset", "collate_fn")):  # torch DataLoader
        batched = data.batch_size is not None or getattr(data, "batch_sampler", None) is not None
        length = None
        if data.batch_size is not None or not batched:
            with contextlib.suppress(TypeError):  # a data set that is a stream itself has no length
                length = len(data.sampler)
                if getattr(data, "drop_last", False):
                    length = len(data) * int(data.batch_size)
        return Iterated(name, lambda: iter(data), contract, inputs, length=length, batched=batched)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, Mapping):
        return Sequenced(data, contract, inputs)
    if hasattr(data, "get_next") and not hasattr(data, "__iter__"):  # a calibration data reader of ONNX Runtime
        return Iterated(name, lambda: iter(data.get_next, None), contract, inputs, once=True)
    if isinstance(data, Iterable) and not isinstance(data, Mapping | str | bytes):
        return Iterated(name, lambda: iter(data), contract, inputs, once=isinstance(data, Iterator))
    if callable(data):
        return open_function(data, contract, inputs)
    raise InputMismatch(
        f"{name} gives no samples: pass a path, an array, a list, a data loader or a generator of arrays, dicts or (x, y)."
    )


def find_function(text: str) -> Any:
    """The object that ``package.module:function`` names; the working directory can be imported from.

    Raises:
        NoData: if the module or the function is not there, naming the nearest.
    """
    module_name, _, path = text.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NoData(
            f"The data source {printable(text)} needs the module {printable(error.name)!r}, which cannot be found from "
            f"{printable(here)}: correct the name, or install it."
        ) from error
    except Exception as error:
        raise NoData(
            f"The data source {printable(text)} failed while its module was imported: {type(error).__name__}: "
            f"{printable(error)}."
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    for part in path.split("."):
        if not hasattr(found, part):
            known = [n for n in dir(found) if not n.startswith("_") and callable(getattr(found, n))]
            raise NoData(
                f"The module {printable(module_name)} has no {printable(part)!r}{printable(nearest(part, known), 400)}."
            )
        found = getattr(found, part)
    return found


def open_function(
    function: Callable[..., Any], contract: InputContract, inputs: Sequence[str] = (), *, samples: int | None = None
) -> Sequenced | Iterated:
    """The samples that ``function()`` yields or returns, or ``function(0)``, ``function(1)``, ... if it takes a number.

    The numbered form (``input_fn(iter) -> {name: batch}``, as Vitis AI has it) ends with StopIteration, IndexError or
    None; where neither that nor ``samples`` ends it, after 100 calls.
    """
    name = f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"
    if _required(function) == 1:
        numbered = Iterated(f"{name}(iter)", lambda: _numbered(function, samples), contract, inputs)
        if samples is None:
            numbered.notes.append(
                f"{printable(name)}(iter) is called {VITIS_CALLS} times at most; give a number of samples for more."
            )
        return numbered
    if inspect.isgeneratorfunction(function):
        return Iterated(name, function, contract, inputs)
    try:
        value = function()
    except Exception as error:
        raise NoData(
            f"The data source {printable(name)} failed with {type(error).__name__}: {printable(error)}."
        ) from error
    if isinstance(value, Iterator):
        first = [value]
        return Iterated(name, lambda: first.pop() if first else iter(function()), contract, inputs)
    return open_object(value, contract, inputs)


def _required(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.default is p.empty and p.kind in kinds]
    if len(required) > 1:
        raise NoData(
            f"{printable(getattr(function, '__qualname__', function))} takes {len(required)} arguments: a data source takes "
            "none, or the number of the batch."
        )
    return len(required)


def _numbered(function: Callable[[int], Any], samples: int | None) -> Iterator[Any]:
    for call in range(VITIS_CALLS) if samples is None else itertools.count():
        try:
            value = function(call)
        except (StopIteration, IndexError):
            return
        if value is None:
            return
        yield value


def parts(value: Any, contract: InputContract, inputs: Sequence[str] = ()) -> tuple[object, object]:
    """The sample (an array, an image, or a dict by input name) and the label of what a source gave.

    Pairs are ``(x, y)``.  In a dict, the keys of the graph's inputs are taken; else a single key that is no label; else
    the usual names of images.
    """
    if isinstance(value, tuple | list) and len(value) == PAIR and _is_block(value[0]):
        x, y = value
        return (parts(x, contract, inputs)[0] if isinstance(x, Mapping) else x), y
    if isinstance(value, tuple | list) and len(value) == 1 and _is_block(value[0]):
        return value[0], None
    if not isinstance(value, Mapping):
        return value, None
    names = tuple(inputs) or ((contract.name,) if contract.name else ())
    label_key = next((k for k in LABEL_KEYS if k in value and k not in names), None)
    y = None if label_key is None else value[label_key]
    known = {k: value[k] for k in names if k in value}
    if len(known) > 1:
        return known, y
    if known:
        others = {k: v for k, v in value.items() if not inputs and k not in known and k != label_key and _is_block(v)}
        return ({**known, **others} if others else next(iter(known.values()))), y
    free = [k for k in value if k != label_key]
    chosen = free[0] if len(free) == 1 else next((k for k in IMAGE_KEYS if k in free), None)
    if chosen is None:
        raise InputMismatch(
            f"A sample is a dict with the keys {', '.join(printable(repr(k), 30) for k in value)}, none of which is "
            f"{'the input ' + printable(repr(names[0])) if names else 'a usual name of an image'}: name the arrays as the "
            "network's inputs."
        )
    return value[chosen], y


def _is_block(value: object) -> bool:
    """Whether ``value`` is an array, a tensor, an image or a dict of them, and not a number, a text or a list."""
    if isinstance(value, Mapping | Image.Image):
        return True
    shape = getattr(value, "shape", None)
    try:
        return shape is not None and len(shape) > 0
    except (TypeError, ValueError):  # a scalar's shape, or a tensor of unknown rank
        return False


def _rows(column: Any) -> Sequence[Any]:
    if isinstance(column, list | tuple):
        return column
    return list(as_array(column)) if getattr(column, "ndim", 1) else [column]
