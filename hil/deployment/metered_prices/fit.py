"""Prices by non-negative least squares from metered loops, with standard errors, and as a price list.

    Σ_j n_ij p_j = E_i ± σ_i,  p_j >= 0        errors: (Aᵀ A)⁻¹ of the prices above zero, A_ij = n_ij / σ_i

n_ij: events j of an image of loop i, E_i its energy above idling. The errors are widened where residuals are larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from hil.deployment.metered_prices.loops import FIELDS, LEAKAGE, WITH_ADC
from hil.errors import DeviceError
from hil.pages.tables import Table

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MeteredLoop:
    """One loop that ran: energy of an image above idling, its standard error, and its counts (fields of ``FIELDS``)."""

    name: str
    energy_pj: float
    error_pj: float
    events: Floats


@dataclass(frozen=True, slots=True)
class FittedPrices:
    """``prices``: value and standard error by field; ``held_out``: energy of a network that was not fitted, as metered
    and by the prices, each with its error, pJ."""

    chip: str
    meter: str
    silicon: bool
    prices: Mapping[str, tuple[float, float]]
    loops: int
    misfit: float  # rms of residuals, of the energies
    held_out: tuple[tuple[float, float], tuple[float, float]]

    def lines(self) -> list[str | Table]:
        (metered, metered_error), (told, told_error) = self.held_out
        kind = "" if self.silicon else "      NOT SILICON"
        rows = tuple((name, f"{value:.4g}", f"± {error:.2g}") for name, (value, error) in self.prices.items())
        return [
            f"chip     {self.chip}, {self.loops} loops, supply by {self.meter}{kind}",
            Table("Prices", ("price", "value", "error"), rows),
            f"misfit   {self.misfit:.2%} of the energy of a loop, rms",
            f"held out {metered * 1e-6:.4g} ± {metered_error * 1e-6:.2g} uJ an image as metered, "
            f"{told * 1e-6:.4g} ± {told_error * 1e-6:.2g} by these prices ({told / metered - 1:+.1%})",
        ]

    def to_json(self) -> dict[str, Any]:
        return {"format": "hil.fitted-prices/1.0", **asdict(self)}

    def spec(self, chip: ChipSpec) -> ChipSpec:
        """The chip at these prices; what no loop tells apart stays as its file says."""
        assert chip.cost is not None
        kind = "measured: loops" if self.silicon else "assumed: loops of an emulated chip"
        values: dict[str, Any] = {name: value for name, (value, _) in self.prices.items()}
        sources = {
            f"cost.{name}": f"{kind}, supply by {self.meter}, ± {error:.2g}" for name, (_, error) in self.prices.items()
        }
        for name in WITH_ADC:
            values[name], sources[f"cost.{name}"] = 0.0, f"{kind}, in adc_fj_per_step"
        return replace(chip, cost=replace(chip.cost, **values), provenance={**chip.provenance, **sources})


def fitted(loops: Sequence[MeteredLoop]) -> tuple[Floats, Floats, float]:
    """Prices of ``FIELDS``, their covariance, and the rms of residuals as a share of the energies.

    Raises:
        DeviceError: no loop takes more than idling.
    """
    from scipy.optimize import nnls

    error = np.array([loop.error_pj for loop in loops])
    events, energy = np.stack([loop.events for loop in loops]), np.array([loop.energy_pj for loop in loops])
    if not (energy > error).any():
        raise DeviceError(
            "no loop takes more power than the idle chip, within the errors of the meter",
            likely="the meter is on another supply, or its range is too wide",
            hint="a meter of the array's own supply; hil selftest says whether products arrive",
        )
    scale = np.linalg.norm(events / error[:, None], axis=0)
    scale[scale == 0] = 1.0
    weighted = events / error[:, None] / scale
    prices, _ = nnls(weighted, energy / error)
    residual = weighted @ prices - energy / error
    inside = prices > 0
    freedom = max(len(loops) - int(inside.sum()), 1)
    wider = max(1.0, float(residual @ residual) / freedom)
    covariance = np.zeros((len(FIELDS), len(FIELDS)))
    covariance[np.ix_(inside, inside)] = wider * np.linalg.pinv(weighted[:, inside].T @ weighted[:, inside])
    at_zero = np.flatnonzero(~inside)  # what such a price may be is what its own column leaves open
    covariance[at_zero, at_zero] = wider
    misfit = float(np.sqrt(np.mean((residual * error / np.maximum(energy, error)) ** 2)))
    return prices / scale, covariance / np.outer(scale, scale), misfit


def priced(
    loops: Sequence[MeteredLoop], held_out: MeteredLoop, leakage_uw: tuple[float, float], chip: ChipSpec, meter: str,
    *, silicon: bool,
) -> FittedPrices:  # fmt: skip
    """Prices of the loops, with what they say of the network that was held out.

    Args:
        leakage_uw: of one macro at rest, and its error; that of buffers is in it.
    """
    prices, covariance, misfit = fitted(loops)
    errors = np.sqrt(np.diag(covariance))
    told = float(held_out.events @ prices), float(np.sqrt(held_out.events @ covariance @ held_out.events))
    found = {name: (float(p), float(e)) for name, p, e in zip(FIELDS, prices, errors, strict=True)}
    found[LEAKAGE[0]], found[LEAKAGE[1]] = leakage_uw, (0.0, 0.0)
    metered = held_out.energy_pj, held_out.error_pj
    return FittedPrices(chip.name, meter, silicon, found, len(loops), misfit, (metered, told))
