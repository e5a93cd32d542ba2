"""What the cost model says of macros whose power, rate or size was published, beside the publication.

    python benchmarks/studies.py published-costs

Prints one JSON line: for each figure the published value, the model's, and the error. The
prices of esserc-2024 come from the same publication (a line through its four powers and the
shares at 512 rows), so its rows say how well the *form* of the model fits, not that it predicts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from cim.chip.file import load_chip
from cim.cost.network_cost import Cost, estimate
from cim.cost.workload import INPUT, LayerWork, Tiles, WorkKind, Workload
from mapping.network.architectures import build
from mapping.workload import network_workload

ESSERC_MW = {128: 77.05, 256: 88.93, 384: 100.23, 512: 111.43}
ESSERC_SHARES = {"buffers": 0.428, "converters": 0.318, "DAC": 0.168, "digital": 0.086}
ESSERC_TOPS = 2.84
NEURRAM_CELLS = 553e3  # ResNet-20, on all 48 cores
A111_ARRAY_S = 184.0  # programming log of one array
A111_ARRAY_CELLS = 81_920


@dataclass(frozen=True)
class Figure:
    what: str
    published: float
    model: float
    unit: str

    @property
    def error(self) -> float:
        return self.model / self.published - 1


def one_product(rows: int, outputs: int, input_bits: int, chip: str) -> Cost:
    """One vector through one macro."""
    tile = Tiles(*np.array([[0, 0, rows, 0, outputs, 0, 0, 0, 1]], np.int64).T)
    layer = LayerWork(
        name="fc", kind=WorkKind.LINEAR, inputs=(INPUT,), in_shape=(rows, 1, 1), out_shape=(outputs, 1, 1),
        weight_bits=4, input_bits=input_bits, output_bits=8, tiles=tile,
    )  # fmt: skip
    return estimate(Workload("one product", (rows, 1, 1), input_bits, (layer,)), load_chip(chip))


def esserc() -> list[Figure]:
    figures = []
    for rows, published in ESSERC_MW.items():
        layer = one_product(rows, 512, 4, "esserc-2024").layers[0]
        spent = {k: v for k, v in layer.energy_pj.items() if k not in ("activation", "accumulator", "interconnect")}
        power_mw = sum(spent.values()) / layer.chip_time_ns
        figures.append(Figure(f"power at {rows} rows", published, power_mw, "mW"))
    total = sum(spent.values())
    parts = {
        "buffers": spent["buffer"] + spent["control"],
        "converters": spent["adc"],
        "DAC": spent["driver"] + spent["array"],
        "digital": spent["shift_add"],
    }
    figures += [Figure(f"share of {n} at 512 rows", ESSERC_SHARES[n], parts[n] / total, "") for n in parts]
    figures.append(Figure("rate at 512 rows", ESSERC_TOPS, 2 * layer.macs / layer.chip_time_ns * 1e-3, "TOPS"))
    return figures


def neurram() -> list[Figure]:
    classes = tuple("0123456789")
    graph = build("cifar_resnet20_a", classes=classes, rng=np.random.default_rng(0))
    chip = load_chip("neurram-256", macros=200)
    cells = estimate(network_workload(graph, chip, weight_bits=4, activation_bits=4), chip).cells
    return [Figure("cells of ResNet-20", NEURRAM_CELLS, cells, "cells")]


def a111() -> list[Figure]:
    chip = load_chip("a111")
    assert chip.cost is not None
    ns = chip.cost.mean_pulses * (chip.timing.pulse_ns + chip.write.verify_reads * chip.timing.verify_ns)
    return [Figure("programming one array", A111_ARRAY_S, A111_ARRAY_CELLS * ns * 1e-9, "s")]


def main() -> None:
    found = {"esserc-2024": esserc(), "neurram-256": neurram(), "a111": a111()}
    lines = {chip: [{**asdict(f), "error": round(f.error, 4)} for f in figures] for chip, figures in found.items()}
    print(json.dumps({"benchmark": "published_costs", **lines}))


if __name__ == "__main__":
    main()
