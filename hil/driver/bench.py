"""First measurements on a bench: one tile multiplied a few times, one macro's cells read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from cim.chip.spec import MacroSpec
from firmware_protocols.messages import TileAddress
from hil.atomic import new_file
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.pages.tables import Table, labelled

FIRST_OUTPUTS, READS = 8, 4  # outputs of a first product; readings of a cell that are averaged


@dataclass(frozen=True, slots=True)
class MvmReading:
    """``sums``: (repeats, outputs) shift-added ADC codes; ``wanted`` what an ideal chip gives, in levels, if known."""

    sums: NDArray[np.int32]
    code: int
    range_code: int
    lsb_levels: float  # one ADC code in levels
    wanted: int | None
    saturated: int
    conversions: int

    def lines(self) -> list[Table]:
        mean, sigma = self.sums.mean(0) * self.lsb_levels, self.sums.std(0, ddof=1) * self.lsb_levels
        rows = [("input code", f"{self.code}", f"on every row, ADC range {self.range_code}")]
        rows += [
            (f"output {j}", f"{m:.2f}", f"levels, read noise {s:.2f}")
            for j, (m, s) in enumerate(zip(mean, sigma, strict=True))
        ]
        if self.wanted is not None:
            rows.append(("ideal", f"{self.wanted}", "levels (readings are uncorrected; hil calibrate corrects them)"))
        return [labelled("Products", *rows, ("saturated", f"{self.saturated}", f"of {self.conversions} conversions"))]

    def to_json(self) -> dict[str, Any]:
        return {
            "sums": self.sums.tolist(),
            "lsb_levels": self.lsb_levels,
            "ideal_levels": self.wanted,
            "code": self.code,
            "range_code": self.range_code,
            "saturated": self.saturated,
            "conversions": self.conversions,
        }


def first_mvm(
    driver: ChipDriver,
    *,
    macro: int,
    rows: int,
    outputs: int,
    level: int | None,
    code: int | None,
    repeat: int,
) -> MvmReading:
    """Drive ``code`` on the first rows of a macro and read the first outputs ``repeat`` times.

    Without ``code`` the largest is driven. The smallest ADC range that holds the sum is taken.

    Args:
        driver: of an open chip.
        macro: its number.
        rows: word lines that are driven, from the first.
        outputs: outputs that are read, from the first.
        level: that the cells are written to first; None: as they are.
        code: input code of every driven row.
        repeat: times that the product is read.

    Returns:
        codes and level sums of each repeat, (repeat, outputs).

    Raises:
        UsageError: the chip has no such macro, level, range or so many rows and outputs.

    Example:
        >>> first_mvm(driver, macro=0, rows=8, outputs=4, level=3, code=None, repeat=2)
    """
    spec = driver.spec.macro
    if code is None:
        code = (1 << spec.inputs.bits) - 1
    inside = 0 < rows <= spec.logical_rows and 0 < outputs <= spec.outputs and 0 <= macro < driver.spec.macros
    if not inside or repeat < 2:
        raise UsageError(
            f"macro {macro}, {rows} rows, {outputs} outputs, {repeat} reads are not on this chip",
            likely=f"it has {driver.spec.macros} macros, {spec.logical_rows} rows, {spec.outputs} outputs; "
            "at least 2 reads",
        )
    range_code = holding_range(spec, rows, spec.max_level if level is None else abs(level))
    if level is not None:
        if level not in spec.weight_values:
            reach = f"{spec.weight_values[0]} to {spec.weight_values[-1]}"
            held = reach if spec.even_levels else ", ".join(map(str, spec.weight_values))
            raise UsageError(f"level {level} is not on this chip", likely=f"it has {held}")
        tile = encode_tile(np.full((rows, outputs), level, np.int8), spec, 0, 0)
        targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
        targets[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
        driver.program_cells(macro, targets, sample=0)
    address = TileAddress(macro, 0, rows, 0, outputs)
    codes = np.full((1, rows), code, np.int16)
    results = [
        driver.mvm(address, codes, range_code=range_code, input_bits=spec.inputs.bits, input_signed=False, sample=i)
        for i in range(repeat)
    ]
    return MvmReading(
        np.concatenate([r.values for r in results]),
        code,
        range_code,
        spec.lsb_us(range_code) / spec.level_step_us,
        None if level is None else level * code * rows,
        sum(r.saturated for r in results),
        sum(r.conversions for r in results),
    )


def holding_range(spec: MacroSpec, rows: int, level: int) -> int:
    """The smallest ADC range that holds one read of ``rows`` rows at ``level`` and a quarter more, else the largest."""
    unit = (1 << spec.inputs.bits_per_cycle) - 1
    reach = 1.25 * rows * level * spec.level_step_us * unit
    wide = [i for i, scale in enumerate(spec.adc.full_scales_us) if scale >= reach]
    return wide[0] if wide else len(spec.adc.full_scales_us) - 1


@dataclass(frozen=True, slots=True)
class CellMap:
    """Mean readings of one macro, µS, (rows, columns)."""

    macro: int
    readings_us: NDArray[np.float32]

    def lines(self) -> list[str | Table]:
        quantiles = np.quantile(self.readings_us, [0, 0.05, 0.5, 0.95, 1])
        names = ("lowest", "5 %", "median", "95 %", "highest")
        rows = ((name, f"{value:.2f} µS") for name, value in zip(names, quantiles, strict=True))
        return [f"macro {self.macro}: {self.readings_us.size} cells", labelled("Cells", *rows)]

    def to_json(self) -> dict[str, Any]:
        return {"macro": self.macro, "readings_us": np.round(self.readings_us.astype(float), 3).tolist()}

    def write_csv(self, path: Path) -> None:
        with new_file(path) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows(np.round(self.readings_us.astype(float), 3).tolist())


def cell_map(driver: ChipDriver, *, macro: int, reads: int) -> CellMap:
    """Mean readings of every cell of a macro.

    Args:
        driver: of an open chip.
        macro: its number.
        reads: readings of each cell that are averaged.

    Returns:
        conductances in µS, (rows, columns), and their scatter.

    Raises:
        UsageError: the chip has no such macro.

    Example:
        >>> cell_map(driver, macro=0, reads=8)
    """
    if not 0 <= macro < driver.spec.macros:
        raise UsageError(f"macro {macro} is not on this chip", likely=f"it has {driver.spec.macros}")
    return CellMap(macro, driver.read_cells(macro, reads=reads, sample=0))
