"""Use of free macros: techniques that fit them are kept if virtual chips show a gain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from cim.record.published import NoModels, nominal_record
from hil.deployment.network_source import BUNDLED_NETWORK, bundled_on, open_network
from hil.deployment.options import TRAINING, USUAL_RECIPE, DeployOptions, NetworkOptions
from hil.improvement.context import TrialContext
from hil.improvement.improve import TrialResult, climb
from hil.improvement.trained_ahead import trained_ahead
from hil.improvement.trials import offered
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.network.float_run import float_logits
from mapping.network.task import TaskKind
from mapping.recipe.recipe import Recipe
from mapping.scale_choice import compared_images
from mapping.workload import unplaced_workload

CHIPS = 8  # virtual chips that decide
WEIGHED = 100_000  # most multiplications of an image: a small network is weighed in seconds
ERRORS = 2  # standard errors that a gain is above: of a dozen offers that give nothing, two are above one by chance
ENOUGH = 0.99  # share of the answers kept on virtual chips, from which on nothing further is weighed


def chosen(
    network: Path | None,
    source: NetworkOptions,
    options: DeployOptions,
    calibration: Path | None,
    watch: Watch,
    *,
    trains: bool = True,
    weighs: bool = True,
) -> tuple[Path | None, NetworkOptions, DeployOptions]:
    """Network, data and options, with automatic choices made: training (effort 3), the bundled network,
    and techniques.

    Args:
        calibration: record of the chip; None: the models of the chip file.
        trains: whether a network may be trained now.
        weighs: whether techniques are chosen by their gain (``filled``).
    """
    if trains and options.effort == TRAINING:
        network = trained_ahead(network, source, calibration, options.age_s, watch)
    network, source = bundled_on(network, source, options.recipe, watch)
    if weighs:
        record = load_record(calibration) if calibration else None
        with watch.stage("weighing"):
            options = replace(options, recipe=filled(network, source, options, record, watch))
    return network, source, options


def filled(
    network: str | Path | None,
    source: NetworkOptions,
    options: DeployOptions,
    record: CalibrationRecord | None,
    watch: Watch,
) -> Recipe:
    """Extend the recipe of a deployment without named techniques, at effort 1, 2 or unnamed, from cheap to dear, by
    techniques that fit the macros and gain more than twice their standard error on virtual chips.

    The gain is agreement with the float network on stored images that were not fitted. A network that keeps
    ``ENOUGH``, a network of more than ``WEIGHED`` multiplications, one that does not classify, one that stores too few
    images, and files other than net.pt keep the usual recipe. The watch is told the gains.
    """
    path = Path(network) if network else BUNDLED_NETWORK
    of_effort = options.recipe == DeployOptions(effort=options.effort).recipe and options.effort not in (0, TRAINING)
    if path.suffix != ".pt" or not path.is_file() or not of_effort:
        return options.recipe
    file = open_network(path, source, watch=watch)
    work = unplaced_workload(file.graph, weight_bits=file.weight_bits, activation_bits=file.activation_bits)
    at, held_out = compared_images(file)
    if not file.graph.classes or not held_out or work.macs > WEIGHED:
        return options.recipe
    spec, images = load_chip(source.chip, macros=source.macros), file.calibration_images[at]
    every = range(spec.macros)
    fits = record is not None and record.spec_digest == spec.digest and record.macros.keys() >= set(every)
    try:
        known = record if record is not None and fits else nominal_record(spec, every)
    except NoModels:  # nothing is known of such a chip before it is measured
        return options.recipe
    context = TrialContext(
        file, spec, known, "", images, float_logits(file.graph, images).argmax(1),
        Task.of(TaskKind.CLASSIFY, image=file.graph.input_shape, classes=file.graph.classes),
        options.age_s, CHIPS, options.seed, spec.macros, Watch(), scales="",
    )  # fmt: skip
    results: list[TrialResult] = []
    begun, tried = replace(context.begun, recipe=USUAL_RECIPE), partial(offered, effort=TRAINING - 1)
    stands, _ = climb(context, begun, tried, results, results.append, target=ENOUGH, errors=ERRORS)
    if weighed := [result.text for result in results[1:] if not result.skipped]:
        watch.note(f"weighed on {CHIPS} virtual chips and {len(images)} stored images: {'; '.join(weighed)}")
    return stands.recipe
