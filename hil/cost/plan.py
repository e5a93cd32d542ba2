"""The plan of a deployment: what is done to a network on a chip, and what that costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hil.pages.tables import Table, duration, labelled


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """A recipe and its price on one chip.

    Wear: ``cells`` written, with ``pulses`` and ``pulses_again`` expected. ``cell_reads``: readings of single
    cells before the network runs. ``write_s``: chip time until the last cell is written. ``reads``: of word lines for
    one image; ``energy_uj``, ``latency_us`` and ``edp_mj_ms`` of one, None where the chip file has no prices.
    """

    recipe: str
    macros: int
    rounds: int
    cells: int
    pulses: int
    pulses_again: int
    cell_reads: int
    write_s: float
    tune_images: int
    reads: int
    energy_uj: float | None
    latency_us: float | None
    edp_mj_ms: float | None

    @property
    def in_brief(self) -> str:
        """One line, before anything is written."""
        rounds = f" in {self.rounds} rounds" if self.rounds > 1 else ""
        image = "" if self.energy_uj is None else f"; an image: {self.energy_uj:.3g} µJ, {self.latency_us:.4g} µs"
        return (
            f"{self.cells:,} cells on {self.macros} macros{rounds}, {self.recipe or 'as compiled'}; to write: "
            f"{self.pulses + self.pulses_again:,} pulses, {duration(round(self.write_s, 1))} of chip time{image}"
        )

    def rows(self) -> tuple[tuple[str, str], ...]:
        """The plan as labelled lines of text: what is done, what writing takes, what an image takes."""
        again = f", {self.pulses_again:,} to write cells again" if self.pulses_again else ""
        rounds = f" in {self.rounds} rounds" if self.rounds > 1 else ""
        image = f"{self.reads:,} reads"
        if self.energy_uj is not None and self.latency_us is not None and self.edp_mj_ms is not None:
            image += f", {self.energy_uj:.3g} µJ, {self.latency_us:.4g} µs, EDP {self.edp_mj_ms:.4g} mJ·ms"
        writing = (
            f"{self.cells:,} cells, {self.macros} macros{rounds}, {self.pulses:,} pulses{again}, "
            f"{duration(round(self.write_s, 1))} of chip time, {self.cell_reads:,} readings of cells"
        )
        return (("plan", self.recipe or "nothing: as compiled"), ("writing", writing), ("one image", image))

    def table(self) -> Table:
        return labelled("Plan", *self.rows())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
