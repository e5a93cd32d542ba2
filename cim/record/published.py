"""Published device models by name: what a chip file may say before any chip was measured.

Each gives, for levels and ages, the mean and spread of conductance − target as a ``ProgrammingLaw`` (Gaussian) with the
noise that has gathered until then, and a ``ReadNoise`` for how two reads differ. Coefficients are those of the named
publications as AIHWKit (4545f11b) and CrossSim (0a2eb1ed) print them; ``tests/cim/record/test_published.py`` compares
their numbers with these models. Conductances in µS, ages in s after programming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.chip.spec import CellModel, ChipSpec, ModelSpec
from cim.errors import CimFileError, CimUsageError
from cim.record.calibration import CalibrationRecord, nominal_macro

GAUSSIAN_DF = 1e6  # t with so many degrees of freedom is normal
NODES = 40  # of the quadrature over drift exponents
LEAST_SIGMA_US = 1e-6  # a law needs a positive scale

Floats = NDArray[np.float64]


class UnknownModel(CimUsageError, KeyError):
    """No published model has that name; fields ``name`` and ``known``."""

    def __init__(self, name: str) -> None:
        self.name, self.known = name, tuple(sorted(PUBLISHED))
        super().__init__(f"no device model {name!r}; there are {', '.join(self.known)}")

    def __str__(self) -> str:
        return str(self.args[0])


class DeviceModel(Protocol):
    """Mean and sigma of the error at one age, and flicker noise; every published model implements this."""

    @property
    def ages_s(self) -> tuple[float, ...]:
        """Ages that the publication states."""

    def error(self, levels_us: Floats, age_s: float) -> tuple[Floats, Floats]:
        """Mean and standard deviation of conductance − target, µS."""

    def flicker(self, levels_us: Floats) -> tuple[Floats, float]:
        """Flicker growth of the difference of two reads per decade, µS², and the separation in s where it begins."""

    def at_full_scale(self, full_scale_us: float) -> DeviceModel:
        """The model scaled to another highest conductance."""


@dataclass(frozen=True, slots=True)
class PolynomialModel:
    """Programming error with sigma Σ c_i x^i and mean Σ m_i x^i (without m_i: zero), x = G / G_max, at stated ages.

        σ(G) = max(0, Σ c_i (G / G_max)^i) · G_max / G_reference

    Both are linear in log time between the ages, and constant before the first and after the last.

    Example: wan-2022, 40 µS, x = 1, 1 s: 0.348 + 16.03 − 43.853 + 45.393 − 16.815 = 1.103 µS.
    """

    ages_s: tuple[float, ...]
    coefficients_us: tuple[tuple[float, ...], ...]  # one row an age, lowest power first
    reference_us: float  # G_max of the coefficients
    full_scale_us: float
    means_us: tuple[tuple[float, ...], ...] = ()  # likewise

    def error(self, levels_us: Floats, age_s: float) -> tuple[Floats, Floats]:
        x = np.clip(np.asarray(levels_us, np.float64) / self.full_scale_us, 0.0, 1.0)
        scale = self.full_scale_us / self.reference_us
        mean = self._at(self.means_us, x, age_s) if self.means_us else np.zeros(len(x))
        return mean * scale, np.maximum(self._at(self.coefficients_us, x, age_s), 0.0) * scale

    def _at(self, coefficients_us: tuple[tuple[float, ...], ...], x: Floats, age_s: float) -> Floats:
        values = np.stack([np.polynomial.polynomial.polyval(x, c) for c in coefficients_us])
        place = np.interp(np.log(age_s), np.log(self.ages_s), np.arange(len(self.ages_s)))
        low = int(place)
        high = min(low + 1, len(self.ages_s) - 1)
        return np.asarray((1.0 - (place - low)) * values[low] + (place - low) * values[high])

    def flicker(self, levels_us: Floats) -> tuple[Floats, float]:
        return np.zeros(len(levels_us)), 1e-6

    def at_full_scale(self, full_scale_us: float) -> PolynomialModel:
        return replace(self, full_scale_us=full_scale_us)


@dataclass(frozen=True, slots=True)
class CmoHfoxModel:
    """Analogue CMO/HfOx cells: linear programming error, relaxation that does not depend on the level, 1/f noise.

        σ_p = a G + b,    mean = m ln t,    σ_d = s ln t + d,    σ_r² = (K log₁₀ G)² ln((t + τ) / 2τ)

    Variances add. Example: 50 µS, 2 % window, 1 s: σ_p 0.576, σ_d 0.412, σ_r 0.171, together 0.728 µS.
    """

    programming: tuple[float, float]  # b, a
    ages_s: tuple[float, ...] = (1.0, 3600.0, 86400.0)
    mean_per_ln_us: float = -0.08900206
    relaxation_us: tuple[float, float] = (0.41183342, 0.04201137)  # d, s
    read: float = 0.0277316483  # K
    read_s: float = 1e-6  # τ

    def error(self, levels_us: Floats, age_s: float) -> tuple[Floats, Floats]:
        b, a = self.programming
        d, s = self.relaxation_us
        relaxed = max(0.0, s * np.log(age_s) + d)
        mean = np.full(len(levels_us), self.mean_per_ln_us * np.log(age_s))
        read = self._read2(levels_us + mean) * np.log((age_s + self.read_s) / (2.0 * self.read_s))
        return mean, np.sqrt((a * levels_us + b) ** 2 + relaxed**2 + read)

    def _read2(self, levels_us: Floats) -> Floats:
        return np.asarray((self.read * np.log10(np.maximum(levels_us, 1.0))) ** 2)

    def flicker(self, levels_us: Floats) -> tuple[Floats, float]:
        return 2.0 * np.log(10.0) * self._read2(levels_us), 2.0 * self.read_s

    def at_full_scale(self, full_scale_us: float) -> CmoHfoxModel:
        return self  # coefficients are in absolute µS


@dataclass(frozen=True, slots=True)
class PcmLikeModel:
    """Phase-change cells: programming error, power-law drift that differs from cell to cell, 1/f noise.

        σ_p = c₀ + c₁ x + c₂ x²,    x = G / G_max
        G(t) = G_p ((t + t₀) / t₀)^−ν,    ν = |N(μ(x), σ(x))|
        μ = clip(−0.0155 ln x + 0.0244, 0.049, 0.1),    σ = clip(−0.0125 ln x − 0.0059, 0.008, 0.045)
        σ_r² = (Q G(t))² ln((t + t₀ + τ) / 2τ),    Q = min(0.0088 / max(x^0.65, 10⁻³), 0.2)

    with t₀ = 20 s, τ = 250 ns; mean and variance of the product by quadrature over ν.
    With ``cells`` in parallel, each holds its part of G and of G_max: means add, and variances.
    Example: 25 µS, 1 s: mean −0.060, sigma 1.397 µS; 50 µS on two cells: −0.120, 1.976 µS.
    """

    full_scale_us: float = 25.0
    ages_s: tuple[float, ...] = (1.0, 3600.0, 86400.0)
    cells: int = 1
    programming_us: tuple[float, float, float] = (0.26348, 1.9650, -1.1731)
    reference_us: float = 25.0
    origin_s: float = 20.0  # t₀
    read_s: float = 250e-9  # τ

    def error(self, levels_us: Floats, age_s: float) -> tuple[Floats, Floats]:
        levels_us = levels_us / self.cells
        x = np.clip(levels_us / self._one_us, 1e-7, None)
        sigma = np.polynomial.polynomial.polyval(x, self.programming_us) * self._one_us / self.reference_us
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        mu = np.clip(-0.0155 * np.log(x) + 0.0244, 0.049, 0.1)
        spread = np.clip(-0.0125 * np.log(x) - 0.0059, 0.008, 0.045)
        nu = np.abs(mu[:, None] + spread[:, None] * nodes)
        kept = ((age_s + self.origin_s) / self.origin_s) ** -nu
        first, second = (kept**p @ (weights / weights.sum()) for p in (1, 2))
        power = (levels_us**2 + sigma**2) * second  # E G(t)²
        read = self._q(levels_us) ** 2 * power * np.log((age_s + self.origin_s + self.read_s) / (2.0 * self.read_s))
        variance = power - (levels_us * first) ** 2 + read
        return self.cells * levels_us * (first - 1.0), np.sqrt(self.cells * variance)

    @property
    def _one_us(self) -> float:
        """Highest conductance of one cell, µS."""
        return self.full_scale_us / self.cells

    def _q(self, levels_us: Floats) -> Floats:
        x = np.clip(levels_us / self._one_us, 1e-7, None)
        return np.minimum(0.0088 / np.maximum(x**0.65, 1e-3), 0.2)

    def flicker(self, levels_us: Floats) -> tuple[Floats, float]:
        one = levels_us / self.cells
        return self.cells * 2.0 * np.log(10.0) * (self._q(one) * one) ** 2, 2.0 * self.read_s

    def at_full_scale(self, full_scale_us: float) -> PcmLikeModel:
        return replace(self, full_scale_us=full_scale_us)


@dataclass(frozen=True, slots=True)
class Published:
    """One published model: where it comes from and for which conductances, µS, it was stated."""

    name: str
    doi: str
    window_us: tuple[float, float]
    model: DeviceModel

    def programming(
        self, levels_us: NDArray[np.floating] | Sequence[float], ages_s: Sequence[float] | None = None
    ) -> ProgrammingLaw:
        """The law at these levels and ages (None: those of the publication), without stuck cells.

        It holds all that moves a cell until that age, 1/f noise too: ``read_noise`` adds only
        how reads differ from each other.
        """
        levels = np.asarray(levels_us, np.float64)
        ages = tuple(self.model.ages_s if ages_s is None else ages_s)
        pairs = [self.model.error(levels, float(age)) for age in ages]
        zeros = np.zeros((len(ages), len(levels)))
        return ProgrammingLaw(
            ages_s=np.asarray(ages, np.float64),
            levels_us=levels,
            loc_us=np.stack([mean for mean, _ in pairs]),
            scale_us=np.maximum(np.stack([sigma for _, sigma in pairs]), LEAST_SIGMA_US),
            df=np.full(zeros.shape, GAUSSIAN_DF),
            loc_se_us=zeros,
            scale_se_us=zeros,
            ln_df_se=zeros,
            stuck_low_share=0.0,
            stuck_high_share=0.0,
            unreached_share=0.0,
            unreached_us=np.zeros(0),
        )

    def read_noise(self, levels_us: NDArray[np.floating] | Sequence[float], variance_us2: float = 0.0) -> ReadNoise:
        """How reads differ: the model's 1/f noise, and a white variance that the caller states."""
        levels = np.asarray(levels_us, np.float64)
        growth, reference_s = self.model.flicker(levels)
        return ReadNoise(
            levels_us=levels,
            variance_us2=np.full(len(levels), variance_us2),
            se_us2=np.zeros(len(levels)),
            flicker_us2=growth,
            reference_s=reference_s,
        )


