"""What a fine-tuning on a chip has done, kept beside its output after every group of layers.

A folder holds ``progress.json``, which names the files of the last whole group: both programs, and codes and weights of
the student as tensors. It is written last, so what it names is complete. Imports torch: import this module late.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hil.atomic import output_errors, write_text
from hil.errors import FileError, MismatchError
from hil.improvement.finetuning.progressive import GroupOutcome, OnChipProgress
from mapping.program.file import load_program, save_program
from search.files import read_json
from search.train.behind import Trained
from search.train.training import write_tensors

FORMAT, PROGRESS = "hil.finetuning-on-chip", "progress.json"
KINDS = ("seen", "kept", "tune")


@dataclass(frozen=True, slots=True)
class ChipState:
    """The chip after a group: ``held``: digest that it was given, hex; ``chip_time_s``: its clock, that of the first
    write being ``begun_s``; ``pulses`` and ``cells`` written so far."""

    serial: str
    held: str
    chip_time_s: float
    begun_s: float
    pulses: int
    cells: int


def save_progress(
    folder: Path, asked: str, progress: OnChipProgress, student: dict[str, Tensor], chip: ChipState
) -> None:
    """Keep it; ``asked``: all that the answer depends on, in words.

    Raises:
        OutputError: it cannot be written.
    """
    number = len(progress.groups)
    plain, running, tensors = (folder / f"{name}-{number}" for name in ("plain.h5", "running.h5", "tensors"))
    with output_errors(folder):
        save_program(progress.plain, plain)
        save_program(progress.running, running)
        content = {kind: {k: torch.from_numpy(v) for k, v in getattr(progress, kind).items()} for kind in KINDS}
        write_tensors(tensors, {**content, "student": student})
    record = {
        "format": FORMAT,
        "version": "1.0",
        "asked": asked,
        "steps": progress.steps,
        "groups": [asdict(group) for group in progress.groups],
        "chip": asdict(chip),
    }
    write_text(folder / PROGRESS, json.dumps(record, indent=1) + "\n")
    for old in folder.glob("*-*"):
        if old.name.rpartition("-")[2] == str(number - 1):
            old.unlink(missing_ok=True)


def load_progress(folder: Path, asked: str) -> tuple[OnChipProgress, dict[str, Tensor], ChipState] | None:
    """What was kept, with the student; None where nothing was.

    Raises:
        MismatchError: it was begun with something else. FileError: broken.
    """
    path = folder / PROGRESS
    if not path.exists():
        return None
    record = read_json(path, FORMAT, 1)
    try:
        if record["asked"] != asked:
            raise MismatchError(
                f"{folder} was begun with another network, chip, record, data set or settings",
                hint="--restart begins again, and writes the chip again",
            )
        groups, number = tuple(_group(group) for group in record["groups"]), len(record["groups"])
        plain, running = (load_program(folder / f"{name}-{number}") for name in ("plain.h5", "running.h5"))
        held = torch.load(folder / f"tensors-{number}", map_location="cpu", weights_only=True)
        values = [_arrays(held[kind]) for kind in KINDS]
        state = ChipState(**record["chip"])
        if not (0 < int(record["steps"]) <= len(running.steps) and state.held == plain.held_digest):
            raise ValueError("its parts do not belong together")
        progress = OnChipProgress(plain, running, values[0], values[1], values[2], int(record["steps"]), groups)
        return progress, dict(held["student"]), state
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise FileError(
            f"{folder} is not what a fine-tuning left: {str(error)[:200]}", hint="--restart begins again"
        ) from error


def _group(record: dict[str, Any]) -> GroupOutcome:
    trained = record["trained"]
    return GroupOutcome(
        tuple(str(name) for name in record["layers"]),
        None if trained is None else Trained(float(trained["before"]), float(trained["after"])),
        float(record["error"]),
    )


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {str(name): np.asarray(value.numpy()) for name, value in tensors.items()}
