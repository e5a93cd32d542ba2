"""Commands of a deployment: deploy; resume, which goes on with one; show, which prints its report again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.options import (
    Baud,
    Chip,
    DataDir,
    Download,
    Emulated,
    Json,
    Macros,
    Mean,
    Net,
    Port,
    Seed,
    SpareReads,
    Std,
    chip_address,
    complain,
    floats,
    print_result,
    say,
    screen,
    seconds,
)
from hil.errors import ExitCode, FileError, UsageError

if TYPE_CHECKING:
    from hil.verdict.agreement import AgreementReport

OUTCOMES = ("disagree", "inconclusive", "regression")
FailOn = Annotated[str, typer.Option(help="outcomes that end in exit code 1, with commas; none: only errors do")]
Junit = Annotated[Path | None, typer.Option(help="write a JUnit XML file", show_default=False)]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="report.json of an earlier run; a loss of accuracy since then ends in exit code 1", show_default=False
    ),
]


def deploy(
    network: Net = None,
    port: Port = None,
    emulated: Emulated = False,
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion-mnist, cifar10, eurosat, or a path; default: the bundled images", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[int, typer.Option(help="most images to run; interim analyses at 500, 1,000, 2,000")] = 2000,
    seed: Seed = 0,
    repeat: Annotated[int, typer.Option(help="passes over the images on the chip")] = 3,
    tolerance: Annotated[float, typer.Option(help="tolerance of the verdict, in points of accuracy")] = 1.0,
    age: Annotated[str, typer.Option(help="chip time between programming and running: 30s, 1h, 2d")] = "1h",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of this chip (hil calibrate); default: the newest of earlier runs that holds, or a new one",
            show_default=False,
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="measure a new record, whatever earlier runs have measured")
    ] = False,
    record_age: Annotated[str, typer.Option(help="how old a record of an earlier run may be")] = "7d",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="run folder; default runs/NNNN", show_default=False)
    ] = None,
    reprogram: Annotated[bool, typer.Option("--reprogram", help="write even when the chip holds this program")] = False,
    no_causes: Annotated[
        bool, typer.Option("--no-causes", help="skip the causes of the gap (less simulation, one read-back less)")
    ] = False,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="avoid the stuck cells and poor columns that calibration found")
    ] = False,
    spare_reads: SpareReads = 0.0,
    no_tune: Annotated[
        bool, typer.Option("--no-tune", help="leave gains and biases as compiled (chip and virtual chips alike)")
    ] = False,
    tune_images: Annotated[int, typer.Option(help="most stored training images that the chip is tuned with")] = 128,
    rewrite: Annotated[
        int, typer.Option(min=0, max=100, help="times to write the cells again that left their window")
    ] = 0,
    rewrite_after: Annotated[str, typer.Option(help="chip time before each rewrite")] = "1s",
    no_aims: Annotated[
        bool, typer.Option("--no-aims", help="write cells to their levels, not beside them for the planned age")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print bytes, time, pulses and wear, and stop")] = False,
    device: Annotated[str, typer.Option(help="device of the simulator: cpu or cuda")] = "cpu",
    engine: Annotated[
        str,
        typer.Option(help="exact (every conversion), fast (one product, matched noise), auto: fast where as good"),
    ] = "auto",
    baud: Baud = 921600,
    patience: Annotated[
        str, typer.Option(help="how long the line may be silent or gone: 30s, 2m; 0: not at all")
    ] = "120s",
    junit: Junit = None,
    baseline: Baseline = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="go on with an unfinished run, as hil resume RUN", show_default=False),
    ] = None,
    fail_on: FailOn = ",".join(OUTCOMES),
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Program a network into a chip, run it, and compare with the calibrated simulation."""
    from hil.deployment.deploy import DeployOptions, deploy, program_of
    from hil.deployment.dry_run import estimate
    from hil.deployment.network_source import ImportOptions
    from hil.verdict.baseline import read_baseline

    failing = outcomes(fail_on)
    if resume:
        return go_on(resume, as_json=as_json, junit=junit, baseline=baseline, fail_on=fail_on)

    if calibration and recalibrate:
        raise UsageError("--calibration and --recalibrate exclude each other")
    address = chip_address(port, emulated, chip, macros)
    options = DeployOptions(
        samples=samples,
        seed=seed,
        repeats=repeat,
        tolerance=tolerance / 100,
        age_s=seconds(age),
        reprogram=reprogram,
        device=device,
        causes=not no_causes,
        adapt=adapt,
        spare_reads=spare_reads / 100,
        tune=not no_tune,
        tune_images=tune_images,
        aim=not no_aims,
        rewrite=rewrite,
        rewrite_after_s=seconds(rewrite_after),
        engine=engine,
    )
    earlier = read_baseline(baseline) if baseline else None  # before hours are spent on the chip
    with screen(quiet=False) as watch:
        if dry_run:
            imported = ImportOptions(data, data_dir, download, mean=floats(mean), std=floats(std))
            program, _ = program_of(
                network, chip=chip, macros=macros, trust=trust_model, watch=watch, imported=imported
            )
            cost = estimate(program, options, calibrate=calibration is None)
            print_result(cost.lines(baud, program.spec.write.max_pulses), cost.to_json(baud), as_json)
            return ExitCode.DONE
        report = deploy(
            network,
            address,
            chip=chip,
            macros=macros,
            data=data,
            data_dir=data_dir,
            download=download,
            calibration=calibration,
            recalibrate=recalibrate,
            record_age_s=seconds(record_age),
            out=out,
            options=options,
            baud=baud,
            mean=floats(mean),
            std=floats(std),
            patience_s=seconds(patience),
            trust=trust_model,
            watch=watch,
        )
    return tell(report, earlier, junit, failing, as_json)


