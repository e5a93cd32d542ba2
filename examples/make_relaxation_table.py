"""Make the emulator's tables of measured relaxation traces from the Levy "Tech C" and "Tech B" data.

    python examples/make_relaxation_table.py FOLDER c [hil/emulator/levy_tech_c.npz]
    python examples/make_relaxation_table.py FOLDER b [hil/emulator/levy_tech_b.npz]

FOLDER holds ``techC_relaxdata.min.tsv.gz`` and ``techB_relaxdata_10k.min.tsv.gz`` of
github.com/akashlevy/RRAM-Relaxation-Master-Model (MIT, (c) 2021 Akash Levy). Columns there: address, time, R, G,
first G, level, nominal time. Of Tech B even addresses are taken: the odd cell of a pair behaves differently.

A table has one row per cell, sorted by the first reading: ``start`` (cells,) and ``shift`` (cells, times), readings
minus the first reading, both int16 in steps of ``step_us``. Readings that the
data lack (of C half of those at 4 s, 0.5 % of those at 0.01 s) are interpolated in log time between their neighbours;
before 0.01 s the shift is 0 at 1 ms.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

C_TIMES_S, B_TIMES_S = (0.0, 0.01, 0.1, 1.0, 4.0, 1e5), (0.0, 0.01, 0.1, 1.0, 100.0, 1e3, 1e4)
SETS = {  # file, nominal times, step in µS, every which address
    "c": ("techC_relaxdata.min.tsv.gz", C_TIMES_S, 0.005, 1),
    "b": ("techB_relaxdata_10k.min.tsv.gz", B_TIMES_S, 0.01, 2),
}


def main(folder: Path, which: str, target: Path) -> None:
    name, times_s, step_us, every = SETS[which]
    with gzip.open(folder / name, "rt") as lines:
        data = np.loadtxt(lines)
    data = data[data[:, 0] % every == 0]
    address, g_us, nominal = data[:, 0], data[:, 3] * 1e6, data[:, 6]
    cells = np.unique(address)
    readings = np.full((len(cells), len(times_s)), np.nan)
    readings[np.searchsorted(cells, address), np.searchsorted(times_s, nominal)] = g_us
    shift = readings - readings[:, :1]
    log_t = np.log10(np.array((1e-3, *times_s[1:])))
    for row in np.flatnonzero(np.isnan(shift).any(1)):
        known = ~np.isnan(shift[row])
        shift[row] = np.interp(log_t, log_t[known], shift[row, known])
    order = np.argsort(readings[:, 0], kind="stable")
    np.savez_compressed(
        target,
        start=np.rint(readings[order, 0] / step_us).astype(np.int16),
        shift=np.rint(shift[order, 1:] / step_us).astype(np.int16),
        step_us=np.float64(step_us),
        times_s=np.array(times_s[1:]),
    )
    print(f"{target}: {len(cells)} cells, {target.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[2] not in SETS:
        sys.exit(__doc__)
    usual = f"hil/emulator/levy_tech_{sys.argv[2]}.npz"
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3] if len(sys.argv) == 4 else usual))
