"""Virtual chips of one deployment: networks whose products come from the calibrated simulator.

Chips are drawn one after the other, run over all images and, unless all of them are small, let go, so that a hundred
cost the memory of as many as run at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import lasting_shifts, lasts
from cim.cells.programming_law import ProgrammingLaw, redraw_law
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns, draw_columns, draw_posterior, draw_programming
from cim.record.rewriting import Rewrite, draw_rewritten
from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from hil.simulation.cores import in_threads
from hil.simulation.corrections import column_corrections
from hil.simulation.residual_cells import ResidualCells, draw_residual
from hil.simulation.virtual_chip import TUNE_IMAGES, Drawn, VirtualChip, build_chip
from hil.watch import Watch
from mapping.layout.place import macro_targets_us, tiles_by_slot
from mapping.program.conductance import ConductanceProgram, Tile
from mapping.program.corrections import Corrections
from mapping.program.execute import run
from mapping.program.training_inputs import LayerInputs
from mapping.tune.channel_affine import Tuned, TuneTargets, tune_channels

# Purpose tags of the host's seeds: drawing chips, and their noise.
CONDITIONED, AGAIN, LASTING = 0xC04D, 0xA6A1, 0x1A57
KEPT_BYTES = 1 << 28  # of chips that stay in memory between two looks
BYTES_A_WEIGHT = 50  # of a chip that is ready to run, about
RESIDUAL_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class AnswersOfChip:
    """Logit codes (n, classes) of one virtual chip, its conversions, and how many of them ended the scale."""

    logits: NDArray[np.int32]
    ends: float
    conversions: int


@dataclass
class VirtualChips:
    """The virtual chips that one question is judged against.

    With ``readings_us`` (slot -> mean reading of each cell, µS) they are *this chip* as it was
    read back; without, *such chips*: this chip programmed again. Each is drawn from the record
    with a seed of its own. Chips as read back share the real chip's ``corrections``; chips
    programmed again are corrected from simulated readings of their own cells (``inputs``).
    ``mode``: ``cim.simulator.modes.SimulationMode`` or its word. With ``targets`` each is tuned to its own answers,
    as the real chip is to its own; ``rewrite`` is what was done to the real one after writing.
    """

    program: ConductanceProgram
    record: CalibrationRecord
    age_s: float
    chips: int
    seed: int
    reads: int  # averaged in a read-back
    corrections: Corrections | None = None
    inputs: LayerInputs | None = None
    readings_us: Mapping[int, NDArray[np.float32]] | None = None
    device: str = "cpu"
    first: int = 0  # number of the first chip: parts of a long row of chips are drawn apart
    mode: SimulationMode | str = SimulationMode.EXACT
    temperature_c: float | None = None  # of waiting and reading; None: that of the record
    targets: TuneTargets | None = None
    rewrite: Rewrite | None = None  # of chips programmed again
    wait_s: float = RESIDUAL_WAIT_S  # of residual slices, before lower ones are written, each time
    tunes: dict[int, Tuned] = field(default_factory=dict)  # of the chips that were tuned so far
    drawn: dict[int, Drawn] = field(default_factory=dict, repr=False)  # of the chips that were drawn so far
    kept: dict[int, VirtualChip] = field(default_factory=dict, repr=False)  # chips that are ready to run
    ends: float = field(init=False, default=0.0)  # conversions at the end of the scale, all runs
    conversions: int = field(init=False, default=0)
    _targets_us: dict[int, NDArray[np.float32]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if (self.readings_us is None) != (self.corrections is None) or (self.corrections is None and not self.inputs):
            raise ValueError("chips as read back need corrections, chips programmed again need layer inputs")
        if self.mode not in tuple(SimulationMode):
            raise UsageError(f"no simulation mode {self.mode!r}", hint=f"modes are {', '.join(SimulationMode)}")

    def run(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (chips, n, classes); image i has noise of its own, number ``first`` + i."""
        return self.gathered(in_threads(lambda number: self.answers(number, images, first), self.numbers), watch)

    def answers(self, number: int, images: NDArray[np.uint8], first: int) -> AnswersOfChip:
        """What chip ``number`` answers to images, as ``run`` has it."""
        chip = self.chip(number)
        program = self.running(number, chip)
        chip.ends, chip.conversions = 0.0, 0
        return AnswersOfChip(run(program, images, chip, sample=first), chip.ends, chip.conversions)

    def gathered(self, answers: Iterable[AnswersOfChip], watch: Watch) -> NDArray[np.int32]:
        """Logit codes (chips, n, classes) of the answers of all chips in order; their conversions are counted."""
        logits: list[NDArray[np.int32]] = []
        for done, found in enumerate(answers):
            watch.step(done + 1, self.chips, f"virtual chip {done + 1} of {self.chips}")
            logits.append(found.logits)
            self.ends += found.ends
            self.conversions += found.conversions
        return np.stack(logits)

    def prepare(self, number: int) -> None:
        """Make chip ``number`` ready to run, and tune it, where it is kept."""
        if self.kept_in_memory:
            self.running(number, self.chip(number))

    def layer_sums(self, codes: LayerInputs) -> dict[str, tuple[NDArray[np.int32], float]]:
        """For each layer's own codes: level sums (chips, n, outputs, …), and the saturated share."""

        def sums(number: int) -> dict[str, tuple[NDArray[np.int32], float]]:
            chip = self.chip(number)
            found = {name: chip.layer_sample(name, part) for name, part in codes.items()}
            if self.targets is None:
                return found
            tuned = self.tune(number, chip)
            return {name: (tuned.applied(name, codes[name], sums), share) for name, (sums, share) in found.items()}

        every = list(in_threads(sums, self.numbers))
        return {
            name: (np.stack([chip[name][0] for chip in every]), float(np.mean([chip[name][1] for chip in every])))
            for name in codes
        }

    def running(self, number: int, chip: VirtualChip) -> ConductanceProgram:
        """The program that virtual chip ``number`` runs."""
        return self.program if self.targets is None else self.tune(number, chip).program

    def tune(self, number: int, chip: VirtualChip) -> Tuned:
        """Virtual chip ``number`` tuned to its own answers; kept, so that it is done once.

        Raises:
            ValueError: these chips have nothing to be tuned towards.
        """
        if self.targets is None:
            raise ValueError("these virtual chips are not tuned")
        if number not in self.tunes:
            self.tunes[number] = tune_channels(self.program, self.targets, chip, sample=TUNE_IMAGES)
        return self.tunes[number]

    @property
    def saturated_share(self) -> float:
        """Of the conversions of all runs so far."""
        return self.ends / max(1, self.conversions)

    @property
    def noise_seed(self) -> int:
        """First word of the noise keys of these chips."""
        return int(np.random.SeedSequence([self.seed, self._tag]).generate_state(1)[0])

    def chip(self, number: int) -> VirtualChip:
        """One of them, ready to run; the same whenever it is asked for, and kept where all of them are small."""
        if number in self.kept:
            return self.kept[number]
        chip = build_chip(
            self.program,
            self.record,
            self.draw(number),
            seed=self.noise_seed,
            number=number,
            device=self.device,
            mode=self.mode,
        )
        if self.kept_in_memory:
            self.kept[number] = chip
        return chip

    @cached_property
    def kept_in_memory(self) -> bool:
        """Whether chips that are ready to run stay in memory: all of them are small."""
        cells = sum(tile.levels.size for step in self.program.matrices for tile in step.group.tiles)
        return self.chips * cells * BYTES_A_WEIGHT <= KEPT_BYTES

    def draw(self, number: int) -> Drawn:
        """What chip ``number`` is; kept where all of them are small."""
        if number in self.drawn:
            return self.drawn[number]
        held, rng = self._held(number)
        drawn = held
        if not held.corrections:
            drawn = replace(held, corrections=self.corrections or self.corrections_of(held.cells_us, rng))
        arrays = (*drawn.cells_us.values(), *drawn.lasting_us.values())
        if self.chips * sum(cells.nbytes for cells in arrays) <= KEPT_BYTES:
            self.drawn[number] = drawn
        return drawn

    def uncorrected(self, number: int) -> Drawn:
        """Chip ``number`` before its columns are corrected: without corrections."""
        return replace(self._held(number)[0], corrections={})

    def _held(self, number: int) -> tuple[Drawn, np.random.Generator]:
        """Cells and converters of a chip, and the generator that goes on to its corrections.

        Those of residual slices are there already: lower slices were chosen by the same readings.
        """
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._tag, number]))
        law = redraw_law(self.record.programming, rng)
        cells, columns = {}, {}
        converters: dict[int, Columns] = {}  # of a macro, the same in every round
        again = self.program.residual and self.readings_us is None
        residual = self._residual(rng, law) if again else None
        for slot in self.program.slots:
            targets, macro = self._targets(slot), self.program.macro_of(slot)
            if residual is not None:
                cells[slot] = residual.cells_us[slot]
            elif self.readings_us is None:
                cells[slot] = self._written(targets, macro, rng, law)
            else:
                read = self.readings_us[slot]
                cells[slot] = draw_posterior(targets, read, self.reads, self.record, macro, self.age_s, rng, law)
            if macro not in converters:
                converters[macro] = draw_columns(self.record, macro, rng)
            columns[slot] = converters[macro]
        lasting = self.lasting_us(number, cells)
        if residual is None:
            return Drawn(cells, columns, {}, lasting), rng
        corrections = column_corrections(
            self.program, self.record, residual.readings_us, self.inputs or {}, wanted=residual.wanted
        )
        return Drawn(cells, columns, corrections, lasting), rng

    def lasting_us(self, number: int, cells_us: Mapping[int, NDArray[np.floating]]) -> dict[int, NDArray[np.float32]]:
        """How far read noise that lasts moves the cells of chip ``number`` (``Drawn.lasting_us``).

        From a generator of its own, so that nothing else is drawn otherwise where there is none.
        """
        noise = self.record.read_noise
        if not lasts(noise):
            return {}
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._tag, number, LASTING]))
        return {slot: lasting_shifts(noise, cells, rng) for slot, cells in cells_us.items()}

    @cached_property
    def _tiles(self) -> dict[int, list[Tile]]:
        return tiles_by_slot(self.program)

    def _targets(self, slot: int) -> NDArray[np.float32]:
        """Of one macro, µS; kept where all chips are small."""
        found = self._targets_us.get(slot)
        found = macro_targets_us(self.program, slot, self._tiles[slot]) if found is None else found
        if self.kept_in_memory:
            self._targets_us[slot] = found
        return found

    def _residual(self, rng: np.random.Generator, law: ProgrammingLaw) -> ResidualCells:
        return draw_residual(
            self.program,
            self.record,
            wait_s=self.wait_s,
            age_s=self.age_s,
            reads=self.reads,
            rng=rng,
            law=law,
            temperature_c=self.temperature_c,
        )

    def _written(
        self, targets: NDArray[np.float32], macro: int, rng: np.random.Generator, law: ProgrammingLaw
    ) -> NDArray[np.float32]:
        if self.rewrite is None:
            return draw_programming(targets, self.record, macro, self.age_s, rng, law, self.temperature_c)
        window = self.program.spec.macro.tolerance_us
        return draw_rewritten(
            targets, self.record, macro, self.age_s, self.rewrite, window, rng, law, self.temperature_c
        )

    @property
    def numbers(self) -> range:
        """Of the chips."""
        return range(self.first, self.first + self.chips)

    @property
    def _tag(self) -> int:
        return AGAIN if self.readings_us is None else CONDITIONED

    def corrections_of(self, cells_us: Mapping[int, NDArray[np.float32]], rng: np.random.Generator) -> Corrections:
        """Corrections from simulated readings of a chip programmed again."""
        readings = {}
        for slot, cells in cells_us.items():
            noise = np.sqrt(self.record.read_noise.at(np.nan_to_num(cells)) / self.reads)
            readings[slot] = cells + noise * rng.standard_normal(cells.shape)
        return column_corrections(self.program, self.record, readings, self.inputs or {})
