"""Outcomes of fine-tunings on a chip, measured and predicted, in words and as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil.improvement.finetuning.progressive import GroupOutcome


@dataclass(frozen=True, slots=True)
class OnChipResult:
    """Accuracies are percent of training images kept out: of the float network, and measured on the chip."""

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

    def lines(self) -> list[str]:
        words = "" if self.silicon else "      NOT SILICON"
        said = "measured" if self.silicon else "emulated"
        return [
            f"program        {self.path}   the chip holds it",
            f"chip           {self.chip}, serial {self.serial}{words}",
            f"written        {self.cells:,} cells once each, {self.pulses:,} pulses, {self.chip_time_s:,.0f} s of "
            "chip time",
            f"trained        behind {len(self.groups) - 1} groups of layers, on {self.images:,} measured images, "
            f"{self.seconds / 60:.1f} minutes in all",
            *_group_lines(self.groups),
            f"held out       {self.held_out:,} training images, percent right",
            f"  float        {self.float_right:.1f}",
            f"  on the chip  {self.right:.1f} ({said})",
            f"next           hil deploy {self.path} --data DATA, with the same --port and --calibration",
        ]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class OnChipPrediction:
    """Percent of training images kept out that virtual chips have right (simulated), one number a chip: tuned only, and
    fine-tuned group after group."""

    chip: str
    record: str
    float_right: float
    tuned: tuple[float, ...]
    finetuned: tuple[float, ...]
    held_out: int
    images: int
    seconds: float

    def lines(self) -> list[str]:
        return [
            f"chip           {len(self.tuned)} virtual chips of {self.chip}, errors of the {self.record}",
            f"held out       {self.held_out:,} training images, percent right (simulated)",
            f"  float        {self.float_right:.1f}",
            f"  tuned        {_spread(self.tuned)}",
            f"  fine-tuned   {_spread(self.finetuned)}, on {self.images:,} images that ran through each chip",
            f"took           {self.seconds / 60:.1f} minutes",
            "next           the same command with --port ADDRESS or --emulated instead of --simulated",
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _group_lines(groups: Sequence[GroupOutcome]) -> list[str]:
    lines = []
    for number, group in enumerate(groups, 1):
        names = group.layers[0] if len(group.layers) == 1 else f"{group.layers[0]} to {group.layers[-1]}"
        trained = "as compiled"
        if group.trained is not None:
            change = f"loss {group.trained.before:.3f} → {group.trained.after:.3f}"
            trained = change if group.trained.kept else f"{change}: left as it was"
        lines.append(
            f"  group {number}      {names}: {trained}; its sums are off by {group.error:.1%} of their variance"
        )
    return lines
