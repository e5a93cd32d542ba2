"""Level sums of layers from the chip on the wire: tiles are read, corrected on the host, and added."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import apply_correction
from cim.chip.windows import Window
from firmware_protocols.capability import COMPUTED_PRODUCTS
from firmware_protocols.messages import MvmResult
from hil.deployment.plans.layer_loads import address
from hil.driver.chip_driver import ChipDriver
from mapping.program.conductance import MatrixStep, Tile, TileGroup
from mapping.program.copies import Copy, by_copy, joined
from mapping.program.corrections import Corrections
from mapping.program.driven import driven_codes, input_sums, tile_channels


@dataclass
class Conversions:
    """How many conversions a layer made and how many hit the end of the scale."""

    total: int = 0
    saturated: int = 0

    def add(self, result: MvmResult) -> None:
        self.count(result.conversions, result.saturated)

    def count(self, total: int, saturated: int) -> None:
        self.total += total
        self.saturated += saturated


@dataclass
class MeasuredSums:
    """Level sums from the chip: each tile is read, corrected on the host, and added.

    Satisfies ``mapping.program.execute.Multiply``.

    ``apart``: one request for each input, on a board that computes products from one reading of its cells per request.
    Means over inputs need readings with independent errors.
    """

    driver: ChipDriver
    corrections: Corrections
    conversions: dict[str, Conversions] = field(default_factory=dict)
    apart: bool = False

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        if self.apart and len(codes) > 1 and COMPUTED_PRODUCTS in self.driver.description.firmware:
            return np.concatenate([self.sums(step, codes[n : n + 1], sample) for n in range(len(codes))])
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


def as_maps(group: TileGroup, values: NDArray[np.int32]) -> NDArray[np.int32]:
    """(images, positions, outputs) as (images, outputs, height, width), or (images, outputs) for a vector."""
    if group.window is None:
        return values[:, 0]
    maps = values.transpose(0, 2, 1)
    return np.ascontiguousarray(maps).reshape(
        len(values), group.outputs, group.window.out_height, group.window.out_width
    )
