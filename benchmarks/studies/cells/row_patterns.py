"""Rows read one by one or in orthogonal patterns: error of a weight against reads, beside the closed form.

    python benchmarks/studies.py row-patterns [--case NAME] [--out FILE]

Each case is a chip with a known share of noise in its cells and behind them: the emulated chip by its address, the C
firmware's die by its settings. The chip is calibrated (quick, cells ten seconds old); then all rows of macro 0 are read
through products in both kinds of patterns, each with the range and the conversions that its record chooses.

``error_us`` is the rms difference of a weight (µS) from the mean of 4,080 readings of its cells; ``closed_us`` what the
record expects of the noise alone. ``reads`` are reads of the macro. ``false_passes``: of the weights that
the reading passes, those that are off their target by more than the write-verify window; ``false_alarms``: of those it
does not pass, those that are not. Prints one JSON line per kind and number of
passes; ``--table`` prints the committed lines as docs/my-chip.md has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cim.array.wire_law import conversion_cells
from cim.chip.encoding import tile_halves_us
from cim.chip.file import load_chip
from cim.fit.row_patterns import RowPattern, RowReading
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.calibration.row_reads import read_rows
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.server.firmware_launch import read_settings, running_firmware
from hil.server.firmware_targets import FirmwareTarget

RESULTS = Path(__file__).parents[2] / "results" / "row_patterns.jsonl"
CHIP = "emulated:lab-128?seed=7&macros=1"
CASES: dict[str, str | list[str]] = {
    "emulator, converter noise": f"{CHIP}&read_variance_us2=0.05&conversion_noise_codes=2",
    "emulator, cell noise": f"{CHIP}&read_variance_us2=5&conversion_noise_codes=0.3",
    "C die, converter noise": ["converter_codes=2", "telegraph_us=0.2", "read_noise_us=0.1"],
    "C die, cell noise": ["converter_codes=0.4", "telegraph_us=4"],
}
TRUTH_READS, TRUTH_TIMES, TRUTH_SAMPLE, SAMPLE = 255, 16, 77, 1000


@contextmanager
def chip_of(case: str) -> Iterator[ChipDriver]:
    what = CASES[case]
    if isinstance(what, str):
        with open_chip(what) as driver:
            yield driver
        return
    spec, settings = load_chip("lab-128", macros=1), read_settings(what)
    with running_firmware(FirmwareTarget.NATIVE, spec, settings=settings) as address, open_chip(address) as driver:
        yield driver


def measure(case: str) -> Iterator[dict[str, Any]]:
    with chip_of(case) as driver:
        record = calibrate(driver, (0,), age_s=10.0, budget=Budget.QUICK)
        spec, columns = driver.spec.macro, record.macros[0]
        readings = [driver.read_cells(0, reads=TRUTH_READS, sample=TRUTH_SAMPLE + k) for k in range(TRUTH_TIMES)]
        levels, cells = np.array(spec.levels_us, np.float32), np.mean(readings, 0)
        targets = levels[np.abs(cells[..., None] - levels).argmin(-1)]
        true, wanted = (
            tile_halves_us(c, spec, 0, spec.logical_rows, 0, spec.outputs).astype(np.float64) for c in (cells, targets)
        )
        values, aims = conversion_cells(spec, true), conversion_cells(spec, wanted)
        found = {k: RowReading.of(spec, k, wanted, columns, record.read_noise, record.wire) for k in RowPattern}
        ratio = found[RowPattern.SINGLE].variance_by_read / found[RowPattern.HADAMARD].variance_by_read
        chosen = RowPattern.HADAMARD if ratio > 1.0 else RowPattern.SINGLE
        for kind, reading in found.items():
            window = spec.tolerance_us * np.sqrt(reading.cells_each)
            off = np.abs(values - aims) > window
            for passes in (1, 2, 4, 8, 16):
                seen = read_rows(driver, 0, reading, passes, SAMPLE)
                passed = np.abs(seen - aims) <= window
                yield {
                    "case": case,
                    "patterns": kind.value,
                    "reads": passes * reading.patterns.reads,
                    "error_us": round(float(np.sqrt(np.nanmean((seen - values) ** 2))), 4),
                    "closed_us": round(float(np.sqrt(np.nanmean(reading.variance_us2) / passes)), 4),
                    "range": reading.range_code,
                    "kept_share": round(float(reading.kept.mean()), 4),
                    "weights_off": int(off.sum()),
                    "false_passes": round(float((passed & off).sum() / passed.sum()), 4),
                    "false_alarms": round(float((~passed & ~off).sum() / (~passed).sum()), 4),
                    "fewer_reads_expected": round(ratio, 2),
                    "chosen": chosen.value,
                }


def table() -> Iterator[str]:
    """Both kinds beside each other at the same number of reads."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    yield "| chip, what dominates | reads | single rows: error (closed form), false passes | patterns: the same |"
    yield "|---|---:|---:|---:|"
    for case in CASES:
        of = {(x["patterns"], x["reads"]): x for x in lines if x["case"] == case}
        for reads in sorted({r for kind, r in of if kind == "hadamard" and ("single", r) in of}):
            cells = [
                f"{x['error_us']:.2f} ({x['closed_us']:.2f}) µS, {100 * x['false_passes']:.0f} %"
                for x in (of["single", reads], of["hadamard", reads])
            ]
            yield f"| {case} | {reads:,} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table()))
        return
    lines = [json.dumps(line, ensure_ascii=False) for case in given.case or CASES for line in measure(case)]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
