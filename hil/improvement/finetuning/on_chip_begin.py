"""Begin of a fine-tuning on a chip or on virtual ones: inputs, their program, and training of the layers downstream."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.errors import UsageError
from hil.improvement.finetuning.inputs import FinetuneInputs, load_finetune_inputs
from hil.improvement.finetuning.progressive import layer_groups
from hil.improvement.finetuning.settings import STRENGTH, OnChipSettings
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.network.file import image_keys
from mapping.program.conductance import AgainStep, ConductanceProgram
from mapping.quantise.sharing import shared_ops
from mapping.quantise.weight_scales import ScaleRule
from search.train.downstream import DownstreamLayers, DownstreamRecipe, Measured, Trained
from search.train.training import Machine, multiplies_bfloat16, report_steps

MEMORY_BYTES = 1 << 32  # for codes of the images that wait between two groups
BYTES_A_CODE = 8  # as numbers and as tensors


def prepared(
    network: Path,
    data: str,
    settings: OnChipSettings,
    watch: Watch,
    *,
    record: CalibrationRecord | None,
    **more: Any,
) -> tuple[FinetuneInputs, ConductanceProgram]:
    """Inputs of a fine-tuning on a chip, and the program as ``hil deploy`` would write it, with keys of its images."""
    inputs = load_finetune_inputs(network, data, settings.training, watch, **more)
    inputs = replace(inputs, train=inputs.train.spread(settings.images))
    if len(inputs.train) < (batch := settings.training.batch):
        raise UsageError(
            f"{len(inputs.train)} training images run through the chip, fewer than a batch of {batch}",
            hint=f"--measure {batch} or more, or a smaller --batch",
        )
    largest = max(math.prod(op.output_shape) for op in shared_ops(inputs.network.graph))
    needed = (len(inputs.train) + len(inputs.kept)) * largest * BYTES_A_CODE
    if needed > MEMORY_BYTES:
        raise UsageError(
            f"codes of {len(inputs.train)} images, up to {largest:,} each, would take {needed / 2**30:.1f} GiB; "
            f"{MEMORY_BYTES / 2**30:.1f} are kept at most",
            hint="--measure fewer images",
        )
    layout = LayoutOptions(averaged=True, halves=False)
    program = compile_network(inputs.network, inputs.chip, options=layout, scale_rule=ScaleRule.OUTPUT)
    if len(layer_groups(program, settings.groups)) < 2:
        raise UsageError(
            "a network of one layer has no layers downstream of what is written", hint="hil deploy tunes it"
        )
    if program.rounds > 1:
        raise UsageError(
            f"the network takes {program.rounds} rounds of {inputs.chip.name}, which then holds no layer for long",
            hint="hil finetune without --port trains it ahead of time",
        )
    if any(isinstance(step, AgainStep) for step in program.steps):
        raise UsageError(
            "the network reads a layer again on other inputs, which has no place in one group",
            hint="hil finetune without --port trains it ahead of time",
        )
    if len(program.calibration_images) < 2:
        raise UsageError("the network stores too few training images to tune with", hint="hil import with --images 512")
    keys = [program.trained_on, image_keys(inputs.train.pixels), image_keys(inputs.kept.pixels)]
    program = replace(program, trained_on=np.unique(np.concatenate(keys)))
    return inputs, settings.recipe.prepared(program, record or nominal_record(program.spec, program.macros), watch)


def downstream_layers(
    inputs: FinetuneInputs, program: ConductanceProgram, settings: OnChipSettings
) -> DownstreamLayers:
    """The trainable layers downstream of those that are already written."""
    training = settings.training
    fast = training.device != "cpu" or multiplies_bfloat16()
    machine = Machine(training.device, training.precision or ("bf16-mixed" if fast else "32-true"))  # type: ignore[arg-type]
    return DownstreamLayers(inputs.network, program, inputs.noise, inputs.train, inputs.kept, machine)


def downstream_training(
    downstream: DownstreamLayers, settings: OnChipSettings, folder: Path, asked: str, watch: Watch | None = None
) -> Callable[[int, Sequence[str], Measured, Measured], Trained]:
    """The function ``train(group, layers written, codes seen, codes kept)``, with its checkpoints in ``folder``."""
    training = settings.training
    recipe = DownstreamRecipe(
        training.epochs,
        training.batch,
        training.rate,
        strength=training.strength or STRENGTH,
        seed=training.seed,
    )

    def train(number: int, written: Sequence[str], seen: Measured, kept: Measured) -> Trained:
        progress = None if watch is None else report_steps(watch.step, training.epochs)
        place = folder / f"downstream-{number}.checkpoint"
        return downstream.train(
            written, seen, kept, recipe, checkpoint=place, key=f"{asked} {number}", progress=progress
        )

    return train
