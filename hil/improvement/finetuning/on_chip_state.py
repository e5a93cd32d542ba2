"""Progress of a fine-tuning on a chip, saved beside its output after every group of layers.

A folder holds ``progress.json``, which names the files of the last whole group: both programs, and codes and weights of
the student as tensors. It is written last, so what it names is complete. Imports torch: import this module late.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hil.improvement.finetuning.progressive import GroupOutcome, OnChipProgress
from hil.report.work_folder import WorkFolder, load_json, typed
from mapping.program.file import load_program, save_program
from search.train.checkpoint import write_tensors
from search.train.downstream import Trained

PROGRESS = "progress.json"
KINDS = ("seen", "kept", "tune")


@dataclass(frozen=True, slots=True)
class ChipState:
    """State of the chip after a group: ``held``: digest of its program, hex; ``chip_time_s``: its clock; ``begun_s``:
    its clock at the first write; ``pulses`` and ``cells`` written so far."""

    serial: str
    held: str
    chip_time_s: float
    begun_s: float
    pulses: int
    cells: int


def save_progress(work: WorkFolder, progress: OnChipProgress, student: dict[str, Tensor], chip: ChipState) -> None:
    """Save the progress of a fine-tuning after a group of layers.

    Raises:
        OutputError: it cannot be written.
    """
    number = len(progress.groups)
    content = {kind: {k: torch.from_numpy(v) for k, v in getattr(progress, kind).items()} for kind in KINDS}
    work.keep(f"plain.h5-{number}", progress.plain, save_program)
    work.keep(f"running.h5-{number}", progress.running, save_program)
    work.keep(f"tensors-{number}", {**content, "student": student}, lambda made, path: write_tensors(path, made))
    groups = [asdict(group) for group in progress.groups]
    work.keep_json(PROGRESS, {"steps": progress.steps, "groups": groups, "chip": asdict(chip)})
    work.forget(*work.parts(f"*-{number - 1}"))


def load_progress(work: WorkFolder) -> tuple[OnChipProgress, dict[str, Tensor], ChipState] | None:
    """The stored progress with its student network; None without stored progress.

    Raises:
        FileError: broken.
    """
    return work.load(PROGRESS, _progress) if work.has(PROGRESS) else None


def _progress(path: Path) -> tuple[OnChipProgress, dict[str, Tensor], ChipState]:
    record = load_json(path)
    try:
        groups, number = tuple(_group(group) for group in record["groups"]), len(record["groups"])
        plain, running = (load_program(path.with_name(f"{name}-{number}")) for name in ("plain.h5", "running.h5"))
        held = torch.load(path.with_name(f"tensors-{number}"), map_location="cpu", weights_only=True)
        values = [_arrays(held[kind]) for kind in KINDS]
        state = typed(ChipState, record["chip"])
        if not (0 < int(record["steps"]) <= len(running.steps) and state.held == plain.held_digest):
            raise ValueError("its parts do not belong together")
        progress = OnChipProgress(plain, running, values[0], values[1], values[2], int(record["steps"]), groups)
        return progress, dict(held["student"]), state
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def _group(record: dict[str, Any]) -> GroupOutcome:
    trained = record["trained"]
    return GroupOutcome(
        tuple(str(name) for name in record["layers"]),
        None if trained is None else Trained(float(trained["before"]), float(trained["after"])),
        float(record["error"]),
    )


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {str(name): np.asarray(value.numpy()) for name, value in tensors.items()}
