"""Measured inference: a compiled network whose products come from the chip on the wire, layer by layer or whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction, apply_correction
from cim.chip.windows import Window
from firmware_protocols.messages import Capability, LayerTile, LoadLayer, MvmResult, TileAddress
from hil.deployment.layer_sums import Exact
from hil.deployment.options import DeployOptions
from hil.deployment.switching_off import switch_off
from hil.deployment.targets.wired import WiredTarget, check_one_round
from hil.driver.chip_driver import ChipDriver
from hil.errors import BeyondLimit
from hil.samples import INFER, LAYERS, READ_AFTER, REPEAT, TUNE, UNTUNED
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.copies import Copy, by_copy, copies_of, joined
from mapping.program.corrections import Corrections
from mapping.program.driven import driven_codes, input_sums, tile_channels
from mapping.program.execute import run
from mapping.recipe.recipe import Written
from mapping.recipe.target import Cells
from mapping.tune.channel_affine import Tuned, TuneTargets, tune_channels

IMAGES_IN_FLIGHT = 32
LAYER_REPEATS = 2


@dataclass
class Conversions:
    """How many conversions a layer made and how many hit the end of the scale."""

    total: int = 0
    saturated: int = 0

    def add(self, result: MvmResult) -> None:
        self.total += result.conversions
        self.saturated += result.saturated


@dataclass
class MeasuredSums:
    """Level sums from the chip: each tile is read, corrected on the host, and added.

    Satisfies ``mapping.program.execute.Multiply``.
    """

    driver: ChipDriver
    corrections: Corrections
    conversions: dict[str, Conversions] = field(default_factory=dict)

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        parts = [self._copy_sums(step.name, copy, seen, sample) for copy, seen in by_copy(step.group, codes)]
        return joined(step.group, parts)

    def _copy_sums(self, name: str, copy: Copy, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        group, corrections = copy.group, self.corrections[name][copy.tiles.start : copy.tiles.stop]
        driven, window = driven_codes(group, self.driver.spec.macro, codes)
        positions = 1 if window is None else window.positions
        shape, most = (len(codes), positions, group.outputs), max(group.reads)
        total = np.zeros(shape, np.int64 if most > 1 else np.int32)
        count = self.conversions.setdefault(name, Conversions())
        for tile, correction, reads in zip(group.tiles, corrections, group.reads, strict=True):
            at = slice(tile.outputs.start, tile.outputs.stop)
            inputs = np.zeros(shape[:2], np.int64)
            if correction.input_gain.any():
                inputs = input_sums(driven, window, tile).astype(np.int64)
            result = self._read(group, tile, driven, window, sample, reads)
            count.add(result)
            sums = result.values.reshape(len(codes), positions, len(tile.outputs))
            levels = apply_correction(sums, inputs * reads, correction.of_reads(reads))
            total[:, :, at] += tile.multiplier * (most // reads) * levels.astype(total.dtype)
        return as_maps(group, mean_of(total, most))

    def _read(
        self, group: TileGroup, tile: Tile, driven: NDArray[np.int16], window: Window | None, sample: int, reads: int
    ) -> MvmResult:
        if window is None:
            return self.driver.mvm(
                address(tile),
                driven[:, tile.inputs.start : tile.inputs.stop],
                range_code=group.range_code,
                input_bits=group.input_bits,
                input_signed=group.input_signed,
                sample=sample,
                reads=reads,
            )
        channels, skip = tile_channels(window, tile)
        return self.driver.sweep(
            address(tile),
            driven[:, channels.start : channels.stop],
            dataclasses.replace(window, channels=len(channels)),
            row_skip=skip,
            range_code=group.range_code,
            input_bits=group.input_bits,
            input_signed=group.input_signed,
            sample=sample,
            reads=reads,
        )


def mean_of(total: NDArray[np.integer], reads: int) -> NDArray[np.int32]:
    """Sums of so many reads divided by their number, halves away from zero, as a chip divides them."""
    if reads == 1:
        return np.asarray(total, np.int32)
    magnitude = (2 * np.abs(total) + reads) // (2 * reads)
    return np.asarray(np.where(total < 0, -magnitude, magnitude), np.int32)


@dataclass
class MeasuredLayers:
    """Whole layers on the chip: it adds tiles, corrects and requantises; activations come back.

    Each copy of a layer is a layer of its own to the chip.

    Satisfies ``mapping.program.execute.RunsLayers``. Layers are sent once, when the object is made.
    """

    driver: ChipDriver
    program: ConductanceProgram
    corrections: Corrections
    conversions: dict[str, Conversions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}  # layer and copy -> the chip's number
        for step in self.program.matrices:
            for copy in copies_of(step.group):
                number = self._numbers[step.name, copy.number] = len(self._numbers)
                corrections = self.corrections[step.name][copy.tiles.start : copy.tiles.stop]
                self.driver.load_layer(layer_message(number, copy.of(step), corrections))

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        """Level sums of a layer of which the chip holds a part (``mapping.program.rounds``): tiles are added here."""
        return MeasuredSums(self.driver, self.corrections, self.conversions).sums(step, codes, sample)

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        parts = [self._copy(step.name, copy, seen, sample) for copy, seen in by_copy(step.group, codes)]
        return joined(step.group, parts)

    def _copy(self, name: str, copy: Copy, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        group = copy.group
        driven, window = driven_codes(group, self.driver.spec.macro, codes)
        result = self.driver.run_layer(
            self._numbers[name, copy.number],
            driven,
            window=window,
            range_code=group.range_code,
            input_bits=group.input_bits,
            input_signed=group.input_signed,
            sample=sample,
        )
        self.conversions.setdefault(name, Conversions()).add(result)
        return as_maps(group, result.values.reshape(len(codes), -1, group.outputs))


def measured_multiply(
    driver: ChipDriver, program: ConductanceProgram, corrections: Corrections
) -> MeasuredSums | MeasuredLayers:
    """The smallest answer that the chip offers: whole layers that it has room for, else sums of tiles.

    Raises:
        UsageError: the program takes several rounds, and the chip holds one at a time.
    """
    check_one_round(program)
    again = any(max(m.group.reads) > 1 for m in program.matrices)
    needed = Capability.LAYER | Capability.REPEATED_READS if again else Capability.LAYER
    if needed in driver.capabilities:
        try:
            return MeasuredLayers(driver, program, corrections)
        except BeyondLimit as error:
            driver.fall_back(f"layers: tiles added by the host ({error.what})")
    return MeasuredSums(driver, corrections)


@dataclass(frozen=True, slots=True)
class LayerSums:
    """One layer's level sums on the chip, (repeats, n, outputs, …), and its conversions."""

    sums: NDArray[np.int32]
    count: Conversions

    def __add__(self, other: LayerSums) -> LayerSums:
        """Of a layer that goes over several rounds."""
        total, ends = self.count.total + other.count.total, self.count.saturated + other.count.saturated
        return LayerSums(self.sums + other.sums, Conversions(total, ends))


