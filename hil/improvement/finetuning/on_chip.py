"""Fine-tune a network on one chip, group of layers after group of layers.

    hil.finetune("net.pt", chip, "cifar10", out="program.h5", settings=hil.OnChipSettings())

The program that it leaves is this chip's own, which holds it: ``hil deploy program.h5`` tunes and runs it without
writing a cell. ``program.h5.training`` keeps what is done until then; the same call goes on there.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from hil.improvement.finetuning.on_chip_state import PROGRESS, ChipState, load_progress, save_progress
from hil.improvement.finetuning.plan import fingerprint
from hil.improvement.finetuning.progressive import OnChipProgress, Progressive, layer_groups, right_share
from hil.improvement.finetuning.settings import OnChipSettings, working_folder
from hil.improvement.finetuning.written_layers import WiredLayers
from hil.report.work_folder import GO_ON, WorkFolder
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program
from mapping.tune.aims import aimed
from search.train.downstream import DownstreamLayers


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