def published_model(name: str, full_scale_us: float | None = None) -> Published:
    """A model by name, for a chip whose highest level is ``full_scale_us`` (None: as published).

    Args:
        name: as a chip file says it.
        full_scale_us: highest level of the chip, µS.

    Returns:
        its laws, with source and range.

    Raises:
        UnknownModel: no published model has that name.

    Example:
        >>> published_model("wan-2022").doi
        '10.1038/s41586-022-04992-8'
    """
    if name not in PUBLISHED:
        raise UnknownModel(name)
    found = PUBLISHED[name]
    return found if full_scale_us is None else replace(found, model=found.model.at_full_scale(full_scale_us))


class NoModels(CimFileError, LookupError):
    """A chip file has no [models] section; fields ``chip`` and ``source``."""

    def __init__(self, chip: str, source: str) -> None:
        super().__init__(f"{source}: chip {chip} names no models of its cells; add [models], or measure a chip")
        self.chip, self.source = chip, source


def still_record(spec: ChipSpec, macros: Sequence[int]) -> CalibrationRecord:
    """Record of a chip whose file has no [models]: cells keep the conductance that they are written to."""
    levels = np.array(spec.macro.levels_us)
    none, little = np.zeros((1, len(levels))), np.full((1, len(levels)), 1e-9)
    law = ProgrammingLaw(np.ones(1), levels, none, little, little + 100.0, none, none, none, 0.0, 0.0, 0.0, np.zeros(0))
    noise = ReadNoise(levels, none[0], none[0])
    return CalibrationRecord(
        spec.name, spec.revision, "", "", "model", spec.digest, 25.0, "", "cells stay where they are written", 0, 1.0,
        {m: nominal_macro(spec.macro, m) for m in macros}, law, noise, Wire(0.0, 0.0),
    )  # fmt: skip


