"""How a written cell wanders: measured cells, resampled.

Every programmed cell follows one of 16,292 measured cells of A. Levy's "Tech C" (MIT, see
``levy_tech_c.LICENSE.txt``) that started at a similar conductance, or, where an address asks for other
traces, of another technology in ``TABLES``. With d_k the shift of
that cell at the measured times t_k (of Tech C 0.01, 0.1, 1, 4, 1e5 s), m_k and σ_k² mean and variance
of the shifts of cells of that conductance, and ρ_k the correlation of d_k and d_{k+1},

    x_k = (d_k − m_k) / σ_k
    ΔG(t) = m(t) + s(t) · ((1 − w) x_k + w x_{k+1}) / √((1 − w)² + w² + 2 w (1 − w) ρ_k)

w runs from 0 to 1 in log t between t_k and t_{k+1}; m and s² are linear in log t between
the measured times. The root keeps the variance linear in log t, as the data have it, where
a straight line between two partly independent readings would lose up to a third of it.

**The part redrawn at each read.** A measured shift contains the noise of its own reading,
which the emulated chip adds afresh at every read (``read_variance_us2``, v). It is taken out
once: s_k² = max(σ_k² − v, 0), so one emulated read at t_k has the variance of one measured
read. Where the data spread less than v (0.01 s, and low cells to 1 s) the fresh part alone
exceeds them. The noise of the data's first reading stays in the slow part.

Per cell, drawn at each write, lasting until the next. Zero before 1 ms, held after the last time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 64  # measured cells that a written cell can follow
BINS = 16
USUAL = "levy-c"
TABLES = {  # file beside this one, and window of its cells in µS
    USUAL: ("levy_tech_c.npz", 40.0),
    "levy-b": ("levy_tech_b.npz", 128.0),  # even addresses of A. Levy's "Tech B", to 1e4 s; same licence
}


@dataclass(frozen=True, slots=True)
class RelaxationTable:
    """Measured cells in order of their first reading, at ``times`` later ones.

    ``start_us`` (cells,); ``standard`` float32 (times, cells), the x_k; ``mean_us`` and
    ``variance_us2`` (times, BINS), by conductance at ``centres_us``; ``correlation`` (times − 1,);
    ``log_times`` (times + 1,) log10 of seconds, the first being the last time without shift.
    """

    start_us: NDArray[np.float64]
    standard: NDArray[np.float32]
    centres_us: NDArray[np.float64]
    mean_us: NDArray[np.float64]
    variance_us2: NDArray[np.float64]
    correlation: NDArray[np.float64]
    log_times: NDArray[np.float64]
    full_scale_us: float


@lru_cache(maxsize=len(TABLES))
def load_table(name: str = USUAL) -> RelaxationTable:
    """A table that ships with the package."""
    file, full_scale_us = TABLES[name]
    with files("hil.emulator").joinpath(file).open("rb") as raw, np.load(raw) as data:
        start = data["start"] * float(data["step_us"])
        shift = data["shift"].T * float(data["step_us"])
        times = data["times_s"]
    edges = np.linspace(0.0, full_scale_us, BINS + 1)
    bins = np.clip(np.searchsorted(edges, start, "right") - 1, 0, BINS - 1)
    mean = np.array([[d[bins == b].mean() for b in range(BINS)] for d in shift])
    variance = np.array([[d[bins == b].var() for b in range(BINS)] for d in shift])
    centres = (edges[1:] + edges[:-1]) / 2
    standard = np.array(
        [
            (d - np.interp(start, centres, m)) / np.sqrt(np.interp(start, centres, v))
            for d, m, v in zip(shift, mean, variance, strict=True)
        ]
    )
    correlation = np.array([np.corrcoef(standard[k], standard[k + 1])[0, 1] for k in range(len(times) - 1)])
    log_times = np.log10(np.concatenate([[times[0] / 10], times]))
    return RelaxationTable(
        start, standard.astype(np.float32), centres, mean, variance, correlation, log_times, full_scale_us
    )


def choose_traces(
    table: RelaxationTable, written_us: NDArray[np.floating], uniform: NDArray[np.float64]
) -> NDArray[np.int32]:
    """For each written cell, choose one of the ``NEIGHBOURS`` measured cells nearest in conductance.

    Args:
        written_us: conductance just after the write, on the scale of the data.
        uniform: a number in [0, 1) per cell.
    """
    last = len(table.start_us) - NEIGHBOURS
    first = np.clip(np.searchsorted(table.start_us, written_us) - NEIGHBOURS // 2, 0, last)
    return (first + (uniform * NEIGHBOURS).astype(np.int64)).astype(np.int32)


def shift_us(
    table: RelaxationTable,
    trace: NDArray[np.int32],
    written_us: NDArray[np.floating],
    age_s: NDArray[np.floating],
    read_variance_us2: float,
) -> NDArray[np.float32]:
    """ΔG at an age, per cell, without the part that each read adds; arrays of one shape."""
    log_t = np.log10(np.maximum(age_s, 1e-12))
    last = len(table.log_times) - 1
    place = np.interp(log_t, table.log_times, np.arange(last + 1.0))
    after = np.minimum(place.astype(np.int64), last - 1)  # times k and k + 1 around; 0 is before the first reading
    w = place - after
    g = np.clip(written_us, table.centres_us[0], table.centres_us[-1])
    slot = np.interp(g, table.centres_us, np.arange(float(BINS)))
    low = np.minimum(slot.astype(np.int64), BINS - 2)
    part = slot - low
    nothing = np.zeros((1, BINS))
    mean = np.concatenate([nothing, table.mean_us])
    spread = np.concatenate([nothing, np.maximum(table.variance_us2 - read_variance_us2, 0.0)])
    x = np.concatenate([table.standard[:1], table.standard])
    correlation = np.concatenate([[1.0], table.correlation])

    def at(grid: NDArray[np.float64]) -> NDArray[np.float64]:
        early = (1 - part) * grid[after, low] + part * grid[after, low + 1]
        late = (1 - part) * grid[after + 1, low] + part * grid[after + 1, low + 1]
        between: NDArray[np.float64] = (1 - w) * early + w * late
        return between

    root = np.sqrt((1 - w) ** 2 + w**2 + 2 * w * (1 - w) * correlation[after])
    wander = ((1 - w) * x[after, trace] + w * x[after + 1, trace]) / root
    shift: NDArray[np.float32] = (at(mean) + np.sqrt(at(spread)) * wander).astype(np.float32)
    return shift
