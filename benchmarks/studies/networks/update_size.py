"""Bytes of an update of gains and biases alone, and its time on an uplink.

    python benchmarks/studies.py update-size examples/searches/cifar10-residual/resnet20/net.pt

The network is tuned to virtual chip 0 of the models of the chip file (lab-128, 1 h after programming, fast mode).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cim.record.published import nominal_record
from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions
from hil.payload.passes.flight_image import flight_program, pack_image
from hil.payload.passes.transfer import plan_transfer
from hil.payload.passes.update import pack_update
from hil.payload.passes.windows import ContactWindow
from hil.payload.settings import LinkFigures
from hil.simulation.virtual_chip import TUNE_IMAGES
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe
from mapping.tune.channel_affine import tune_channels, tune_targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--macros", type=int)
    parser.add_argument("--rate", type=float, default=64e3, help="bit/s")
    asked = parser.parse_args()
    program, _ = program_of(asked.network, NetworkOptions(macros=asked.macros), Watch())
    record = nominal_record(program.spec, program.macros)
    inputs = training_inputs(program)
    chip = VirtualChips(program, record, Recipe(), 1, 0, inputs=inputs, mode="fast").chip(0)
    targets = tune_targets(program, program.calibration_images)
    tuned = tune_channels(program, targets, chip, sample=TUNE_IMAGES).program
    flying = flight_program(program)
    figures, day = LinkFigures(asked.rate, asked.rate), (ContactWindow(0.0, 86400.0),)
    print(f"network        {asked.network}, {sum(m.group.outputs for m in program.matrices)} output channels")
    for name, data in (
        ("update", pack_update(flying, flight_program(tuned), 1)),
        ("flight image", pack_image(flying)),
    ):
        plan = plan_transfer(name, len(data), day, figures)
        print(f"{name:<14} {len(data):,} bytes, {plan.on_air_s:.2f} s on the air at {asked.rate / 1e3:g} kbit/s")


if __name__ == "__main__":
    main()
