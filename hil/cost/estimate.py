"""Words and JSON of ``hil estimate``: what a network costs on a chip."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cim.chip.file import load_chip
from cim.cost.network_cost import Cost, LayerCost, estimate
from cim.cost.workload import Workload
from hil.cost.as_deployed import cost_as_deployed
from hil.errors import UsageError
from hil.pages.tables import Table
from mapping.bits import ACTIVATION_BITS, MOST, WEIGHT_BITS
from mapping.layout.lay_out import LayoutOptions
from mapping.network.architectures import ARCHITECTURES, build
from mapping.network.file import NetworkFile
from mapping.network.importers import import_graph, is_whole, own_bits, parse_architecture
from mapping.recipe.recipe import Recipe
from mapping.tune.low_rank import with_adapters
from mapping.workload import placed, unplaced_workload

FORMAT = "hil.estimate/1.0"
CLASSES = 10  # of a named architecture


def estimate_network(
    network: str,
    chip: str,
    *,
    macros: int | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    trust: bool = False,
    recipe: Recipe | None = None,
) -> Cost:
    """Cost of a program.h5 (as placed, on its own chip), a net.pt or a named architecture (laid out, not quantised).

    ``recipe``: techniques of a deployment; None: those that a program.h5 records, else plain layers, each once.

    Args:
        network: path of a program.h5 or net.pt, or name of an architecture.
        chip: name or file of the chip.
        macros: of the chip; None: as its file says.
        weight_bits: of all layers; None: as the network says.
        activation_bits: of all input codes; None: as the network says.
        input_shape: (channels, height, width) of a named architecture.
        trust: the file may run code.
        recipe: techniques that the deployment applies.

    Returns:
        latency in ns, energy in pJ, area and power, layer by layer.

    Example:
        >>> estimate_network("cifar_resnet20_a", "lab-128").limit
        'conv1'
    """
    if network.endswith(".h5"):
        from mapping.program.file import load_program

        program = load_program(Path(network))
        if recipe is not None:
            recipe.check_compiled(program, Path(network).name)
        asked = recipe or (Recipe.of_text(program.recipe) if program.recipe else Recipe())
        return cost_as_deployed(program, asked, Path(network).stem)
    spec = load_chip(chip, macros=macros)
    asked = recipe or Recipe()
    changed = partial(asked.before_compiling, spec=spec) if any(t.before_compile for t in asked.techniques) else None
    drives = spec.macro.inputs.bits
    workload = named_workload(network, weight_bits, activation_bits, input_shape, drives, trust=trust, changed=changed)
    workload = with_adapters(workload, asked.tune_plan.rank)
    lying = placed(workload, spec, asked.laid_out(LayoutOptions()))
    return estimate(lying, spec)


def named_workload(
    network: str,
    weight_bits: int | None,
    activation_bits: int | None,
    input_shape: tuple[int, int, int] | None,
    drives: int = MOST,
    *,
    trust: bool = False,
    changed: Callable[[NetworkFile], NetworkFile] | None = None,
) -> Workload:
    """Layers and sizes of a network to be priced, from a net.pt, an ONNX file, an exported program or an architecture's
    name.

    ``drives``: input bits that the chip drives in one cycle. ``changed``: turns a net.pt into the network that is
    priced; None: the net.pt itself.

    Raises:
        UsageError: no network of this name, or ``changed`` is given and the network is not a net.pt.
    """
    if changed is not None and Path(network).suffix != ".pt":
        raise UsageError(
            f"{network} is no net.pt, so a technique that acts before compiling has no weights and images to work with",
            hint="hil import makes a net.pt; or leave that technique out",
        )
    usual = min(ACTIVATION_BITS, drives)
    if network.partition(":")[0] in ARCHITECTURES:
        return _named_architecture(network, weight_bits or WEIGHT_BITS, activation_bits or usual, input_shape)
    if is_whole(network):
        graph = import_graph(network, classes=(), input_shape=input_shape, trust=trust, shapes_only=True)
        weights, activations = own_bits(graph) or (WEIGHT_BITS, usual)
        return unplaced_workload(
            graph,
            weight_bits=weight_bits or weights,
            activation_bits=activation_bits or activations,
            name=Path(network).stem,
        )
    if Path(network).suffix:
        from mapping.network.file import load_network

        file = load_network(Path(network), trust=trust)
        file = file if changed is None else changed(file)
        bits = file.bits_on(drives)
        return unplaced_workload(
            file.graph,
            weight_bits=weight_bits or bits.weight,
            activation_bits=activation_bits or bits.activation,
            layer_bits=None if weight_bits or activation_bits else bits.layers,
            name=Path(network).stem,
        )
    raise UsageError(
        f"{network!r} is neither a file nor an architecture",
        hint=f"one of {', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME, hf:OWNER/NAME, or net.pt",
    )


def _named_architecture(
    text: str, weight_bits: int, activation_bits: int, input_shape: tuple[int, int, int] | None
) -> Workload:
    classes = tuple(str(i) for i in range(CLASSES))
    try:
        name, options = parse_architecture(text)
        graph = build(name, classes=classes, input_shape=input_shape, shapes_only=True, **options)
    except ValueError as error:
        raise UsageError(str(error), hint="NAME or NAME:OPTION=NUMBER, such as resnet18:stem=7") from error
    return unplaced_workload(graph, weight_bits=weight_bits, activation_bits=activation_bits, name=text)


LAYER_HEADER = (
    "layer", "by", "macros", "copies", "work", "energy nJ", "latency us", "busy us", "used", "set by",
)  # fmt: skip


def cost_lines(cost: Cost) -> list[str | Table]:
    """A table of layers, the modules, and the totals."""
    layers = Table("Layers", LAYER_HEADER, tuple(_layer_row(layer) for layer in cost.layers))
    return [layers, "", *_modules(cost), "", *_totals(cost)]


def _layer_row(layer: LayerCost) -> tuple[str, ...]:
    on_cells = layer.macros > 0
    work = layer.macs or layer.operations
    busy = max(layer.busy_ns.values())
    return (
        layer.name,
        str(layer.executor),
        f"{layer.macros or ''}",
        f"{layer.copies}" if on_cells else "",
        _short(work) if work else "",
        f"{layer.total_pj * 1e-3:.2f}",
        f"{layer.latency_ns * 1e-3:.2f}",
        f"{busy * 1e-3:.2f}",
        f"{layer.utilisation:.0%}" if on_cells else "",
        str(layer.bound) if busy else "",
    )


def _modules(cost: Cost) -> list[str]:
    total, area = cost.energy_pj, cost.area_mm2
    shares = sorted(cost.energy_by_module_pj.items(), key=lambda item: -item[1])
    spaces = sorted(cost.area_um2.items(), key=lambda item: -item[1])
    return [
        "energy   " + ", ".join(f"{name} {pj / total:.1%}" for name, pj in shares if pj >= total * 5e-4),
        "area     " + ", ".join(f"{name} {um2 * 1e-6 / area:.1%}" for name, um2 in spaces if um2 * 1e-6 >= area * 5e-4),
    ]


def _totals(cost: Cost) -> list[str]:
    host = cost.host_ns / cost.latency_ns
    lines = [
        f"latency  {cost.latency_ns * 1e-6:.4g} ms an image, {host:.1%} of it the host's line",
        f"rate     {cost.images_per_s:.4g} images/s in a row, set by {cost.limit}",
        f"energy   {cost.energy_pj * 1e-6:.4g} uJ an image, {cost.tops_per_w:.3g} TOPS/W",
        f"EDP      {cost.edp_mj_ms:.4g} mJ·ms",
        f"power    {cost.average_power_w * 1e3:.4g} mW on average, {cost.peak_power_w * 1e3:.4g} mW at most",
        f"area     {cost.area_mm2:.4g} mm2, {cost.macros} of {cost.macros_on_chip} macros of {cost.chip},"
        f" {cost.utilisation:.1%} of their cells in use",
        f"writing  {cost.cells:,} cells, {cost.programming_ns * 1e-9:.3g} s, {cost.programming_pj * 1e-6:.3g} uJ",
    ]
    if np.isfinite(cost.endurance_images):
        lines.append(f"wear     the chip is rewritten for every batch: {cost.endurance_images:,.0f} images to the end")
    return lines


def cost_json(cost: Cost) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "network": cost.network,
        "chip": cost.chip,
        "batch": cost.batch,
        "latency_ns": cost.latency_ns,
        "batch_latency_ns": cost.batch_latency_ns,
        "interval_ns": cost.interval_ns,
        "interval_set_by": cost.limit,
        "images_per_s": cost.images_per_s,
        "energy_pj": cost.energy_pj,
        "energy_by_module_pj": cost.energy_by_module_pj,
        "edp_mj_ms": cost.edp_mj_ms,
        "average_power_w": cost.average_power_w,
        "peak_power_w": cost.peak_power_w,
        "tops_per_w": cost.tops_per_w,
        "area_um2": dict(cost.area_um2),
        "area_mm2": cost.area_mm2,
        "macros": {"used": cost.macros, "available": cost.macros_on_chip},
        "utilisation": cost.utilisation,
        "cells": cost.cells,
        "programming_ns": cost.programming_ns,
        "programming_pj": cost.programming_pj,
        "endurance_images": cost.endurance_images if np.isfinite(cost.endurance_images) else None,
        "host_ns": cost.host_ns,
        "rewrite_ns": cost.rewrite_ns,
        "shared_pj": dict(cost.shared_pj),
        "layers": [
            {
                **{name: getattr(layer, name) for name in LayerCost.__slots__ if name not in ("busy_ns", "energy_pj")},
                "rounds": list(layer.rounds),
                "set_by": layer.bound,
                "busy_ns": dict(layer.busy_ns),
                "energy_pj": dict(layer.energy_pj),
            }
            for layer in cost.layers
        ],
    }


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"
