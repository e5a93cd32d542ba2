"""Make the emulator's table of measured relaxation traces from the Levy "Tech C" data.

    python examples/make_relaxation_table.py FOLDER [hil/emulator/levy_tech_c.npz]

FOLDER holds ``techC_relaxdata.min.tsv.gz`` of github.com/akashlevy/RRAM-Relaxation-Master-Model
(MIT, (c) 2021 Akash Levy). Columns there: address, time, R, G, first G, level, nominal time.

The table has one row per cell, sorted by the first reading: ``start`` (cells,) and ``shift``
(cells, 5), readings minus the first reading at 0.01, 0.1, 1, 4 and 1e5 s, both int16 in steps
of 5 nS. Readings that the data lack (half of those at 4 s, 0.5 % of those at 0.01 s) are interpolated
in log time between their neighbours; before 0.01 s the shift is 0 at 1 ms.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

TIMES_S = (0.0, 0.01, 0.1, 1.0, 4.0, 1e5)
STEP_US = 0.005


def main(folder: Path, target: Path) -> None:
    with gzip.open(folder / "techC_relaxdata.min.tsv.gz", "rt") as lines:
        data = np.loadtxt(lines)
    address, g_us, nominal = data[:, 0], data[:, 3] * 1e6, data[:, 6]
    cells = np.unique(address)
    readings = np.full((len(cells), len(TIMES_S)), np.nan)
    readings[np.searchsorted(cells, address), np.searchsorted(TIMES_S, nominal)] = g_us
    shift = readings - readings[:, :1]
    log_t = np.log10(np.array((1e-3, *TIMES_S[1:])))
    for row in np.flatnonzero(np.isnan(shift).any(1)):
        known = ~np.isnan(shift[row])
        shift[row] = np.interp(log_t, log_t[known], shift[row, known])
    order = np.argsort(readings[:, 0], kind="stable")
    np.savez_compressed(
        target,
        start=np.rint(readings[order, 0] / STEP_US).astype(np.int16),
        shift=np.rint(shift[order, 1:] / STEP_US).astype(np.int16),
        step_us=np.float64(STEP_US),
        times_s=np.array(TIMES_S[1:]),
    )
    print(f"{target}: {len(cells)} cells, {target.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "hil/emulator/levy_tech_c.npz"))