def nominal_record(spec: ChipSpec, macros: Sequence[int] | None = None) -> CalibrationRecord:
    """A record of kind ``"model"``: chips of this kind by their chip file alone.

    Columns do what the file promises, with its conversion noise; cells follow the named model,
    with stuck and unreached shares. A record fitted to a chip replaces it.

    Args:
        spec: of the chip, with its models.
        macros: those to describe; None: all.

    Returns:
        the record, of kind ``"model"``.

    Raises:
        NoModels: the file has no such section.

    Example:
        >>> nominal_record(load_chip("lab-128")).kind
        'model'
    """
    if spec.models is None:
        raise NoModels(spec.name, spec.source)
    about, levels = spec.models, np.array(spec.macro.levels_us)
    model = chip_model(about, float(levels[-1]))
    law = model.programming(levels)
    law = replace(
        law,
        loc_us=law.loc_us * about.cell_error_factor,
        scale_us=law.scale_us * max(about.cell_error_factor, LEAST_SIGMA_US),
        stuck_low_share=about.stuck_low_share,
        stuck_high_share=about.stuck_high_share,
        unreached_share=about.unreached_share,
        unreached_us=np.array(about.unreached_us, np.float64),
    )
    one = nominal_macro(spec.macro, 0)
    one = replace(one, conversion_noise_codes=np.full(one.gain.shape, about.conversion_noise_codes))
    return CalibrationRecord(
        chip_name=spec.name,
        revision=spec.revision,
        serial="",
        firmware="",
        kind="model",
        spec_digest=spec.digest,
        temperature_c=25.0,
        date="",
        method=f"models of the chip file: {about.programming}" + (f", doi {model.doi}" if model.doi else ""),
        seed=0,
        age_s=float(law.ages_s[0]),
        macros={m: replace(one, macro=m) for m in (range(spec.macros) if macros is None else macros)},
        programming=law,
        read_noise=model.read_noise(levels, about.read_variance_us2),
        wire=Wire(about.wire_ohm, 0.0),
        product_error=about.product_error,
    )


