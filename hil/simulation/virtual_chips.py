"""Virtual chips of one deployment: networks whose products come from the calibrated simulator.

Chips are drawn one after the other, run over all images and, unless all of them are small, let go, so that a hundred
cost the memory of as many as run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import Moment, lasting_shifts, lasts
from cim.cells.programming_law import redraw_law
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns, draw_columns, draw_posterior
from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from hil.simulation.cores import in_threads
from hil.simulation.virtual_chip import SampledDevice, VirtualChip, build_chip
from hil.simulation.virtual_target import VirtualTarget
from hil.watch import Watch
from mapping.layout.place import macro_targets_us, tiles_by_slot
from mapping.program.conductance import ConductanceProgram, Tile
from mapping.program.corrections import Corrections
from mapping.program.execute import run
from mapping.program.training_inputs import LayerInputs
from mapping.recipe.recipe import Recipe, run_recipe, write_cells
from mapping.tune.channel_affine import Tuned, TuneTargets

R = TypeVar("R")
# Purpose tags of the host's seeds: drawing chips, their noise, and their cells in products.
CONDITIONED, WRITTEN_AGAIN, LASTING, PRODUCT = 0xC04D, 0xA6A1, 0x1A57, 0x980D
KEPT_BYTES = 1 << 28  # of chips that stay in memory between two looks
ALONE_BYTES = 1 << 27  # of a chip that is large
BYTES_A_WEIGHT = 50  # of a chip that is ready to run, about


def bytes_of_chip(program: ConductanceProgram) -> int:
    """Memory of one virtual chip that is ready to run, about."""
    return BYTES_A_WEIGHT * sum(tile.levels.size for step in program.matrices for tile in step.group.tiles)


def at_once(program: ConductanceProgram) -> int | None:
    """Virtual chips of a program that threads of one process run at a time: large ones alone; None: one a core."""
    return 1 if bytes_of_chip(program) > ALONE_BYTES else None


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
    read back; without, *other chips*: this chip programmed again. Each is drawn from the record
    with a seed of its own. Chips as read back share the real chip's ``corrections``; chips
    programmed again are corrected from simulated readings of their own cells (``inputs``).
    ``mode``: ``cim.simulator.modes.SimulationMode`` or its word. With ``targets`` each is tuned to its own answers,
    as the real chip is to its own; ``recipe`` is what is done to the real one, and its age and reads hold for all.
    """

    program: ConductanceProgram
    record: CalibrationRecord
    recipe: Recipe
    chips: int
    seed: int
    corrections: Corrections | None = None
    inputs: LayerInputs | None = None
    readings_us: Mapping[int, NDArray[np.float32]] | None = None
    first: int = 0  # number of the first chip: parts of a long row of chips are drawn apart
    mode: SimulationMode | str = SimulationMode.EXACT
    temperature_c: float | None = None  # of waiting and reading; None: that of the record
    targets: TuneTargets | None = None
    tunes: dict[int, Tuned] = field(default_factory=dict)  # of the chips that were tuned so far
    drawn: dict[int, SampledDevice] = field(default_factory=dict, repr=False)  # of the chips that were drawn so far
    kept: dict[int, VirtualChip] = field(default_factory=dict, repr=False)  # chips that are ready to run
    ends: float = field(init=False, default=0.0)  # conversions at the end of the scale, all runs
    conversions: int = field(init=False, default=0)
    _begun: dict[int, VirtualChip] = field(init=False, default_factory=dict, repr=False)  # until they are asked for
    _targets_us: dict[int, NDArray[np.float32]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if (self.readings_us is None) != (self.corrections is None) or (self.corrections is None and not self.inputs):
            raise ValueError("chips as read back need corrections, chips programmed again need layer inputs")
        if self.mode not in tuple(SimulationMode):
            raise UsageError(f"no simulation mode {self.mode!r}", hint=f"modes are {', '.join(SimulationMode)}")

    def run(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes (chips, n, classes); image i has noise of its own, number ``first`` + i."""
        return self.gathered(self._each(lambda number: self.answers(number, images, first)), watch)

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
        """For each layer's own codes: level sums (chips, n, outputs, places) without a tune, and the saturated
        share."""

        def sums(number: int) -> dict[str, tuple[NDArray[np.int32], float]]:
            chip = self.chip(number)
            return {name: chip.layer_sample(name, part) for name, part in codes.items()}

        every = list(self._each(sums))
        return {
            name: (np.stack([chip[name][0] for chip in every]), float(np.mean([chip[name][1] for chip in every])))
            for name in codes
        }

    def tuned_sums(self, codes: LayerInputs, sums: Mapping[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
        """Level sums of ``layer_sums`` for these codes, each chip's after its own tune."""
        if self.targets is None:
            return dict(sums)
        tunes = list(self._each(lambda number: self.tunes.get(number) or self.tune(number, self.chip(number))))
        return {
            name: np.stack([tuned.applied(name, codes[name], chip) for tuned, chip in zip(tunes, found, strict=True)])
            for name, found in sums.items()
        }

    def _each(self, work: Callable[[int], R]) -> Iterator[R]:
        """``work`` with each chip's number, in order; large ones alone, others one a core."""
        return in_threads(work, self.numbers, at_once(self.program))

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
            self.tunes[number] = chip.tuned(self.program, self.targets)
        return self.tunes[number]

    @property
    def saturated_share(self) -> float:
        """Share of the conversions of all runs so far that ended at the first or last code."""
        return self.ends / max(1, self.conversions)

    @property
    def noise_seed(self) -> int:
        """First word of the noise keys of these chips."""
        return int(np.random.SeedSequence([self.seed, self._tag]).generate_state(1)[0])

    def chip(self, number: int) -> VirtualChip:
        """One of them, ready to run; the same whenever it is asked for, and kept where all of them are small."""
        if number in self.kept:
            return self.kept[number]
        drawn = self.draw(number)
        chip = self._begun.pop(number, None) or self._built(number, drawn)
        if self.kept_in_memory:
            self.kept[number] = chip
        return chip

    def _built(self, number: int, drawn: SampledDevice) -> VirtualChip:
        return build_chip(
            self.program,
            self.record,
            drawn,
            seed=self.noise_seed,
            number=number,
            mode=self.mode,
        )

    @cached_property
    def kept_in_memory(self) -> bool:
        """Whether chips that are ready to run stay in memory: all of them are small."""
        return self.chips * bytes_of_chip(self.program) <= KEPT_BYTES

    def draw(self, number: int) -> SampledDevice:
        """What chip ``number`` is; kept where all of them are small."""
        if number in self.drawn:
            return self.drawn[number]
        if self.readings_us is None:
            target = self._target(number)
            targets = None if number in self.tunes else self.targets
            written = run_recipe(self.recipe, self.program, target, self.inputs or {}, targets)
            if written.tuned is not None:
                self.tunes[number] = written.tuned
            drawn = self._drawn(number, target, written.corrections)
        else:
            drawn = self._as_read(number, self.readings_us)
        arrays = (*drawn.cells_us.values(), *drawn.lasting_us.values())
        if self.chips * sum(cells.nbytes for cells in arrays) <= KEPT_BYTES:
            self.drawn[number] = drawn
        return drawn

    def uncorrected(self, number: int) -> SampledDevice:
        """Chip ``number``, programmed again, before its columns are corrected: without corrections."""
        target = self._target(number)
        target.read_back(write_cells(self.recipe, self.program, target).program, self.recipe.reads)
        return self._drawn(number, target, {})

    def _drawn(self, number: int, target: VirtualTarget, corrections: Corrections) -> SampledDevice:
        return SampledDevice(target.cells_us, target.columns, corrections, self.lasting_us(number, target.cells_us))

    def _target(self, number: int) -> VirtualTarget:
        """A chip that is to be programmed."""
        rng = self._rng(number)
        return VirtualTarget(
            self.record,
            redraw_law(self.record.programming, rng),
            rng,
            temperature_c=self.temperature_c,
            treated=self.recipe.treats_cells,
            targets_of=self._targets if not self.program.residual else None,  # whose slices go around stuck cells
            chip=partial(self._answering, number),
        )

    def _answering(self, number: int, target: VirtualTarget, corrections: Corrections) -> VirtualChip:
        """Chip ``number`` as soon as it is asked for answers; whoever asked for it runs it afterwards."""
        chip = self._begun[number] = self._built(number, self._drawn(number, target, corrections))
        return chip

    def _as_read(self, number: int, readings_us: Mapping[int, NDArray[np.float32]]) -> SampledDevice:
        """This chip: cells as they may be, given what they read."""
        rng = self._rng(number)
        law = redraw_law(self.record.programming, rng)
        cells, columns = {}, {}
        converters: dict[int, Columns] = {}  # of a macro, the same in every round
        for slot in self.program.slots:
            targets, macro = self._targets(slot), self.program.macro_of(slot)
            cells[slot] = draw_posterior(
                targets, readings_us[slot], self.recipe.reads, self.record, macro, self.recipe.age_s, rng, law
            )
            if macro not in converters:
                converters[macro] = draw_columns(self.record, macro, rng)
            columns[slot] = converters[macro]
        return SampledDevice(cells, columns, self.corrections or {}, self.lasting_us(number, cells))

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, self._tag, number]))

    def lasting_us(self, number: int, cells_us: Mapping[int, NDArray[np.floating]]) -> dict[int, NDArray[np.float32]]:
        """How far from their reading the cells of chip ``number`` stand in products (``SampledDevice.lasting_us``).

        This is read noise that lasts, and what makes a cell in a product another than a cell alone.

        From generators of their own, so that nothing else is drawn otherwise where there is none.
        """
        shifts: dict[int, NDArray[np.float32]] = {}
        noise, share = self.record.read_noise, self.record.product_error
        if lasts(noise):
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._tag, number, LASTING]))
            shifts = {slot: lasting_shifts(noise, cells, rng) for slot, cells in cells_us.items()}
        if share:
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._tag, number, PRODUCT]))
            for slot, cells in cells_us.items():
                error = share * cells * rng.standard_normal(cells.shape)
                shifts[slot] = (shifts.get(slot, np.zeros((len(Moment), 1, 1))) + error).astype(np.float32)
        return shifts

    @cached_property
    def _tiles(self) -> dict[int, list[Tile]]:
        return tiles_by_slot(self.program)

    def _targets(self, slot: int) -> NDArray[np.float32]:
        """Target conductances of one macro, µS; kept in memory where all chips are small."""
        found = self._targets_us.get(slot)
        found = macro_targets_us(self.program, slot, self._tiles[slot]) if found is None else found
        if self.kept_in_memory:
            self._targets_us[slot] = found
        return found

    @property
    def numbers(self) -> range:
        """Numbers of the chips."""
        return range(self.first, self.first + self.chips)

    @property
    def _tag(self) -> int:
        return WRITTEN_AGAIN if self.readings_us is None else CONDITIONED
