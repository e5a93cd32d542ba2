"""First layer of a deployed network in the fast mode beside the exact one: what no averaging takes away.

    python benchmarks/fast_first_layer.py RUN [--images 6]

One virtual chip of the run's record and read-back, its cells, converters and corrections the same in both modes, reads
stored training images. Sums are means of eight reads. Each channel's line between both modes is taken out, as a tune
does; what is left beyond the noise of these means stays whatever is averaged. One line with wires, one without.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.record.file import load_record
from cim.simulator.modes import SimulationMode
from hil.deployment.options import DeployOptions
from hil.report.run_data import read_run
from hil.simulation.virtual_chip import VirtualChip, build_chip
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.file import load_program
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

READS, NOISE_APART = 8, 1000


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path, help="folder of a run, with record.h5, program.h5 and data.h5")
    ask.add_argument("--images", type=int, default=6)
    given = ask.parse_args()
    program, record = load_program(given.run / "program.h5"), load_record(given.run / "record.h5")
    readings = {slot: macro.readings_us for slot, macro in read_run(given.run / "data.h5").macros.items()}
    inputs, options = training_inputs(program), DeployOptions()
    corrections = column_corrections(program, record, readings, inputs)
    known = {"corrections": corrections, "readings_us": readings}
    chips = VirtualChips(program, record, options.recipe_of(program), 1, options.seed, **known)
    first = program.matrices[0]
    codes, drawn = inputs[first.name][: given.images], chips.draw(0)
    print(f"{first.name}: {first.group.inputs} inputs, wires of {record.wire.ohm:.3g} ohm a pitch")
    for words, own in (("with wires", record), ("without", replace(record, wire=replace(record.wire, ohm=0.0)))):
        fast, exact = (
            reads(build_chip(program, own, drawn, seed=1, number=0, mode=mode), first.name, codes)
            for mode in (SimulationMode.FAST, SimulationMode.EXACT)
        )
        noise = float(exact.var(axis=0, ddof=1).mean())  # of one read
        left = np.mean([beside_line(a, b) for a, b in zip(exact.mean(0).T, fast.mean(0).T, strict=True)])
        beyond = np.sqrt(max(0.0, left - 2.0 * noise / READS))
        print(f"{words:<12} noise of a read {np.sqrt(noise):7.1f} levels, fast beside exact {beyond:7.1f}")


def reads(chip: VirtualChip, layer: str, codes: NDArray[np.int16]) -> NDArray[np.float64]:
    """Level sums of some reads, (reads, images and places, outputs)."""
    step = chip.steps[layer]
    every = [chip.sums(step, codes, NOISE_APART * number) for number in range(READS)]
    return np.stack([np.moveaxis(one, 1, -1).reshape(-1, one.shape[1]) for one in every]).astype(np.float64)


def beside_line(exact: NDArray[np.float64], fast: NDArray[np.float64]) -> float:
    """Mean square of a channel of the fast mode beside its line over the exact one."""
    return float((fast - np.polyval(np.polyfit(exact, fast, 1), exact)).var())


if __name__ == "__main__":
    main()
