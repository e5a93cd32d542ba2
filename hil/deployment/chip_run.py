"""The measured side of a run, whether the chip holds the whole program or one round of it at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hil.deployment.inference import LayerSums
from hil.deployment.layer_sums import Exact
from hil.deployment.targets.measured_sums import Conversions
from hil.deployment.targets.written_macros import ProgramReport
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections
from mapping.tune.channel_affine import Tuned

Readings = Mapping[int, NDArray[np.float32]]
"""Mean readings of the cells by slot, (rows, columns) µS."""


class ChipRun(Protocol):
    """A program on the chip, written and read back, and its answers (``WholeRun``, ``RoundsRun``)."""

    @property
    def program(self) -> ConductanceProgram:
        """The program as the chip holds it; the lower residual slices are chosen for this chip."""

    @property
    def written(self) -> ProgramReport | None:
        """How writing the cells went; None where the chip already held the program."""

    @property
    def readings_us(self) -> Readings:
        """Readings of all cells before the first image."""

    @property
    def corrections(self) -> Corrections: ...

    @property
    def age_s(self) -> float:
        """Age of the cells after the wait, s: the planned one, or what a clock shows of it."""

    def measure(self, images: NDArray[np.uint8], first: int, watch: Watch) -> NDArray[np.int32]:
        """Logit codes of the images from number ``first`` on in run order, (repeats, n, classes)."""

    def finish(self, exact: Exact, watch: Watch) -> None:
        """Do what follows the last image: measure single layers, read the cells again, switch the outputs off."""

    @property
    def conversions(self) -> Mapping[str, Conversions]:
        """Conversions of the images so far, by layer."""

    @property
    def times_ns(self) -> list[int]:
        """Chip times at the start and the end of measuring, ns."""

    @property
    def ages_s(self) -> tuple[float, float] | None:
        """Youngest and oldest age of a macro when read, s; None: ``times_ns`` and the writing times give them."""

    @property
    def tuned(self) -> Tuned | None:
        """The program with the gains and offsets tuned to this chip; None: it runs as compiled."""

    @property
    def untuned(self) -> NDArray[np.int32] | None:
        """Logit codes (passes, n, classes) of the first images without the tune."""

    @property
    def layers(self) -> Mapping[str, LayerSums]:
        """Sums of single layers by name, known once the run has finished."""

    @property
    def after_us(self) -> Readings:
        """Readings of all cells after the last image, known once the run has finished."""


@runtime_checkable
class LeavesTune(Protocol):
    """A chip run that still holds the whole program, so that it can be measured again without its tune."""

    def untuned_again(self, watch: Watch) -> NDArray[np.int32]:
        """Measure the first images without the tune once more: ``untuned``, with a further pass."""

    def leave_tune(self) -> None:
        """Run without the fitted gains and offsets from now on."""
