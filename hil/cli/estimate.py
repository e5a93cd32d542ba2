"""The command that estimates the cost of a network on a chip: ``hil estimate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import output_file, pairs, whole_numbers
from hil.cli.settings_options import Given, Only, Told
from hil.datasets.demos import network_file
from hil.deployment.options import BitOptions, NetworkOptions, TechniqueOptions
from hil.errors import UsageError


def estimate(
    network: Annotated[
        str,
        typer.Argument(
            help="program.h5, net.pt, model.onnx, .tflite, .pt2, timm:NAME …, or an architecture: lenet5, vgg8 …",
            callback=lambda name: str(network_file(name)),
        ),
    ],
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "trust")],
    widths: Annotated[Given[BitOptions], Only("weight_bits", "activation_bits")],
    treated: Given[TechniqueOptions],
    size: Annotated[
        str | None, typer.Option("--input", help="channels,height,width of an architecture's input", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, an option of the MNSIM 2.0 model; may be repeated", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="HTML page to write: energy, limits and schedule by layer", show_default=False, callback=output_file
        ),
    ] = None,
) -> Told:
    """Estimate latency, energy, power, area and wear of a network on a chip, without a chip."""
    from cim.chip.file import is_cost_model
    from hil.cost.estimate import cost_json, cost_lines, estimate_network
    from mapping.network.architectures import ARCHITECTURES

    source, techniques = of.upon(NetworkOptions()), treated.upon(TechniqueOptions())
    bits, chip, shape = widths.upon(BitOptions()), source.chip, whole_numbers(size, "input shape")
    if shape is not None and len(shape) != 3:
        raise UsageError(f"{size!r} is not an input shape", hint="write channels,height,width: 3,32,32")
    given = (shape[0], shape[1], shape[2]) if shape else None
    if is_cost_model(chip):
        if plot:
            raise UsageError("--plot draws estimates of hil's own model", hint="--chip lab-128")
        from hil.cost.mnsim import estimate_network_mnsim, mnsim_json, mnsim_lines

        found = estimate_network_mnsim(
            network,
            chip,
            pairs(model or ()),
            weight_bits=bits.weight_bits,
            activation_bits=bits.activation_bits,
            input_shape=given,
            trust=source.trust,
        )
        return Told(mnsim_lines(found), mnsim_json(found))
    if model:
        raise UsageError("--set is for chips of the MNSIM 2.0 model", hint="--chip mnsim-default")
    of_weights = network.partition(":")[0] not in ARCHITECTURES
    cost = estimate_network(
        network,
        chip,
        macros=source.macros,
        weight_bits=bits.weight_bits,
        activation_bits=bits.activation_bits,
        input_shape=given,
        trust=source.trust,
        recipe=techniques.recipe(network) if techniques.any or of_weights else None,
    )
    lines, record = cost_lines(cost), cost_json(cost)
    if plot:
        from hil.atomic import write_text
        from hil.cost.page import cost_page

        write_text(plot, cost_page(cost))
        lines, record = [*lines, f"page     {plot}"], {**record, "page": str(plot)}
    return Told(lines, record)
