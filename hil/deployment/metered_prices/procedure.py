"""Calibration of prices: each loop is written to the chip, run under the meter, and its counts are compared.

found = calibrate_prices(driver, meter)
"""

from __future__ import annotations

import numpy as np

from cim.cost.network_cost import NoCostModel, estimate
from hil.deployment.metered_prices.fit import FittedPrices, MeteredLoop, priced
from hil.deployment.metered_prices.loops import PriceLoop, event_energies_pj, held_out_loop, price_loops
from hil.deployment.metered_prices.meters import PowerMeter, PowerReading
from hil.deployment.running.network_runs import network_run
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.samples import CALIBRATE
from hil.errors import DeviceError
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.errors import CannotMap
from mapping.program.corrections import nominal_corrections
from mapping.workload import program_workload

IDLE_S = 2.0
FEWEST = 14  # loops, for eleven prices
LEAST_ERROR = 2e-3  # of an energy: counts and clocks are no better


def calibrate_prices(
    driver: ChipDriver, meter: PowerMeter, *, seed: int = 0, watch: Watch | None = None
) -> FittedPrices:
    """Fit the prices of events on a chip to its supply power; what its macros held is lost.

    Raises:
        NoCostModel: the chip file has no [cost] section, whose rates and widths the counts need.
        DeviceError: the chip does not count as its file says, too few loops fit it, or none takes power.
    """
    spec, watch = driver.spec, watch or Watch()
    if spec.cost is None:
        raise NoCostModel(spec.name)
    loops = [*price_loops(seed), held_out_loop(seed)]
    with watch.stage("calibrating"):
        idle = meter.metered(lambda: _rest(driver), None, 0)
        found = []
        for number, loop in enumerate(loops):
            watch.step(number, len(loops), loop.name)
            try:
                found.append(_metered(driver, meter, loop, idle, number))
            except CannotMap as error:
                watch.note(f"{loop.name}: left out, {str(error).splitlines()[0]}")
                if loop is loops[-1]:
                    raise
    *fitted, held_out = found
    if len(fitted) < FEWEST:
        raise DeviceError(f"{len(fitted)} of {len(loops) - 1} loops fit the chip, {FEWEST} are needed")
    leakage = 1e6 * idle.power_w / spec.macros, 1e6 * idle.error_w / spec.macros
    silicon = driver.description.kind == "silicon"
    return priced(fitted, held_out, leakage, spec, meter.name, silicon=silicon)


def _rest(driver: ChipDriver) -> None:
    driver.outputs_off()
    driver.wait(IDLE_S)


def _metered(driver: ChipDriver, meter: PowerMeter, loop: PriceLoop, idle: PowerReading, number: int) -> MeteredLoop:
    """Energy of an image of a loop. Raises ``CannotMap``, ``DeviceError``."""
    program = compile_network(loop.network, driver.spec)
    work, sample = program_workload(program, loop.name), CALIBRATE + (number << 24)
    program_chip(driver, program, sample=sample, watch=Watch())
    chip = network_run(driver, program, nominal_corrections(program))

    def run() -> None:
        chip.logits(loop.images, sample)

    seen = meter.metered(run, work, len(loop.images))
    images = seen.times * len(loop.images)
    counted = sum(layer.conversions for layer in estimate(work, driver.spec).layers) * images
    made = sum(one.total for one in chip.conversions.values())
    if made != counted:
        raise DeviceError(
            f"{loop.name}: the chip made {made:,} conversions, and by its file {counted:,} are counted",
            likely="the chip file names other converters or bits than the chip has",
            hint="hil selftest",
        )
    per_image = seen.seconds * 1e12 / images
    energy = (seen.power_w - idle.power_w) * per_image
    error = float(np.hypot(seen.error_w, idle.error_w)) * per_image
    return MeteredLoop(
        loop.name, energy, float(np.hypot(error, LEAST_ERROR * abs(energy))), event_energies_pj(work, driver.spec)
    )
