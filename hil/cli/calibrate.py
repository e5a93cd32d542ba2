"""Commands of the belief: calibrate a chip, predict from its record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baud,
    Chip,
    ChipAsked,
    DataDir,
    Download,
    Emulated,
    Json,
    Macros,
    Net,
    Port,
    Seed,
    chip_address,
    numbers,
    print_result,
    screen,
    seconds,
    writing,
)
from hil.errors import ExitCode, Interrupted, UsageError


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", help="the record to write")],
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    only: Annotated[str, typer.Option(help="macros to measure: 0-3,7; default all", show_default=False)] = "",
    age: Annotated[str, typer.Option(help="age at which cells and columns are measured")] = "1h",
    quick: Annotated[bool, typer.Option("--quick", help="fewer vectors and reads, larger errors")] = False,
    full: Annotated[bool, typer.Option("--full", help="more vectors, reads and ages, smaller errors")] = False,
    second_temperature: Annotated[
        str | None,
        typer.Option(help="measure again when the chip says it has this temperature, 60 or 60C", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted calibration")] = False,
    seed: Seed = 0,
    baud: Baud = 921600,
    as_json: Json = False,
) -> int:
    """Measure a chip through the driver: stuck cells, writing, relaxation, read noise, columns, wires."""
    from cim.record.file import save_record
    from hil.calibration.plan import Budget
    from hil.calibration.procedure import calibrate
    from hil.calibration.record_text import record_lines
    from hil.calibration.store import discard_steps, partial_folder
    from hil.driver.open_chip import open_chip

    if quick and full:
        raise UsageError("--quick and --full exclude each other")
    address = chip_address(port, emulated, chip, macros)
    with screen(quiet=as_json) as watch, open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
        chosen = numbers(only, driver.spec.macros) if only else tuple(range(driver.spec.macros))
        try:
            record = calibrate(
                driver,
                chosen,
                seed=seed,
                age_s=seconds(age),
                budget=Budget.QUICK if quick else Budget.FULL if full else Budget.DEFAULT,
                second_temperature_c=None if second_temperature is None else celsius(second_temperature),
                partial=partial_folder(out),
                resume=resume,
                watch=watch,
            )
        except Interrupted as error:
            again = [a for a in sys.argv[1:] if a != "--resume"]
            raise Interrupted(error.what, hint=f"hil {shlex.join([*again, '--resume'])}") from None
    with writing(out):
        save_record(record, out)
    discard_steps(partial_folder(out))
    print_result(record_lines(record), {"record": str(out), "serial": record.serial, "macros": list(chosen)}, as_json)
    return ExitCode.DONE


def fit(
    table: Annotated[
        Path | None, typer.Argument(help="table of cell readings: .csv, .tsv (.gz) or .h5", show_default=False)
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(
            "--set", help="levy-tech-a, -b, -c, ember-1, ember-2 or bench, instead of a table", show_default=False
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="where public sets lie (also HIL_DATA)", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the record to write", show_default=False)] = None,
    hold_out: Annotated[
        str | None, typer.Option(help="cells that judge the fit: odd or quarter; default quarter", show_default=False)
    ] = None,
    ages_to: Annotated[
        str | None, typer.Option(help="fit up to this age only; later ages judge", show_default=False)
    ] = None,
    test_on: Annotated[
        str | None, typer.Option(help="another table or set that the law is judged on", show_default=False)
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="record that gives the parts that a table cannot tell", show_default=False)
    ] = None,
    us_per_level: Annotated[
        float | None, typer.Option(help="µS of one level, where a set has levels only", show_default=False)
    ] = None,
    temperature: Annotated[str, typer.Option(help="temperature of the readings")] = "25C",
    as_json: Json = False,
) -> int:
    """Fit the device model to tables of cell readings, without a board; say how well it predicts other cells."""
    from hil.device_fit.inputs import fit_source

    with screen(quiet=as_json) as watch:
        result = fit_source(
            table,
            public,
            data,
            hold_out=hold_out,
            ages_to_s=None if ages_to is None else seconds(ages_to),
            test_on=test_on,
            base=base,
            us_per_level=us_per_level,
            temperature_c=celsius(temperature),
            record_wanted=out is not None,
            watch=watch,
        )
    lines, found = result.lines(), {"record": str(out) if out else None, **result.to_json()}
    if out is not None and result.record is not None:
        from cim.record.file import save_record

        with writing(out):
            save_record(result.record, out)
        lines += ["", f"record         {out}"]
    print_result(lines, found, as_json)
    return ExitCode.DONE


calibration = typer.Typer(
    help="Look at calibration records: show one, compare two, draw one.", no_args_is_help=True, rich_markup_mode=None
)


@calibration.command("show")
def show_record(
    record: Annotated[Path, typer.Argument(help="record.h5 of hil calibrate or hil fit")], as_json: Json = False
) -> int:
    """Everything that a record holds, with standard errors and goodness."""
    from cim.record.file import load_record
    from hil.calibration.record_text import record_json, show_lines

    loaded = load_record(record)
    print_result(show_lines(loaded), record_json(loaded), as_json)
    return ExitCode.DONE


@calibration.command("diff")
def diff_records(
    first: Annotated[Path, typer.Argument(help="record.h5")],
    second: Annotated[Path, typer.Argument(help="record.h5")],
    as_json: Json = False,
) -> int:
    """What changed from the first record to the second beyond their errors; exit code 1 when something did."""
    from cim.record.file import load_record
    from hil.calibration.record_changes import diff_records

    found = diff_records(load_record(first), load_record(second))
    print_result(found.lines(), found.to_json(), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if found.changed else ExitCode.DONE


@calibration.command("plot")
def plot_record(
    record: Annotated[Path, typer.Argument(help="record.h5")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="page to write; default: beside the record", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """One self-contained page: law by level and age, read noise, columns, INL, stuck cells, pulses."""
    from cim.record.file import load_record
    from hil.atomic import write_text
    from hil.calibration.record_page import record_page

    page = out or record.with_suffix(".html")
    write_text(page, record_page(load_record(record)))
    print_result([f"page           {page}"], {"page": str(page)}, as_json)
    return ExitCode.DONE


def simulate(
    network: Net = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of a chip (hil calibrate) or of cells (hil fit); default: the models of the chip file",
            show_default=False,
        ),
    ] = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[str | None, typer.Option(help="data set or path", show_default=False)] = None,
    data_dir: DataDir = None,
    download: Download = False,
    samples: Annotated[int, typer.Option(help="images")] = 1000,
    chips: Annotated[int, typer.Option(help="virtual chips; they are drawn and run one after the other")] = 20,
    age: Annotated[str, typer.Option(help="age after programming; several give a table: 1h,1d,30d")] = "1h",
    temperature: Annotated[
        str | None, typer.Option(help="temperature of the reads, 60 or 60C; default: the record's", show_default=False)
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(help="percent; says which share of chips reaches it", show_default=False)
    ] = None,
    engine: Annotated[
        str, typer.Option(help="exact (every conversion) or fast (one product, matched noise)")
    ] = "exact",
    tune_at: Annotated[
        str, typer.Option(help="when each chip is tuned to its own answers: each age, never, or at one of the ages: 1h")
    ] = "each",
    rewrite: Annotated[
        int, typer.Option(min=0, max=100, help="times to write the cells again that left their window")
    ] = 0,
    rewrite_after: Annotated[str, typer.Option(help="chip time before each rewrite")] = "1s",
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Predict accuracy on such chips, programmed again: at any age and temperature, and which share is good enough."""
    from cim.record.file import load_record
    from hil.datasets.image_set import load_dataset
    from hil.deployment.deploy import BUNDLED_DATA, DeployOptions, program_of
    from hil.prediction.predict import Tuning, predict

    ages = tuple(seconds(part) for part in age.split(","))
    if engine not in ("exact", "fast"):
        raise UsageError(f"engine {engine!r}", hint="--engine exact or --engine fast")
    options = DeployOptions(
        samples=samples,
        seed=seed,
        virtual_chips=chips,
        age_s=ages[0],
        device=device,
        rewrite=rewrite,
        rewrite_after_s=seconds(rewrite_after),
    )
    with screen(quiet=as_json) as watch:
        with watch.stage("compiling"):
            program, _ = program_of(network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        images = load_dataset(data or BUNDLED_DATA, "test", data_dir=data_dir, download=download)
        result = predict(
            program,
            images,
            load_record(calibration) if calibration else None,
            options,
            watch,
            ages_s=ages,
            temperature_c=None if temperature is None else celsius(temperature),
            target=None if target_accuracy is None else target_accuracy / 100.0,
            engine=engine,
            tune_at=Tuning(tune_at) if tune_at in tuple(Tuning) else seconds(tune_at),
        )
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


def celsius(text: str) -> float:
    """Degrees of "60", "60C" or "60 °C"; from absolute zero to 500 °C."""
    number = text.strip().removesuffix("C").removesuffix("c").removesuffix("°").strip()
    try:
        value = float(number)
    except ValueError:
        value = -1e9
    if not -273.15 <= value <= 500.0:
        raise UsageError(f"{text!r} is no temperature", hint="write 60 or 60C, in degrees Celsius")
    return value
