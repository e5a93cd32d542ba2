"""Prediction of a fine-tuning on a chip: the same procedure on virtual chips; no cell is written."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TypedDict, Unpack

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from cim.record.published import nominal_record
from hil.errors import UsageError
from hil.improvement.finetuning.inputs import FinetuneInputs
from hil.improvement.finetuning.on_chip_begin import downstream_layers, downstream_training, prepared
from hil.improvement.finetuning.on_chip_result import OnChipPrediction
from hil.improvement.finetuning.progressive import Progressive, layer_groups, right_share
from hil.improvement.finetuning.settings import OnChipSettings
from hil.improvement.finetuning.written_layers import GROUP_SEEDS, VirtualLayers
from hil.simulation.chip_workers import THREADS, ChipWorkers
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs


class ChipAndImages(TypedDict, total=False):
    """Chip, its macros and the data folder, as ``finetune_on_chip`` takes them."""

    chip: str
    macros: int | None


def predict_on_chip(
    network: Path,
    data: str,
    chips: int,
    calibration: Path | None,
    *,
    settings: OnChipSettings | None = None,
    crew: ChipWorkers = THREADS,
    watch: Watch | None = None,
    **source: Unpack[ChipAndImages],
) -> OnChipPrediction:
    """Go through ``finetune_on_chip`` on ``chips`` virtual chips of a record.

    Args:
        calibration: record whose errors count; None: the models of the chip file.
        crew: workers that simulate chips; results do not depend on their number. Without workers, one chip at a time.

    Raises:
        UsageError: no chips, or what ``finetune_on_chip`` refuses.
    """
    began, settings, watch = time.monotonic(), settings or OnChipSettings(), watch or Watch()
    if not 1 <= chips < GROUP_SEEDS:
        raise UsageError(f"{chips} virtual chips, not from 1 to {GROUP_SEEDS - 1}")
    given: ChipAndImages = {"chip": "lab-128", **source}
    with watch.stage("loading"):
        record = None if calibration is None else load_record(calibration)
        inputs, program = prepared(network, data, settings, watch, calibration=calibration, record=record, **given)
        exact = downstream_layers(inputs, program, settings).float_right
    errors = record or nominal_record(program.spec, program.macros)
    found = list[tuple[float, float]]()
    with watch.stage("virtual chips"):
        for shares in crew.each(_tuned_and_finetuned, range(chips), inputs, program, errors, settings, at_once=1):
            found.append(shares)
            watch.step(len(found), chips, f"virtual chip {len(found)} of {chips}")
    return OnChipPrediction(
        inputs.chip.name,
        inputs.record,
        exact,
        tuple(tuned for tuned, _ in found),
        tuple(finetuned for _, finetuned in found),
        len(inputs.kept),
        len(inputs.train),
        round(time.monotonic() - began, 1),
    )


def _tuned_and_finetuned(
    number: int,
    inputs: FinetuneInputs,
    program: ConductanceProgram,
    errors: CalibrationRecord,
    settings: OnChipSettings,
) -> tuple[float, float]:
    """Accuracy of virtual chip ``number``, percent: tuned only, and fine-tuned."""
    recipe, seed, watch = settings.recipe, settings.training.seed, Watch()
    downstream = downstream_layers(inputs, program, settings)
    labels = downstream.kept.labels
    alone = VirtualChips(
        program, errors, recipe, 1, seed, inputs=training_inputs(program), mode="fast",
        targets=recipe.targets(program), first=number,
    )  # fmt: skip
    logits = alone.run(downstream.kept.pixels, 0, watch)[0]
    with tempfile.TemporaryDirectory() as name:
        train = downstream_training(downstream, settings, Path(name), "")
        layers = VirtualLayers(errors, recipe, seed, number)
        work = Progressive(layers, layer_groups(program, settings.groups), recipe, downstream, train, watch)
        progress = work.finish(work.begin(program))
    tuned = 100.0 * float((logits.argmax(1) == labels).mean())
    return tuned, right_share(progress.kept, progress.running, labels)
