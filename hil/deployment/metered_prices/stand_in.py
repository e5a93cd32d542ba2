"""The stand-in meter of an emulated chip's supply: it reads a hidden price list, with noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from urllib.parse import parse_qsl

import numpy as np

from cim.chip.price_list import priced_by
from cim.chip.spec import ChipSpec, CostSpec
from cim.cost.network_cost import NoCostModel, estimate
from cim.cost.workload import Workload
from hil.deployment.metered_prices.meters import PowerReading
from hil.errors import UsageError

SCHEME, EXAMPLE = "emulated:", "emulated:hidden.toml?noise=0.01&seed=3"
NOISE, READINGS = 0.01, 16  # of one reading, as a share of it; readings of a loop
SPREAD = 1.0  # of the logarithm of a price that is drawn
ENDINGS = ("_pj", "_fj_per_step", "_pj_per_bit", "mean_cell_us", "macro_leakage_uw")


class EmulatedMeter:
    """Power of an emulated chip by a price list that only this meter knows.

    Args:
        address: ``emulated:FILE.toml`` with a price list, or ``emulated:`` alone: the chip file's prices, each times a
            factor that ``seed`` draws (log-normal). ``noise``: of a reading, as a share of it.
        clock_ns: chip time.

    Energy of an image is that of the cost model at the hidden prices, in the chip's own time.
    """

    def __init__(self, address: str, spec: ChipSpec, clock_ns: Callable[[], int]) -> None:
        file, _, query = address.removeprefix(SCHEME).partition("?")
        try:
            given = {name: float(text) for name, text in parse_qsl(query, keep_blank_values=True)}
        except ValueError:
            raise UsageError(f"{address!r}: noise and seed are numbers", hint=EXAMPLE) from None
        if set(given) - {"noise", "seed"} or min(given.values(), default=0) < 0:
            raise UsageError(f"{address!r}: a stand-in meter has noise and seed, none below 0", hint=EXAMPLE)
        self.name = f"{SCHEME}{file}"
        self._noise, seed = given.get("noise", NOISE), int(given.get("seed", 0))
        self._rng, self._clock_ns = np.random.default_rng([0x9E7E4, seed]), clock_ns
        if spec.cost is None and not file:
            raise NoCostModel(spec.name)
        self.hidden = priced_by(spec, file) if file else replace(spec, cost=_drawn(spec.cost, self._rng))

    def metered(self, run: Callable[[], None], work: Workload | None, images: int) -> PowerReading:
        began = self._clock_ns()
        run()
        seconds = (self._clock_ns() - began) * 1e-9
        assert self.hidden.cost is not None
        idle = replace(self.hidden.cost, macro_leakage_uw=0.0, buffer_leakage_nw_per_bit=0.0)
        power = self.hidden.cost.macro_leakage_uw * 1e-6 * self.hidden.macros
        if work is not None:
            power += estimate(work, replace(self.hidden, cost=idle)).energy_pj * 1e-12 * images / seconds
        readings = power * (1 + self._noise * self._rng.standard_normal(READINGS))
        error = float(readings.std(ddof=1)) / math.sqrt(READINGS)
        return PowerReading(float(readings.mean()), error, seconds, 1)


def _drawn(cost: CostSpec | None, rng: np.random.Generator) -> CostSpec:
    assert cost is not None
    names = [f.name for f in fields(cost) if f.name.endswith(ENDINGS)]
    factors = np.exp(SPREAD * rng.standard_normal(len(names)))
    return replace(
        cost,
        **{n: getattr(cost, n) * float(x) for n, x in zip(names, factors, strict=True) if getattr(cost, n) is not None},
    )
