"""The command line: words for people, and exit codes for machines.

Each command parses, calls one function of a room below, and prints. Nothing here is worth a
test of its own beyond the words; torch and the rooms are imported inside the commands, so that
``hil --help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.errors import ExitCode, FileError, HilError, UsageError

if TYPE_CHECKING:
    from hil.screen import Screen

app = typer.Typer(
    help="Deploy neural networks on RRAM compute-in-memory chips, and compare measured with simulated accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Errors of the rooms below that know no exit codes: qualified name -> code.
EXIT_CODES = {
    "cim.chipfile.NewerChipFile": ExitCode.MISMATCH,
    "cim.chipfile.ChipFileError": ExitCode.BAD_FILE,
    "cim.calibration_file.NewerRecord": ExitCode.MISMATCH,
    "cim.calibration_file.RecordFileError": ExitCode.BAD_FILE,
    "cim.calibration.NotCalibrated": ExitCode.MISMATCH,
    "cim.fit_cells.TooFewCells": ExitCode.DEVICE,
    "cim.fit.TooFewVectors": ExitCode.DEVICE,
    "mapping.errors.CannotMap": ExitCode.CANNOT_MAP,
    "mapping.errors.NewerVersion": ExitCode.MISMATCH,
    "mapping.errors.ProgramFileError": ExitCode.BAD_FILE,
    "mapping.netcheck.NewerVersionError": ExitCode.MISMATCH,
    "mapping.netcheck.NetworkFileError": ExitCode.BAD_FILE,
    "mapping.capture.UnsupportedOperation": ExitCode.CANNOT_MAP,
    "mapping.onnx_import.MissingExtra": ExitCode.USAGE,
    "mapping.graph.GraphError": ExitCode.BAD_FILE,
}

Net = Annotated[Path | None, typer.Argument(help="net.pt, or a compiled program.h5", show_default=False)]
Port = Annotated[
    str | None,
    typer.Option(
        help="/dev/ttyUSB0, COM5, tcp://host:port, unix:path, visa:RESOURCE, emulated:CHIP?seed=7, replay:LOG",
        show_default=False,
    ),
]
Emulated = Annotated[bool, typer.Option("--emulated", help="use a stand-in chip (NOT SILICON); --chip says which")]
Chip = Annotated[str, typer.Option(help="chip file: a name from `hil chips`, or a path to a .toml")]
ChipAsked = Annotated[
    str | None,
    typer.Option(help="chip file; default: the one of the name that the chip gives, lab-128 with --emulated"),
]
Macros = Annotated[
    int | None, typer.Option(min=1, help="another number of macros than the chip file's", show_default=False)
]
Seed = Annotated[int, typer.Option(help="seed of the host: image order and virtual chips")]
Baud = Annotated[int, typer.Option(help="baud rate of a serial port")]
DataDir = Annotated[Path | None, typer.Option(help="where data sets lie (also HIL_DATA)", show_default=False)]
Download = Annotated[bool, typer.Option("--download", help="allow torchvision to fetch a known data set, checked")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout; words and progress go to stderr")]


def main() -> None:
    """Entry point of the ``hil`` script: runs a command and leaves with its exit code."""
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the answer stands; a late Ctrl-C must not change its code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line and give its exit code; every error becomes words on stderr."""
    try:
        code = int(app(arguments, standalone_mode=False, prog_name="hil") or 0)
        if code == ExitCode.CTRL_C:  # Typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        return code
    except (typer.Abort, KeyboardInterrupt):
        complain("interrupted; nothing half-written was left")
        return ExitCode.CTRL_C
    except HilError as error:
        complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            complain(f"error: cannot write: {error.strerror}\n  where   {error.filename}\n  try     free some space")
            return ExitCode.CANNOT_WRITE
        return bug(error)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "format_message"):  # a usage error of the parser
            error.show()
            return ExitCode.USAGE
        known = code_of(error)
        if known is None:
            return bug(error)
        complain(f"error: {error}")
        return known


