"""Virtual chips of one deployment: networks whose products come from the calibrated simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord
from cim.device import Columns, draw_columns, draw_posterior, draw_programming
from cim.programming_law import redraw_law
from cim.simulator import LayerSimulator, NoiseKey, simulated_tile
from hil.corrections import LayerInputs, column_corrections
from hil.infer import Corrections
from hil.watch import Watch
from mapping.execute import run
from mapping.place import macro_targets_us
from mapping.program import ConductanceProgram, MatrixStep

T = TypeVar("T")
R = TypeVar("R")

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
    with a seed of its own. Chips as read back share the real chip's ``corrections``; chips
    programmed again are corrected from simulated readings of their own cells (``inputs``).
    """

    program: ConductanceProgram
    record: CalibrationRecord
    age_s: float
    chips: int
    seed: int
    reads: int  # averaged in a read-back
    corrections: Corrections | None = None
    inputs: LayerInputs | None = None
    readings_us: dict[int, NDArray[np.float32]] | None = None
    device: str = "cpu"
    first: int = 0  # number of the first chip: parts of a long row of chips are drawn apart
    made: list[VirtualChip] = field(init=False)

    def __post_init__(self) -> None:
        if (self.readings_us is None) != (self.corrections is None) or (self.corrections is None and not self.inputs):
            raise ValueError("chips as read back need corrections, chips programmed again need layer inputs")
        self.made = list(_in_threads(self._draw, range(self.first, self.first + self.chips)))

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
        corrections = self.corrections or self._corrections(cells, rng)
        layers = {
            step.name: layer_simulator(self.program, self.record, step, cells, columns, corrections, self.device)
            for step in self.program.matrices
        }
        seed = int(np.random.SeedSequence([self.seed, tag]).generate_state(1)[0])
        return VirtualChip(layers, seed, number)

    def _corrections(self, cells_us: dict[int, NDArray[np.float32]], rng: np.random.Generator) -> Corrections:
        """Corrections from simulated readings of a chip programmed again."""
        readings = {}
        for macro, cells in cells_us.items():
            noise = np.sqrt(self.record.read_noise.at(np.nan_to_num(cells)) / self.reads)
            readings[macro] = cells + noise * rng.standard_normal(cells.shape)
        return column_corrections(self.program, self.record, readings, self.inputs or {})


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


def _in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results in order, as many at a time as there are cores (the kernels release the interpreter)."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(work, items)
