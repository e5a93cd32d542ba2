"""The command that predicts accuracy from a calibration record, without a chip: ``hil simulate``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated

import typer

from hil.cli.options import Net, Record, Workers, metric_place
from hil.cli.settings_options import Given, Only, Told, of_named_chip
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import UsageError
from hil.prediction.settings import PredictionOptions
from hil.report.terminal.completion import one_of
from hil.report.terminal.quantities import seconds
from hil.watch import Watch
from mapping.settings import as_options

USUAL = DeployOptions()


def simulate(
    network: Net = None,
    calibration: Record = None,
    *,
    of: Given[NetworkOptions],
    asked: Annotated[Given[DeployOptions], Only("seed", "virtual_chips", "task", "metric", "allow_code", samples=1000)],
    when: Given[PredictionOptions],
    mode: Annotated[
        str,
        typer.Option(
            help="exact (simulate each conversion) or fast (one product, matched noise)",
            autocompletion=one_of(("exact", "fast")),
        ),
    ] = "exact",
    treated: Given[TechniqueOptions],
    workers: Workers = None,
    watch: Watch,
) -> Told:
    """Predict accuracy and yield of other chips of this kind, at any age and temperature."""
    from cim.record.file import load_record
    from cim.simulator.modes import SimulationMode
    from hil.deployment.expected_work import expected_prediction
    from hil.deployment.network_source import BUNDLED_NETWORK, images_asked, program_of
    from hil.deployment.plan import plan_of
    from hil.improvement.filled import chosen
    from hil.pages.summary import NextStep
    from hil.prediction.predict import Tuning, predict
    from hil.prediction.scored import float_score
    from hil.report.step_words import trained_on, word_of
    from hil.simulation.chip_workers import chip_workers

    source, techniques, predicted = (
        of_named_chip(of, None, calibration).upon(NetworkOptions()),
        treated.upon(TechniqueOptions()),
        when.upon(PredictionOptions()),
    )
    named = (f" {word_of(str(network))}" if network else "") + as_options(source) + as_options(techniques)
    measured = f" --calibration {shlex.quote(str(calibration))}" if calibration else ""
    if mode not in tuple(SimulationMode):
        raise UsageError(f"mode {mode!r}", hint=" or ".join(f"--mode {known}" for known in SimulationMode))
    options = asked.upon(
        USUAL,
        age_s=predicted.ages_s[0],
        metric=metric_place(asked.values.get("metric")),
        effort=techniques.effort,
        recipe=techniques.recipe(network),
    )
    record = load_record(calibration) if calibration else None
    with chip_workers(workers) as crew:
        one_age = len(predicted.ages_s) == 1  # residual slices are drawn for one age
        network, source, options = chosen(network, source, options, calibration, watch, weighs=one_age)
        images = images_asked(source)
        with watch.stage("compiling"):
            program, graph = program_of(network, source, watch, recipe=options.recipe, task=options.task)
        planned = plan_of(program, options.recipe_of(program))
        for name, text in planned.rows():
            watch.message(f"{name}: {text}")
        watch.plan(expected_prediction(program, options, len(predicted.ages_s), SimulationMode(mode)))
        result = predict(
            program,
            images,
            record,
            options,
            watch,
            ages_s=predicted.ages_s,
            temperature_c=predicted.temperature_c,
            target=predicted.target,
            mode=mode,
            tune_at=Tuning(predicted.tune_at) if predicted.tune_at in tuple(Tuning) else seconds(predicted.tune_at),
            crew=crew,
        )
        if graph is not None:
            result = replace(result, float_score=float_score(graph, program, images, options))
    ages = "30d" if program.residual else "1h,1d,30d"  # cells of residual slices are drawn for one age
    name = network.stem if network else BUNDLED_NETWORK.stem
    again = f"hil simulate{named}{measured}"
    steps = [
        NextStep(f"hil deploy{named} --emulated", "the same through frames and a chip that it does not know"),
        NextStep(f"{again} --age {ages} --target-accuracy 90", "how long it lasts, and the yield"),
    ]
    if result.moves:
        steps.append(NextStep(f"{again} --chips 100", "separates ignorance of the cells from how chips differ"))
    if result.loses:
        taught = trained_on(
            str(network or BUNDLED_NETWORK),
            as_options(source, "chip", "macros") + measured,
            source.data,
        )
        steps[0] = NextStep(
            f"hil improve {taught} --out {word_of(f'{name}-improved')}", "techniques that fit, cheap to dear"
        )
    return Told([result.summary(name, tuple(steps))], {**result.to_json(), "plan": planned.to_json()})
