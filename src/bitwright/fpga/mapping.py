"""Steps of a program → jobs of the processor, and what stays on the host, with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.fpga import epilogue
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.epilogue import Finish
from bitwright.fpga.isa import Mode
from bitwright.fpga.jobs import POINT, ConvJob, Graph, Place, VecJob, Window, whole
from bitwright.fpga.layout import HOLE, Columns, Layout, padded
from bitwright.fpga.moves import move, repacked
from bitwright.fpga.packing import exact_order
from bitwright.fpga.places import NotOnProcessor, Places, image_shape
from bitwright.fpga.selection import dense_weights
from bitwright.fpga.windows import flattened, phased, spread_weights
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value
from bitwright.program.forms import Axis, Contract, Map, Move, Reduce, Table
from bitwright.program.program import Program, Step

Int8 = NDArray[np.int8]


class _Builder:
    """Goes over the steps once and collects jobs and places."""

    def __init__(self, program: Program, config: ProcessorConfig, unfused: frozenset[str]) -> None:
        self.program, self.config, self.unfused = program, config, unfused
        self.places = Places(program, config)

    def build(self) -> Graph:
        places = self.places
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
            except NotOnProcessor as why:
                macs = self._macs(step) if isinstance(step.form, Contract) else 0
                places.on_host(step, str(why), macs)
        return Graph(tuple(places.jobs), places.found, {k: tuple(v) for k, v in places.inputs.items()})

    # Steps

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
                move(self.places, step, step.form)
            case _:
                raise NotOnProcessor("it is computed in floats")

    def _macs(self, step: Step) -> int:
        return self.program.macs.get(step.layer, 0)

    def _pool_after(self, step: Step, later: list[Step]) -> Step | None:
        """The maximum over windows that alone reads what ``step`` writes, if the two can be one job."""
        if not isinstance(step.form, Contract) or not step.form.axes or step.name in self.unfused:
            return None
        if any(axis.spread > 1 for axis in step.form.axes):
            return None
        out = step.outputs[0]
        if self.places.readers[out] != 1 or out in self.program.outputs or out in self.places.joined:
            return None
        reader = next((s for s in later if out in s.inputs), None)
        if reader is None or not isinstance(reader.form, Reduce) or reader.form.combine != "max":
            return None
        shape = image_shape(self.program.buffers[out])
        try:
            window, _ = self._pooling(reader, reader.form)
        except NotOnProcessor:
            return None
        if shape is None or image_shape(self.program.buffers[reader.outputs[0]]) is None:
            return None
        for axis, size in zip((window.rows, window.columns), shape[1:], strict=True):
            if axis.before or (axis.outputs(size) - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1 > size:
                return None
        return reader if window.rows.stride <= window.rows.taps else None

    def _contract(self, step: Step, form: Contract, follower: Step | None) -> None:
        program, config = self.program, self.config
        params = {k: program.tensors[t].astype(np.int64) for k, t in form.epilogue.params.items()}
        finish = epilogue.contraction(form.epilogue.expr, params, config.rounding)
        if finish is None:
            other = epilogue.other_rounding(form.epilogue.expr, params, config.rounding)
            if other is not None:
                raise _refused(program, step, config, other)
            raise NotOnProcessor("its requantization is not one shift for all channels")
        if form.input_zero:
            raise NotOnProcessor("its input has a zero point")
        weight = program.tensors[form.weight]
        if weight.dtype != np.dtype(np.int8):
            raise NotOnProcessor("its weights are wider than 8 bits")
        if form.acc_lo < -(1 << 31) or form.acc_hi >= 1 << 31:
            raise NotOnProcessor("its sums do not fit 32 bits")
        outputs = len(weight)
        out_shape = image_shape(program.buffers[step.outputs[0]])
        if out_shape is None:
            raise NotOnProcessor("its output is not a tensor of bytes with channels, rows and columns")
        bias = np.zeros(outputs, np.int64) if form.bias is None else program.tensors[form.bias].astype(np.int64)
        out_name = step.outputs[0] if follower is None else follower.outputs[0]
        if not form.axes:
            source, kernel, window = self._dense(step, weight)
        else:
            source, kernel, window = self._window(step, form, weight)
        free = out_name not in self.places.found and out_name not in self.places.joined
        spread = any(axis.spread > 1 for axis in form.axes)
        alone = not spread and form.groups > 1 and self._is_depthwise(form, weight, step) and config.units.multiply
        if alone and follower is None and source.layout.columns is None:
            self.places.like(out_name, source.layout)
        job = ConvJob(
            name=step.name,
            layer=step.layer,
            macs=self._macs(step),
            steps=(step.name,) if follower is None else (step.name, follower.name),
            source=source,
            out=self.places.plain(out_name),
            weights=kernel,
            bias=bias,
            window=window,
            finish=finish,
        )
        if follower is not None:
            assert isinstance(follower.form, Reduce)
            pool, pool_finish = self._pooling(follower, follower.form)
            job = replace(job, pool=pool, pool_of=out_shape[1:], pool_finish=pool_finish)
        elif alone and self._depthwise(job):
            return
        job, after = self._exact(step, job, out_name, free)
        if spread:
            job = phased(job, (window.rows, window.columns), config)
        self.places.jobs += [job, *after]

    def _exact(self, step: Step, job: ConvJob, out_name: str, free: bool) -> tuple[ConvJob, list[ConvJob]]:
        """The job with its output channels in an order in which all products are exact, and what puts them in place."""
        order = exact_order(job.weights, self.config)
        if order is None:
            return job, []
        rows = np.asarray(order)
        channels = (*order, *[HOLE] * (-len(order) % self.config.icp))
        there = whole(out_name if free else f"{step.name}:out", replace(job.out.layout, channels=channels))
        moved = replace(
            job,
            out=there,
            weights=np.where((rows != HOLE)[:, None, None, None], job.weights[rows], 0).astype(np.int8),
            bias=np.where(rows != HOLE, job.bias[rows], 0),
        )
        if free:
            self.places.found[out_name] = there
            return moved, []
        return moved, [repacked(step, there, job.out)]

    def _is_depthwise(self, form: Contract, weight: NDArray[Any], step: Step) -> bool:
        shape = image_shape(self.program.buffers[step.inputs[0]])
        return shape is not None and form.groups == len(weight) == shape[0]

    def _depthwise(self, job: ConvJob) -> bool:
        """A window of the vector unit: each channel by itself, so the output lies as the input does; whether it fits."""
        place = job.source
        where = np.asarray(place.layout.channels)
        if place.layout.columns is not None or job.out.layout.channels != place.layout.channels:
            return False
        full = np.zeros((job.weights.shape[1], job.weights.shape[2], len(where)), np.int8)
        bias = np.zeros(len(where), np.int64)
        for at, channel in enumerate(where):
            if channel != HOLE:
                full[:, :, at] = job.weights[channel, :, :, at]
                bias[at] = job.bias[channel]
        taps = full.shape[0] * full.shape[1]
        if taps * place.layout.words > self.config.memory.vector_weight * 64:
            return False
        self.places.jobs.append(
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
        return True

    def _dense(self, step: Step, weight: NDArray[Any]) -> tuple[Place, Int8, Window]:
        """A dense layer: the tensor that was flattened as one pixel, or a window as large as it."""
        name = self.places.flat.get(step.inputs[0], step.inputs[0])
        place = self.places.source(name)
        one = flattened(place)
        if one is not None and one.layout.words <= self.config.memory.act // 2:
            return one, spread_weights(one, weight[:, :, None, None]), POINT
        layout = place.layout
        channels = weight.shape[1] // (layout.height * layout.width)
        kernel = weight.reshape(len(weight), channels, layout.height, layout.width)
        self._row_table(layout.height)
        return place, spread_weights(place, kernel), Window(Axis(taps=layout.height), Axis(taps=layout.width))

    def _row_table(self, rows: int) -> None:
        most = min(self.config.memory.rows // 2, 255)
        if rows > most:
            raise NotOnProcessor(f"its window has {rows} rows, and the row table of this configuration {most} entries")

    def _window(self, step: Step, form: Contract, weight: NDArray[Any]) -> tuple[Place, Int8, Window]:
        if len(form.axes) > 2:
            raise NotOnProcessor(f"it has {len(form.axes)} spatial axes")
        window = _window(form.axes)
        self._row_table(window.rows.taps)
        if len(form.axes) == 1:
            weight = weight[:, :, None]
        inputs = self.program.buffers[step.inputs[0]].shape[1]
        if form.groups > 1:
            weight = dense_weights(weight, form.groups, inputs)
        gathered = self._gathered(step, weight, window)
        if gathered is not None:
            return gathered
        place = self.places.source(self.places.flat.get(step.inputs[0], step.inputs[0]))
        return place, spread_weights(place, weight), window

    def _gathered(self, step: Step, weight: NDArray[Any], window: Window) -> tuple[Place, Int8, Window] | None:
        """The first layer: the host gathers the columns of the window, so that three channels do not waste words."""
        name = step.inputs[0]
        if name not in self.places.inputs or any(axis.spread > 1 for axis in (window.rows, window.columns)):
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
        storage = f"{name}:{kw}x{axis.stride}x{axis.dilation}x{axis.before}x{columns.width}"
        place = whole(storage, layout)
        if place not in self.places.inputs[name]:
            self.places.inputs[name].append(place)
        # [O, C, kh, kw] → [O, kw * C, kh, 1]
        kernel = weight.transpose(0, 3, 1, 2).reshape(outputs, kw * channels, kh, 1)
        return place, spread_weights(place, kernel), Window(window.rows, Axis())

    def _pooling(self, step: Step, form: Reduce) -> tuple[Window, Finish]:
        """Window and clamp of a maximum.

        Raises:
            NotOnProcessor: if it is something else.
        """
        if len(form.axes) not in (2, 3) or not form.axes[0].trivial:
            raise NotOnProcessor("its window is not over rows and columns")
        source = self.program.buffers[step.inputs[0]]
        codes = np.arange(source.lo, source.hi + 1)
        params = {k: self.program.tensors[t] for k, t in form.epilogue.params.items()}
        if params or "count" in form.epilogue.expr.variables():
            raise NotOnProcessor("what follows its maximum is not a clamp")
        want = numpy_value(form.epilogue.expr, {"acc": codes})
        finish = Finish(0, int(want.min()), int(want.max()))
        if want.min() < -128 or want.max() > 127 or not np.array_equal(np.clip(codes, finish.lo, finish.hi), want):
            raise NotOnProcessor("what follows its maximum is not a clamp")
        if not (self.config.units.multiply or self.config.units.table or np.array_equal(codes, want)):
            raise NotOnProcessor("this configuration's vector unit does not clamp")
        return _window(form.axes[1:]), finish

    def _reduce(self, step: Step, form: Reduce) -> None:
        name = step.inputs[0]
        place = self.places.source(name)
        if form.combine == "max":
            window, finish = self._pooling(step, form)
            mode = Mode.MAX
        elif form.combine == "sum":
            window, finish = self._summing(step, form)
            mode = Mode.ROW
        else:
            raise NotOnProcessor("it looks for a position")
        if max(window.rows.taps, window.columns.taps) > self.config.memory.rows // 2:
            raise NotOnProcessor(f"its window has more than {self.config.memory.rows // 2} rows or columns")
        self._vector(step, (place,), mode, window, finish, fill=-128 if mode is Mode.MAX else 0)

    def _summing(self, step: Step, form: Reduce) -> tuple[Window, Finish]:
        if not self.config.units.multiply:
            raise NotOnProcessor("this configuration's vector unit does not add")
        if len(form.axes) not in (2, 3) or not form.axes[0].trivial or form.input_zero or form.epilogue.params:
            raise NotOnProcessor("its window is not over rows and columns of a tensor without zero point")
        window = _window(form.axes[1:])
        source = self.program.buffers[step.inputs[0]]
        taps = window.rows.taps * window.columns.taps
        border = any(
            axis.before or (axis.outputs(n) - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1 > n
            for axis, n in zip(form.axes[1:], source.shape[2:], strict=True)
        )
        if border and "count" in form.epilogue.expr.variables():
            raise NotOnProcessor("its divisor changes at the border")
        lo, hi = min(source.lo * taps, 0), max(source.hi * taps, 0)
        finish = epilogue.total(form.epilogue.expr, lo, hi, taps, self.config.rounding, self.config.units.scale)
        if finish is None:
            raise NotOnProcessor("its division is not one that the processor can do exactly")
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
        places, name = self.places, step.outputs[0]
        channels = places.shape(name)[0]
        if any(sum(c != HOLE for c in place.layout.channels) != channels for place in sources):
            raise NotOnProcessor("it works on a tensor that was flattened")
        layout = sources[0].layout
        if name in places.found or name in places.joined:
            # Where the output lies already as one of the tensors does, the other one is brought into that order.
            layout = next(
                (p.layout for p in sources if p.layout.channels == places.plain(name).layout.channels), layout
            )
        out = places.like(name, layout)
        for at, place in enumerate(sources):
            if place.layout.channels != layout.channels:
                there = whole(
                    f"{step.name}:{at}", replace(layout, height=place.layout.height, width=place.layout.width)
                )
                places.jobs.append(repacked(step, place, there))
                sources = (*sources[:at], there, *sources[at + 1 :])
        written = out
        if out.layout.channels != layout.channels:
            written = whole(f"{step.name}:out", replace(layout, height=out.layout.height, width=out.layout.width))
        places.jobs.append(
            VecJob(
                name=step.name,
                layer=step.layer,
                macs=0,
                steps=(step.name,),
                sources=sources,
                out=written,
                mode=mode,
                window=window,
                fill=fill,
                coefficients=coefficients or (1,) * window.rows.taps,
                finish=finish,
                table=table,
            )
        )
        if written is not out:
            places.jobs.append(repacked(step, written, out))

    def _map(self, step: Step, form: Map) -> None:
        buffers = [self.program.buffers[name] for name in step.inputs]
        if len(buffers) == 1 and not any(np.size(self.program.tensors[t]) > 1 for t in form.params.values()):
            source = buffers[0]
            if source.format.bits != 8:
                raise NotOnProcessor("its table is not from bytes to bytes")
            codes = np.arange(source.format.lo, source.format.hi + 1)
            values: dict[str, NDArray[np.integer[Any]]] = {"x0": np.clip(codes, source.lo, source.hi)}
            values |= {k: self.program.tensors[t] for k, t in form.params.items()}
            self._lookup(step, numpy_value(form.expr, values))
            return
        if len(buffers) != 2 or form.params:
            raise NotOnProcessor("it is not a sum or product of two tensors")
        if not self.config.units.multiply:
            raise NotOnProcessor("this configuration's vector unit does not add")
        if buffers[0].shape != buffers[1].shape:
            raise NotOnProcessor("its two tensors differ in shape")
        bounds = ((buffers[0].lo, buffers[0].hi), (buffers[1].lo, buffers[1].hi))
        if any(max(abs(a), abs(b)) > 128 for a, b in bounds):
            raise NotOnProcessor("one of its tensors is wider than 8 bits")
        places = tuple(self.places.source(self.places.flat.get(name, name)) for name in step.inputs)
        linear = epilogue.two_operands(form.expr, bounds, self.config.rounding)
        if linear is not None:
            coefficients = (linear.first, linear.second)
            self._vector(step, places, Mode.ROW, POINT, linear.finish, coefficients=coefficients)
            return
        finish = epilogue.product(form.expr, bounds, self.config.rounding)
        if finish is None or not self.config.units.scale:
            raise NotOnProcessor("it is not a sum or product of two tensors that ends in a shift")
        self._vector(step, places, Mode.PRODUCT, POINT, finish, coefficients=(1, 1))

    def _lookup(self, step: Step, results: NDArray[Any]) -> None:
        if not self.config.units.table:
            raise NotOnProcessor("this configuration has no tables")
        source = self.program.buffers[step.inputs[0]]
        if source.format.bits != 8 or image_shape(self.program.buffers[step.outputs[0]]) is None:
            raise NotOnProcessor("its table is not from bytes to bytes")
        place = self.places.source(self.places.flat.get(step.inputs[0], step.inputs[0]))
        by_code = np.roll(np.asarray(results, np.int64), -128)  # -128 .. 127 → 0 .. 127, -128 .. -1
        self._vector(step, (place,), Mode.MAX, POINT, Finish(0, -128, 127), table=by_code.astype(np.int8))


def _refused(program: Program, step: Step, config: ProcessorConfig, rounding: Rounding) -> ExportError:
    """Sums that are rounded otherwise would all be the host's: who compiles has taken the wrong one of two."""
    return ExportError(
        f'Program "{printable(program.name)}" rounds its sums {rounding.value} (layer "{printable(step.layer)}"), and the '
        f"processor {printable(config.name)} rounds {config.rounding.value}. Quantize for a target that rounds "
        f'{config.rounding.value}, or take a configuration with rounding = "{rounding.value}".'
    )


def _window(axes: tuple[Axis, ...]) -> Window:
    """Rows and columns; a tensor with one spatial axis has one row."""
    return Window(Axis(), axes[0]) if len(axes) == 1 else Window(axes[0], axes[1])


def build(program: Program, config: ProcessorConfig, unfused: frozenset[str] = frozenset()) -> Graph:
    """The jobs of a program on a configuration; what the processor cannot do stays on the host, with the reason.

    Args:
        program: An integer program.
        config: The processor.
        unfused: Steps whose maximum is to be a job of its own.
    """
    return _Builder(program, config, unfused).build()
