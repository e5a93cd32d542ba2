"""Effect of one programming pulse on a cell, fitted to sweeps of a bench.

SET: the word-line voltage limits the current, and the limit decides where the cell ends; a
pulse never lowers it. A cell at word-line voltage V

    g' = max(g, m(V) · (1 + κ log10(width / 1 µs)) + σ(V) · z),    z ~ N(0, 1)

m, σ: median and robust sigma over cells. RESET: a cell switches with a probability q(V), and
then lands on a log-normal low state, g' = min(g, L e^(s z)). A full RESET (every cell, higher
voltage) lands on another log-normal state.

A sweep visits each cell once, so it cannot tell which share of the spread is a cell's own and
which is new at every pulse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SWITCHED = 0.6  # a RESET result below this multiple of the start has switched
SATURATED_BL_V = 2.5  # from here on the bit line no longer decides the result of a SET
ROBUST = 1.4826  # sigma of a Gaussian over its median absolute deviation

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PulseSweep:
    """Single pulses on fresh cells: arrays (pulses,)."""

    width_s: Floats
    wl_v: Floats
    line_v: Floats  # bit line (SET) or source line (RESET)
    before_us: Floats
    after_us: Floats


@dataclass(frozen=True, slots=True)
class PulseSteps:
    """The step model; ``wl_v`` and ``reset_wl_v`` ascending, medians never fall with voltage."""

    wl_v: Floats  # (n,)
    set_median_us: Floats  # (n,)
    set_sigma_us: Floats  # (n,)
    width_per_decade: float  # κ: relative change of the median per decade of width
    reset_wl_v: Floats  # (m,)
    reset_share: Floats  # (m,) q: cells that switch in one pulse
    land_median_us: float  # where they land
    land_sigma_ln: float
    erase_median_us: float  # where a full RESET lands
    erase_sigma_ln: float

    def __post_init__(self) -> None:
        for volts, tables in (
            (self.wl_v, (self.set_median_us, self.set_sigma_us)),
            (self.reset_wl_v, (self.reset_share,)),
        ):
            if len(volts) < 2 or np.any(np.diff(volts) <= 0) or any(t.shape != volts.shape for t in tables):
                raise ValueError("pulse steps: voltages must ascend, with one value each")
        if np.any(np.diff(self.set_median_us) < 0) or np.any(self.set_sigma_us <= 0):
            raise ValueError("pulse steps: medians must not fall with voltage, sigmas be positive")
        if np.any((self.reset_share < 0) | (self.reset_share > 1)):
            raise ValueError("pulse steps: a share lies between 0 and 1")


def fit_pulse_steps(set_sweep: PulseSweep, reset_sweep: PulseSweep, *, reset_width_s: float = 2e-6) -> PulseSteps:
    """The step model from two sweeps of fresh cells.

    SET: median and robust sigma per word-line voltage where the bit line saturates (2.5 V and
    more), then a running maximum; κ by least squares on the medians of each width. RESET: the
    share of switched cells at the highest source-line voltage and the given width, and the
    log-normal of where they land. Full RESET: the state in which the SET sweep finds its cells.
    """
    driven = set_sweep.line_v >= SATURATED_BL_V
    wl = np.unique(set_sweep.wl_v[driven])
    median, sigma = np.empty(len(wl)), np.empty(len(wl))
    for i, v in enumerate(wl):
        median[i], sigma[i] = _robust(set_sweep.after_us[driven & (set_sweep.wl_v == v)])
    strong = reset_sweep.line_v == reset_sweep.line_v.max()
    strong &= np.isclose(reset_sweep.width_s, reset_width_s)
    switched = reset_sweep.after_us < SWITCHED * reset_sweep.before_us
    reset_wl = np.unique(reset_sweep.wl_v[strong])
    share = np.array([switched[strong & (reset_sweep.wl_v == v)].mean() for v in reset_wl])
    land, land_sigma = _robust(np.log(reset_sweep.after_us[strong & switched]))
    erased, erased_sigma = _robust(np.log(set_sweep.before_us))
    return PulseSteps(
        wl_v=wl,
        set_median_us=np.maximum.accumulate(median),
        set_sigma_us=sigma,
        width_per_decade=_width_effect(set_sweep, driven, wl, median),
        reset_wl_v=reset_wl,
        reset_share=np.maximum.accumulate(_running_mean(share, 5)),
        land_median_us=float(np.exp(land)),
        land_sigma_ln=land_sigma,
        erase_median_us=float(np.exp(erased)),
        erase_sigma_ln=erased_sigma,
    )


def _robust(values: Floats) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, ROBUST * float(np.median(np.abs(values - middle)))


def _running_mean(values: Floats, width: int) -> Floats:
    pad = width // 2
    padded = np.pad(values, pad, mode="edge")
    return np.asarray(np.convolve(padded, np.ones(width) / width, mode="valid"))


def _width_effect(sweep: PulseSweep, driven: NDArray[np.bool_], wl: Floats, median: Floats) -> float:
    """κ: slope of after / median(wl) over log10 width, medians per width."""
    relative = sweep.after_us / np.interp(sweep.wl_v, wl, median)
    used = driven & (sweep.wl_v >= wl[len(wl) // 6])  # below, a pulse hardly sets at all
    widths = np.unique(sweep.width_s)
    middles = [float(np.median(relative[used & (sweep.width_s == w)])) for w in widths]
    return float(np.polyfit(np.log10(widths / 1e-6), middles, 1)[0])
