"""Number of epochs and images of a fine-tuning, decided once, so that a resumed one gives the same result."""

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
    """Number of epochs and of images in each; ``cut``: reduced to keep within the minutes."""

    epochs: int
    images: int
    cut: bool = False


def fingerprint(settings: FinetuneSettings, inputs: FinetuneInputs) -> dict[str, Any]:
    """Settings and inputs that the result depends on, as plain data."""
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
    """The settings of an unfinished fine-tuning in a folder; None: there is no such work."""
    return typed(FinetuneSettings, load_json(folder / ABOUT)) if is_work(folder) else None
