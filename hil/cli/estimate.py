"""The command for the cost of a network on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Chip, Effort, Json, Macros, With, Without, output_file, pairs, print_result, whole_numbers
from hil.deployment.options import recipe_for
from hil.errors import ExitCode, UsageError
from mapping.bits import ACTIVATION_BITS, LEAST, MOST, WEIGHT_BITS


def estimate(
    network: Annotated[
        str,
        typer.Argument(
            help="program.h5, net.pt, model.onnx, .tflite, .pt2, timm:NAME …, or an architecture: lenet5, vgg8 …"
        ),
    ],
    chip: Chip = "lab-128",
    macros: Macros = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(min=LEAST, max=MOST, help=f"default: the network file's, else {WEIGHT_BITS}", show_default=False),
    ] = None,
    activation_bits: Annotated[
        int | None,
        typer.Option(
            min=LEAST, max=MOST, help=f"default: the network file's, else {ACTIVATION_BITS}", show_default=False
        ),
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="channels,height,width of an architecture", show_default=False)
    ] = None,
    effort: Effort = None,
    having: With = None,
    without: Without = None,
    batch: Annotated[int, typer.Option(min=1, help="number of images that follow each other")] = 1,
    no_pipeline: Annotated[
        bool, typer.Option("--no-pipeline", help="start a layer only when its inputs are complete")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="write a page of energy, limits and schedule by layer", show_default=False, callback=output_file
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, an option of the MNSIM 2.0 model; may be repeated", show_default=False),
    ] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Estimate latency, energy, power, area and wear of a network on a chip, without a chip."""
    from cim.chip.file import is_cost_model
    from hil.cost.estimate import cost_json, cost_lines, estimate_network
    from mapping.network.architectures import ARCHITECTURES

    shape = whole_numbers(input_shape, "input shape")
    if shape is not None and len(shape) != 3:
        raise UsageError(f"{input_shape!r} is not an input shape", hint="write channels,height,width: 3,32,32")
    size = (shape[0], shape[1], shape[2]) if shape else None
    if is_cost_model(chip):
        if plot:
            raise UsageError("--plot draws estimates of hil's own model", hint="--chip lab-128")
        from hil.cost.mnsim import estimate_network_mnsim, mnsim_json, mnsim_lines

        found = estimate_network_mnsim(
            network,
            chip,
            pairs(option),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            input_shape=size,
            trust=trust_model,
        )
        print_result(mnsim_lines(found), mnsim_json(found), as_json)
        return ExitCode.DONE
    if option:
        raise UsageError("--set is for chips of the MNSIM 2.0 model", hint="--chip mnsim-default")
    asked, of_weights = effort is not None or having or without, network.partition(":")[0] not in ARCHITECTURES
    cost = estimate_network(
        network,
        chip,
        macros=macros,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        input_shape=size,
        batch=batch,
        pipelined=not no_pipeline,
        trust=trust_model,
        recipe=recipe_for(network, having or (), without or (), effort) if asked or of_weights else None,
    )
    lines, record = cost_lines(cost), cost_json(cost)
    if plot:
        from hil.atomic import write_text
        from hil.cost.page import cost_page

        write_text(plot, cost_page(cost))
        lines, record = [*lines, f"page     {plot}"], {**record, "page": str(plot)}
    print_result(lines, record, as_json)
    return ExitCode.DONE
