"""Commands that make files of networks and programs: import, compile."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import (
    Task,
    output_file,
    screen,
    trained,
    writing,
)
from hil.cli.settings_options import Given, Only, Told
from hil.deployment.options import BitOptions, NetworkOptions, PlaceOptions, TechniqueOptions
from hil.errors import ExitCode, UsageError
from hil.report.terminal.completion import datasets
from hil.report.terminal.lines import print_line
from hil.watch import Watch
from mapping.bits import ACTIVATION_BITS, WEIGHT_BITS

if TYPE_CHECKING:
    from hil.report.terminal.answers import Answer


def import_(
    source: Annotated[
        Path, typer.Argument(help="weights or module .pt, .safetensors, .onnx, .tflite, .pt2, timm:NAME …")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="net.pt to write", callback=output_file)],
    arch: Annotated[
        str | None,
        typer.Option(help="architecture, also timm:NAME; default: the one that fits the weights", show_default=False),
    ] = None,
    data: Annotated[
        str, typer.Option(help="data set whose training images calibrate the network", autocompletion=datasets)
    ] = "fashion-mnist",
    images: Annotated[
        int | None,
        typer.Option(
            min=1, help="training images to store for calibration; default: 512, or 128 large ones", show_default=False
        ),
    ] = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("mean", "std", "trust")],
    widths: Given[BitOptions],
    task: Task = None,
) -> int:
    """Import pretrained weights or an exported model as a net.pt."""
    from hil.deployment.import_weights import STORED_LARGE, import_network

    asked, bits = of.upon(NetworkOptions()), widths.upon(BitOptions())
    with screen(quiet=False) as watch:
        network = import_network(
            source,
            arch=arch,
            data=data,
            images=images,
            weight_bits=bits.weight_bits or WEIGHT_BITS,
            activation_bits=bits.activation_bits or ACTIVATION_BITS,
            layer_bits=bits.of_layers,
            mean=asked.mean,
            std=asked.std,
            trust=asked.trust,
            task=task or "",
            watch=watch,
        )
    from mapping.network.file import save_network

    with writing(out):
        save_network(network, out)
    graph, stored = network.graph, len(network.calibration_images)
    wide = f"W{network.weight_bits}A{network.activation_bits}"
    less = f" (all of {data}'s)" if stored < (images or STORED_LARGE) else ""
    print_line(f"{out}   {graph.purpose}, {len(graph.nodes)} nodes, {wide}, {stored} calibration images{less}")
    return ExitCode.DONE


def compile(
    network: Annotated[
        Path | None,
        typer.Argument(
            help="net.pt, model.onnx, .tflite, .pt2 or timm:NAME …; default: the bundled network", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="program.h5 to write", show_default=False, callback=output_file)
    ] = None,
    *,
    of: Given[NetworkOptions],
    widths: Given[BitOptions],
    lying: Given[PlaceOptions],
    treated: Given[TechniqueOptions],
    explain: Annotated[bool, typer.Option("--explain", help="print the reason for the place of each tile")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="HTML page of macros, tiles and conductances", show_default=False, callback=output_file),
    ] = None,
    watch: Watch,
) -> Told:
    """Compile a network into a conductance program: layers, tiles, macros, utilisation."""
    from cim.chip.file import load_chip
    from hil.deployment.network_source import BUNDLED_NETWORK, bundled_on, open_network
    from hil.deployment.plan import plan_of
    from hil.report.mapping_page import layer_table, mapping_page
    from mapping.auto_bits import fewest_bits
    from mapping.compile import compile_network, plan
    from mapping.program.explain import explain as explain_program
    from mapping.program.file import save_program
    from mapping.recipe.recipe import with_recipe
    from mapping.scale_choice import judged_by_float
    from mapping.workload import executors

    source, bits, place, techniques = (
        of.upon(NetworkOptions()),
        widths.upon(BitOptions()),
        lying.upon(PlaceOptions()),
        treated.upon(TechniqueOptions()),
    )
    loss = place.loss
    if loss is not None and (bits.any or place.weight_scales):
        raise UsageError("--bits auto chooses bits and rule by itself", hint=f"hil compile --bits {place.bits} alone")
    recipe = techniques.recipe()
    spec = load_chip(source.chip, macros=source.macros)
    options = place.layout(spec.macros)
    if options.copies_budget is not None:
        recipe = recipe.changed((), ["copies"])
    options = recipe.laid_out(options)
    with watch.stage("compiling"):
        network = trained(network, techniques, source, None, recipe.age_s, watch)
        network, source = bundled_on(network, source, recipe, watch)
        file = recipe.before_compiling(open_network(network or BUNDLED_NETWORK, source, watch=watch), spec)
        compiled = partial(
            compile_network,
            file,
            spec,
            weight_bits=bits.weight_bits,
            activation_bits=bits.activation_bits,
            options=options,
            layer_bits=bits.of_layers,
            weight_form=place.form,
            progress=watch.step,
        )
        if loss is None:
            program, kept = judged_by_float(file, compiled, place.rule)
        else:
            program, kept = fewest_bits(file, spec, compiled, loss)
    if techniques.any:
        program = with_recipe(program, recipe)
    if out:
        with writing(out):
            save_program(program, out)
    if plot:
        from hil.atomic import write_text

        with writing(plot):
            write_text(plot, mapping_page(program))
    summary = plan(program)
    lines: list[Answer] = [layer_table(summary), *summary.lines()]
    found: dict[str, Any] = {**summary.to_json(), "program": str(out) if out else None}
    lines, found["kept"] = [kept.line, *lines] if kept.much else [*lines, kept.line], kept.to_json()
    planned = plan_of(program, recipe)
    lines, found["plan"] = [*lines, planned.table()], planned.to_json()
    if program.rounds > 1:
        from hil.deployment.targets.counted import writing_by_round

        found["writing"] = writing_by_round(program)
        lines += [
            f"  writing round {c['round']}: about {c['pulses']} pulses, {c['chip_s']:.1f} s of chip time"
            for c in found["writing"]
        ]
    if explain:
        said = explain_program(program)
        by = executors(program)
        lines += ["", *said.lines(), "", *(f"{name}: {kind} by {who}" for name, (kind, who) in by.items())]
        found["explanation"] = said.to_json()
        found["executors"] = {name: who for name, (_, who) in by.items()}
    return Told(lines, found)
