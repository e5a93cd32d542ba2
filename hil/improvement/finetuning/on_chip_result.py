"""Outcomes of fine-tunings on a chip, measured and predicted, in words and as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil.improvement.finetuning.progressive import GroupOutcome
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table


@dataclass(frozen=True, slots=True)
class OnChipResult:
    """Accuracies in percent of held-out training images: of the float network, and measured on the chip."""

    path: Path
    chip: str
    serial: str
    silicon: bool
    groups: tuple[GroupOutcome, ...]
    float_right: float
    right: float
    held_out: int
    images: int
    cells: int
    pulses: int
    chip_time_s: float
    seconds: float
    digest: str

    def summary(self, network: str, steps: tuple[NextStep, ...] = ()) -> Summary:
        """What ``hil finetune`` on a chip prints."""
        said = "measured" if self.silicon else "emulated"
        lost = self.float_right - self.right
        text = f"of {self.held_out:,} training images that were held out, {said}; float {self.float_right:.1f} %"
        return Summary(
            f"{network} trained on {self.chip}, serial {self.serial}",
            "measured on silicon" if self.silicon else "EMULATED, NOT SILICON · nothing was measured on silicon",
            Headline(Tone.GOOD if lost <= 1.0 else Tone.OPEN, f"{self.right:.1f} %", text),
            (
                _group_table(self.groups),
                Fact(
                    "Trained",
                    f"downstream of {len(self.groups) - 1} groups of layers, on {self.images:,} measured images, "
                    f"{self.seconds / 60:.1f} minutes in all",
                ),
                Fact(
                    "Writing cost",
                    f"{self.cells:,} cells once each, {self.pulses:,} pulses, {self.chip_time_s:,.0f} s of chip time",
                ),
                Fact("program", f"{self.path}, which the chip holds"),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class OnChipPrediction:
    """Simulated accuracy on held-out training images, percent, one number for each virtual chip: tuned only, and
    fine-tuned group after group."""

    chip: str
    record: str
    float_right: float
    tuned: tuple[float, ...]
    finetuned: tuple[float, ...]
    held_out: int
    images: int
    seconds: float

    def summary(self, network: str, steps: tuple[NextStep, ...] = ()) -> Summary:
        """What ``hil finetune --simulated`` prints."""
        gain = float(np.mean(self.finetuned) - np.mean(self.tuned))
        text = f"from {_spread(self.tuned)} % tuned to {_spread(self.finetuned)} % fine-tuned (simulated)"
        rows = (
            ("float", f"{self.float_right:.1f} %"),
            ("tuned", f"{_spread(self.tuned)} %"),
            ("fine-tuned", f"{_spread(self.finetuned)} %"),
        )
        return Summary(
            f"{network} on {len(self.tuned)} virtual chips of {self.chip}",
            "SIMULATED · no chip answered",
            Headline(Tone.GOOD if gain > 0 else Tone.OPEN, f"{gain:+.1f} points".replace("-", "−"), text),
            (
                Table("Accuracy", ("", f"of {self.held_out:,} images held out"), rows),
                Fact(
                    "Trained", f"on {self.images:,} images that ran through each chip, {self.seconds / 60:.1f} minutes"
                ),
                Fact("Rests on", f"errors of the {self.record}"),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _group_table(groups: Sequence[GroupOutcome]) -> Table:
    rows = []
    for number, group in enumerate(groups, 1):
        names = group.layers[0] if len(group.layers) == 1 else f"{group.layers[0]} to {group.layers[-1]}"
        trained = "as compiled"
        if group.trained is not None:
            change = f"loss {group.trained.before:.3f} → {group.trained.after:.3f}"
            trained = change if group.trained.kept else f"{change}: left as it was"
        rows.append((f"{number}", names, trained, f"{100 * group.error:.1f} %"))
    return Table("Groups of layers", ("group", "layers", "trained", "error of its sums"), tuple(rows))
