"""How many epochs of how many images a fine-tuning has; decided once, so that one that goes on has the same answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.improvement.finetuning.inputs import FinetuneInputs
from hil.improvement.finetuning.settings import FinetuneSettings
from hil.report.work_folder import ABOUT, is_work, load_json, typed
from search.train.arrays import noise_digest

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """Number of epochs and of images in each; ``cut``: fewer than were asked for, to keep to the minutes."""

    epochs: int
    images: int
    cut: bool = False


def fingerprint(settings: FinetuneSettings, inputs: FinetuneInputs) -> dict[str, Any]:
    """All that the answer depends on."""
    return {
        **asdict(settings),
        "network": inputs.network.digest,
        **({"teacher": inputs.teacher.digest} if inputs.teacher else {}),
        "chip description": inputs.chip.digest,
        "errors": noise_digest(inputs.noise),
        "training images": inputs.train.digest,
        "images held out": inputs.kept.digest,
    }


def begun_settings(folder: Path) -> FinetuneSettings | None:
    """The settings of a fine-tuning that was begun in a folder; None where none was."""
    return typed(FinetuneSettings, load_json(folder / ABOUT)) if is_work(folder) else None
