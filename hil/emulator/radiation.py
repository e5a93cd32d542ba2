"""Years in orbit for an emulated chip: upsets, dose and late ageing of its cells. All forms and sizes are assumed.

**Upsets.** A written cell is struck once, after a time of an exponential law (λ = ``upsets`` a cell and day); its lot
is drawn anew at each write. Of struck cells, ``RUPTURED`` lose their filament: G falls to 2 to 12 % of what it was. In
the others it grows: G rises by a share, between 0.2 and 1, of what is left up to the highest level. Until it is written
again.

**Dose.** With D krad since the write, x = (G − m) / (W / 2) from −1 to 1 in a window W about its middle m, D₀ = 1 Mrad,

    ΔG = −DOSE_SHARE · W / 2 · x |x| · (1 − exp(−D / D₀))

**Late ageing.** Relaxation was measured to 1e5 s. After that, with τ = 10 years, and z of the cell,

    G → G · (1 − LATE_SHARE · exp(z / 2) · (1 − exp(−√((t − 1e5 s) / τ))))      z normal, once a write

a slow loss that is no line in log time, as a law carried on would be. Whatever lies past 1e5 s is extrapolation.

Example: λ = 1e-3 a day, 1,000 days: 63 % of the cells were struck.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hil.emulator.noise import LATE, UPSET, fold_key, hashed_normals, hashed_uniforms

RUPTURED = 0.7
DOSE_SHARE, DOSE_SCALE_KRAD = 0.1, 1000.0
LATE_SHARE, LATE_AFTER_S, LATE_TAU_S = 0.03, 1e5, 10 * 365.25 * 86400.0
DAY_S = 86400.0
_SPREAD = 1_000_003  # spreads the time of a write over the numbers of the cells

Floats = NDArray[np.floating]


def lots(numbers: NDArray[np.int64], written_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """A random lot number for each cell and write."""
    with np.errstate(over="ignore"):
        return numbers + written_ns * np.int64(_SPREAD)


def aged(g_us: Floats, age_s: Floats, lot: NDArray[np.int64], seed: int, macro: int, strength: float) -> Floats:
    """Conductances after late ageing; ``strength`` 0: no ageing."""
    late = np.maximum(age_s - LATE_AFTER_S, 0.0)
    if strength == 0.0 or not late.any():
        return g_us
    z = hashed_normals(fold_key(seed, LATE, macro), lot)
    lost = strength * LATE_SHARE * np.exp(z / 2.0) * (1.0 - np.exp(-np.sqrt(late / LATE_TAU_S)))
    return np.asarray(g_us * np.maximum(1.0 - lost, 0.0))


def dosed(g_us: Floats, krad: Floats, low_us: float, high_us: float) -> Floats:
    """Conductances after a dose since the write."""
    half, middle = (high_us - low_us) / 2.0, (high_us + low_us) / 2.0
    x = (g_us - middle) / half
    return np.asarray(g_us - DOSE_SHARE * half * x * np.abs(x) * (1.0 - np.exp(-krad / DOSE_SCALE_KRAD)))


def upset(
    g_us: Floats, age_s: Floats, lot: NDArray[np.int64], seed: int, macro: int, per_day: float, high_us: float
) -> Floats:
    """Conductances after the upsets that came since the write."""
    chance = hashed_uniforms(fold_key(seed, UPSET, macro, 0), lot)
    struck = -np.log1p(-chance) <= per_day * age_s / DAY_S
    if not struck.any():
        return g_us
    way = hashed_uniforms(fold_key(seed, UPSET, macro, 1), lot)
    how = hashed_uniforms(fold_key(seed, UPSET, macro, 2), lot)
    fallen = g_us * (0.02 + 0.1 * how)
    grown = g_us + (0.2 + 0.8 * how) * np.maximum(high_us - g_us, 0.0)
    return np.asarray(np.where(struck, np.where(way < RUPTURED, fallen, grown), g_us))