def measure_layers(
    driver: ChipDriver,
    program: ConductanceProgram,
    corrections: Corrections,
    exact: Exact,
    watch: Watch,
    further_sample: int = 0,
) -> dict[str, LayerSums]:
    """Level sums of every layer of ``program`` on the chip, for exact input codes."""
    chip = MeasuredSums(driver, corrections)
    found = {}
    for done, step in enumerate(program.matrices):
        watch.step(done, len(program.matrices), step.name)
        codes, first = exact[step.name][0], LAYERS + further_sample
        sums = np.stack([chip.sums(step, codes, first + n * REPEAT) for n in range(LAYER_REPEATS)])
        found[step.name] = LayerSums(sums, chip.conversions[step.name])
    return found


@dataclass
class WholeRun:
    """A program that the chip holds as a whole: written once, it answers images look after look.

    Satisfies ``hil.deployment.chip_run.ChipRun``.
    """

    stands: Written
    target: WiredTarget
    options: DeployOptions
    times_ns: list[int] = field(default_factory=list)
    ages_s: None = None
    layers: dict[str, LayerSums] = field(default_factory=dict)
    after_us: Cells = field(default_factory=dict)
    tuned: Tuned | None = None
    untuned: NDArray[np.int32] | None = None  # logits of the first images without the tune, (1, n, classes)

    def __post_init__(self) -> None:
        self.driver, self.program, self.corrections = self.target.driver, self.stands.program, self.stands.corrections
        self.written, self.readings_us = self.target.written, self.stands.readings_us
        self.age_s = self.stands.age_s
        self._running = self.program
        self._chip = measured_multiply(self.driver, self.program, self.corrections)

    def tune(self, targets: TuneTargets, images: NDArray[np.uint8], watch: Watch) -> None:
        """Run ``images`` once as the chip is, then fit gains and biases to its answers to the targets' images."""
        with watch.stage("without the tune"):
            self.untuned = self._logits(images, UNTUNED, watch, "without the tune", 0, len(images))[None]
        with watch.stage("tuning"):
            chip = MeasuredSums(self.driver, self.corrections)
            found = tune_channels(self.program, targets, chip, sample=TUNE, progress=watch.step)
            self.tuned = found.of_chip(self.driver.description.serial)
        self._running = self.tuned.program
        self._chip = measured_multiply(self.driver, self._running, self.corrections)

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        return self._chip.conversions

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (repeats, n, classes); repeats are whole passes."""
        with watch.stage("measuring"):
            self.times_ns.append(self.driver.chip_time_ns)
            passes = [self._pass(images, first, repeat, watch) for repeat in range(self.options.repeats)]
            self.times_ns.append(self.driver.chip_time_ns)
        return np.stack(passes)

    def _pass(self, images: NDArray[np.uint8], first: int, repeat: int, watch: Watch) -> NDArray[np.int32]:
        repeats, done = self.options.repeats, repeat * len(images)
        what, sample = f"repeat {repeat + 1} of {repeats}", INFER + repeat * REPEAT + first
        return self._logits(images, sample, watch, what, done, repeats * len(images))

    def _logits(
        self, images: NDArray[np.uint8], sample: int, watch: Watch, what: str, done: int, total: int
    ) -> NDArray[np.int32]:
        parts, batch = [], IMAGES_IN_FLIGHT
        for at in range(0, len(images), batch):
            watch.step(done + at, total, what)
            part = images[at : at + batch]
            parts.append(run(self._running, part, self._chip, sample=sample + at, batch=batch))
        return np.concatenate(parts)

    def finish(self, exact: Exact, watch: Watch) -> None:
        with watch.stage("layers"):
            self.layers = measure_layers(self.driver, self.program, self.corrections, exact, watch)
        with watch.stage("reading back"):
            self.after_us = self.target.readings(self.program, self.options.read_back_reads, READ_AFTER)
        switch_off(self.driver, watch)


def address(tile: Tile) -> TileAddress:
    return TileAddress(tile.macro, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))


def layer_message(number: int, step: MatrixStep, corrections: tuple[Correction, ...]) -> LoadLayer:
    """A layer as the chip takes it."""
    group, requantise = step.group, step.requantise
    tiles = tuple(
        LayerTile(
            address(t), t.inputs.start, t.outputs.start, t.multiplier, c.shift, c.gain, c.offset, c.input_gain, reads
        )
        for t, c, reads in zip(group.tiles, corrections, group.reads, strict=True)
    )
    multiplier, shift = (
        np.broadcast_to(a, (group.outputs,)).astype(np.int32) for a in (requantise.multiplier, requantise.shift)
    )
    return LoadLayer(
        number, group.inputs, group.outputs, requantise.low, requantise.high, step.bias, multiplier, shift, tiles
    )


def as_maps(group: TileGroup, values: NDArray[np.int32]) -> NDArray[np.int32]:
    """(images, positions, outputs) as (images, outputs, height, width), or (images, outputs) for a vector."""
    if group.window is None:
        return values[:, 0]
    maps = values.transpose(0, 2, 1)
    return np.ascontiguousarray(maps).reshape(
        len(values), group.outputs, group.window.out_height, group.window.out_width
    )