def go_on(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of the run: runs/0001.unfinished")],
    as_json: Json = False,
    junit: Junit = None,
    baseline: Baseline = None,
    fail_on: FailOn = ",".join(OUTCOMES),
) -> int:
    """Go on with a deploy that was interrupted or failed: only what is missing is written and measured."""
    from hil.deployment.resume import resume
    from hil.verdict.baseline import read_baseline

    failing = outcomes(fail_on)
    earlier = read_baseline(baseline) if baseline else None
    with screen(quiet=False) as watch:
        report = resume(run_folder, watch=watch)
    return tell(report, earlier, junit, failing, as_json)


def tell(
    report: AgreementReport, earlier: AgreementReport | None, junit: Path | None, failing: set[str], as_json: bool
) -> int:
    """Print the report of a run, compare it with an earlier one, and give the exit code."""
    from hil.report.files import summary_lines
    from hil.verdict.baseline import compare_reports

    change = None if earlier is None else compare_reports(earlier, report)
    if as_json:
        baseline_part = {} if change is None else {"baseline": dataclasses.asdict(change)}
        say(json.dumps({**report.to_json(), **baseline_part}))
    else:
        for line in summary_lines(report):
            say(line)
        say(f"report         {report.run}/report.html   (hil show {report.run})")
    if change is not None:
        complain(change.text)
    found = {report.verdict.value, *(("regression",) if change is not None and change.regressed else ())}
    code = ExitCode.OUTSIDE_TOLERANCE if found & failing else ExitCode.DONE
    if junit:
        from hil.report.junit import write_junit

        write_junit(junit, report, change)
    return code


def outcomes(words: str) -> set[str]:
    """``disagree,regression`` as a set; ``none`` is empty.

    Raises:
        UsageError: a word that is no outcome.
    """
    found = {word.strip() for word in words.split(",")} - {"none"}
    if not found <= set(OUTCOMES):
        wrong = ", ".join(sorted(found - set(OUTCOMES)))
        raise UsageError(f"--fail-on {wrong!r}", hint=f"one or more of {','.join(OUTCOMES)}, or none")
    return found


def show(
    run_folder: Annotated[Path, typer.Argument(help="run folder, or its report.json")], as_json: Json = False
) -> int:
    """Print the report of an earlier run."""
    from cim.files import read_text
    from hil.report.files import summary_lines
    from hil.verdict.agreement import MAX_REPORT_BYTES, AgreementReport

    path = run_folder / "report.json" if run_folder.is_dir() else run_folder
    try:
        text = read_text(path, MAX_REPORT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"no report at {path}", likely=str(error), hint="hil show runs/0001") from error
    report = AgreementReport.from_text(text, str(path))
    if as_json:
        say(json.dumps(report.to_json()))
    else:
        for line in summary_lines(report):
            say(line)
    return int(report.exit_code)
