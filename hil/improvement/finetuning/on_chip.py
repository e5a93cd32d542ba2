"""Fine-tune a network on one chip, group of layers after group of layers.

    hil.finetune("net.pt", chip, "cifar10", out="program.h5", settings=hil.OnChipSettings())

The program that it leaves is this chip's own, which holds it: ``hil deploy program.h5`` tunes and runs it without
writing a cell. ``program.h5.training`` keeps what is done until then; the same call goes on there.

Progress of a fine-tuning on a chip, saved beside its output after every group of layers.

A folder holds ``progress.json``, which names the files of the last whole group: both programs, and codes and weights of
the student as tensors. It is written last, so what it names is complete. Imports torch: import this module late.
"""

from __future__ import annotations

import json
import pickle
import time
import zipfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.atomic import output_errors
from hil.calibration.procedure import check_record
from hil.deployment.options import RECONNECT_TIMEOUT_S
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.errors import Interrupted, MismatchError, UsageError
from hil.improvement.finetuning.inputs import FinetuneInputs
from hil.improvement.finetuning.on_chip_begin import downstream_layers, downstream_training, prepared
from hil.improvement.finetuning.on_chip_result import OnChipResult
from hil.improvement.finetuning.plan import fingerprint
from hil.improvement.finetuning.progressive import GroupOutcome, OnChipProgress, Progressive, layer_groups, right_share
from hil.improvement.finetuning.settings import OnChipSettings, working_folder
from hil.improvement.finetuning.written_layers import WiredLayers
from hil.report.work_folder import GO_ON, WorkFolder, load_json, typed
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import load_program, save_program
from mapping.tune.aims import aimed
from search.train.checkpoint import write_tensors
from search.train.downstream import DownstreamLayers, Trained


def finetune_on_chip(
    network: str | Path,
    data: str,
    out: str | Path,
    address: str | ChipDriver,
    calibration: str | Path,
    *,
    chip: str = "lab-128",
    macros: int | None = None,
    settings: OnChipSettings | None = None,
    restart: bool = False,
    watch: Watch | None = None,
) -> OnChipResult:
    """Write a network to a chip group by group of layers, training the layers downstream on the measured outputs.

    Args:
        address: address of the chip, or an open chip.
        out: the program to write, ``.h5``.
        calibration: record of this chip.

    Raises:
        Interrupted: Ctrl-C after the first group; the same call resumes if the chip still holds the written groups.
        MismatchError: the record is of another chip, or the chip lost the groups that an interrupted call wrote.
        hil.errors.HilError, mapping.errors and the file errors of the rooms below.
    """
    began, settings, watch = time.monotonic(), settings or OnChipSettings(), watch or Watch()
    network, out, calibration = Path(network), Path(out), Path(calibration)
    _check_out(out)
    record = load_record(calibration)
    folder = working_folder(out)
    with watch.stage("loading"):
        inputs, program = prepared(
            network, data, settings, watch, chip=chip, macros=macros, calibration=calibration, record=record,
        )  # fmt: skip
        downstream = downstream_layers(inputs, program, settings)
    asked = _asked(settings, program, inputs, record)
    work = WorkFolder(folder, asked, kind="hil.finetuning-on-chip", restart=restart)
    with _opened(address, program, watch) as driver:
        check_record(record, driver, program.macros)
        program = aimed(replace(program, adapted_to=driver.description.serial), program.aims)
        try:
            progress, wired, begun_s = _group_after_group(
                driver, record, program, downstream, settings, work, json.dumps(asked), watch
            )
        except KeyboardInterrupt:
            if not work.has(PROGRESS):
                raise
            raise Interrupted(
                f"fine-tuning of {network} on the chip was interrupted; whole groups of layers are kept in {folder}",
                hint=f"{GO_ON} and writes the chip again",
            ) from None
        chip_time_s, about = driver.chip_time_ns * 1e-9 - begun_s, driver.description
    with output_errors(out):
        save_program(progress.plain, out)
    work.discard()
    return OnChipResult(
        out,
        f"{about.kind} {about.name} rev {about.revision}",
        about.serial,
        about.kind == "silicon",
        progress.groups,
        downstream.float_right,
        right_share(progress.kept, progress.running, downstream.kept.labels),
        len(downstream.kept),
        len(downstream.images),
        wired.cells,
        wired.pulses,
        round(chip_time_s, 3),
        round(time.monotonic() - began, 1),
        progress.plain.digest,
    )


def _opened(chip: str | ChipDriver, program: ConductanceProgram, watch: Watch) -> AbstractContextManager[ChipDriver]:
    """The open chip at an address; an already open chip stays open afterwards."""
    if isinstance(chip, ChipDriver):
        return nullcontext(chip)
    return open_chip(chip, chip=program.spec, reconnect_timeout_s=RECONNECT_TIMEOUT_S, report=watch.message)


def _group_after_group(
    driver: ChipDriver,
    record: CalibrationRecord,
    program: ConductanceProgram,
    downstream: DownstreamLayers,
    settings: OnChipSettings,
    work: WorkFolder,
    asked: str,
    watch: Watch,
) -> tuple[OnChipProgress, WiredLayers, float]:
    """Write and train all remaining groups: final progress, layers written, and the chip's time at the start, s."""
    assert work.root is not None
    wired = WiredLayers(driver, record, settings.recipe, settings.training.seed, watch)
    begun_s = driver.chip_time_ns * 1e-9

    def save(progress: OnChipProgress) -> None:
        driver.outputs_off()  # while layers are trained
        held = ChipState(
            wired.serial, progress.plain.held_digest, driver.chip_time_ns * 1e-9, begun_s, wired.pulses, wired.cells
        )
        save_progress(work, progress, downstream.state(), held)

    train = downstream_training(downstream, settings, work.root, asked, watch)
    groups = Progressive(wired, layer_groups(program, settings.groups), settings.recipe, downstream, train, watch, save)
    found = load_progress(work)
    if found is None:
        return groups.finish(groups.begin(program)), wired, begun_s
    progress, student, left = found
    _check_left(driver, left)
    downstream.restore(student)
    wired.pulses, wired.cells, begun_s = left.pulses, left.cells, left.begun_s
    watch.note(f"{len(progress.groups)} of {len(groups.groups)} groups stand on the chip already")
    return groups.finish(progress), wired, begun_s


def _check_left(driver: ChipDriver, left: ChipState) -> None:
    """Refuse to resume on a chip that lost the groups written by the interrupted call.

    Raises:
        MismatchError: another chip, another program, or a clock that was set back.
    """
    held, serial = driver.held_program(), driver.description.serial
    same = held is None or held.hex() == left.held
    if serial != left.serial or not same or driver.chip_time_ns * 1e-9 < left.chip_time_s:
        raise MismatchError(
            f"the chip (serial {serial}) does not hold what the interrupted fine-tuning left in chip {left.serial}",
            likely="another chip, one that something else was written to, or one that was restarted",
            hint="--restart begins again, and writes the chip again",
        )


def _asked(
    settings: OnChipSettings, program: ConductanceProgram, inputs: FinetuneInputs, record: CalibrationRecord
) -> dict[str, Any]:
    """Settings, inputs and record that the result depends on, as a fingerprint."""
    return {
        **fingerprint(settings.training, inputs),
        "groups": settings.groups,
        "measured images": settings.images,
        "program": program.digest,
        "serial": record.serial,
    }


def _check_out(out: Path) -> None:
    if out.suffix != ".h5":
        raise UsageError(
            f"a fine-tuning on a chip leaves a program, and {out.name} is not named .h5", hint="-o program.h5"
        )


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
