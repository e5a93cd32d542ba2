"""Commands of a deployment: import, compile, deploy, show."""

from __future__ import annotations

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
    LayerBitsAsked,
    Macros,
    Net,
    Port,
    Seed,
    SpareReads,
    chip_address,
    complain,
    floats,
    layer_bits,
    one_of,
    print_result,
    say,
    screen,
    seconds,
    writing,
)
from hil.errors import ExitCode, FileError, UsageError

if TYPE_CHECKING:
    from mapping.layout.place import Placement


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
    no_causes: Annotated[
        bool, typer.Option("--no-causes", help="do not split the gap by cause (less simulation, one read-back less)")
    ] = False,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="go around the stuck cells and poor columns that calibration found")
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
    from hil.deployment.deploy import DeployOptions, deploy, program_of
    from hil.deployment.dry_run import estimate
    from hil.report.files import summary_lines
    from hil.verdict.baseline import compare_reports, read_baseline

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
        from hil.report.junit import write_junit

        write_junit(junit, report, change)
    return code


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
    placement: Annotated[
        str | None,
        typer.Option(
            help="spread (one tile a macro) or packed (few macros); default: spread while macros last, else packed",
            show_default=False,
        ),
    ] = None,
    copies_budget: Annotated[
        str | None,
        typer.Option(help="macros to use in all, for copies of slow layers: a number or all", show_default=False),
    ] = None,
    rounds: Annotated[
        bool, typer.Option("--rounds", help="write a network larger than the chip part after part")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="say why each tile is where it is")] = False,
    layers: LayerBitsAsked = None,
    weight_scales: Annotated[
        str, typer.Option(help="largest, rounding or output: what the scale of the weights is chosen by")
    ] = "rounding",
    slices: Annotated[
        str, typer.Option(help="where bit slices of a weight lie: columns of one macro, or macros apart")
    ] = "macros",
    plot: Annotated[
        Path | None, typer.Option(help="page of macros, tiles and conductances to write", show_default=False)
    ] = None,
    weight_form: Annotated[
        str, typer.Option(help="pairs with one cell at rest (sign) or both about the middle (balanced)")
    ] = "sign",
    record: Annotated[
        Path | None,
        typer.Option(help="record of one chip (hil calibrate): adapt the program to that chip", show_default=False),
    ] = None,
    spare_reads: SpareReads = 0.0,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Compile a network into a conductance program: layers, tiles, macros, utilisation."""
    from cim.chip.encoding import WeightForm
    from cim.chip.file import load_chip
    from hil.deployment.dry_run import round_costs
    from mapping.compile import LayoutOptions, compile_network, plan
    from mapping.layout.tile import SlicePlacement
    from mapping.network.file import load_network
    from mapping.program.explain import explain as explain_program
    from mapping.program.file import save_program
    from mapping.quantise.weight_scales import ScaleRule

    rule, lying = one_of(ScaleRule, weight_scales, "--weight-scales"), one_of(SlicePlacement, slices, "--slices")
    form = one_of(WeightForm, weight_form, "--weight-form")
    if spare_reads and not record:
        raise UsageError("--spare-reads needs the record of a chip", hint="--record RECORD, of hil calibrate")
    spec = load_chip(chip, macros=macros)
    options = LayoutOptions(placement_of(placement), budget_of(copies_budget, spec.macros), rounds, lying)
    with screen(quiet=as_json) as watch, watch.stage("compiling"):
        program = compile_network(
            load_network(network, trust=trust_model),
            spec,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            options=options,
            layer_bits=layer_bits(layers),
            scale_rule=rule,
            weight_form=form,
            progress=watch.step,
        )
    adaptation = None
    if record:
        from cim.record.file import load_record
        from hil.deployment.adaptation import adapt_to_record
        from mapping.adapt.adaptation import AdaptOptions

        with screen(quiet=as_json) as watch, watch.stage("adapting"):
            adaptation = adapt_to_record(program, load_record(record), AdaptOptions(spare_reads=spare_reads / 100))
            program = adaptation.program
    if out:
        with writing(out):
            save_program(program, out)
    if plot:
        from hil.atomic import write_text
        from hil.report.mapping_page import mapping_page

        with writing(plot):
            write_text(plot, mapping_page(program))
    summary = plan(program)
    lines, found = summary.lines(), {**summary.to_json(), "program": str(out) if out else None}
    if adaptation:
        lines, found = [*lines, *adaptation.lines()], {**found, "adaptation": adaptation.to_json()}
    if program.rounds > 1:
        found["writing"] = round_costs(program)
        lines += [
            f"  writing round {c['round']}: about {c['pulses']} pulses, {c['chip_s']:.1f} s of chip time"
            for c in found["writing"]
        ]
    if explain:
        said = explain_program(program)
        lines += ["", *said.lines()]
        found["explanation"] = said.to_json()
    print_result(lines, found, as_json)
    return ExitCode.DONE


def placement_of(text: str | None) -> Placement | None:
    from mapping.layout.place import Placement

    if text is None:
        return None
    try:
        return Placement(text)
    except ValueError:
        raise UsageError(f"no placement {text!r}", hint="--placement spread or --placement packed") from None


def budget_of(text: str | None, macros: int) -> int | None:
    """Macros of ``--copies-budget``: a number, or "all" of the chip's."""
    if text is None or text == "all":
        return macros if text else None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{text!r} is no number of macros", hint="--copies-budget 32 or --copies-budget all")
    return int(text)


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
    layers: LayerBitsAsked = None,
    mean: Annotated[
        str | None, typer.Option(help="per channel, of pixels in 0…1: 0.5,0.5,0.5", show_default=False)
    ] = None,
    std: Annotated[str | None, typer.Option(help="per channel", show_default=False)] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
) -> int:
    """Make a net.pt from weights of others."""
    from hil.deployment.import_weights import import_network

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
            layer_bits=layer_bits(layers),
            mean=floats(mean),
            std=floats(std),
            trust=trust_model,
            watch=watch,
        )
    from mapping.network.file import save_network

    with writing(out):
        save_network(network, out)
    say(f"{out}   {len(network.graph.nodes)} nodes, W{weight_bits}A{activation_bits}, {images} calibration images")
    return ExitCode.DONE


def show(
    run_folder: Annotated[Path, typer.Argument(help="run folder, or its report.json")], as_json: Json = False
) -> int:
    """Print the report of an earlier run."""
    from hil.report.files import summary_lines
    from hil.verdict.agreement import AgreementReport

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
