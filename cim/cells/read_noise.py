"""Read noise: the part of a cell's conductance that changes from read to read, and its correlation over time.

One reading of a cell at time t is

    r(t) = G + w + F(t) + T(t)

w: new at every read. F: flicker noise, spectrum A / f^α. T: telegraph noise of some cells,
two levels. Two reads of one cell that lie Δ apart differ by the variance (structure function)

    D(Δ) = 2 · variance + flicker · log10(Δ / reference) + share · step² / 2 · (1 − e^(−λΔ))

for α = 1, with flicker = 2 ln(10) A. Averaging reads that follow each other closely removes w
only; what lasts beside it is in ``cim.cells.lasting_noise``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PER_DECADE = 2  # relaxation rates a decade; the spectrum of their sum ripples by less than 1 %
SLOWEST_S = 1e6  # flicker slower than this belongs to relaxation (``ProgrammingLaw``)
TELEGRAPH_DECADES = 1.0  # switching rates of cells: log-uniform this far to both sides of the middle
RATES = 9  # quadrature nodes over the switching rates


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class ReadNoise:
    """Read noise by level; arrays (levels,), zeros where left out.

    ``variance_us2``: variance of the part that is new at every single read. ``flicker_us2``:
    growth of the variance of the difference of two reads per decade of their separation,
    from ``reference_s`` on (closer reads differ by 2 · variance). ``telegraph_share`` of the
    cells switch between two levels ``telegraph_us`` apart, at ``telegraph_hz`` changes a
    second in the middle of the cells' rates. ``flicker_exponent`` is α of the spectrum 1/f^α.
    """

    levels_us: Floats
    variance_us2: Floats
    se_us2: Floats
    flicker_us2: Floats = field(default_factory=_none)
    flicker_se_us2: Floats = field(default_factory=_none)
    telegraph_share: Floats = field(default_factory=_none)
    telegraph_us: Floats = field(default_factory=_none)
    reference_s: float = 1e-3
    telegraph_hz: float = 1.0
    flicker_exponent: float = 1.0

    def __post_init__(self) -> None:
        shape = np.shape(self.levels_us)
        for name in ("flicker_us2", "flicker_se_us2", "telegraph_share", "telegraph_us"):
            if np.size(getattr(self, name)) == 0:
                object.__setattr__(self, name, np.zeros(shape))
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"read noise: {name} {np.shape(getattr(self, name))}, levels {shape}")
        if not (self.reference_s > 0 and self.telegraph_hz > 0 and 0 < self.flicker_exponent < 2):
            raise ValueError("read noise: times and rates are positive, the exponent between 0 and 2")
        if np.any(self.flicker_us2 < 0) or np.any((self.telegraph_share < 0) | (self.telegraph_share > 1)):
            raise ValueError("read noise: flicker is positive, a share lies between 0 and 1")

    def at(self, conductance_us: NDArray[np.floating]) -> Floats:
        """Variance at any conductance, linear between levels, constant outside."""
        return self._at(self.variance_us2, conductance_us)

    def flicker_at(self, conductance_us: NDArray[np.floating]) -> Floats:
        """Flicker growth per decade at any conductance, µS²."""
        return self._at(self.flicker_us2, conductance_us)

    def difference_variance(self, conductance_us: NDArray[np.floating], separation_s: float) -> Floats:
        """D(Δ), µS²: variance of the difference of two reads of a cell ``separation_s`` apart.

        Example: variance 1.7, flicker 0.4 from 1 ms on, reads 1 s apart: 3.4 + 0.4 · 3 = 4.6 µS².
        """
        moved = self.flicker_at(conductance_us) * self.flicker_moved(separation_s)
        telegraph, rate = self._telegraph(conductance_us)
        jumps = -np.expm1(-2.0 * rate * separation_s).mean()
        return np.asarray(2.0 * self.at(conductance_us) + moved + 2.0 * telegraph * jumps)

    def flicker_moved(self, separation_s: Floats | float) -> Floats:
        """Variance of the difference of two reads by flicker, for a growth of 1 µS² a decade.

        Example: log10(Δ / reference) for α = 1 and Δ well above the reference.
        """
        rates, _ = self._flicker_rates()
        return np.asarray(-2.0 * np.expm1(-np.multiply.outer(separation_s, rates)) @ self._flicker_weights())

    def _at(self, table: Floats, conductance_us: NDArray[np.floating]) -> Floats:
        if np.all(table == table[0]):
            return np.full(np.shape(conductance_us), table[0])
        return np.asarray(np.interp(conductance_us, self.levels_us, table))

    def _flicker_rates(self) -> tuple[Floats, Floats]:
        """Relaxation rates λ, 1/s, log-spaced, and their distance to the fastest in natural log units."""
        fastest = np.exp(-np.euler_gamma) / self.reference_s  # so that D grows from ``reference_s`` on
        count = max(1, int(np.ceil(np.log10(fastest * SLOWEST_S) * PER_DECADE)))
        down = (np.arange(count) + 0.5) * (np.log(10.0) / PER_DECADE)  # middles of their shares of the axis
        return fastest * np.exp(-down), down

    def _flicker_weights(self) -> Floats:
        """Variance of each relaxation process for a growth of 1 µS² a decade (at 1 / reference).

        Sum of processes of variance v dlnλ ~ λ^(1−α): spectrum 1/f^α (Lorentzians, van der Ziel).
        """
        _, down = self._flicker_rates()
        return np.asarray(np.exp((self.flicker_exponent - 1.0) * down) / (2.0 * PER_DECADE))

    def _telegraph(self, conductance_us: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Mean variance share · step² / 4, and nodes of the switching rates of the cells, 1/s."""
        share, step = self._at(self.telegraph_share, conductance_us), self._at(self.telegraph_us, conductance_us)
        nodes = np.linspace(-TELEGRAPH_DECADES, TELEGRAPH_DECADES, RATES)
        return share * step**2 / 4.0, self.telegraph_hz * 10.0**nodes
