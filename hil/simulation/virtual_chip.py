"""One virtual chip: cells, converters and corrections that were drawn, as simulators of its layers.

``hil.simulation.virtual_chips`` draws many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import Moment
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, SimulatedTile, simulated_tile
from cim.simulator.modes import SimulationMode
from cim.simulator.simulator import LayerSimulator
from mapping.program.conductance import ConductanceProgram, MatrixStep, TileGroup
from mapping.program.copies import Copy, by_copy, copies_of, joined
from mapping.program.corrections import Corrections
from mapping.program.driven import picture_layers
from mapping.tune.channel_affine import Tuned, TuneTargets, tune_channels
from mapping.tune.fit_limits import some_places

COPY_NOISE = 1 << 20  # distance of the noise of two copies of a layer
LAYER_SAMPLES = 1 << 16  # number of the noise of layer samples, beyond every layer's own
TUNE_IMAGES = 1 << 40  # number of the noise of the first image that a chip is tuned with, beyond all that are scored
READ = 1 << 44  # distance of the noise of two reads of one product, beyond every repeat's own


@dataclass(frozen=True, slots=True)
class RepeatedReads:
    """A layer whose tiles are not all read alike: ``parts`` are simulators of tiles that are, and their reads.

    Sums are those of the parts, each the rounded mean of its reads. It stands where a ``LayerSimulator`` may.
    """

    parts: Sequence[tuple[LayerSimulator, int]]
    layers: int  # distance of the noise of two parts

    def level_sums(self, codes: NDArray[np.int16], key: NoiseKey) -> tuple[NDArray[np.int32], float]:
        """Sums of all reads together, as ``LayerSimulator.level_sums`` gives those of one."""
        found: list[NDArray[np.int32]] = []
        ends = 0.0
        for number, (part, reads) in enumerate(self.parts):
            seen: list[NDArray[np.int32]] = []
            for r in range(reads):
                own = replace(key, layer=key.layer + number * self.layers, first_image=key.first_image + r * READ)
                sums, share = part.level_sums(codes, own)
                seen.append(sums)
                ends += share * part.conversions(len(codes))
            found.append(seen[0] if reads == 1 else np.rint(np.sum(seen, axis=0, dtype=np.int64) / reads))
        return np.asarray(sum(found[1:], found[0]), np.int32), ends / max(1, self.conversions(len(codes)))

    def conversions(self, images: int) -> int:
        return sum(reads * part.conversions(images) for part, reads in self.parts)


CopySimulator = LayerSimulator | RepeatedReads
Layers = dict[str, tuple[CopySimulator, ...]]  # by name, of each its copies


@dataclass(frozen=True, slots=True)
class SampledDevice:
    """What one virtual chip is, by slot: cells (rows, columns) µS as they are read back, converters; and its
    corrections by layer. ``lasting_us``: how far read noise that lasts moves the cells until each
    ``cim.cells.lasting_noise.Moment``, (moments, rows, columns) µS; empty where there is none."""

    cells_us: Mapping[int, NDArray[np.floating]]
    columns: Mapping[int, Columns]
    corrections: Corrections
    lasting_us: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)

    def cells_at(self, slot: int, moment: Moment) -> NDArray[np.floating]:
        """Cells of a slot at a moment, µS."""
        cells = self.cells_us[slot]
        return np.maximum(cells + self.lasting_us[slot][moment], 0.0) if slot in self.lasting_us else cells


@dataclass
class VirtualChip:
    """One virtual chip; satisfies ``mapping.program.execute.Multiply``. Each copy of a layer has cells of its own.

    Samples from ``TUNE_IMAGES`` on are answered as the chip is when it is tuned, all others as it is in inference.
    """

    layers: Layers
    steps: dict[str, MatrixStep]
    seed: int
    number: int
    in_tune: Callable[[], Layers] | None = None  # None: layers are then what they are in inference
    ends: float = 0.0  # conversions at the end of the scale
    conversions: int = 0
    _tuned: Layers | None = field(default=None, init=False, repr=False)  # while the tune lasts

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        layers = self.layers
        if self.in_tune is None or sample < TUNE_IMAGES:
            self._tuned = None
        else:
            layers = self._tuned = self._tuned or self.in_tune()
        sums, ends, count = self._sums(layers, step, codes, list(layers).index(step.name), sample)
        self.ends += ends
        self.conversions += count
        return sums

    def tuned(self, program: ConductanceProgram, targets: TuneTargets) -> Tuned:
        """``program`` tuned to this chip's answers."""
        return tune_channels(program, targets, self, sample=TUNE_IMAGES)

    def layer_sample(self, name: str, codes: NDArray[np.int16]) -> tuple[NDArray[np.int32], float]:
        """Level sums of one layer for given codes at some places of its map, and the saturated share."""
        sums, ends, count = self._sums(self.layers, self.steps[name], codes, LAYER_SAMPLES, 0)
        return some_places(sums), ends / max(1, count)

    def _sums(
        self, layers: Layers, step: MatrixStep, codes: NDArray[np.int16], layer: int, sample: int
    ) -> tuple[NDArray[np.int32], float, int]:
        """Level sums, conversions at the end of the scale, conversions."""
        parts: list[NDArray[np.int32]] = []
        ends, conversions = 0.0, 0
        for copy, seen in by_copy(step.group, codes):
            simulated = layers[step.name][copy.number]
            key = NoiseKey(self.seed, self.number, layer + copy.number * COPY_NOISE, sample)
            sums, share = simulated.level_sums(seen, key)
            count = simulated.conversions(len(seen))
            parts.append(sums)
            ends, conversions = ends + share * count, conversions + count
        return joined(step.group, parts), ends, conversions


