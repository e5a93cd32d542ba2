"""Deploy: compile, program, calibrate, run on the chip and in the simulator, and judge.

``deploy`` is the whole story with files and ports; ``deploy_on`` the part with an open chip.
Chapters: ``hil.calibration.procedure`` measures the chip, ``hil.deployment.adaptation`` goes around its stuck cells,
``hil.deployment.programming`` writes, ``hil.simulation.corrections`` fits columns, ``hil.deployment.interim_looks``
runs images, ``hil.deployment.causes`` says where the gap comes from, ``hil.deployment.build_report`` gathers what
is left.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.calibration.procedure import calibrate, check_record
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.adaptation import adapt_to_record, check_adapted, write_order
from hil.deployment.build_report import collect, measure_layers, report_of, sample_layers
from hil.deployment.causes import exact_layers, find_causes
from hil.deployment.deployment import Deployment
from hil.deployment.dry_run import estimate, say_if_long
from hil.deployment.interim_looks import plan_images, run_looks
from hil.deployment.options import DeployOptions
from hil.deployment.programming import EarlyReads, ProgramReport, ensure_programmed, holds, read_back
from hil.deployment.rewriting import rewrite_cells
from hil.deployment.rounds import run_rounds
from hil.deployment.tuning import check_untuned, judge_untuned, targets_for, tune_chip, tune_summary, with_aims
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.report.files import write_report
from hil.report.run_data import RunData
from hil.report.run_folder import new_run_folder
from hil.samples import PROGRAM, READ_AFTER, READ_BEFORE, READ_EARLY
from hil.simulation.corrections import column_corrections
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.adapt.adaptation import AdaptOptions
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.network.graph import NetworkGraph
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import load_program
from mapping.program.training_inputs import training_inputs

BUNDLED_NETWORK = Path(__file__).parent.parent / "bundled" / "fashion_mnist.pt"
BUNDLED_DATA = "fashion-mnist-bundled"

__all__ = ["DeployOptions", "deploy", "deploy_on"]


def deploy(
    network: str | Path | None,
    address: str,
    *,
    chip: str = "lab-128",
    macros: int | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    calibration: Path | None = None,
    out: Path | None = None,
    options: DeployOptions | None = None,
    baud: int = 921600,
    trust: bool = False,
    watch: Watch | None = None,
) -> AgreementReport:
    """Deploy a network file on the chip at ``address`` and write a run folder.

    The folder (``report.run``) holds report.json, report.md, report.html, data.h5 and wire.log.

    Args:
        network: net.pt or program.h5; None takes the bundled Fashion-MNIST network.
        address: where the chip is (``hil.transports.open_transport``).
        data: name or path of a data set; None takes the bundled images.
        calibration: a record of this chip; None calibrates the macros in use first.
        out: run folder; None makes runs/NNNN.

    Raises:
        hil.errors.HilError, mapping.errors.CannotMap and the file errors of the rooms below.
    """
    options, watch = options or DeployOptions(), watch or Watch()
    with watch.stage("compiling"):
        program, graph = program_of(network, chip=chip, macros=macros, trust=trust, watch=watch)
        images = load_dataset(data or BUNDLED_DATA, "test", data_dir=data_dir, download=download)
        record = load_record(calibration) if calibration else None
    with new_run_folder(out) as folder:
        with open_chip(address, spec=program.spec, baud=baud, log=folder.part / "wire.log") as driver:
            say_if_long(driver, estimate(program, options, calibrate=record is None), baud, options, watch)
            report, run = deploy_on(
                driver,
                program,
                images,
                graph=graph,
                record=record,
                options=options,
                watch=watch,
                run=str(folder.final),
                network_name=Path(network).stem if network else BUNDLED_NETWORK.stem,
            )
        with watch.stage("reporting"):
            write_report(folder.part, report, run)
    return report


def deploy_on(
    driver: ChipDriver,
    program: ConductanceProgram,
    data: Dataset,
    *,
    graph: NetworkGraph | None = None,
    record: CalibrationRecord | None = None,
    options: DeployOptions | None = None,
    watch: Watch | None = None,
    run: str = "",
    network_name: str = "",
) -> tuple[AgreementReport, RunData]:
    """Program the chip behind ``driver``, run ``data`` on it, and judge measured against simulated.

    Args:
        graph: the float network, for the float column; None leaves it out.
        record: a calibration record of this chip; None calibrates first (macros in use only).

    Raises:
        FileError: scored images are among the calibration images.
        MismatchError: the record or the program is of another chip.
        hil.errors.HilError: port, link, device or description errors.
    """
    options, watch = options or DeployOptions(), watch or Watch()
    order, looks = plan_images(data, program, options)
    check_untuned(program)
    overwritten = record is None
    with watch.stage("calibrating"):
        if record is None:
            if holds(driver, program, options.age_s):
                watch.note("calibrating overwrites the program that the chip holds; --calibration RECORD keeps it")
            record = calibrate(driver, program.macros, seed=options.seed, age_s=options.age_s, watch=watch)
        check_record(record, driver, program.macros)
    check_adapted(program, driver.description.serial)
    if program.rounds > 1:
        return _deploy_rounds(driver, program, data, order, graph, record, options, watch, run, network_name)
    macros = None
    if options.adapt:
        with watch.stage("adapting"):
            adaptation = adapt_to_record(program, record, AdaptOptions(spare_reads=options.spare_reads))
            program = adaptation.program
            macros = write_order(program, record, options.age_s)
            for line in adaptation.lines():
                watch.note(line)
    source, program = program.digest, with_aims(program, record, options, watch)
    with watch.stage("programming"):
        sample = PROGRAM | (options.seed & 0xFFFF) << 32
        force = options.reprogram or overwritten
        early = EarlyReads(options.early_reads, READ_EARLY) if options.causes else None
        written = ensure_programmed(driver, program, sample=sample, force=force, watch=watch, early=early, order=macros)
    if options.rewriting is not None and written is not None:
        with watch.stage("rewriting"):
            written = rewrite_cells(
                driver, program, record, written, options.rewriting, sample=sample, watch=watch
            )  # fmt: skip
    with watch.stage("waiting"):
        driver.wait(options.age_s)
    with watch.stage("reading back"):
        readings = read_back(driver, program.macros, reads=options.read_back_reads, sample=READ_BEFORE, watch=watch)
    with watch.stage("correcting"):
        inputs = training_inputs(program)
        corrections = column_corrections(program, record, readings, inputs)
    job = Deployment(
        driver, program, record, corrections, inputs, written, readings, options, network_name, source_digest=source
    )
    with watch.stage("tuning"):
        targets = targets_for(program, options, watch)
        if targets is not None:
            tuned = tune_chip(driver, program, corrections, targets, watch)
            job = replace(job, targets=targets, tuned=tuned)
    with watch.stage("without the tune"):
        untuned = judge_untuned(job, data, order, watch)
    answers = run_looks(job, data, order, looks, graph, watch)
    with watch.stage("layers"):
        exact = exact_layers(program, data.images[order[: options.layer_images]])
        samples = sample_layers(job, exact, measure_layers(driver, program, corrections, exact, watch))
    with watch.stage("reading back"):
        after = read_back(driver, program.macros, reads=options.read_back_reads, sample=READ_AFTER, watch=watch)
    driver.outputs_off()
    causes = None
    if options.causes:
        with watch.stage("finding causes"):
            causes = find_causes(job, data, order, answers, samples, exact, watch)
    arrays = collect(job, data, order, answers, samples, after)
    return report_of(job, data, order, answers, arrays, causes, watch, run, untuned, tune_summary(job)), arrays


def _deploy_rounds(
    driver: ChipDriver,
    program: ConductanceProgram,
    data: Dataset,
    order: NDArray[np.int64],
    graph: NetworkGraph | None,
    record: CalibrationRecord,
    options: DeployOptions,
    watch: Watch,
    run: str,
    network_name: str,
) -> tuple[AgreementReport, RunData]:
    """The part after calibration, of a network larger than the chip: the chip is written for every round."""
    source, program = program.digest, with_aims(program, record, options, watch)
    inputs = training_inputs(program)
    exact = exact_layers(program, data.images[order[: options.layer_images]])
    targets = targets_for(program, options, watch)
    found = run_rounds(driver, program, record, inputs, exact, data.images[order], options, watch, targets)
    driver.outputs_off()
    written = ProgramReport(tuple(found.written))
    job = Deployment(
        driver,
        program,
        record,
        found.corrections,
        inputs,
        written,
        found.readings_us,
        options,
        network_name,
        targets=targets,
        tuned=found.tuned,
        source_digest=source,
    )
    with watch.stage("without the tune"):
        untuned = judge_untuned(job, data, order, watch, found.untuned)
    answers = run_looks(job, data, order, (len(order),), graph, watch, found.logits)
    answers.count(found.conversions)
    answers.times_ns, answers.ages_s = found.times_ns, (min(found.ages_s), max(found.ages_s))
    with watch.stage("layers"):
        samples = sample_layers(job, exact, found.layers)
    causes = None
    if options.causes:
        with watch.stage("finding causes"):
            causes = find_causes(job, data, order, answers, samples, exact, watch)
    arrays = collect(job, data, order, answers, samples, found.after_us)
    return report_of(job, data, order, answers, arrays, causes, watch, run, untuned, tune_summary(job)), arrays


def program_of(
    network: str | Path | None, *, chip: str, macros: int | None, trust: bool, watch: Watch
) -> tuple[ConductanceProgram, NetworkGraph | None]:
    """The compiled program of a network file, and its float graph (None for a program file)."""
    path = Path(network) if network else BUNDLED_NETWORK
    if path.suffix == ".h5":
        return load_program(path), None
    file = load_network(path, trust=trust)
    return compile_network(file, load_chip(chip, macros=macros), progress=watch.step), file.graph
