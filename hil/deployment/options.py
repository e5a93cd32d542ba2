"""Options of a deployment, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from hil.simulation.torch_device import check_device
from mapping.network.task import TaskKind
from mapping.program.limits import MOST_RANK, MOST_READS, MOST_RESIDUAL_COPIES, RESIDUAL_READS

if TYPE_CHECKING:  # the command line reads the defaults, and imports nothing that takes time
    from cim.record.rewriting import Rewrite
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram

AUTO = "auto"
ENGINES = (AUTO, *SimulationMode)
PATIENCE_S = 120.0  # a line may be silent or gone so long
RECORD_AGE_S = 7 * 86400.0  # a record of an earlier run holds so long


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """How a run is made; ``hil deploy`` reads its defaults here.

    ``samples`` is the largest number of images; looks are planned below it. ``age_s`` is chip
    time between programming and reading. ``tolerance`` is a score of the metric: a fraction of a share, None: the usual
    one; ``tolerance_in_units`` the same in the metric's unit, points of a share, and goes first.
    """

    samples: int = 2000
    all_images: bool = False  # one look at all of them, however early the verdict would be known
    seed: int = 0
    repeats: int = 3
    virtual_chips: int = 20
    tolerance: float | None = None
    tolerance_in_units: float | None = None
    task: str = ""  # a ``TaskKind``; "": that of the network file
    metric: str = ""  # of the task, or file.py:function; "": the task's first
    allow_code: bool = False  # run the user's own metric
    age_s: float = 3600.0
    read_back_reads: int = 32
    layer_images: int = 16
    reprogram: bool = False
    device: str = "cpu"
    causes: bool = True  # split the gap by cause; reads cells right after writing, and simulates
    early_reads: int = 8  # averaged in that reading: few, so that cells are read young
    cause_images: int = 500  # most images that the causes are simulated on
    adapt: bool = False  # around the stuck cells and poor columns that calibration found
    spare_reads: float = 0.0  # of an adapted program: most extra tile reads for spare columns, as a share
    tune: bool = True  # gains and biases to the chip's answers to stored training images
    tune_images: int = 128  # most stored training images that it is tuned with
    adapters: int = 0  # rank of the digital adapter that the tune gives each layer; 0: none
    untuned_images: int = 500  # most images that are also run without the tune, once
    rewrite: int = 0  # times that cells which left their window are written again
    rewrite_after_s: float = 1.0  # chip time before each
    idle_copies: bool = True  # layers stand again on cells that would be idle; sums are added
    rounds: bool = False  # a network larger than the chip is written part after part
    residual_slices: int = 0  # copies of each highest bit slice, whose errors lower slices take up; 0: plain slices
    residual_reads: int = RESIDUAL_READS  # of every product with the highest slice; the mean counts
    residual_wait_s: float = 3600.0  # chip time from writing slices to writing those below them
    aim: bool = True  # write beside the levels, so that cells stand right at ``age_s``
    engine: str = AUTO  # a ``SimulationMode``; auto: fast where it was shown to be as good as exact

    def __post_init__(self) -> None:
        for good, text in (
            (self.samples >= 2, f"samples: {self.samples}, at least 2 images are needed"),
            (self.repeats >= 1, f"repeats: {self.repeats}, at least 1 pass is needed"),
            (self.virtual_chips >= 2, f"virtual chips: {self.virtual_chips}, at least 2 are needed"),
            (0 < (self.tolerance or 1) < math.inf and self.tolerance != 0, f"tolerance: {self.tolerance}"),
            (
                0 < (self.tolerance_in_units or 1) < math.inf and self.tolerance_in_units != 0,
                f"tolerance: {self.tolerance_in_units}",
            ),
            (self.task in ("", *TaskKind), f"task {self.task!r}, not one of {', '.join(TaskKind)}"),
            (0 <= self.seed < 1 << 63, f"seed: {self.seed}, not from 0 to 2^63 - 1"),
            (0 <= self.age_s < math.inf, f"age: {self.age_s} s"),
            (1 <= self.read_back_reads <= 255, f"reads of a read-back: {self.read_back_reads}, not from 1 to 255"),
            (1 <= self.early_reads <= 255, f"reads after writing: {self.early_reads}, not from 1 to 255"),
            (0.0 <= self.spare_reads <= 1.0, f"spare reads: {100 * self.spare_reads:g} %, not from 0 to 100"),
            (self.adapt or not self.spare_reads, "spare reads need hil deploy --adapt"),
            (self.cause_images >= 2, f"images of the causes: {self.cause_images}, at least 2 are needed"),
            (self.tune_images >= 2, f"images of the tune: {self.tune_images}, at least 2 are needed"),
            (0 <= self.adapters <= MOST_RANK, f"adapters of rank {self.adapters}, not from 0 to {MOST_RANK}"),
            (self.tune or not self.adapters, "adapters are fitted by the tune, and hil deploy --no-tune leaves it out"),
            (self.untuned_images >= 2, f"images without the tune: {self.untuned_images}, at least 2 are needed"),
            (0 <= self.rewrite <= 100, f"rewrites: {self.rewrite}, not from 0 to 100"),
            (0 < self.rewrite_after_s < 1e6, f"rewrite after {self.rewrite_after_s} s"),
            (
                0 <= self.residual_slices <= MOST_RESIDUAL_COPIES,
                f"residual slices: {self.residual_slices} copies of the highest, not from 0 to {MOST_RESIDUAL_COPIES}",
            ),
            (
                1 <= self.residual_reads <= MOST_READS,
                f"residual reads: {self.residual_reads}, not from 1 to {MOST_READS}",
            ),
            (0 < self.residual_wait_s < 1e8, f"wait for residual slices: {self.residual_wait_s} s"),
            (
                not (self.residual_slices and (self.adapt or self.rewrite)),
                "residual slices exclude hil deploy --adapt and --rewrite: lower slices take up errors of all cells",
            ),
            (self.engine in ENGINES, f"engine {self.engine!r}, not one of {', '.join(ENGINES)}"),
            (self.layer_images >= 1, f"images of a layer sample: {self.layer_images}, at least 1 is needed"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)

    @property
    def copies_idle(self) -> bool:
        """Whether copies stand on idle cells; a program that is adapted to one chip has each layer once."""
        return self.idle_copies and not self.adapt

    @property
    def layout(self) -> LayoutOptions:
        """How a network is laid out for such a deployment."""
        from mapping.layout.lay_out import LayoutOptions

        return LayoutOptions(
            rounds=self.rounds,
            averaged=self.copies_idle,
            residual=self.residual_slices,
            residual_reads=self.residual_reads,
        )

    def aimed_age_s(self, program: ConductanceProgram) -> float:
        """Age that the targets of ``program`` are for: of residual slices that of the highest, written first."""
        from mapping.tune.residual import writings

        return self.age_s + self.residual_wait_s * writings(program)

    @property
    def rewriting(self) -> Rewrite | None:
        from cim.record.rewriting import Rewrite

        return Rewrite(self.rewrite, self.rewrite_after_s, self.early_reads) if self.rewrite else None

    def with_rewriting(self, rewrite: Rewrite | None) -> DeployOptions:
        """These options for cells that are written again so; None: they are not."""
        if rewrite is None:
            return replace(self, rewrite=0)
        return replace(self, rewrite=rewrite.times, rewrite_after_s=rewrite.after_s, early_reads=rewrite.reads)
