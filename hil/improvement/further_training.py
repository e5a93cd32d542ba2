"""Trial of further training: fine-tuning for the chip's errors, within the remaining minutes of an improvement.

The recipe is that of ``hil finetune`` at a low rate, with errors as small as copies of layers leave them. Images
that decide on techniques are left out. Checkpoints stay in the folder of ``hil improve``, which resumes from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.deployment.options import USUAL_RECIPE
from hil.improvement.finetuning.settings import FinetuneSettings, working_folder
from hil.report.work_folder import discard
from hil.watch import Watch
from mapping.network.file import NetworkFile, load_network
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.aim import AgedTargets

NETWORK = "finetuned.pt"  # in the folder of hil improve
RATE = 4e-4  # the network has most of its accuracy already, and a usual rate costs some of it
LEAST_MINUTES = 2.0  # below, no epoch of any use


@dataclass(frozen=True, slots=True)
class FurtherTraining:
    """Inputs of the further training: network file, data set, chip and record (None: the chip file's models).

    ``out``: its folder.
    """

    network: Path
    data: str
    chip: str
    macros: int | None
    record: Path | None
    folder: Path

    def forget(self) -> None:
        """Remove what an earlier run left in the folder."""
        self.out.unlink(missing_ok=True)
        discard(working_folder(self.out))

    @property
    def out(self) -> Path:
        return self.folder / NETWORK

    def settings(self, program: ConductanceProgram, minutes: float, *, age_s: float, seed: int) -> FinetuneSettings:
        """Settings of the training unfinished in the folder, else of a new one."""
        from hil.improvement.finetuning.as_deployed import strength_of  # late: torch, and most trials train nothing
        from hil.improvement.finetuning.plan import begun_settings

        begun = begun_settings(working_folder(self.out))
        return begun or FinetuneSettings(
            minutes=max(round(minutes, 2), LEAST_MINUTES),
            age_s=age_s,
            recipe=str(USUAL_RECIPE if program.aims is not None else USUAL_RECIPE.without(AgedTargets.name)),
            rate=RATE,
            strength=strength_of(program),
            seed=seed,
        )

    def trained(
        self, network: NetworkFile, settings: FinetuneSettings, without: NDArray[np.uint8], watch: Watch
    ) -> NetworkFile:
        """The network after training; reuses the folder's trained network if it came from the same original.

        Args:
            without: images to leave out.

        Raises:
            Interrupted: Ctrl-C after the first epoch. The errors of ``hil.improvement.finetuning.run.finetune``.
        """
        from hil.improvement.finetuning.run import finetune

        if self.out.exists() and not working_folder(self.out).exists():
            there = load_network(self.out)
            if there.graph.provenance.get("fine-tuned from") == network.digest:
                return there
        finetune(
            self.network,
            self.data,
            self.out,
            chip=self.chip,
            macros=self.macros,
            calibration=self.record,
            settings=settings,
            without=without,
            judges=None,  # hil improve does, by its own recipe
            watch=watch,
        )
        return load_network(self.out)
