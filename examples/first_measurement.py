"""A first measurement: program one tile, read it back, multiply, and plot ideal against measured.

pip install plotly                                            # draws the page
python examples/first_measurement.py                          # an emulated chip (NOT SILICON)
python examples/first_measurement.py /dev/ttyUSB0             # a board
"""

from __future__ import annotations

import sys

import numpy as np
import plotly.graph_objects as go

import hil
from cim import apply_correction, encode_tile, nominal_correction
from firmware_protocols import TileAddress


def main(address: str = "emulated:lab-128?seed=7", page: str = "first_measurement.html") -> float:
    rng = np.random.default_rng(1)
    with hil.open_chip(address) as chip:
        macro = chip.spec.macro
        levels = rng.integers(-macro.max_level, macro.max_level + 1, (64, 32)).astype(np.int8)
        tile = encode_tile(levels, macro, row0=0, output0=0)
        targets_us = np.full((macro.rows, macro.columns), np.nan, np.float32)
        targets_us[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us

        outcome = chip.program_cells(0, targets_us, sample=1)
        cells_us = chip.read_cells(0, reads=16, sample=2)
        error_us = (cells_us - targets_us)[np.isfinite(targets_us)]
        print(
            f"{error_us.size} cells, {int((~outcome.reached[np.isfinite(targets_us)]).sum())} not reached, "
            f"median error {np.median(np.abs(error_us)):.2f} µS"
        )

        codes = rng.integers(0, 256, (100, 64)).astype(np.int16)
        result = chip.mvm(TileAddress(0, 0, 64, 0, 32), codes, range_code=4, input_bits=8, input_signed=False, sample=3)
        correction = nominal_correction(macro, 4, levels, 8, False)
        measured = apply_correction(result.values, codes.sum(1), correction)
    ideal = codes.astype(np.int64) @ levels
    fit = np.corrcoef(ideal.ravel(), measured.ravel())[0, 1] ** 2
    print(f"{result.conversions} conversions, {result.saturated} saturated, R² {fit:.4f} before any calibration")
    figure = go.Figure(go.Scatter(x=ideal.ravel(), y=measured.ravel(), mode="markers", marker={"size": 3}))
    figure.update_layout(title=address, xaxis_title="ideal level sum", yaxis_title="measured level sum")
    figure.write_html(page)
    return float(fit)


if __name__ == "__main__":
    main(*sys.argv[1:3])
