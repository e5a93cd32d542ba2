"""How much each thing that the cost model of ``cim.cost`` does otherwise than MNSIM 2.0 changes its answers.

    python benchmarks/mnsim_differences.py

One JSON line. Each entry is a ratio on MNSIM's own VGG-8 unless it names another network: the
restated simulator with one of its quirks taken away, over the simulator as it is. What the
restatement cannot take away is measured in our model: its share, or the same network both ways.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np

from cim.chip.file import load_chip
from cim.cost.network_cost import estimate
from cim.cost.workload import WorkKind, Workload
from cim.mnsim import NETWORKS, MnsimCost, estimate_mnsim, load_mnsim, with_options
from mapping.network.architectures import build
from mapping.workload import placed, unplaced_workload

MACROS = 8000


def mnsim(**options: object) -> MnsimCost:
    return estimate_mnsim(NETWORKS["vgg8"](), with_options(load_mnsim(), dict(options)))


def totals(cost: MnsimCost, base: MnsimCost) -> dict[str, float]:
    return {
        name: round(getattr(cost, field) / getattr(base, field), 4)
        for name, field in (
            ("latency", "latency_ns"),
            ("area", "area_total_um2"),
            ("power", "power_total_w"),
            ("energy", "energy_total_nj"),
        )
    }


def without_adders_left_out() -> float:
    base = mnsim()
    return round(sum(row.energy_nj.total for row in base.layers) / base.energy_total_nj, 6)


def eight_bit_dac() -> dict[str, float]:
    """8-bit converters at a thousandth of their power, over as they are."""
    config = with_options(load_mnsim(), {"DAC_Choice": 6})
    power = list(config.dac.power_w)
    power[5] /= 1000
    mended = replace(config, dac=replace(config.dac, power_w=tuple(power)))
    vgg8 = NETWORKS["vgg8"]()
    return totals(estimate_mnsim(vgg8, mended), estimate_mnsim(vgg8, config))


def pooling_tiles() -> float:
    """Area without the tiles that pools take."""
    base = mnsim()
    pools = sum(row.area_total_um2 for row in base.layers if "pool" in row.layer.name)
    return round(1 - pools / base.area_total_um2, 4)


def mobilenet(groups: bool) -> Workload:
    graph = build("mobilenet_v2_tiny", classes=tuple("0123456789"), rng=np.random.default_rng(0))
    work = unplaced_workload(graph, weight_bits=4, activation_bits=8, name="mobilenet_v2_tiny")
    if groups:
        return work
    return replace(work, layers=tuple(replace(layer, groups=1) for layer in work.layers))


def depthwise() -> dict[str, float]:
    chip = load_chip("lab-128", macros=MACROS)
    true, dense = (estimate(placed(mobilenet(groups), chip), chip) for groups in (True, False))
    return {
        "macros": round(true.macros / dense.macros, 4),
        "energy": round(true.energy_pj / dense.energy_pj, 4),
        "latency": round(true.latency_ns / dense.latency_ns, 4),
    }


def cells_of_two_bits() -> dict[str, float]:
    """VGG-8 with 4-bit weights: cells of eight levels over cells of two (three slices a weight)."""
    chip = load_chip("lab-128", macros=MACROS)
    two = replace(chip.macro, levels_us=(chip.macro.levels_us[0], chip.macro.levels_us[-1]))
    vgg8 = NETWORKS["vgg8"](bits=4)
    many, few = (estimate(placed(vgg8, c), c) for c in (chip, replace(chip, macro=two)))
    return {
        "macros": round(many.macros / few.macros, 4),
        "energy": round(many.energy_pj / few.energy_pj, 4),
        "latency": round(many.latency_ns / few.latency_ns, 4),
    }


def in_our_model() -> dict[str, float]:
    chip = load_chip("lab-128", macros=MACROS)
    cost = estimate(placed(NETWORKS["vgg8"](bits=8), chip), chip)
    parts = cost.energy_by_module_pj
    return {f"share of {n}": round(parts[n] / cost.energy_pj, 4) for n in ("interconnect", "leakage", "host_link")}


def main() -> None:
    base = mnsim()
    found = {
        "buffer word of 1 ns, not 20": totals(mnsim(**{"buffer.word_ns": 1.0}), base),
        "8-bit DAC power in the right unit": eight_bit_dac(),
        "4-level cells in place of 2-level ones (MNSIM)": totals(mnsim(Device_Level=4), base),
        "8-level cells over 2-level ones, 4-bit weights (ours)": cells_of_two_bits(),
        "energy of adders counted": {"energy": without_adders_left_out()},
        "no tile for a pool": {"area": pooling_tiles()},
        "depthwise layers as such over dense, MobileNetV2 tiny (ours)": depthwise(),
        "energy that MNSIM leaves out, VGG-8 W8A8 on lab-128 (ours)": in_our_model(),
    }
    convolutions = sum(layer.kind is WorkKind.CONV for layer in NETWORKS["vgg8"]().layers)
    assert convolutions == 7
    assert all(math.isfinite(v) for entry in found.values() for v in entry.values())
    print(json.dumps({"benchmark": "mnsim_differences", **found}))


if __name__ == "__main__":
    main()
