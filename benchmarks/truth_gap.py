"""How much of a gap between an emulated chip and its simulation is errors of calibration? One JSON line.

    python benchmarks/truth_gap.py [NET] [--data eurosat] [--macros 16] [--seed 0] [--images 500] [--chips 10]

The network is deployed on an emulated chip as ``hil deploy`` does, and simulated four times: as record and read-back
say (``record``), with the true cells, with the true gains, offsets and INL of the converters, and with both. Only this
judge may look the truth up. What ``both`` leaves is the simulator's model; what ``record`` leaves beyond it is
calibration. Corrections, wires and read noise are the record's in all four.

``accuracy``: percent of the images, mean over virtual chips, ``error`` of it, beside ``emulated``, the mean of three
repeats on the chip. ``explained``: share of the logits' departure from the exact ones that is simulated, as in a report
(``hil.verdict.fidelity``); ``explained_virtual`` the same for each virtual chip against the others,
on average.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from hidden_truth import converter_curves

from cim.chip.converters import code_limits
from cim.record.device import Columns
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import BUNDLED_DATA, program_of
from hil.deployment.deployment import Deployment
from hil.deployment.interim_looks import plan_images
from hil.deployment.options import DeployOptions
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import ensure_programmed, read_back
from hil.driver.open_chip import connect
from hil.driver.samples import INFER, PROGRAM, READ_BEFORE, REPEAT
from hil.emulator.address import chip_from_address
from hil.simulation.virtual_chip import Drawn, build_chip
from hil.transports.in_process import InProcessTransport
from hil.verdict.fidelity import fidelity
from hil.watch import Watch
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

REPEATS = 3


def true_columns(chip: Any, macro: int, like: Columns) -> Columns:
    """The converters of a macro as they are, INL at every code."""
    hidden = chip._sample.macros[macro]
    low, high = code_limits(chip.spec.macro.adc.bits, chip.spec.macro.adc_signed)
    y = np.arange(low, high + 1.0)
    return replace(
        like,
        gain=hidden.gain.astype(np.float64),
        offset_codes=hidden.offset_codes.astype(np.float64)[like.adc],
        inl_codes=converter_curves(chip, macro, y[:, None]).T,
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("net", nargs="?")
    ask.add_argument("--data", default=BUNDLED_DATA)
    ask.add_argument("--macros", type=int, default=16)
    ask.add_argument("--seed", type=int, default=0, help="of the chip")
    ask.add_argument("--images", type=int, default=500)
    ask.add_argument("--chips", type=int, default=10)
    given = ask.parse_args()
    watch, options = Watch(), DeployOptions(samples=given.images, virtual_chips=given.chips, causes=False)
    program, _ = program_of(given.net, chip="lab-128", macros=given.macros, trust=False, watch=watch)
    data = load_dataset(given.data, "test")
    order, _ = plan_images(data, program, options)
    images, labels = data.images[order], data.labels[order]

    where = f"emulated:lab-128?macros={given.macros}&seed={given.seed}"
    chip = chip_from_address(where)
    with connect(InProcessTransport(chip, where), spec=chip.spec) as driver:
        record = calibrate(driver, program.macros, age_s=options.age_s)
        written = ensure_programmed(driver, program, sample=PROGRAM, force=True, watch=watch)
        driver.wait(options.age_s)
        readings = read_back(driver, program.macros, reads=options.read_back_reads, sample=READ_BEFORE, watch=watch)
        inputs = training_inputs(program)
        corrections = column_corrections(program, record, readings, inputs)
        sums = MeasuredSums(driver, corrections)
        measured = np.stack([run(program, images, sums, sample=INFER + n * REPEAT) for n in range(REPEATS)])
        job = Deployment(driver, program, record, corrections, inputs, written, readings, options)
        virtual = job.virtual_chips(conditioned=True)
        drawn = [virtual.draw(number) for number in range(given.chips)]
    macro_of = {slot: program.macro_of(slot) for slot in program.slots}
    cells = {slot: chip._cells[macro].conductance_us(chip._settled_ns) for slot, macro in macro_of.items()}
    ideal = run(program, images, IdealMultiply(program))
    columns = {slot: true_columns(chip, macro, drawn[0].columns[slot]) for slot, macro in macro_of.items()}

    found: dict[str, Any] = {
        "benchmark": "truth_gap", "network": given.net or "bundled", "chip": where, "images": len(images),
        "ideal": round(100 * float((ideal.argmax(1) == labels).mean()), 2),
        "emulated": round(100 * float((measured.argmax(2) == labels).mean()), 2),
    }  # fmt: skip
    for name, true_cells, true_converters in (
        ("record", False, False),
        ("cells", True, False),
        ("converters", False, True),
        ("both", True, True),
    ):
        logits = []
        for number, one in enumerate(drawn):
            what = Drawn(
                cells if true_cells else one.cells_us, columns if true_converters else one.columns, corrections
            )
            logits.append(run(program, images, build_chip(program, record, what, seed=1, number=number)))
        z = np.stack(logits)
        right = 100 * (z.argmax(2) == labels).mean(1)
        close = fidelity(measured, z, ideal, conditioned=True)
        found[name] = {
            "accuracy": round(float(right.mean()), 2),
            "error": round(float(right.std(ddof=1)) / len(z) ** 0.5, 2),
            "explained": round(close.explained, 4),
        }
        if name == "record":
            found["explained_virtual"] = round(close.explained_virtual_mean, 4)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
