"""Prices fitted to a metered supply: energy of networks by them, beside the hidden list of the emulated chip.

    python benchmarks/studies.py fitted-prices [--seeds 5] [--noise 0.01] [--chip lab-128]

One JSON line a hidden list: energy of each network of NETWORKS at the fitted prices and at those of the chip file, as
shares of that at the hidden ones, less 1.
"""

from __future__ import annotations

import argparse
import json

from cim.chip.file import load_chip
from hil.cost.estimate import estimate_network
from hil.deployment.metered_prices.procedure import calibrate_prices
from hil.deployment.metered_prices.stand_in import EmulatedMeter
from hil.driver.open_chip import open_chip

NETWORKS = ("lenet5", "cifar_resnet20_a", "vgg8")
MACROS = 8  # of the emulated chip that loops run on


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seeds", type=int, default=5, help="hidden lists")
    ask.add_argument("--noise", type=float, default=0.01, help="of one of sixteen readings of the meter, as a share")
    ask.add_argument("--chip", default="lab-128")
    given = ask.parse_args()
    chip = load_chip(given.chip, macros=2000)
    for seed in range(given.seeds):
        address = f"emulated:?seed={seed}&noise={given.noise}"
        with open_chip(f"emulated:{given.chip}?macros={MACROS}", macros=MACROS) as driver:
            meter = EmulatedMeter(address, driver.spec, lambda driver=driver: driver.chip_time_ns)  # type: ignore[misc]
            found = calibrate_prices(driver, meter)
        hidden = EmulatedMeter(address, chip, lambda: 0).hidden
        (metered, _), (told, error) = found.held_out
        row = {"seed": seed, "held_out": told / metered - 1, "held_out_error": error / metered, "misfit": found.misfit}
        for name in NETWORKS:
            true, fitted, own = (estimate_network(name, one).energy_pj for one in (hidden, found.spec(chip), chip))
            row |= {f"{name}, fitted": fitted / true - 1, f"{name}, chip file": own / true - 1}
        print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)


if __name__ == "__main__":
    main()
