"""A deployment in progress: the data that all stages of one run share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.atomic import output_errors
from hil.deployment.chip_run import ChipRun, Readings
from hil.deployment.options import AUTO, DeployOptions
from hil.deployment.scoring import Scoring
from hil.deployment.targets.written_macros import ProgramReport
from hil.driver.chip_driver import ChipDriver
from hil.simulation.virtual_chip import SampledDevice, VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.verdict.tune_harm import TuneHarm
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.program.file import save_program
from mapping.program.training_inputs import LayerInputs
from mapping.tune.channel_affine import Tuned, TuneTargets

PROGRAM_FILE = "program.h5"  # of a run folder: the program as it stands on the chip
MOST_SATURATED = 0.02  # of a layer's conversions, as the compiler expects them: above it, auto runs every conversion


@dataclass(frozen=True)
class Deployment:
    """State of a run once the chip is open: program, record, data and settings, and after programming its readings."""

    driver: ChipDriver
    program: ConductanceProgram
    record: CalibrationRecord
    corrections: Corrections  # none before the chip was read
    inputs: LayerInputs
    written: ProgramReport | None  # None: the chip already held the program, or was not written yet
    readings_us: Readings
    options: DeployOptions
    scoring: Scoring
    network_name: str = ""
    targets: TuneTargets | None = None  # what this chip and the virtual ones are tuned towards; None: nobody is
    tuned: Tuned | None = None  # the program with this chip's lines
    # Of the virtual chips as read back, by number, made once for all that is asked of them; tunes and chips by mode.
    drawn: dict[int, SampledDevice] = field(default_factory=dict)
    kept: dict[SimulationMode, dict[int, VirtualChip]] = field(default_factory=dict)
    tunes: dict[SimulationMode, dict[int, Tuned]] = field(default_factory=dict)
    source_digest: str = ""  # of the program before its targets were moved
    harm: TuneHarm | None = None  # of this chip's tune

    def keep_program(self, folder: Path | None) -> None:
        """Write the program as it stands on the chip into ``folder``; None: nowhere."""
        if folder is not None:
            with output_errors(folder / PROGRAM_FILE):
                save_program(self.running, folder / PROGRAM_FILE)

    @property
    def running(self) -> ConductanceProgram:
        """The program that the chip runs: tuned, if it was tuned, else as compiled."""
        return self.program if self.tuned is None else self.tuned.program

    @property
    def mode(self) -> SimulationMode:
        """How virtual chips run whole networks."""
        return mode_of(self.program, self.options, tuned=self.targets is not None)

    def on_chip(self, chip: ChipRun) -> Deployment:
        """The deployment with the chip's side added: its program, readings, corrections and tune."""
        return replace(
            self,
            options=replace(self.options, age_s=chip.age_s),
            program=chip.program,
            corrections=chip.corrections,
            written=chip.written,
            readings_us=chip.readings_us,
            tuned=chip.tuned,
        )

    def virtual_chips(
        self,
        *,
        conditioned: bool,
        chips: int | None = None,
        tuned: bool = True,
        mode: SimulationMode = SimulationMode.EXACT,
    ) -> VirtualChips:
        """Virtual chips, tuned as this chip was; ``conditioned``: with its cells as read back, else programmed anew."""
        return VirtualChips(
            self.program,
            self.record,
            self.options.recipe_of(self.program),
            chips or self.options.virtual_chips,
            self.options.seed,
            corrections=self.corrections if conditioned else None,
            inputs=None if conditioned else self.inputs,
            readings_us=self.readings_us if conditioned else None,
            mode=mode,
            targets=self.targets if tuned else None,
            drawn=self.drawn if conditioned else {},
            kept=self.kept.setdefault(mode, {}) if conditioned else {},
            tunes=self.tunes.setdefault(mode, {}) if conditioned else {},
        )


def mode_of(program: ConductanceProgram, options: DeployOptions, *, tuned: bool) -> SimulationMode:
    """How virtual chips run whole networks.

    Fast is as good as exact for chips that are ``tuned``, each to its own answers, as long as few sums are beyond the
    converters' scale (row ``fast-and-exact`` of ``benchmarks/accuracy.toml``).
    """
    if options.mode != AUTO:
        return SimulationMode(options.mode)
    beyond = max((m.group.saturated_share for m in program.matrices), default=0.0)
    return SimulationMode.FAST if tuned and beyond <= MOST_SATURATED else SimulationMode.EXACT
