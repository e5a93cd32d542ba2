"""Measured inference: a compiled network whose products come from the chip on the wire."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction, apply_correction
from cim.chip.windows import Window
from firmware_protocols.messages import Capability, LayerTile, LoadLayer, MvmResult, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.copies import Copy, by_copy, copies_of
from mapping.program.corrections import Corrections
from mapping.program.driven import driven_codes, input_sums, tile_channels


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
        return by_copy(step, codes, lambda copy, seen: self._copy_sums(step.name, copy, seen, sample))

    def _copy_sums(self, name: str, copy: Copy, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        group, corrections = copy.group, self.corrections[name][copy.tiles.start : copy.tiles.stop]
        driven, window = driven_codes(group, self.driver.spec.macro, codes)
        positions = 1 if window is None else window.positions
        total = np.zeros((len(codes), positions, group.outputs), np.int32)
        count = self.conversions.setdefault(name, Conversions())
        for tile, correction in zip(group.tiles, corrections, strict=True):
            result = self._read(group, tile, driven, window, sample)
            count.add(result)
            sums = result.values.reshape(len(codes), positions, len(tile.outputs))
            inputs = input_sums(driven, window, tile) if correction.input_gain.any() else np.zeros(sums.shape[:2])
            levels = apply_correction(sums, inputs.astype(np.int64), correction)
            total[:, :, tile.outputs.start : tile.outputs.stop] += tile.multiplier * levels
        return as_maps(group, total)

    def _read(
        self, group: TileGroup, tile: Tile, driven: NDArray[np.int16], window: Window | None, sample: int
    ) -> MvmResult:
        if window is None:
            return self.driver.mvm(
                address(tile),
                driven[:, tile.inputs.start : tile.inputs.stop],
                range_code=group.range_code,
                input_bits=group.input_bits,
                input_signed=group.input_signed,
                sample=sample,
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
        )


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
        return by_copy(step, codes, lambda copy, seen: self._copy(step.name, copy, seen, sample))

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
    """The smallest answer that the chip offers: whole layers, else sums of tiles.

    Raises:
        UsageError: the program takes several rounds, and the chip holds one at a time.
    """
    check_one_round(program)
    if Capability.LAYER in driver.capabilities:
        return MeasuredLayers(driver, program, corrections)
    return MeasuredSums(driver, corrections)


def check_one_round(program: ConductanceProgram) -> None:
    """Refuse a program of which the chip holds a part at a time."""
    if len({t.round for m in program.matrices for t in m.group.tiles}) > 1:
        raise UsageError(
            f"this program takes {program.rounds} rounds, the chip written anew for each",
            hint="hil deploy runs it; from Python, mapping.program.rounds.RoundRun and part_of_round",
        )


def address(tile: Tile) -> TileAddress:
    return TileAddress(tile.macro, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))


def layer_message(number: int, step: MatrixStep, corrections: tuple[Correction, ...]) -> LoadLayer:
    """A layer as the chip takes it."""
    group, requantise = step.group, step.requantise
    tiles = tuple(
        LayerTile(address(t), t.inputs.start, t.outputs.start, t.multiplier, c.shift, c.gain, c.offset, c.input_gain)
        for t, c in zip(group.tiles, corrections, strict=True)
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
