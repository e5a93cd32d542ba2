"""Runs from Python: ``deploy`` on a chip and ``simulate`` without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import Dataset
from hil.deployment.chip_record import with_writer
from hil.deployment.deploy import deploy as deploy_files
from hil.deployment.deploy import deploy_on
from hil.deployment.dry_run import say_plan
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.improvement.filled import chosen
from hil.prediction.predict import predict
from hil.prediction.scored import float_score
from hil.python.answers import Report, Simulation
from hil.python.chip import EMULATED, Chip, open_chip
from hil.python.networks import CompiledNetwork, compile, is_module, program_of
from hil.python.progress import progress
from hil.python.samples import HOW, Samples, parted, samples_of
from hil.report.files import write_report
from hil.report.run_folder import new_run_folder
from hil.report.step_words import MADE_IN
from hil.report.terminal.quantities import seconds
from hil.transports import DEFAULT_BAUD, chip_named, whole_address
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

if TYPE_CHECKING:
    import torch


def deploy(
    network: CompiledNetwork | ConductanceProgram | torch.nn.Module | str | Path | None,
    chip: ChipDriver | Samples | str | None = None,
    /,
    data: Samples | None = None,
    *,
    port: str | None = None,
    record: CalibrationRecord | str | Path | None = None,
    out: str | Path | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
    **of_files: Any,
) -> Report:
    """Write a network to a chip, run samples on it, and judge its answers against the simulation.

    A run folder is written, as ``hil deploy`` does (``report.run``). A file on an address is a run that goes on after
    an interruption when the same call is made again; an open chip is not opened again.

    Args:
        network: what ``hil.compile`` gave, a program, or a file; None: the bundled network. A module is compiled first,
            with every fourth of the samples, at most 512, which are not scored then.
        chip: an open chip, or an address; where ``port`` names the address, this is ``data``.
        data: samples to score, (inputs, labels) as arrays, or a data set by name or path; None with a file: the
            bundled images.
        port: address of the chip, as ``hil deploy --port`` takes it, or "emulated".
        record: of this chip; None takes that of ``chip.calibrate()``, else the chip is calibrated first.
        out: run folder; None makes runs/NNNN.
        options: of the run, ``hil.DeployOptions``; its techniques, else those of its ``effort``, that the program was
            compiled for, or that are found for a small network.
        watch: told of stages and progress; None: a notebook or a terminal shows them.
        of_files: of a file on an address, what ``hil.deployment.deploy.deploy`` takes besides: ``chip``, ``macros``,
            ``mean``, ``std``, ``restart`` …; of a module, what ``hil.compile`` takes:
            ``bits``, ``mean``, ``std``, ``classes`` …

    Returns:
        the verdict with everything that it rests on; ``report.run`` is its folder.

    Raises:
        hil.HilError: port, link, device, file or description errors.

    Example:
        >>> report = hil.deploy(program, chip, test, record=record, options=few)
        >>> report.accuracy.chip > 0.5
        True
    """
    if port is not None:
        if chip is not None and data is not None:
            raise UsageError("both a chip and a port", hint="hil.deploy(network, data, port=…)")
        chip, data = port, chip if data is None else data
    if not isinstance(chip, ChipDriver | str):
        raise UsageError(
            "no chip is named" if chip is None else f"a {type(chip).__name__} is no chip",
            hint='hil.deploy(network, data, port="emulated"), or an open chip: hil.open_chip(…)',
        )
    if is_module(network):
        if isinstance(chip, str):
            kind = {key: of_files.pop(key) for key in ("chip", "macros") if key in of_files}
            with open_chip(chip, **kind) as opened:
                return deploy(network, opened, data, record=record, out=out, options=options, watch=watch, **of_files)
        if data is None:
            raise UsageError("a module needs samples, to calibrate it and to score it", hint=HOW)
        calibrating, data = parted(samples_of(data))
        return deploy(
            compile(network, chip, calibrating, watch=watch, **of_files), chip, data,
            record=record, out=out, options=options, watch=watch,
        )  # fmt: skip
    if isinstance(chip, str) and isinstance(network, str | Path | None) and isinstance(data, str | Path | None):
        chip = whole_address(chip, of_files.get("chip"), of_files.get("macros"))
        if chip.startswith(EMULATED) and not of_files.keys() & {"chip", "macros"}:
            of_files |= zip(("chip", "macros"), chip_named(chip), strict=True)
        known = of_files.get("calibration") if record is None else _path(record)
        named = {field.name: of_files[field.name] for field in fields(NetworkOptions) if field.name in of_files}
        with progress(watch) as observer:
            source = NetworkOptions(**named, data=None if data is None else str(data))
            network, source, options = chosen(
                None if network is None else Path(network), source, options or DeployOptions(), known, observer
            )
            found = deploy_files(
                network, chip, out=None if out is None else Path(out), options=options, watch=observer,
                **{**of_files, "data": source.data, "calibration": known},
            )  # fmt: skip
        return Report.of(found)
    if of_files:
        raise UsageError(f"{', '.join(of_files)}: for a file on an address", hint="hil.open_chip(…), hil.compile(…)")
    if isinstance(chip, str):
        with open_chip(chip, chip=program_of(network).spec) as opened:
            return deploy(network, opened, data, record=record, out=out, options=options, watch=watch)
    if data is None:
        raise UsageError("no samples to score", hint=HOW)
    return _on_chip(network, chip, samples_of(data), record, out, options, watch)


def _on_chip(
    network: CompiledNetwork | ConductanceProgram | str | Path | None,
    chip: ChipDriver,
    data: Dataset,
    record: CalibrationRecord | str | Path | None,
    out: str | Path | None,
    options: DeployOptions | None,
    watch: Watch | None,
) -> Report:
    program = program_of(network)
    options = (options or DeployOptions()).compiled_for(program)
    known = record_of(record) or (chip.record if isinstance(chip, Chip) else None)
    if isinstance(network, CompiledNetwork):
        graph, name = network.graph, network.name
        network.data = data
    else:
        graph, name = None, Path(network).stem if isinstance(network, str | Path) else "program"
    with progress(watch) as observer, new_run_folder(None if out is None else Path(out)) as folder:
        say_plan(chip, program, DEFAULT_BAUD, options, observer, calibrate=known is None)
        report, run = deploy_on(
            chip, program, data, graph=graph, record=known, options=options, watch=observer, run=str(folder.final),
            network_name=name, keep=folder.part,
        )  # fmt: skip
        report = replace(with_writer(report, folder), asked={MADE_IN: "python"})
        with observer.stage("reporting"):
            write_report(folder.part, report, run)
    return Report.of(report)


def simulate(
    network: CompiledNetwork | ConductanceProgram | str | Path,
    record: CalibrationRecord | str | Path | None = None,
    data: Samples | None = None,
    *,
    ages: Sequence[str | float] = (),
    chips: int = 20,
    mode: SimulationMode | str = SimulationMode.EXACT,
    temperature_c: float | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
) -> Simulation:
    """Predict what chips of the record's kind, programmed again, score: no chip is asked.

    Args:
        network: what ``hil.compile`` gave, or a program.
        record: of a chip or of cells; None takes the models that the chip file names.
        data: samples to score; None takes those that ``network`` was deployed with last.
        ages: after writing, "1d" or s; none: one hour.
        chips: virtual chips.
        mode: exact (every conversion) or fast.
        temperature_c: of the reads; None takes that of the record.
        options: of the run; ``chips`` goes before its virtual chips.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the score of every virtual chip at every age.

    Raises:
        hil.UsageError: no samples, or ages that make no sense. hil.MismatchError: a record of another chip.

    Example:
        >>> simulation = hil.simulate(program, record, test, ages=["1h", "30d"], chips=4, mode="fast", options=few)
        >>> simulation.to_frame().shape
        (4, 2)
    """
    graph = network.graph if isinstance(network, CompiledNetwork) else None
    given = network.data if data is None and isinstance(network, CompiledNetwork) else data
    if given is None:
        raise UsageError("no samples to score, and the network was not deployed yet", hint=HOW)
    asked = replace((options or DeployOptions()).compiled_for(program_of(network)), virtual_chips=chips)
    ages_s = [seconds(age) if isinstance(age, str) else age for age in ages]
    program, samples = program_of(network), samples_of(given)
    with progress(watch) as observer:
        found = predict(
            program, samples, record_of(record), asked, observer, ages_s=ages_s, temperature_c=temperature_c, mode=mode
        )
    if graph is not None:
        found = replace(found, float_score=float_score(graph, program, samples, asked))
    return Simulation.of(found)


def record_of(record: CalibrationRecord | str | Path | None) -> CalibrationRecord | None:
    return load_record(record) if isinstance(record, str | Path) else record


def _path(record: CalibrationRecord | str | Path) -> Path:
    if isinstance(record, CalibrationRecord):
        raise UsageError("a record in memory goes with an open chip", hint="cim.save_record(record, 'record.h5')")
    return Path(record)
