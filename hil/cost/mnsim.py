"""Words and JSON of ``hil estimate`` for chips of the MNSIM 2.0 model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cim.mnsim import NETWORKS, ByComponent, MnsimCost, estimate_mnsim, load_mnsim, with_options
from hil.cost.estimate import named_workload
from hil.pages.tables import Table

FORMAT = "hil.mnsim-estimate/2.0"
SAID_OTHERWISE = ("workload", "layers", "energy_nj", "energy_total_nj", "area_total_um2")  # fields of the cost


def estimate_network_mnsim(
    network: str,
    chip: str,
    options: Mapping[str, str],
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    trust: bool = False,
) -> MnsimCost:
    """Cost by MNSIM 2.0 of one of its own networks (lenet, vgg8, resnet18), a net.pt or an architecture.

    Its own networks have 9-bit weights and activations (sign and 8 bits), others those of ``hil estimate``.
    """
    config = with_options(load_mnsim(chip), options)
    if network in NETWORKS and weight_bits is None and activation_bits is None:
        size = 32 if input_shape is None else input_shape[1]
        return estimate_mnsim(NETWORKS[network](size), config)
    return estimate_mnsim(named_workload(network, weight_bits, activation_bits, input_shape, trust=trust), config)


def mnsim_lines(cost: MnsimCost) -> list[str | Table]:
    """A table of layers, the modules, and the totals."""
    rows = tuple(
        (
            row.layer.name,
            f"{row.mapping.pes or ''}",
            f"{row.mapping.tiles or ''}",
            f"{row.busy_ns * 1e-3:.2f}",
            f"{row.finish_ns * 1e-3:.2f}",
            f"{row.area_total_um2 * 1e-6:.2f}",
            f"{row.energy_total_nj * 1e-3:.3f}",
        )
        for row in cost.layers
    )
    header = ("layer", "PEs", "tiles", "busy us", "finish us", "area mm2", "energy uJ")
    parts = sorted(asdict(cost.energy_nj).items(), key=lambda item: -item[1])
    total = cost.energy_nj.total
    return [
        Table("Layers", header, rows),
        "",
        "energy   " + ", ".join(f"{name} {nj / total:.1%}" for name, nj in parts if nj >= total * 5e-4),
        "",
        f"latency  {cost.latency_ns * 1e-6:.6g} ms an image",
        f"energy   {cost.energy_total_nj * 1e-6:.6g} mJ an image",
        f"EDP      {cost.edp_mj_ms:.6g} mJ·ms",
        f"power    {cost.power_total_w:.6g} W, as if all layers worked at once",
        f"area     {cost.area_total_um2 * 1e-6:.6g} mm2, {cost.tiles} tiles",
        "model    MNSIM 2.0 restated, with its quirks (docs/predict-and-judge.md)",
    ]


def mnsim_json(cost: MnsimCost) -> dict[str, Any]:
    """The cost as plain data, with the names of ``hil.cost.estimate.cost_json`` where both models have a number; pJ."""
    whole = {name: value for name, value in asdict(cost).items() if name not in SAID_OTHERWISE}
    return {
        "format": FORMAT,
        "model": "mnsim2",
        "network": cost.workload,
        "latency_ns": cost.latency_ns,
        "energy_pj": cost.energy_total_nj * 1e3,
        "energy_by_module_pj": _in_pj(cost.energy_nj),
        "edp_mj_ms": cost.edp_mj_ms,
        "area_um2": asdict(cost.area_um2),
        "area_mm2": cost.area_total_um2 * 1e-6,
        **whole,
        "layers": [
            {
                "name": row.layer.name,
                "tiles": row.mapping.tiles,
                **{name: value for name, value in asdict(row).items() if name not in ("energy_nj", "latency_ns")},
                "energy_pj": _in_pj(row.energy_nj),
                "latency_by_module_ns": asdict(row.latency_ns),
            }
            for row in cost.layers
        ],
    }


def _in_pj(parts_nj: ByComponent) -> dict[str, float]:
    return {name: nj * 1e3 for name, nj in asdict(parts_nj).items()}