def code_of(error: Exception) -> ExitCode | None:
    for kind in type(error).__mro__:
        code = EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None


def bug(error: Exception) -> int:
    traceback.print_exc()
    complain(f"error: this is a bug of hil: {type(error).__name__}: {error}\n  try     report it with the lines above")
    return ExitCode.BUG


def complain(text: str) -> None:
    print(text, file=sys.stderr)


def say(text: str = "") -> None:
    print(text)


@contextmanager
def screen(quiet: bool) -> Iterator[Screen]:
    """Progress on stderr while a command runs."""
    from hil.screen import Screen

    with Screen(quiet=quiet) as shown:
        yield shown


def chip_address(port: str | None, emulated: bool, chip: str | None, macros: int | None) -> str:
    """The address named by --port or --emulated; exactly one of them, never a silent choice."""
    if bool(port) == emulated:
        raise UsageError(
            "name the chip: either --port ADDRESS or --emulated"
            if not port
            else "--port and --emulated exclude each other",
            hint="hil ports lists serial ports; hil deploy --emulated needs no chip",
        )
    if port:
        return port
    return f"emulated:{chip or 'lab-128'}?seed=0" + (f"&macros={macros}" if macros else "")


@app.command()
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
    samples: Annotated[int, typer.Option(help="most images to run; looks at 500, 1,000, 2,000 below it")] = 2000,
    seed: Seed = 0,
    repeat: Annotated[int, typer.Option(help="passes over the images on the chip")] = 3,
    tolerance: Annotated[float, typer.Option(help="tolerance of the verdict, in points of accuracy")] = 1.0,
    age: Annotated[str, typer.Option(help="chip time between programming and running: 30s, 1h, 2d")] = "1h",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of this chip (hil calibrate); default: calibrate the macros in use", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/NNNN", show_default=False)] = None,
    reprogram: Annotated[bool, typer.Option("--reprogram", help="write even if the chip holds this program")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print bytes, time, pulses and wear")] = False,
    device: Annotated[str, typer.Option(help="where the simulator runs: cpu or cuda")] = "cpu",
    baud: Baud = 921600,
    junit: Annotated[Path | None, typer.Option(help="write a JUnit XML file", show_default=False)] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="earlier report.json; a loss beyond its interval is exit 1", show_default=False),
    ] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Program a network into a chip, run it, and compare with the calibrated simulation."""
    from hil.baseline import compare_reports, read_baseline
    from hil.deployment import DeployOptions, deploy, program_of
    from hil.dryrun import estimate
    from hil.report import summary_lines

    address = chip_address(port, emulated, chip, macros)
    options = DeployOptions(
        samples=samples,
        seed=seed,
        repeats=repeat,
        tolerance=tolerance / 100,
        age_s=seconds(age),
        reprogram=reprogram,
        device=device,
    )
    earlier = read_baseline(baseline) if baseline else None  # before hours are spent on the chip
    with screen(quiet=False) as watch:
        if dry_run:
            program, _ = program_of(network, chip=chip, macros=macros, trust=trust_model, watch=watch)
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
            out=out,
            options=options,
            baud=baud,
            trust=trust_model,
            watch=watch,
        )
    if as_json:
        say(json.dumps(report.to_json()))
    else:
        for line in summary_lines(report):
            say(line)
        say(f"report         {report.run}/report.html   (hil show {report.run})")
    code, change = int(report.exit_code), None
    if earlier is not None:
        change = compare_reports(earlier, report)
        complain(change.text)
        code = code or (ExitCode.OUTSIDE_TOLERANCE if change.regressed else ExitCode.DONE)
    if junit:
        from hil.junit import write_junit

        write_junit(junit, report, change)
    return code


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", help="the record to write")],
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    only: Annotated[str, typer.Option(help="macros to measure: 0-3,7; default all", show_default=False)] = "",
    age: Annotated[str, typer.Option(help="age at which cells and columns are measured")] = "1h",
    full: Annotated[bool, typer.Option("--full", help="four times the vectors and reads")] = False,
    seed: Seed = 0,
    baud: Baud = 921600,
    as_json: Json = False,
) -> int:
    """Measure a chip through the driver: stuck cells, programming spread, read noise, column gain and offset."""
    from cim.calibration_file import save_record
    from hil.calibrate import calibrate, record_lines
    from hil.open import open_chip

    address = chip_address(port, emulated, chip, macros)
    with screen(quiet=as_json) as watch, open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
        chosen = numbers(only, driver.spec.macros) if only else tuple(range(driver.spec.macros))
        record = calibrate(driver, chosen, seed=seed, age_s=seconds(age), effort=4 if full else 1, watch=watch)
    with writing(out):
        save_record(record, out)
    print_result(record_lines(record), {"record": str(out), "serial": record.serial, "macros": list(chosen)}, as_json)
    return ExitCode.DONE


@app.command()
def compile(
    network: Annotated[Path, typer.Argument(help="net.pt")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="program.h5 to write", show_default=False)] = None,
    weight_bits: Annotated[
        int | None, typer.Option(min=2, max=8, help="2 to 8; default: the network file's", show_default=False)
    ] = None,
    activation_bits: Annotated[
        int | None, typer.Option(min=2, max=8, help="2 to 8; default: the network file's", show_default=False)
    ] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Compile a network into a conductance program: layers, tiles, macros, utilisation."""
    from cim.chipfile import load_chip
    from mapping.compile import compile_network, plan
    from mapping.netfile import load_network
    from mapping.program_file import save_program

    spec = load_chip(chip, macros=macros)
    with screen(quiet=as_json) as watch, watch.stage("compiling"):
        program = compile_network(
            load_network(network, trust=trust_model),
            spec,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            progress=watch.step,
        )
    if out:
        with writing(out):
            save_program(program, out)
    summary = plan(program)
    print_result(summary.lines(), {**summary.to_json(), "program": str(out) if out else None}, as_json)
    return ExitCode.DONE


