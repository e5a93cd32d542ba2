"""Commands that make files of networks and programs: import, compile."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import (
    Chip,
    DataDir,
    Download,
    Effort,
    Json,
    LayerBitsAsked,
    Macros,
    Mean,
    Std,
    Task,
    With,
    Without,
    floats,
    layer_bits,
    one_of,
    output_file,
    print_result,
    screen,
    trained,
    writing,
)
from hil.cli.terminal.lines import say
from hil.errors import ExitCode, UsageError
from mapping.bits import ACTIVATION_BITS, LEAST, MOST, WEIGHT_BITS

if TYPE_CHECKING:
    from hil.cli.terminal.told import Told
    from mapping.layout.place import Placement


def import_(
    source: Annotated[Path, typer.Argument(help="state dict .pt, .safetensors, .onnx, .tflite, .pt2, or timm:NAME …")],
    out: Annotated[Path, typer.Option("--out", "-o", help="net.pt to write", callback=output_file)],
    arch: Annotated[str | None, typer.Option(help="architecture name or JSON graph", show_default=False)] = None,
    data: Annotated[str, typer.Option(help="data set whose training images calibrate the network")] = "fashion-mnist",
    data_dir: DataDir = None,
    download: Download = False,
    images: Annotated[int, typer.Option(min=1, help="training images to store for calibration")] = 128,
    weight_bits: Annotated[int, typer.Option(min=LEAST, max=MOST, help="weight bits, 2 to 8")] = WEIGHT_BITS,
    activation_bits: Annotated[
        int, typer.Option(min=LEAST, max=MOST, help="activation bits, 2 to 8")
    ] = ACTIVATION_BITS,
    layers: LayerBitsAsked = None,
    mean: Mean = None,
    std: Std = None,
    task: Task = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
) -> int:
    """Make a net.pt from pretrained weights."""
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
            task=task or "",
            watch=watch,
        )
    from mapping.network.file import save_network

    with writing(out):
        save_network(network, out)
    graph, stored = network.graph, len(network.calibration_images)
    widths, less = f"W{network.weight_bits}A{network.activation_bits}", f" (all of {data}'s)" if stored < images else ""
    say(f"{out}   {graph.purpose}, {len(graph.nodes)} nodes, {widths}, {stored} calibration images{less}")
    return ExitCode.DONE


def compile(
    network: Annotated[
        Path | None,
        typer.Argument(
            help="net.pt, model.onnx, .tflite, .pt2 or timm:NAME …; default: the bundled network", show_default=False
        ),
    ] = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="program.h5 to write", show_default=False, callback=output_file)
    ] = None,
    weight_bits: Annotated[
        int | None, typer.Option(min=LEAST, max=MOST, help="2 to 8; default: the network file's", show_default=False)
    ] = None,
    activation_bits: Annotated[
        int | None, typer.Option(min=LEAST, max=MOST, help="2 to 8; default: the network file's", show_default=False)
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
        typer.Option(help="macros to use in all, with copies of slow layers: a number, or all", show_default=False),
    ] = None,
    effort: Effort = None,
    having: With = None,
    without: Without = None,
    explain: Annotated[bool, typer.Option("--explain", help="print the reason for the place of each tile")] = False,
    layers: LayerBitsAsked = None,
    bits: Annotated[
        str | None,
        typer.Option(
            help="auto: the fewest bits of each layer at the least cost on this chip, for a loss of half a point "
            "between float and ideal; auto=1.0: of so many points",
            show_default=False,
        ),
    ] = None,
    weight_scales: Annotated[
        str | None,
        typer.Option(
            help="rule for the scale of the weights: largest, rounding or output; default: output, unless the network "
            "would lose too much by it",
            show_default=False,
        ),
    ] = None,
    slices: Annotated[
        str, typer.Option(help="place of the bit slices of a weight: columns (of one macro) or macros (apart)")
    ] = "macros",
    plot: Annotated[
        Path | None,
        typer.Option(help="page of macros, tiles and conductances to write", show_default=False, callback=output_file),
    ] = None,
    weight_form: Annotated[
        str,
        typer.Option(help="form of differential pairs: sign (one cell at rest) or balanced (both about the middle)"),
    ] = "sign",
    record: Annotated[
        Path | None,
        typer.Option(help="record of one chip (hil calibrate): adapt the program to that chip", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="data set whose training images give ranges to model.onnx, .tflite or .pt2", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    mean: Mean = None,
    std: Std = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Compile a network into a conductance program: layers, tiles, macros, utilisation."""
    from cim.chip.encoding import WeightForm
    from cim.chip.file import load_chip
    from hil.deployment.network_source import BUNDLED_NETWORK, ImportOptions, open_network
    from hil.deployment.options import recipe_for
    from hil.deployment.plan import plan_of
    from hil.report.mapping_page import layer_table, mapping_page
    from mapping.auto_bits import fewest_bits
    from mapping.compile import LayoutOptions, compile_network, plan
    from mapping.layout.tile import SlicePlacement
    from mapping.program.explain import explain as explain_program
    from mapping.program.file import save_program
    from mapping.quantise.weight_scales import ScaleRule
    from mapping.recipe.recipe import with_recipe
    from mapping.scale_choice import judged_by_float
    from mapping.workload import executors, program_workload

    loss = loss_of(bits)
    if loss is not None and (weight_bits or activation_bits or layers or weight_scales):
        raise UsageError("--bits auto chooses bits and rule by itself", hint=f"hil compile --bits {bits} alone")
    rule = one_of(ScaleRule, weight_scales, "--weight-scales") if weight_scales else None
    lying = one_of(SlicePlacement, slices, "--slices")
    form = one_of(WeightForm, weight_form, "--weight-form")
    recipe = recipe_for(None, having or (), without or (), effort)
    if any(t.name == "adapt" for t in recipe.techniques) and not record:
        raise UsageError("adapt needs the record of a chip", hint="--record RECORD, of hil calibrate")
    if record:
        recipe = recipe.changed(["adapt"], ())
    spec = load_chip(chip, macros=macros)
    budget = budget_of(copies_budget, spec.macros)
    if budget is not None:
        recipe = recipe.changed((), ["copies"])
    options = recipe.laid_out(LayoutOptions(placement_of(placement), budget, slices=lying))
    imported = ImportOptions(data, data_dir, download, mean=floats(mean), std=floats(std))
    with screen(quiet=as_json) as watch, watch.stage("compiling"):
        network = trained(
            effort, network, data, watch, chip=chip, macros=macros, calibration=record, data_dir=data_dir,
            download=download, age_s=recipe.age_s,
        )  # fmt: skip
        file = open_network(network or BUNDLED_NETWORK, imported, trust=trust_model, watch=watch)
        compiled = partial(
            compile_network,
            file,
            spec,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            options=options,
            layer_bits=layer_bits(layers),
            weight_form=form,
            progress=watch.step,
        )
        if loss is None:
            program, kept = judged_by_float(file, compiled, rule)
        else:
            program, kept = fewest_bits(file, spec, compiled, loss)
    if having or without or effort is not None:
        program = with_recipe(program, recipe)
    adaptation = None
    if record:
        from cim.record.file import load_record
        from hil.deployment.adaptation import adapt_to_record

        with screen(quiet=as_json) as watch, watch.stage("adapting"):
            adaptation = adapt_to_record(program, load_record(record))
            program = adaptation.program
    if out:
        with writing(out):
            save_program(program, out)
    if plot:
        from hil.atomic import write_text

        with writing(plot):
            write_text(plot, mapping_page(program))
    summary = plan(program)
    lines: list[Told] = [layer_table(summary), *summary.lines()]
    found: dict[str, Any] = {**summary.to_json(), "program": str(out) if out else None}
    lines, found["kept"] = [kept.line, *lines] if kept.much else [*lines, kept.line], kept.to_json()
    planned = plan_of(program, recipe)
    lines, found["plan"] = [*lines, planned.table()], planned.to_json()
    if adaptation:
        lines, found = [*lines, *adaptation.lines()], {**found, "adaptation": adaptation.to_json()}
    if program.rounds > 1:
        from hil.deployment.targets.counted import writing_by_round

        found["writing"] = writing_by_round(program)
        lines += [
            f"  writing round {c['round']}: about {c['pulses']} pulses, {c['chip_s']:.1f} s of chip time"
            for c in found["writing"]
        ]
    if explain:
        said = explain_program(program)
        by = executors(program_workload(program))
        lines += ["", *said.lines(), "", *(f"{name}: {kind} by {who}" for name, (kind, who) in by.items())]
        found["explanation"] = said.to_json()
        found["executors"] = {name: who for name, (_, who) in by.items()}
    print_result(lines, found, as_json)
    return ExitCode.DONE


def loss_of(text: str | None) -> float | None:
    """Share of the answers that ``--bits auto`` may lose."""
    from mapping.auto_bits import LOSS

    name, _, points = (text or "").partition("=")
    if text is None or text == "auto":
        return None if text is None else LOSS
    try:
        loss = float(points) / 100.0
    except ValueError:
        loss = math.nan
    if name != "auto" or not 0 < loss < 1:
        raise UsageError(f"{text!r} is not auto or auto=POINTS", hint="--bits auto, --bits auto=1.0")
    return loss


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
        raise UsageError(f"{text!r} is not a number of macros", hint="--copies-budget 32 or --copies-budget all")
    return int(text)