def chip_model(about: ModelSpec, full_scale_us: float) -> Published:
    """The device model that a chip file names, for its highest level; a polynomial brings its own coefficients."""
    if about.programming is not CellModel.POLYNOMIAL:
        return published_model(about.programming.value, full_scale_us)
    own = PolynomialModel(
        about.programming_ages_s, about.programming_sigma_us, full_scale_us, full_scale_us, about.programming_mean_us
    )
    return Published("polynomial", "", (0.0, full_scale_us), own)


DAY = 86400.0
PUBLISHED: Mapping[str, Published] = {
    "wan-2022": Published(
        "wan-2022",
        "10.1038/s41586-022-04992-8",
        (0.0, 40.0),
        PolynomialModel(
            (1.0, DAY, 2 * DAY),
            (
                (0.348, 16.030, -43.853, 45.393, -16.815),
                (0.701, 22.086, -50.773, 47.095, -16.458),
                (0.782, 20.274, -43.507, 37.062, -11.934),
            ),
            40.0,
            40.0,
        ),
    ),
    "wan-2022-cubic": Published(  # another reading of the same figure, at 1 s only
        "wan-2022-cubic",
        "10.1038/s41586-022-04992-8",
        (0.0, 39.26),
        PolynomialModel((1.0,), ((1.053, 0.2374 * 40, -1.167e-2 * 40**2, 1.536e-4 * 40**3),), 40.0, 40.0),
    ),
    "cmo-hfox": Published("cmo-hfox", "10.1002/adfm.202504688", (8.0, 90.0), CmoHfoxModel((0.00081107, 0.00106879))),
    "cmo-hfox-2": Published(  # programmed to within 2 % of the target instead of 0.2 %
        "cmo-hfox-2", "10.1002/adfm.202504688", (8.0, 90.0), CmoHfoxModel((0.0112185391, 0.01129027418))
    ),
    "pcm-like": Published("pcm-like", "10.1109/ICECS46596.2019.8964852", (0.0, 25.0), PcmLikeModel()),
    "pcm-like-pair": Published(  # two of those cells in parallel
        "pcm-like-pair",
        "10.1109/ICECS46596.2019.8964852",
        (0.0, 50.0),
        PcmLikeModel(full_scale_us=50.0, cells=2),
    ),
    "milo": Published(
        "milo",
        "10.1109/IRPS46558.2021.9405119",
        (50.0, 225.0),
        PolynomialModel((1.0,), ((4.782321, -0.009107 * 225.0),), 225.0, 225.0),
    ),
    "joshi-pcm": Published(
        "joshi-pcm",
        "10.1038/s41467-020-16108-9",
        (0.25, 25.0),
        PolynomialModel((27.36,), ((0.28638599, 0.07585724 * 25, -0.00178767 * 25**2),), 25.0, 25.0),
    ),
}
