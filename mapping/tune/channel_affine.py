"""Sequential channel affine: gain and offset of every output channel, fitted layer by layer to a chip's own answers.

Layers are taken in order. The stored training images run through the network *as it is on the chip
so far*, earlier layers tuned already; y are a layer's level sums on the chip, z those of the ideal
network for the same images, both without bias. Over images and places of the output map, channel by channel,

    a = cov(y, z) / var(y)          kept within 0.2 … 5
    b = mean(z) − a · mean(y)

is the line of least squares. It costs nothing in inference: with m the requantisation factor and
β the bias of the channel,

    m (a y + b + β)  =  (m a) · (y + (b + β) / a)

so that multiplier and bias take it up. Where y never varies, a is 1.

The column correction (``cim.chip.correction``) is fitted to cells as read back and to ideal inputs; this
line sees what earlier layers did, the sum over tiles, and effects that no model knows.

With a rank in the targets each layer gets an adapter, too (``mapping.tune.low_rank``), whose term the host adds to the
chip's sums. Lines are then fitted to the sums with it.

Example: y is 0.8 z + 3 in one channel: a = 1.25, b = −3.75.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer import digital_ops
from mapping.operators.integer.scales import requantise_by
from mapping.operators.node import INPUT
from mapping.operators.step import Step
from mapping.program.adapter import adapted, adapter_sums, sums_with
from mapping.program.conductance import Adapter, ConductanceProgram, MatrixStep
from mapping.program.execute import (
    IdealMultiply,
    Multiply,
    apply,
    images_in_flight,
    in_places,
    input_codes,
    out_of_places,
    run,
)
from mapping.program.file import program_digest
from mapping.program.limits import MOST_RANK
from mapping.program.rounds import step_rounds
from mapping.program.shapes import step_shapes
from mapping.tune.fit_limits import GAINS, PLACES, some_places
from mapping.tune.low_rank import fit_adapter

IN_MEMORY_BYTES = 1 << 26  # of the images of one array, or of the sums of all layers

Sums = NDArray[np.int32]


class InFile:
    """An array of images in a temporary file, written and read some of them at a time."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self._bytes = math.prod(shape[1:]) * dtype.itemsize  # of one image

    def __setitem__(self, part: slice, values: NDArray[Any]) -> None:
        self._file.seek(part.indices(self.shape[0])[0] * self._bytes)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        start, stop, _ = part.indices(self.shape[0])
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._file.seek(start * self._bytes)
        self._file.readinto(found.data)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


Images = NDArray[Any] | InFile
"""An array of images, taken by slices of them."""


def room_for(first: NDArray[Any], images: int) -> Images:
    """Empty storage for ``images`` arrays like ``first``: in memory, or in a file where they are large."""
    shape = (images, *first.shape[1:])
    if math.prod(shape) * first.itemsize <= IN_MEMORY_BYTES:
        return np.empty_like(first, shape=shape)
    return InFile(shape, first.dtype)


