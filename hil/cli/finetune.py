"""The command that trains a network further to tolerate the errors of a chip: ``hil finetune``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    ChipOnWire,
    NetFile,
    Record,
    Restart,
    TrainingData,
    Workers,
    output_file,
    writing,
)
from hil.cli.settings_options import Given, Only, Told, of_named_chip
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.errors import UsageError
from hil.improvement.finetuning.settings import ON_CHIP, FinetuneSettings, OnChipSettings
from hil.watch import PlannedStage, Watch
from mapping.settings import as_options

USUAL = FinetuneSettings()


def finetune(
    network: NetFile,
    data: TrainingData,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="the tuned net.pt to write; on a chip: its program.h5", callback=output_file),
    ],
    calibration: Record = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros")],
    training: Given[FinetuneSettings],
    treated: Annotated[Given[TechniqueOptions], Only("having", "without")],
    on: Annotated[Given[ChipOnWire], Only("port", "emulated")],
    simulated: Annotated[
        int, typer.Option(min=0, help="simulate the procedure on this many virtual chips instead")
    ] = 0,
    written: Annotated[Given[OnChipSettings], Only("images")],
    workers: Workers = None,
    restart: Restart = False,
    watch: Watch,
) -> Told:
    """Train a network further to tolerate the errors of a chip; itself or another network teaches. Resumes if repeated.

    With --port or --emulated, groups of layers are written to that chip in turn, and the layers downstream are
    trained on the chip's outputs for the training images.
    """
    from hil.improvement.finetuning.on_chip import finetune_on_chip
    from hil.improvement.finetuning.on_chip_result import OnChipPrediction, OnChipResult
    from hil.improvement.finetuning.on_virtual_chips import predict_on_chip
    from hil.improvement.finetuning.run import finetune as run
    from hil.pages.summary import NextStep
    from hil.simulation.chip_workers import chip_workers

    wire = on.upon(ChipOnWire())
    of = of_named_chip(of, wire.port, calibration)
    source = of.upon(NetworkOptions(), data=data)
    named = as_options(source)
    on_a_chip = wire.named or bool(simulated)
    usual = ON_CHIP if on_a_chip and not training.values.get("minutes") else USUAL
    techniques = treated.upon(TechniqueOptions())
    if on_a_chip and techniques.any:
        raise UsageError("on a chip a network is treated as usual: neither --with nor --without")
    settings = training.upon(usual, recipe=str(techniques.recipe()))
    if workers and wire.named:
        raise UsageError("--workers run virtual chips, and a chip on a wire is one")
    with writing(out), chip_workers(workers) as crew:
        if on_a_chip:
            asked = written.upon(OnChipSettings(), training=settings)
            found: OnChipResult | OnChipPrediction
            if simulated:
                if wire.named:
                    raise UsageError("--simulated excludes --port and --emulated")
                found = predict_on_chip(
                    network, data, simulated, calibration, **of.values, settings=asked, crew=crew, watch=watch
                )  # fmt: skip
            else:
                address = on.upon(ChipOnWire(), chip=source.chip, macros=source.macros).address
                if calibration is None:
                    raise UsageError("a record of the chip is needed: --calibration", hint="hil calibrate -o record.h5")
                found = finetune_on_chip(
                    network, data, out, address, calibration, **of.values,
                    settings=asked, restart=restart, watch=watch,
                )  # fmt: skip
            place = f"--port {shlex.quote(wire.port)}" if wire.port else "--emulated"
            deployed = f"hil deploy {shlex.quote(str(out))}{named} {place}"
            steps: tuple[NextStep, ...] = (NextStep(deployed, "its verdict on this chip"),)
            if simulated:
                trained = f"hil finetune {shlex.quote(str(network))}{named} --emulated --out {shlex.quote(str(out))}"
                steps = (NextStep(trained, "the same on a chip, with its record: --calibration"),)
            return Told([found.summary(network.stem, steps)], found.to_json())
        stages = {
            "loading": 5.0,
            "unchanged network": 10.0,
            "measuring the speed": 10.0,
            "training": 60.0 * settings.minutes or 600.0,
            "as deployed": 10.0,
        }
        watch.plan([PlannedStage(name, work_s) for name, work_s in stages.items()])
        result = run(
            network,
            data,
            out,
            chip=source.chip,
            calibration=calibration,
            settings=settings,
            judges=crew,
            macros=source.macros,
            restart=restart,
            watch=watch,
        )
    place = shlex.quote(str(out))
    record = f" --calibration {shlex.quote(str(calibration))}" if calibration else ""
    steps = (
        NextStep(f"hil simulate {place}{named}{record}", "what chips of this kind make of it"),
        NextStep(f"hil deploy {place}{named} --emulated", "and one chip, through its frames"),
    )
    return Told([result.summary(network.stem, steps)], result.to_json())