@app.command()
def simulate(
    network: Annotated[Path, typer.Argument(help="net.pt or program.h5")],
    calibration: Annotated[Path, typer.Option(help="record of the chip (hil calibrate)")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[str | None, typer.Option(help="data set or path", show_default=False)] = None,
    data_dir: DataDir = None,
    download: Download = False,
    samples: Annotated[int, typer.Option(help="images")] = 1000,
    chips: Annotated[int, typer.Option(help="virtual chips")] = 20,
    age: Annotated[str, typer.Option(help="age after programming")] = "1h",
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Predict accuracy on such a chip, programmed again, from its calibration record alone."""
    from cim.calibration_file import load_record
    from hil.data import load_dataset
    from hil.deployment import BUNDLED_DATA, DeployOptions, program_of
    from hil.predict import predict

    options = DeployOptions(samples=samples, seed=seed, virtual_chips=chips, age_s=seconds(age), device=device)
    with screen(quiet=as_json) as watch:
        with watch.stage("compiling"):
            program, _ = program_of(network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        images = load_dataset(data or BUNDLED_DATA, "test", data_dir=data_dir, download=download)
        result = predict(program, images, load_record(calibration), options, watch)
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="state dict .pt, .safetensors or .onnx")],
    out: Annotated[Path, typer.Option("--out", "-o", help="net.pt to write")],
    arch: Annotated[str | None, typer.Option(help="architecture name or JSON graph", show_default=False)] = None,
    data: Annotated[str, typer.Option(help="data set whose training images calibrate the network")] = "fashion-mnist",
    data_dir: DataDir = None,
    download: Download = False,
    images: Annotated[int, typer.Option(min=1, help="training images to store for calibration")] = 128,
    weight_bits: Annotated[int, typer.Option(min=2, max=8, help="weight bits, 2 to 8")] = 4,
    activation_bits: Annotated[int, typer.Option(min=2, max=8, help="activation bits, 2 to 8")] = 8,
    mean: Annotated[
        str | None, typer.Option(help="per channel, of pixels in 0…1: 0.5,0.5,0.5", show_default=False)
    ] = None,
    std: Annotated[str | None, typer.Option(help="per channel", show_default=False)] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
) -> int:
    """Make a net.pt from weights of others."""
    from hil.importing import import_network

    with screen(quiet=False) as watch:
        network = import_network(
            source,
            arch=arch,
            data=data,
            data_dir=data_dir,
            download=download,
            images=images,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            mean=floats(mean),
            std=floats(std),
            trust=trust_model,
            watch=watch,
        )
    from mapping.netfile import save_network

    with writing(out):
        save_network(network, out)
    say(f"{out}   {len(network.graph.nodes)} nodes, W{weight_bits}A{activation_bits}, {images} calibration images")
    return ExitCode.DONE


@app.command()
def emulate(
    chip: Chip = "lab-128",
    macros: Macros = None,
    chip_seed: Annotated[int, typer.Option(help="seed of the hidden chip")] = 0,
    pty: Annotated[bool, typer.Option("--pty", help="serve on a new pseudo-terminal")] = False,
    tcp: Annotated[str | None, typer.Option(help="serve on HOST:PORT", show_default=False)] = None,
    unix: Annotated[Path | None, typer.Option(help="serve on a socket file", show_default=False)] = None,
) -> int:
    """Serve an emulated chip to any client, until Ctrl-C."""
    from hil.emulator.address import chip_from_address
    from hil.serve import serve_pty, serve_tcp, serve_unix

    if sum(map(bool, (pty, tcp, unix))) != 1:
        raise UsageError("name one of --pty, --tcp HOST:PORT, --unix PATH")
    served = chip_from_address(f"emulated:{chip}?seed={chip_seed}" + (f"&macros={macros}" if macros else ""))

    def ready(where: str) -> None:
        print(where, flush=True)
        complain(f"emulated {chip} (NOT SILICON) serves {where}; Ctrl-C ends it")

    if pty:
        serve_pty(served, ready)
    elif tcp:
        serve_tcp(served, tcp, ready)
    elif unix:
        serve_unix(served, str(unix), ready)
    return ExitCode.DONE


@app.command()
def chips(
    action: Annotated[str | None, typer.Argument(help="show", show_default=False)] = None,
    name: Annotated[str | None, typer.Argument(help="name or path of a chip file", show_default=False)] = None,
    as_json: Json = False,
) -> int:
    """List chip files, or show one: hil chips show lab-128."""
    from cim.chipfile import chip_names, load_chip
    from hil.chipwords import chip_lines, chip_row

    if action is None:
        specs = [load_chip(n) for n in chip_names()]
        print_result([chip_row(s) for s in specs], {"chips": [s.name for s in specs]}, as_json)
        return ExitCode.DONE
    if action != "show" or name is None:
        raise UsageError(f"hil chips {action or ''} is no command", hint="hil chips show NAME")
    spec = load_chip(name)
    from cim.chipfile import description

    print_result(chip_lines(spec), {**description(spec), "digest": spec.digest, "provenance": spec.provenance}, as_json)
    return ExitCode.DONE


@app.command()
def ports(as_json: Json = False) -> int:
    """List serial ports, likely boards first."""
    from hil.ports import list_ports

    found = list_ports()
    lines = [f"{p.device:<20} {p.description}" for p in found] or [
        "no serial port found; hil deploy --emulated needs none"
    ]
    print_result(lines, {"ports": [{"device": p.device, "description": p.description} for p in found]}, as_json)
    return ExitCode.DONE


@app.command()
def info(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    baud: Baud = 921600,
    as_json: Json = False,
) -> int:
    """Ask a chip who it is, what it can do and how it feels."""
    from hil.chipwords import info_lines, info_record
    from hil.open import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        status = driver.status()
        print_result(info_lines(driver, status), info_record(driver, status), as_json)
    return ExitCode.DONE


@app.command()
def doctor(as_json: Json = False) -> int:
    """Check this machine: versions, ports and permissions, data sets, room for results."""
    from hil.doctor import checks

    found = checks()
    lines = [f"{'ok' if c.ok else 'MISSING':<8} {c.name:<22} {c.text}" for c in found]
    print_result(lines, {c.name: {"ok": c.ok, "text": c.text} for c in found}, as_json)
    return ExitCode.DONE


@app.command()
def mvm(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    macro: Annotated[int, typer.Option(help="which macro")] = 0,
    rows: Annotated[int, typer.Option(help="logical rows driven, from row 0")] = 16,
    outputs: Annotated[int, typer.Option(help="outputs read, from output 0")] = 8,
    level: Annotated[int | None, typer.Option(help="program this level everywhere first", show_default=False)] = None,
    code: Annotated[
        int | None, typer.Option(help="input code on every row; default the largest", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(help="reads")] = 4,
    range_code: Annotated[
        int | None, typer.Option(help="ADC range; default the smallest that holds the sum", show_default=False)
    ] = None,
    baud: Baud = 921600,
    as_json: Json = False,
) -> int:
    """Multiply one vector by one tile, several times: the first measurement on a bench."""
    from hil.bench import first_mvm
    from hil.open import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        result = first_mvm(
            driver,
            macro=macro,
            rows=rows,
            outputs=outputs,
            level=level,
            code=code,
            repeat=repeat,
            range_code=range_code,
        )
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


@app.command()
def cells(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    macro: Annotated[int, typer.Option(help="which macro")] = 0,
    reads: Annotated[int, typer.Option(help="reads averaged")] = 4,
    out: Annotated[Path | None, typer.Option(help="write all readings as CSV, µS", show_default=False)] = None,
    baud: Baud = 921600,
    as_json: Json = False,
) -> int:
    """Read every cell of a macro."""
    from hil.bench import cell_map
    from hil.open import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        result = cell_map(driver, macro=macro, reads=reads)
    if out:
        result.write_csv(out)
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


@app.command()
def show(
    run_folder: Annotated[Path, typer.Argument(help="run folder, or its report.json")], as_json: Json = False
) -> int:
    """Print the report of an earlier run."""
    from hil.agreement import AgreementReport
    from hil.report import summary_lines

    path = run_folder / "report.json" if run_folder.is_dir() else run_folder
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"no report at {path}", likely=str(error), hint="hil show runs/0001") from error
    report = AgreementReport.from_text(text, str(path))
    if as_json:
        say(json.dumps(report.to_json()))
    else:
        for line in summary_lines(report):
            say(line)
    return int(report.exit_code)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system while one output is written: disk full, no permission, no such folder."""
    from hil.atomic import output_error

    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def print_result(lines: list[str], record: dict[str, Any], as_json: bool) -> None:
    """Words for people, or one versioned JSON object."""
    if as_json:
        say(json.dumps({"schema": "hil.answer/1.0", **record}, default=str))
        return
    for line in lines:
        say(line)


def seconds(text: str) -> float:
    """Seconds of "30s", "5m", "1h", "2d" or a plain number."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e10:
        raise UsageError(f"{text!r} is no duration", hint="write 30s, 5m, 1h or 2d")
    return value


def numbers(text: str, count: int) -> tuple[int, ...]:
    """Macro numbers of "0-3,7", each below ``count``."""
    chosen: set[int] = set()
    try:
        for part in text.split(","):
            low, _, high = part.partition("-")
            chosen.update(range(int(low), int(high or low) + 1) if int(high or low) < count else [count])
    except ValueError:
        chosen = {count}
    if not chosen or max(chosen) >= count:
        raise UsageError(f"{text!r} names no macros of 0 to {count - 1}", hint="write 0-3,7")
    return tuple(sorted(chosen))


def floats(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of numbers", hint="write 0.5,0.5,0.5") from None


if __name__ == "__main__":
    main()
