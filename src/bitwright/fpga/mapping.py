"""Steps of a program → jobs of the processor, and what stays on the host, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga import epilogue
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.epilogue import Finish
from bitwright.fpga.isa import Mode
from bitwright.fpga.jobs import POINT, ConvJob, Graph, HostJob, Job, Place, VecJob, Window
from bitwright.fpga.layout import HOLE, Columns, Layout, padded
from bitwright.fpga.selection import dense_weights, selection
from bitwright.number.render import numpy_value
from bitwright.program.forms import Axis, Contract, Fill, Join, Map, Move, Reduce, Reshape, Table
from bitwright.program.program import Buffer, Program, Step

Int8 = NDArray[np.int8]


class _Not(Exception):
    """Why a step is not for the processor."""


def image_shape(buffer: Buffer) -> tuple[int, int, int] | None:
    """``(channels, height, width)`` of a tensor that the processor can hold, or None."""
    shape = buffer.shape
    if buffer.format.dtype != np.dtype(np.int8):
        return None
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 2:
        return shape[1], 1, 1
    return None


class _Builder:
    """Goes over the steps once and collects jobs and places."""

    def __init__(self, program: Program, config: ProcessorConfig, unfused: frozenset[str]) -> None:
        self.program, self.config, self.unfused = program, config, unfused
        self.jobs: list[Job] = []
        self.places: dict[str, Place] = {}
        self.flat: dict[str, str] = {}
        """Flattened buffer → the buffer that it is a view of."""
        self.inputs: dict[str, list[Place]] = {}
        self.readers = Counter(name for step in program.steps for name in step.inputs)
        self.joined = self._joins()
        self.host: set[str] = set()
        """Buffers whose values the host has."""
        self.claimed: set[str] = set()

    def build(self) -> Graph:
        for name in self.program.inputs:
            shape = image_shape(self.program.buffers[name])
            self.host.add(name)
            if shape is not None:
                self.inputs[name] = [self._plain(name)]
        steps = list(self.program.steps)
        skip: set[str] = set()
        for at, step in enumerate(steps):
            if step.name in skip:
                continue
            try:
                follower = self._pool_after(step, steps[at + 1 :])
                self._device(step, follower)
                if follower is not None:
                    skip.add(follower.name)
            except _Not as why:
                self._on_host(step, str(why))
        return Graph(tuple(self.jobs), self.places, {k: tuple(v) for k, v in self.inputs.items()})

    # Places

    def _plain(self, name: str) -> Place:
        """The place of a buffer, made at first sight; part of a concatenation where it goes into one."""
        if name in self.places:
            return self.places[name]
        shape = image_shape(self.program.buffers[name])
        if shape is None:
            raise _Not(f"{name} is not a tensor of bytes with channels, rows and columns")
        channels, height, width = shape
        layout = Layout(height, width, padded(channels, self.config.icp), self.config.icp)
        if name in self.joined:
            parent, first = self.joined[name]
            whole = self._plain(parent)
            place = Place(whole.storage, layout, whole.pixel_words, first)
        else:
            place = Place(name, layout, layout.words)
        self.places[name] = place
        return place

    def _joins(self) -> dict[str, tuple[str, int]]:
        """Buffers that can be written right into the concatenation that reads them."""
        found: dict[str, tuple[str, int]] = {}
        made = {name for step in self.program.steps for name in step.outputs}
        for step in self.program.steps:
            if not isinstance(step.form, Move) or step.form.motions != (Join(1),):
                continue
            shapes = [image_shape(self.program.buffers[name]) for name in (*step.inputs, *step.outputs)]
            if any(shape is None for shape in shapes):
                continue
            names = step.inputs
            good = len(set(names)) == len(names) and all(n in made and n not in found for n in names)
            if not good or step.outputs[0] in self.program.outputs or any(n in self.program.outputs for n in names):
                continue
            channels: list[int] = []
            total = 0
            for name, shape in zip(names, shapes, strict=False):
                assert shape is not None
                found[name] = (step.outputs[0], len(channels) // self.config.icp)
                channels += [total + c if c != HOLE else HOLE for c in padded(shape[0], self.config.icp)]
                total += shape[0]
            out = shapes[-1]
            assert out is not None
            layout = Layout(out[1], out[2], tuple(channels), self.config.icp)
            self.places[step.outputs[0]] = Place(step.outputs[0], layout, layout.words)
        return found

    def _source(self, name: str) -> Place:
        """The place of a buffer that a job reads; sent by the host where only the host has it."""
        place = self._plain(name)
        if name in self.host and name not in self.claimed:
            self.claimed.add(name)
            if name not in self.inputs:
                self._send(name)
        return place

    def _send(self, name: str) -> None:
        for at, job in enumerate(self.jobs):
            if isinstance(job, HostJob) and name in job.step.outputs:
                self.jobs[at] = replace(job, writes=(*job.writes, name))

    # Steps

    def _on_host(self, step: Step, reason: str) -> None:
        reads = tuple(name for name in step.inputs if name not in self.host)
        for name in reads:
            self._plain(name)
        macs = self.program.macs.get(step.layer, 0) if isinstance(step.form, Contract) else 0
        self.jobs.append(HostJob(step=step, reason=reason, reads=reads, writes=(), macs=macs))
        self.host.update(step.outputs)
        # A part of a concatenation that the host makes is sent to where the others are.
        for name in step.outputs:
            if name in self.joined:
                self._source(name)

    def _device(self, step: Step, follower: Step | None) -> None:
        match step.form:
            case Contract():
                self._contract(step, step.form, follower)
            case Reduce():
                self._reduce(step, step.form)
            case Map():
                self._map(step, step.form)
            case Table():
                self._lookup(step, self.program.tensors[step.form.table])
            case Move():
                self._move(step, step.form)
            case _:
                raise _Not("it is computed in floats")

    def _macs(self, step: Step) -> int:
        return self.program.macs.get(step.layer, 0)

    def _pool_after(self, step: Step, later: list[Step]) -> Step | None:
        """The maximum over windows that alone reads what ``step`` writes, if the two can be one job."""
        if not isinstance(step.form, Contract) or not step.form.axes or step.name in self.unfused:
            return None
        out = step.outputs[0]
        if self.readers[out] != 1 or out in self.program.outputs or out in self.joined:
            return None
        reader = next((s for s in later if out in s.inputs), None)
        if reader is None or not isinstance(reader.form, Reduce) or reader.form.combine != "max":
            return None
        shape = image_shape(self.program.buffers[out])
        try:
            window, _ = self._pooling(reader, reader.form)
        except _Not:
            return None
        if shape is None or image_shape(self.program.buffers[reader.outputs[0]]) is None:
            return None
        for axis, size in zip((window.rows, window.columns), shape[1:], strict=True):
            if axis.before or (axis.outputs(size) - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1 > size:
                return None
        return reader if window.rows.stride <= window.rows.taps else None

    def _contract(self, step: Step, form: Contract, follower: Step | None) -> None:
        program, config = self.program, self.config
        finish = epilogue.contraction(
            form.epilogue.expr,
            {k: program.tensors[t].astype(np.int64) for k, t in form.epilogue.params.items()},
            config.rounding,
        )
        if finish is None:
            raise _Not("its requantization is not one shift for all channels")
        if form.input_zero:
            raise _Not("its input has a zero point")
        weight = program.tensors[form.weight]
        if weight.dtype != np.dtype(np.int8):
            raise _Not("its weights are wider than 8 bits")
        if form.acc_lo < -(1 << 31) or form.acc_hi >= 1 << 31:
            raise _Not("its sums do not fit 32 bits")
        if any(axis.spread > 1 for axis in form.axes):
            raise _Not("it is a transposed convolution")
        outputs = len(weight)
        out_shape = image_shape(program.buffers[step.outputs[0]])
        if out_shape is None:
            raise _Not("its output is not a tensor of bytes with channels, rows and columns")
        bias = np.zeros(outputs, np.int64) if form.bias is None else program.tensors[form.bias].astype(np.int64)
        out_name = step.outputs[0] if follower is None else follower.outputs[0]
        if not form.axes:
            source, kernel, window = self._dense(step, weight)
        elif len(form.axes) == 2:
            source, kernel, window = self._window(step, form, weight)
        else:
            raise _Not(f"it has {len(form.axes)} spatial axes")
        job = ConvJob(
            name=step.name,
            layer=step.layer,
            macs=self._macs(step),
            steps=(step.name,) if follower is None else (step.name, follower.name),
            source=source,
            out=self._plain(out_name),
            weights=kernel,
            bias=bias,
            window=window,
            finish=finish,
        )
        if follower is not None:
            assert isinstance(follower.form, Reduce)
            pool, pool_finish = self._pooling(follower, follower.form)
            job = replace(job, pool=pool, pool_of=out_shape[1:], pool_finish=pool_finish)
        elif form.groups > 1 and self._is_depthwise(form, weight, step) and config.units.multiply:
            self._depthwise(step, job)
            return
        self.jobs.append(job)

    def _is_depthwise(self, form: Contract, weight: NDArray[Any], step: Step) -> bool:
        shape = image_shape(self.program.buffers[step.inputs[0]])
        return shape is not None and form.groups == len(weight) == shape[0]

    def _depthwise(self, step: Step, job: ConvJob) -> None:
        """A window of the vector unit: each channel by itself, so the output lies as the input does."""
        place = job.source
        where = np.asarray(place.layout.channels)
        if place.layout.columns is not None or job.out.layout.channels != place.layout.channels:
            self.jobs.append(job)
            return
        full = np.zeros((job.weights.shape[1], job.weights.shape[2], len(where)), np.int8)
        bias = np.zeros(len(where), np.int64)
        for at, channel in enumerate(where):
            if channel != HOLE:
                full[:, :, at] = job.weights[channel, :, :, at]
                bias[at] = job.bias[channel]
        taps = full.shape[0] * full.shape[1]
        if taps * place.layout.words > self.config.memory.vector_weight * 64:
            self.jobs.append(job)
            return
        self.jobs.append(
            VecJob(
                name=job.name,
                layer=job.layer,
                macs=job.macs,
                steps=job.steps,
                sources=(place,),
                out=job.out,
                mode=Mode.CHANNEL,
                window=job.window,
                weights=full,
                bias=bias,
                finish=job.finish,
            )
        )

    def _spread(self, place: Place, weight: NDArray[Any]) -> Int8:
        """Weights ``[O, C, kh, kw]`` over channels → ``[O, kh, kw, bytes]`` over the bytes of a pixel."""
        where = np.asarray(place.layout.channels)
        taken = np.where((where >= 0)[None, :, None, None], weight[:, np.maximum(where, 0)], 0)
        return np.ascontiguousarray(taken.transpose(0, 2, 3, 1).astype(np.int8))

    def _dense(self, step: Step, weight: NDArray[Any]) -> tuple[Place, Int8, Window]:
        """A dense layer: a window as large as the tensor that was flattened."""
        name = self.flat.get(step.inputs[0], step.inputs[0])
        place = self._source(name)
        layout = place.layout
        channels = weight.shape[1] // (layout.height * layout.width)
        kernel = weight.reshape(len(weight), channels, layout.height, layout.width)
        if max(layout.height, layout.width) > 128:
            raise _Not("the tensor that it flattens has more than 128 rows or columns")
        return place, self._spread(place, kernel), Window(Axis(taps=layout.height), Axis(taps=layout.width))

    def _window(self, step: Step, form: Contract, weight: NDArray[Any]) -> tuple[Place, Int8, Window]:
        window = Window(*form.axes)
        inputs = self.program.buffers[step.inputs[0]].shape[1]
        if form.groups > 1:
            weight = dense_weights(weight, form.groups, inputs)
        gathered = self._gathered(step, weight, window)
        if gathered is not None:
            return gathered
        place = self._source(self.flat.get(step.inputs[0], step.inputs[0]))
        return place, self._spread(place, weight), window

    def _gathered(self, step: Step, weight: NDArray[Any], window: Window) -> tuple[Place, Int8, Window] | None:
        """The first layer: the host gathers the columns of the window, so that three channels do not waste words."""
        name = step.inputs[0]
        if name not in self.program.inputs or name not in self.inputs:
            return None
        outputs, channels, kh, kw = weight.shape
        icp = self.config.icp
        if kw * -(-channels // icp) <= -(-kw * channels // icp):
            return None
        axis = window.columns
        shape = image_shape(self.program.buffers[name])
        assert shape is not None
        columns = Columns(kw, axis.stride, axis.dilation, axis.before, axis.outputs(shape[2]))
        layout = Layout(shape[1], columns.width, padded(kw * channels, icp), icp, columns)
        storage = f"{name}:{kw}x{axis.stride}x{axis.dilation}x{axis.before}"
        place = Place(storage, layout, layout.words)
        if place not in self.inputs[name]:
            self.inputs[name].append(place)
        # [O, C, kh, kw] → [O, kw * C, kh, 1]
        kernel = weight.transpose(0, 3, 1, 2).reshape(outputs, kw * channels, kh, 1)
        return place, self._spread(place, kernel), Window(window.rows, Axis())

    def _pooling(self, step: Step, form: Reduce) -> tuple[Window, Finish]:
        """Window and clamp of a maximum.

        Raises:
            _Not: if it is something else.
        """
        if len(form.axes) != 3 or not form.axes[0].trivial:
            raise _Not("its window is not over rows and columns")
        source = self.program.buffers[step.inputs[0]]
        codes = np.arange(source.lo, source.hi + 1)
        params = {k: self.program.tensors[t] for k, t in form.epilogue.params.items()}
        if params or "count" in form.epilogue.expr.variables():
            raise _Not("what follows its maximum is not a clamp")
        want = numpy_value(form.epilogue.expr, {"acc": codes})
        finish = Finish(0, int(want.min()), int(want.max()))
        if want.min() < -128 or want.max() > 127 or not np.array_equal(np.clip(codes, finish.lo, finish.hi), want):
            raise _Not("what follows its maximum is not a clamp")
        return Window(*form.axes[1:]), finish

    def _reduce(self, step: Step, form: Reduce) -> None:
        name = step.inputs[0]
        place = self._source(name)
        if form.combine == "max":
            window, finish = self._pooling(step, form)
            mode = Mode.MAX
        elif form.combine == "sum":
            window, finish = self._summing(step, form)
            mode = Mode.ROW
        else:
            raise _Not("it looks for a position")
        if max(window.rows.taps, window.columns.taps) > self.config.memory.rows // 2:
            raise _Not(f"its window has more than {self.config.memory.rows // 2} rows or columns")
        self._vector(step, (place,), mode, window, finish, fill=-128 if mode is Mode.MAX else 0)

    def _summing(self, step: Step, form: Reduce) -> tuple[Window, Finish]:
        if not self.config.units.multiply:
            raise _Not("this configuration's vector unit does not add")
        if len(form.axes) != 3 or not form.axes[0].trivial or form.input_zero or form.epilogue.params:
            raise _Not("its window is not over rows and columns of a tensor without zero point")
        window = Window(*form.axes[1:])
        source = self.program.buffers[step.inputs[0]]
        taps = window.rows.taps * window.columns.taps
        border = any(
            axis.before or (axis.outputs(n) - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1 > n
            for axis, n in zip(form.axes[1:], source.shape[2:], strict=True)
        )
        if border and "count" in form.epilogue.expr.variables():
            raise _Not("its divisor changes at the border")
        lo, hi = min(source.lo * taps, 0), max(source.hi * taps, 0)
        finish = epilogue.total(form.epilogue.expr, lo, hi, taps, self.config.rounding, self.config.units.scale)
        if finish is None:
            raise _Not("its division is not one that the processor can do exactly")
        return window, finish

    def _vector(
        self,
        step: Step,
        sources: tuple[Place, ...],
        mode: Mode,
        window: Window,
        finish: Finish,
        *,
        fill: int = 0,
        coefficients: tuple[int, ...] = (),
        table: Int8 | None = None,
    ) -> None:
        out = self._plain(step.outputs[0])
        if any(place.layout.channels != out.layout.channels or place.layout.columns for place in sources):
            raise _Not("its channels lie in another order than those of its output")
        self.jobs.append(
            VecJob(
                name=step.name,
                layer=step.layer,
                macs=0,
                steps=(step.name,),
                sources=sources,
                out=out,
                mode=mode,
                window=window,
                fill=fill,
                coefficients=coefficients or (1,) * window.rows.taps,
                finish=finish,
                table=table,
            )
        )

    def _map(self, step: Step, form: Map) -> None:
        buffers = [self.program.buffers[name] for name in step.inputs]
        if len(buffers) == 1 and not any(np.size(self.program.tensors[t]) > 1 for t in form.params.values()):
            source = buffers[0]
            if source.format.bits != 8:
                raise _Not("its table is not from bytes to bytes")
            codes = np.arange(source.format.lo, source.format.hi + 1)
            values: dict[str, NDArray[np.integer[Any]]] = {"x0": np.clip(codes, source.lo, source.hi)}
            values |= {k: self.program.tensors[t] for k, t in form.params.items()}
            self._lookup(step, numpy_value(form.expr, values))
            return
        if len(buffers) != 2 or form.params:
            raise _Not("it is not a sum or product of two tensors")
        if not self.config.units.multiply:
            raise _Not("this configuration's vector unit does not add")
        if buffers[0].shape != buffers[1].shape:
            raise _Not("its two tensors differ in shape")
        bounds = ((buffers[0].lo, buffers[0].hi), (buffers[1].lo, buffers[1].hi))
        if any(max(abs(a), abs(b)) > 128 for a, b in bounds):
            raise _Not("one of its tensors is wider than 8 bits")
        places = tuple(self._source(self.flat.get(name, name)) for name in step.inputs)
        linear = epilogue.two_operands(form.expr, bounds, self.config.rounding)
        if linear is not None:
            coefficients = (linear.first, linear.second)
            self._vector(step, places, Mode.ROW, POINT, linear.finish, coefficients=coefficients)
            return
        finish = epilogue.product(form.expr, bounds, self.config.rounding)
        if finish is None or not self.config.units.scale:
            raise _Not("it is not a sum or product of two tensors that ends in a shift")
        self._vector(step, places, Mode.PRODUCT, POINT, finish, coefficients=(1, 1))

    def _lookup(self, step: Step, results: NDArray[Any]) -> None:
        if not self.config.units.table:
            raise _Not("this configuration has no tables")
        source = self.program.buffers[step.inputs[0]]
        if source.format.bits != 8 or image_shape(self.program.buffers[step.outputs[0]]) is None:
            raise _Not("its table is not from bytes to bytes")
        place = self._source(self.flat.get(step.inputs[0], step.inputs[0]))
        by_code = np.roll(np.asarray(results, np.int64), -128)  # -128 .. 127 → 0 .. 127, -128 .. -1
        if place.layout.channels != self._plain(step.outputs[0]).layout.channels:
            raise _Not("its channels lie in another order than those of its output")
        self._vector(step, (place,), Mode.MAX, POINT, Finish(0, -128, 127), table=by_code.astype(np.int8))

    def _move(self, step: Step, form: Move) -> None:
        out = step.outputs[0]
        if form.motions == (Join(1),) and out in self.places and all(n in self.joined for n in step.inputs):
            return  # its parts were written where they belong
        if len(step.inputs) == 1 and all(isinstance(m, Reshape) for m in form.motions) and self._reshape(step):
            return
        if len(step.inputs) != 1:
            raise _Not("it joins tensors that are needed elsewhere, or along another axis than channels")
        self._select(step)

    def _reshape(self, step: Step) -> bool:
        """Flattening and its inverse move nothing."""
        name, out = self.flat.get(step.inputs[0], step.inputs[0]), step.outputs[0]
        source, target = self.program.buffers[name], self.program.buffers[out]
        shape = image_shape(source)
        if shape is None or image_shape(target) is None or name in self.program.inputs or out in self.joined:
            return False
        if out in self.program.outputs and shape[1:] != (1, 1):
            return False
        if len(target.shape) == 2 and shape[1:] != (1, 1):
            readers = [s for s in self.program.steps if out in s.inputs]
            if not all(isinstance(s.form, Contract) for s in readers):
                return False
        elif shape[1:] != (1, 1) or image_shape(target) != shape:
            return False
        if name in self.host:
            self.host.add(out)
            self._source(name)
        else:
            self.places[out] = self._plain(name)
        self.places.setdefault(out, self._plain(name))
        self.flat[out] = name
        return True

    def _select(self, step: Step) -> None:
        """Slices, shuffles and fills of channels and strides over rows and columns, as a convolution."""
        source, target = (self.program.buffers[n] for n in (step.inputs[0], step.outputs[0]))
        shape, out_shape = image_shape(source), image_shape(target)
        if shape is None or out_shape is None or len(source.shape) != 4 or len(target.shape) != 4:
            raise _Not("it does not keep channels, rows and columns")
        if not isinstance(step.form, Move) or any(isinstance(m, Fill) and m.value for m in step.form.motions):
            raise _Not("it fills with something other than 0")
        chosen = selection(self.program, step, shape, out_shape)
        if chosen is None:
            raise _Not("it moves elements in a way that no window does")
        channels, rows, columns = chosen
        place = self._source(self.flat.get(step.inputs[0], step.inputs[0]))
        weight = np.zeros((len(channels), shape[0], 1, 1), np.int8)
        for at, channel in enumerate(channels):
            if channel != HOLE:
                weight[at, channel] = 1
        self.jobs.append(
            ConvJob(
                name=step.name,
                layer=step.layer,
                macs=0,
                steps=(step.name,),
                source=place,
                out=self._plain(step.outputs[0]),
                weights=self._spread(place, weight),
                bias=np.zeros(len(channels), np.int64),
                window=Window(rows, columns),
                finish=Finish(0, -128, 127),
            )
        )


def build(program: Program, config: ProcessorConfig, unfused: frozenset[str] = frozenset()) -> Graph:
    """The jobs of a program on a configuration; what the processor cannot do stays on the host, with the reason.

    Args:
        program: An integer program.
        config: The processor.
        unfused: Steps whose maximum is to be a job of its own.
    """
    return _Builder(program, config, unfused).build()
