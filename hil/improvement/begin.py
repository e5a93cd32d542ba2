"""Before the first trial: network, chip, record and held-out training images brought together."""

from __future__ import annotations

from pathlib import Path

from cim.chip.file import load_chip
from cim.record.file import load_record
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.deployment.network_source import program_of
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.deployment.scoring import targets_of, task_of
from hil.errors import UsageError
from hil.improvement.context import TrialContext
from hil.improvement.further_training import FurtherTraining
from hil.improvement.improve import held_out
from hil.improvement.settings import ImproveSettings
from hil.prediction.predict import OF_CELLS, record_or_nominal, with_nominal_macros
from hil.watch import Watch
from mapping.layout.lay_out import LayoutOptions
from mapping.network.file import load_network
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.recipe import Recipe


def context_of(
    network: Path,
    training: Dataset,
    source: NetworkOptions,
    settings: ImproveSettings,
    watch: Watch,
    *,
    record: Path | None = None,
    asked: Recipe | None = None,
    scoring: DeployOptions | None = None,
    further: FurtherTraining | None = None,
) -> TrialContext:
    """Gather network, images, record and settings for the trials of ``hil.improvement.improve.improve``.

    Args:
        training: training images with their targets; some, which the network does not store, decide on techniques.
        asked: techniques in every trial, as rounds, and settings for techniques to try; None: no such wish.
        record: of a chip or of cells; None: the models of the chip file.
        scoring: task, metric and consent to run a user's metric; None: those of the network.
        further: setup of the last trial, further training of a classifier; None: no training.

    Raises:
        UsageError: a compiled program was given instead of a network, targets of another task, or a metric that is no
            share.
        MismatchError: the record is of another chip.
    """
    if network.suffix == ".h5":
        raise UsageError(f"{network} is a compiled program: its scales are chosen", hint="give the net.pt")
    asked = asked or Recipe()
    layout = asked.laid_out(LayoutOptions())
    with watch.stage("compiling"):
        program, _ = program_of(network, source, watch, recipe=asked)
    known, record_source, _ = record_or_nominal(program, load_record(record) if record else None)
    if known.kind in OF_CELLS:  # of no chip in particular: every macro is as the chip file says
        known = with_nominal_macros(known, program.spec, range(program.spec.macros))
    spec = load_chip(source.chip, macros=source.macros)
    file = asked.before_compiling(load_network(network, trust=source.trust), spec)
    training = with_pixels(training, program.input.shape, program.preprocess)
    scored = task_of(program, training, scoring or DeployOptions())
    if not scored.metric.share:
        raise UsageError(
            f"techniques are judged by a share from 0 to 1, and {scored.metric.title} is none (to {scored.kind})",
            hint="hil simulate says it with one and without: --with rewrite=3, --with residual=4, --without copies; "
            "or --metric file.py:function with a score of your own that is a share",
        )
    targets = targets_of(scored, training, program.preprocess)
    at = held_out(training, file, settings.images, settings.seed)
    return TrialContext(
        network=file,
        spec=spec,
        record=known,
        source=record_source,
        images=training.images[at],
        targets=targets[at],
        task=scored,
        age_s=settings.age_s,
        chips=settings.chips,
        seed=settings.seed,
        macros=program.spec.macros,
        watch=watch,
        asked=asked,
        training=further,
        made={(layout, ScaleRule.OUTPUT.value, ""): program},
    )