def build_chip(
    program: ConductanceProgram,
    record: CalibrationRecord,
    drawn: SampledDevice,
    *,
    seed: int,
    number: int,
    mode: SimulationMode | str = SimulationMode.EXACT,
) -> VirtualChip:
    """A virtual chip with these cells, converters and corrections; noise, wires and row drivers are the record's."""

    def layers(moment: Moment) -> Layers:
        return {
            step.name: tuple(
                layer_simulator(program, record, step.name, copy, drawn, mode, moment) for copy in copies_of(step.group)
            )
            for step in program.matrices
        }

    steps = {step.name: step for step in program.matrices}
    in_tune = functools.partial(layers, Moment.TUNE) if drawn.lasting_us else None
    return VirtualChip(layers(Moment.INFERENCE), steps, seed, number, in_tune)


def layer_simulator(
    program: ConductanceProgram,
    record: CalibrationRecord,
    name: str,
    copy: Copy,
    drawn: SampledDevice,
    mode: SimulationMode | str,
    moment: Moment = Moment.INFERENCE,
) -> CopySimulator:
    """One copy of a layer of a virtual chip."""
    reads = copy.group.reads
    simulator = functools.partial(
        _simulator, program, record, copy.group, mode=mode, pictures=name in picture_layers(program)
    )
    if SimulationMode(mode) is SimulationMode.FAST:
        return simulator(copy_tiles(program, name, copy, drawn, reads, moment))
    tiles = copy_tiles(program, name, copy, drawn, moment=moment)
    if set(reads) == {1}:
        return simulator(tiles)
    parts = [[tile for tile, count in zip(tiles, reads, strict=True) if count == n] for n in sorted(set(reads))]
    simulators = [simulator(part) for part in parts]
    return RepeatedReads(tuple(zip(simulators, sorted(set(reads)), strict=True)), COPY_NOISE)


def _simulator(
    program: ConductanceProgram,
    record: CalibrationRecord,
    group: TileGroup,
    tiles: list[SimulatedTile],
    *,
    mode: SimulationMode | str,
    pictures: bool,
) -> LayerSimulator:
    """Simulator of some tiles of a layer."""
    return LayerSimulator(
        program.spec.macro,
        tiles,
        window=group.window,
        inputs=group.inputs,
        outputs=group.outputs,
        range_code=group.range_code,
        input_bits=group.input_bits,
        input_signed=group.input_signed,
        read_noise=record.read_noise,
        wire=record.wire,
        drive=record.drive,
        rows_alike=pictures,
        mode=mode,
    )


def copy_tiles(
    program: ConductanceProgram,
    name: str,
    copy: Copy,
    drawn: SampledDevice,
    reads: Sequence[int] = (),
    moment: Moment = Moment.INFERENCE,
) -> list[SimulatedTile]:
    """Tiles of one copy of a layer as a virtual chip holds them; ``reads`` of each, one where none are given."""
    spec, corrections = program.spec.macro, drawn.corrections[name][copy.tiles.start : copy.tiles.stop]
    reads = reads or (1,) * len(corrections)
    return [
        simulated_tile(
            spec,
            drawn.cells_at(program.slot(t), moment),
            drawn.columns[program.slot(t)],
            correction,
            inputs=t.inputs,
            outputs=t.outputs,
            multiplier=t.multiplier,
            row0=t.row0,
            output0=t.output0,
            reads=n,
        )
        for t, correction, n in zip(copy.group.tiles, corrections, reads, strict=True)
    ]
