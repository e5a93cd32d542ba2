"""The part of a cell's conductance that changes from read to read, and how it remembers.

One reading of a cell at time t is

    r(t) = G + w + F(t) + T(t)

w: new at every read. F: flicker noise, spectrum A / f^α. T: telegraph noise of some cells,
two levels. Two reads of one cell that lie Δ apart differ by the variance (structure function)

    D(Δ) = 2 · variance + flicker · log10(Δ / reference) + share · step² / 2 · (1 − e^(−λΔ))

for α = 1, with flicker = 2 ln(10) A. Averaging reads that follow each other closely removes w
only; that is what ``variance_of_mean`` is for. ``NoisyCells`` draws such readings.
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

    def variance_of_mean(
        self,
        conductance_us: NDArray[np.floating],
        reads: int,
        interval_s: float,
        horizon_s: float = SLOWEST_S,
    ) -> Floats:
        """Variance of the mean of ``reads`` reads ``interval_s`` apart, µS².

            Var = variance / n + Σ_i v_i · m(e^(−λ_i Δ), n),
            m(ρ, n) = (1 + 2 Σ_(k=1)^(n−1) (1 − k/n) ρ^k) / n

        over the flicker's relaxation rates λ_i and the telegraph part; about the cell's mean
        over ``horizon_s``, so slower flicker does not count.

        Example: 1.7 µS² without flicker, 16 reads: 0.106 µS². With flicker of 0.4 µS² a decade
        and reads 1 ms apart: 0.106 + 1.6 µS², nearly all that 10⁶ s bring; averaging is in vain.
        """
        if reads < 1 or interval_s < 0:
            raise ValueError(f"{reads} reads {interval_s} s apart")
        rates, _ = self._flicker_rates()
        kept = rates * horizon_s >= 0.999
        flicker = (self._flicker_weights() * kept * mean_factor(np.exp(-rates * interval_s), reads)).sum()
        telegraph, rate = self._telegraph(conductance_us)
        jumps = mean_factor(np.exp(-2.0 * rate * interval_s), reads).mean()
        white = self.at(conductance_us) / reads
        return np.asarray(white + self.flicker_at(conductance_us) * flicker + telegraph * jumps)

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


def mean_factor(correlation: Floats, reads: int) -> Floats:
    """m(ρ, n): variance of the mean of n equally spaced values of an AR(1) process of variance 1.

    Example: ρ = 0 → 1/n; ρ = 1 → 1.
    """
    k = np.arange(1, reads)
    powers = np.asarray(correlation)[..., None] ** k
    return np.asarray((1.0 + 2.0 * (powers * (1.0 - k / reads)).sum(-1)) / reads)


class NoisyCells:
    """Readings of cells one after the other: the state of their flicker and telegraph noise.

    Every component advances exactly over any interval (Ornstein-Uhlenbeck processes and
    two-state Markov chains), so the result does not depend on how often it was read between.

    Example: ``cells = NoisyCells(noise, g_us, rng); a = cells.read(0.0); b = cells.read(1.0)``;
    the variance of b − a over cells is ``noise.difference_variance(g_us, 1.0)``.
    """

    def __init__(
        self, noise: ReadNoise, conductance_us: NDArray[np.floating], rng: np.random.Generator, now_s: float = 0.0
    ) -> None:
        self.conductance_us = np.asarray(conductance_us, np.float64)
        self.now_s, self._rng = now_s, rng
        shape = self.conductance_us.shape
        self._white = np.sqrt(noise.at(self.conductance_us))
        self._rates = noise._flicker_rates()[0]
        weights = noise._flicker_weights().reshape(-1, *(1,) * len(shape))
        self._sigma = np.sqrt(weights * noise.flicker_at(self.conductance_us))  # (rates, *shape)
        self._quiet = not self._sigma.any()
        self._flicker = self._sigma * rng.standard_normal(self._sigma.shape) if not self._quiet else self._sigma
        has = rng.random(shape) < noise._at(noise.telegraph_share, self.conductance_us)
        self._half_step = np.where(has, noise._at(noise.telegraph_us, self.conductance_us) / 2.0, 0.0)
        self._switch_hz = noise.telegraph_hz * 10.0 ** rng.uniform(-TELEGRAPH_DECADES, TELEGRAPH_DECADES, shape)
        self._up = rng.random(shape) < 0.5

    def advance(self, time_s: float) -> None:
        """Move to ``time_s``.

        Raises:
            ValueError: that is before the last time.
        """
        step = time_s - self.now_s
        if step < 0.0:
            raise ValueError(f"time runs from {self.now_s} s back to {time_s} s")
        self.now_s = time_s
        if step == 0.0:
            return
        if not self._quiet:
            rho = np.exp(-self._rates * step).reshape(-1, *(1,) * self._white.ndim)
            fresh = self._sigma * self._rng.standard_normal(self._sigma.shape)
            self._flicker = rho * self._flicker + np.sqrt(1.0 - rho**2) * fresh
        if self._half_step.any():
            change = -np.expm1(-2.0 * self._switch_hz * step) / 2.0  # probability of an odd number of switches
            self._up ^= self._rng.random(self._up.shape) < change

    def read(self, time_s: float, reads: int = 1, interval_s: float = 0.0) -> Floats:
        """Mean of ``reads`` readings, the first at ``time_s``; µS, the shape of the cells."""
        total = np.zeros(self.conductance_us.shape)
        for i in range(reads):
            self.advance(time_s + i * interval_s)
            total += self.true_us() + self._white * self._rng.standard_normal(total.shape)
        return np.asarray(total / reads)

    def true_us(self) -> Floats:
        """Conductance now, without the part that is new at every read."""
        return np.asarray(self.conductance_us + self._flicker.sum(0) + np.where(self._up, 1, -1) * self._half_step)