class CachedSums(Mapping[str, Sums]):
    """Level sums (n, outputs, places) by layer, in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Sums]] = {}

    def append(self, layer: str, sums: Sums) -> None:
        """Store the sums of a layer for the next images."""
        self._parts.setdefault(layer, []).append(sums)

    def __getitem__(self, layer: str) -> Sums:
        parts = self._parts[layer]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class SumsOnDisk(CachedSums):
    """Sums in a temporary folder, read layer by layer; the folder is removed with the object."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory(prefix="hil-sums-")
        self._shapes: dict[str, tuple[int, ...]] = {}  # of one image

    def append(self, layer: str, sums: Sums) -> None:
        self._shapes[layer] = sums.shape[1:]
        with self._file(layer).open("ab") as file:
            sums.tofile(file)

    def __getitem__(self, layer: str) -> Sums:
        return np.fromfile(self._file(layer), np.int32).reshape(-1, *self._shapes[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __reduce__(self) -> tuple[object, ...]:
        return _on_disk, (dict(self.items()),)  # another process has files of its own

    def _file(self, layer: str) -> Path:
        return Path(self._folder.name) / str(list(self._shapes).index(layer))


def _on_disk(sums: Mapping[str, Sums]) -> SumsOnDisk:
    found = SumsOnDisk()
    for layer, values in sums.items():
        found.append(layer, values)
    return found


def cached_sums(program: ConductanceProgram, images: int) -> CachedSums:
    """Room for the sums of a program's layers for so many images, at ``PLACES`` of each output map at most."""
    shapes = step_shapes(program)
    numbers = sum(shapes[m.name][0] * min(PLACES, math.prod(shapes[m.name][1:])) for m in program.matrices)
    return CachedSums() if images * numbers * np.dtype(np.int32).itemsize <= IN_MEMORY_BYTES else SumsOnDisk()


BATCH = 32  # images in one request, of large maps fewer
BIAS_LIMIT = (1 << 30) - 1
MOST_FACTOR = float(1 << 31) * (1.0 - 1e-9)  # of a requantisation

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChannelFit:
    """The line of every output channel of one layer, in the order of its places.

    wanted ≈ ``gain`` · sum + ``offset``, float64 (outputs,), in level sums. ``before`` and ``after``: mean square of
    what is left between them without and with the line, as a share of the variance of the ideal
    sums (the mean over channels weighted by it). ``limited`` channels end at a limit of the gain, ``still`` ones
    never varied.
    """

    layer: str
    gain: Floats
    offset: Floats
    before: float
    after: float
    limited: int
    still: int

    def applied(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Level sums (n, outputs, …) after the line, rounded to integers."""
        across = (1, -1) + (1,) * (sums.ndim - 2)
        lined = sums * self.gain.reshape(across) + self.offset.reshape(across)
        return np.rint(np.clip(lined, -BIAS_LIMIT, BIAS_LIMIT)).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Tuned:
    """A program with the lines of one chip in its multipliers and biases, and the lines."""

    program: ConductanceProgram
    fits: tuple[ChannelFit, ...]

    @property
    def words(self) -> str:
        """ "330 channels: the error of their sums 14.1 % -> 9.6 % of their spread", root mean square over layers."""
        before, after = (
            100.0 * float(np.sqrt(np.mean(found)))
            for found in ([fit.before for fit in self.fits], [fit.after for fit in self.fits])
        )
        channels = sum(len(fit.gain) for fit in self.fits)
        return f"{channels:,} channels: the error of their sums {before:.1f} % -> {after:.1f} % of their spread"

    def applied(self, layer: str, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """The chip's level sums of a layer as tuned, (n, outputs, places) at some places of its map.

        ``codes``: inputs of the layer in the order of its places, (n, C, H, W) or (n, features).
        """
        fit = next(fit for fit in self.fits if fit.layer == layer)
        step = self.program.layers[layer]
        if step.adapter is not None:
            sums = sums_with(sums, some_places(adapter_sums(step.adapter, step.group, codes)))
        return fit.applied(sums)

    def of_chip(self, serial: str) -> Tuned:
        """The tuned program with the serial number of the chip in it."""
        named = replace(self.program, tuned_to=serial, digest="")
        return replace(self, program=replace(named, digest=program_digest(named)))


@dataclass(frozen=True, slots=True)
class TuneTargets:
    """Outputs of the ideal network's layers for stored training images: the targets of a tune.

    ``images`` uint8 (n, height, width, channels); ``sums`` by layer int32 (n, outputs, places), at most
    ``PLACES`` of the output map. ``rank``: of the adapter that each layer gets, 0: none.
    """

    images: NDArray[np.uint8]
    sums: Mapping[str, NDArray[np.int32]]
    rank: int = 0


def tune_targets(program: ConductanceProgram, images: NDArray[np.uint8], rank: int = 0) -> TuneTargets:
    """The targets of ``program`` for training images; the same for every chip.

    Args:
        rank: of adapters (``mapping.tune.low_rank``); 0: lines alone.

    Raises:
        ValueError: no images, or of another shape than the program takes; no such rank.
    """
    if not 0 <= rank <= MOST_RANK:
        raise ValueError(f"adapters of rank {rank}, not from 0 to {MOST_RANK}")
    if len(images) < 2:
        raise ValueError(f"{len(images)} images to tune with, at least 2 are needed")
    kept = cached_sums(program, len(images))

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        kept.append(step.name, some_places(sums))

    run(program, images, IdealMultiply(program), tap=keep)
    return TuneTargets(images, kept, rank)


def tune_channels(
    program: ConductanceProgram,
    targets: TuneTargets,
    multiply: Multiply,
    *,
    sample: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Tuned:
    """Tune ``program`` to whatever answers in ``multiply`` (a chip on the wire, a virtual chip).

    Args:
        targets: ``tune_targets`` of the program.
        sample: number of the first image; image i is ``sample + i``.
        progress: called with (layers done, layers, layer).
    """
    tune = ChannelTune(program, targets)
    tune.run(multiply, sample=sample, progress=progress)
    return tune.tuned


class ChannelTune:
    """A tune under way; of a program of several rounds it goes on with every round that the chip is written for.

    Args:
        done: steps of the program that are tuned already; ``values``: what they gave for the images of the targets, as
            ``values`` of the tune that did it.
    """

    def __init__(
        self,
        program: ConductanceProgram,
        targets: TuneTargets,
        *,
        done: int = 0,
        values: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.program, self.targets = program, targets
        self._steps: dict[str, Step] = {step.name: step for step in program.steps}
        self._rounds = step_rounds(program)
        self._batch = min(BATCH, images_in_flight(program))
        self._values: dict[str, Images] = dict(values or {INPUT: input_codes(targets.images, program.input)})
        self._sums: dict[str, NDArray[np.int32]] = {}  # of layers that go over several rounds, so far
        self._fits: list[ChannelFit] = []
        self._done = {step.name for step in program.steps[:done]}

    @property
    def values(self) -> dict[str, NDArray[Any]]:
        """What the steps gave so far for the images of the targets, where a later step reads it."""
        return {name: np.asarray(found) for name, found in self._values.items()}

    @property
    def tuned(self) -> Tuned:
        """The program with every layer that was tuned so far."""
        program = replace(
            self.program,
            steps=tuple(self._steps.values()),
            digest="",
            held_as=self.program.held_as or self.program.digest,
        )
        return Tuned(replace(program, digest=program_digest(program)), tuple(self._fits))

    def run(
        self,
        multiply: Multiply,
        *,
        number: int | None = None,
        until: str | None = None,
        sample: int = 0,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        """Tune the layers of round ``number``, or of all rounds where one thing answers for them all.

        ``until``: the last layer that is tuned now; None: the last of all.
        """
        for step in self.program.steps:
            if until is not None and until in self._done:
                return
            rounds = self._rounds[step.name]
            if step.name in self._done or (number is not None and number not in rounds):
                continue
            if not isinstance(step, MatrixStep):
                self._values[step.name] = self._passed(step, multiply, sample)
                self._finish(step)
                continue
            if progress is not None:
                progress(len(self._fits), len(self.targets.sums), step.name)
            sums = self._answers(step, number, multiply, sample)
            if number is not None and len(rounds) > 1:
                total = self._sums.pop(step.name, 0) + np.asarray(sums)
                sums = total
                if number != rounds[-1]:
                    self._sums[step.name] = total
                    continue
            fit, adapter, sums = self._fit(step, sums)
            tuned = replace(folded(step, fit), adapter=adapter)
            self._fits.append(fit)
            self._steps[step.name] = tuned
            self._values[step.name] = self._finished(tuned, sums)
            self._finish(step)

    def run_at_places(
        self,
        sums: Callable[[ConductanceProgram, MatrixStep], NDArray[np.int32]],
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        """Tune all layers by sums at the places of the targets: whoever answers runs the images through what is before.

        Where an answer fails, nothing is tuned yet.

        Args:
            sums: of the program as tuned so far and a layer of it, (n, outputs, places).
        """
        steps, fits = dict(self._steps), list[ChannelFit]()
        for done, step in enumerate(self.program.matrices):
            if progress is not None:
                progress(done, len(self.program.matrices), step.name)
            so_far = replace(self.program, steps=tuple(steps.values()))
            fit = fit_channels(step.name, sums(so_far, step), self.targets.sums[step.name])
            fits.append(fit)
            steps[step.name] = folded(step, fit)
        self._steps, self._fits = steps, fits

    def _passed(self, step: Step, multiply: Multiply, sample: int) -> Images:
        """Output codes of a step without a tune of its own: digital, or a layer that is read again."""
        layers = self._layers

        def passed(part: slice) -> NDArray[Any]:
            given = {name: self._values[name][part] for name in step.inputs}
            return apply(step, given, multiply, sample + part.start, layers=layers)

        return self._in_batches(passed)

    def _finished(self, step: MatrixStep, sums: Images) -> Images:
        """Output codes of a layer from its level sums, its adapter's among them."""
        return self._in_batches(
            lambda part: out_of_places(step, digital_ops.finish(sums[part], step.bias, step.requantise))
        )

    def _in_batches(self, work: Callable[[slice], NDArray[Any]]) -> Images:
        """``work(part)`` of all images: what a few need on the way is not held for all of them."""
        first, *others = self._parts
        made = work(first)
        if not others:
            return made
        found = room_for(made, len(self.targets.images))
        found[first] = made
        for part in others:
            found[part] = work(part)
        return found

    def _fit(self, step: MatrixStep, sums: Images) -> tuple[ChannelFit, Adapter | None, Images]:
        """The layer's lines, its adapter, and its sums with the adapter."""
        wanted = self.targets.sums[step.name]
        seen = np.asarray(self._in_batches(lambda part: some_places(sums[part])))
        fit = fit_channels(step.name, seen, wanted)
        if not self.targets.rank:
            return fit, None, sums
        codes = self._codes(step, slice(None))
        adapter = fit_adapter(step, codes, seen, wanted, self.targets.rank)
        if adapter is None:
            return fit, None, sums
        having = replace(step, adapter=adapter)
        lined = self._in_batches(lambda part: adapted(having, codes[part], sums[part]))
        seen = np.asarray(self._in_batches(lambda part: some_places(lined[part])))
        return replace(fit_channels(step.name, seen, wanted), before=fit.before), adapter, lined

    def _codes(self, step: MatrixStep, part: slice) -> NDArray[np.int16]:
        """Inputs of a layer for some images, in the order of its places."""
        return in_places(step, self._values[step.inputs[0]][part].astype(np.int16, copy=False))

    def _answers(self, step: MatrixStep, number: int | None, multiply: Multiply, sample: int) -> Images:
        """Level sums of all images, (n, outputs, …)."""
        if number is not None:
            tiles = tuple(t for t in step.group.tiles if t.round == number)
            step = replace(step, group=replace(step.group, tiles=tiles))
        return self._in_batches(lambda part: multiply.sums(step, self._codes(step, part), sample + part.start))

    @property
    def _parts(self) -> list[slice]:
        """The images, a few at a time."""
        images = len(self.targets.images)
        return [slice(first, min(first + self._batch, images)) for first in range(0, images, self._batch)]

    @property
    def _layers(self) -> dict[str, MatrixStep]:
        """Matrix steps as tuned so far."""
        return {name: step for name, step in self._steps.items() if isinstance(step, MatrixStep)}

    def _finish(self, step: Step) -> None:
        """Forget values that no later step reads."""
        self._done.add(step.name)
        later = {name for s in self.program.steps if s.name not in self._done for name in s.inputs}
        for name in [name for name in self._values if name not in later]:
            del self._values[name]


def fit_channels(layer: str, sums: NDArray[np.integer], wanted: NDArray[np.integer]) -> ChannelFit:
    """The lines from ``sums`` to ``wanted``, both (n, outputs, places), channel by channel."""
    from mapping.tune.moment_kernel import channel_moments  # numba is large

    mean_y, mean_z, var_y, var_z, both = channel_moments(*(np.ascontiguousarray(v, np.int32) for v in (sums, wanted)))
    still = var_y == 0.0
    free = np.where(still, 1.0, both / np.where(still, 1.0, var_y))
    gain = np.clip(free, *GAINS)
    offset = mean_z - gain * mean_y
    power = float(var_z.sum()) or 1.0
    plain = var_y - 2.0 * both + var_z + (mean_y - mean_z) ** 2
    lined = gain**2 * var_y - 2.0 * gain * both + var_z
    return ChannelFit(
        layer,
        gain,
        offset,
        before=float(plain.sum()) / power,
        after=max(0.0, float(lined.sum())) / power,
        limited=int((gain != free).sum()),
        still=int(still.sum()),
    )


def folded(step: MatrixStep, fit: ChannelFit) -> MatrixStep:
    """The step with the lines in its multipliers and biases."""
    factor = np.broadcast_to(step.requantise.multiplier / np.exp2(step.requantise.shift), fit.gain.shape)
    rule = requantise_by(np.minimum(factor * fit.gain, MOST_FACTOR), step.requantise.low, step.requantise.high)
    bias = np.rint(np.clip((step.bias + fit.offset) / fit.gain, -BIAS_LIMIT, BIAS_LIMIT)).astype(np.int32)
    return replace(step, bias=bias, requantise=rule)
