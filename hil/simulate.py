"""Virtual chips of one deployment: networks whose products come from the calibrated simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord, CellState, ReadNoise, Wire
from cim.correction import SHIFT, Correction
from cim.device import Columns, draw_columns, draw_posterior, draw_programming, law_at, redraw_law
from cim.simulator import LayerSimulator, NoiseKey, simulated_tile
from hil.infer import Corrections
from hil.watch import Watch
from mapping.execute import run
from mapping.place import macro_targets_us
from mapping.program import ConductanceProgram, MatrixStep, Tile

# Purpose tags of the host's seeds: drawing chips, and their noise.
CONDITIONED, AGAIN = 0xC04D, 0xA6A1


@dataclass
class VirtualChip:
    """One virtual chip; satisfies ``mapping.execute.Multiply``."""

    layers: dict[str, LayerSimulator]
    seed: int
    number: int
    ends: float = 0.0  # conversions at the end of the scale
    conversions: int = 0

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        layer = self.layers[step.name]
        key = NoiseKey(self.seed, self.number, list(self.layers).index(step.name), sample)
        sums, share = layer.level_sums(codes, key)
        count = layer.conversions(len(codes))
        self.ends += share * count
        self.conversions += count
        return sums


@dataclass
class VirtualChips:
    """The virtual chips that one question is judged against.

    With ``readings_us`` (macro -> mean reading of each cell, µS) they are *this chip* as it was
    read back; without, *such chips*: this chip programmed again. Each is drawn from the record
    with a seed of its own, and all share the real chip's corrections.
    """

    program: ConductanceProgram
    record: CalibrationRecord
    corrections: Corrections
    age_s: float
    chips: int
    seed: int
    readings_us: dict[int, NDArray[np.float32]] | None = None
    reads: int = 0
    device: str = "cpu"
    made: list[VirtualChip] = field(init=False)

    def __post_init__(self) -> None:
        self.made = [self._draw(number) for number in range(self.chips)]

    def run(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (chips, n, classes); image i has noise of its own, number ``first`` + i."""
        logits: list[NDArray[np.int32]] = []
        for done, part in enumerate(_in_threads(lambda c: run(self.program, images, c, sample=first), self.made)):
            watch.step(done + 1, self.chips, f"virtual chip {done + 1} of {self.chips}")
            logits.append(part)
        return np.stack(logits)

    def layer(self, step: MatrixStep, codes: NDArray[np.int16]) -> tuple[NDArray[np.int32], float]:
        """Level sums (chips, n, outputs, …) of one layer for given codes, and the saturated share."""
        results = [chip.layers[step.name].level_sums(codes, self._layer_key(chip)) for chip in self.made]
        return np.stack([sums for sums, _ in results]), float(np.mean([share for _, share in results]))

    @property
    def saturated_share(self) -> float:
        return sum(c.ends for c in self.made) / max(1, sum(c.conversions for c in self.made))

    def _layer_key(self, chip: VirtualChip) -> NoiseKey:
        return NoiseKey(chip.seed, chip.number, 1 << 16)

    def _draw(self, number: int) -> VirtualChip:
        tag = AGAIN if self.readings_us is None else CONDITIONED
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, tag, number]))
        law = redraw_law(self.record.programming, rng)
        cells, columns = {}, {}
        for macro in self.program.macros:
            targets = macro_targets_us(self.program, macro)
            if self.readings_us is None:
                cells[macro] = draw_programming(targets, self.record, macro, self.age_s, rng, law)
            else:
                read = self.readings_us[macro]
                cells[macro] = draw_posterior(targets, read, self.reads, self.record, macro, self.age_s, rng, law)
            columns[macro] = draw_columns(self.record, macro, rng)
        layers = {
            step.name: layer_simulator(self.program, self.record, step, cells, columns, self.corrections, self.device)
            for step in self.program.matrices
        }
        seed = int(np.random.SeedSequence([self.seed, tag]).generate_state(1)[0])
        return VirtualChip(layers, seed, number)


def layer_simulator(
    program: ConductanceProgram,
    record: CalibrationRecord,
    step: MatrixStep,
    cells_us: dict[int, NDArray[np.float32]],
    columns: dict[int, Columns],
    corrections: Corrections,
    device: str,
) -> LayerSimulator:
    """One layer of a virtual chip with these cells and columns, by macro."""
    spec, group = program.spec.macro, step.group
    tiles = [
        simulated_tile(
            spec,
            np.nan_to_num(cells_us[t.macro]),
            columns[t.macro],
            correction,
            inputs=t.inputs,
            outputs=t.outputs,
            multiplier=t.multiplier,
            row0=t.row0,
            output0=t.output0,
        )
        for t, correction in zip(group.tiles, corrections[step.name], strict=True)
    ]
    return LayerSimulator(
        spec,
        tiles,
        window=group.window,
        inputs=group.inputs,
        outputs=group.outputs,
        range_code=group.range_code,
        input_bits=group.input_bits,
        input_signed=group.input_signed,
        read_noise=record.read_noise,
        wire=record.wire,
        device=device,
    )


def expected_cells_us(
    program: ConductanceProgram, record: CalibrationRecord, macro: int, age_s: float
) -> NDArray[np.float64]:
    """Mean conductance of each cell of a macro at ``age_s``, µS (rows, columns), as the record lets us expect it."""
    targets = macro_targets_us(program, macro)
    law = law_at(record.programming, np.nan_to_num(targets), age_s)
    part = record.macro(macro)
    stuck = np.isin(part.cells, (CellState.STUCK_LOW, CellState.STUCK_HIGH)) & np.isfinite(part.stuck_us)
    return np.where(stuck, part.stuck_us, np.nan_to_num(targets) + law.loc_us)


def expected_sums(
    program: ConductanceProgram,
    record: CalibrationRecord,
    step: MatrixStep,
    tile: Tile,
    cells_us: NDArray[np.float64],
    vectors: NDArray[np.int16],
) -> NDArray[np.float64]:
    """ADC sums (vectors, outputs) of one tile without noise, for input codes (vectors, rows)."""
    spec, group, part = program.spec.macro, step.group, record.macro(tile.macro)
    columns = Columns(part.gain, part.offset_codes, np.zeros_like(part.gain), part.adc, part.inl_codes)
    outputs = len(tile.outputs)
    plain = Correction(
        np.full(outputs, 1 << SHIFT, np.int32), np.zeros(outputs, np.int64), np.zeros(outputs, np.int32), SHIFT
    )
    simulated = simulated_tile(
        spec,
        cells_us,
        columns,
        plain,
        inputs=range(len(tile.inputs)),
        outputs=range(outputs),
        multiplier=1,
        row0=tile.row0,
        output0=tile.output0,
    )
    levels = record.read_noise.levels_us
    silent = ReadNoise(levels, np.zeros_like(levels), np.zeros_like(levels))
    layer = LayerSimulator(
        spec,
        [simulated],
        window=None,
        inputs=len(tile.inputs),
        outputs=outputs,
        range_code=group.range_code,
        input_bits=group.input_bits,
        input_signed=group.input_signed,
        read_noise=silent,
        wire=Wire(record.wire.ohm, 0.0, record.wire.end),
    )
    sums, _ = layer.level_sums(vectors, NoiseKey(0))
    return sums.astype(np.float64)


def _in_threads(
    work: Callable[[VirtualChip], NDArray[np.int32]], items: list[VirtualChip]
) -> Iterator[NDArray[np.int32]]:
    """Results in order, as many at a time as there are cores (the kernels release the interpreter)."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(work, items)
