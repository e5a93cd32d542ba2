"""Measured equals ideal, bit for bit: every built-in architecture on five chip files, through the wire.

Non-idealities are off (``emulated:NAME?ideal=1``), corrections nominal, weights random but
seeded, 4 bits, inputs signed. Each network is compiled, written with real frames and run on
one image: whole layers on the chip (codes after every layer and logits are compared), then
sums of tiles (level sums of every layer are compared), and for networks of at most 300 macros
the raw codes of every conversion. Each row of ``results/exact_matrix.csv`` is one architecture on
one chip; rows that are there are not run again.

    python benchmarks/studies.py exact-matrix                        # complete the table
    python benchmarks/studies.py exact-matrix --only lenet5:yao-2020 # one row, printed and not kept
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import idealised, load_chip
from cim.chip.spec import ChipSpec
from firmware_protocols.messages import Capability
from hil.deployment.inference import MeasuredLayers
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.bits import BitWidths
from mapping.compile import compile_network
from mapping.layout.cutting import Cutting
from mapping.layout.lay_out import needed_macros
from mapping.network.architectures import ARCHITECTURES, build
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph
from mapping.operators.fused import MatrixOp
from mapping.operators.integer.digital_ops import finish
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.lower import lower, matrix_shape

TABLE = Path(__file__).parents[2] / "results" / "exact_matrix.csv"
WEIGHT_BITS, ACTIVATION_BITS = 4, 8
# Chips with every coding, encoding and order of columns between them; small networks run on all in tests/test_exact.py.
MOST_EMULATED = 64  # macros that nothing needs: an emulated one of 256 x 512 cells takes 22 MB
CHIPS = ("a111", "esserc-2024", "lab-128", "neurram-256", "yao-2020")
CALIBRATION_IMAGES = 2
RAW_MACROS = 300

Arrays = dict[str, NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Row:
    """One network on one chip. ``equal`` holds for logits and every layer in every mode of ``modes``."""

    architecture: str
    chip: str
    equal: bool
    modes: str
    layers: int
    signed_layers: int  # whose inputs may be below zero
    macros: int
    pulses: int
    conversions: int  # of one image
    seconds: float
    differs: str  # first layer that does, and its mode


@dataclass(frozen=True, slots=True)
class Answers:
    """Logits, codes after each layer and level sums of each layer (either may be left out), of some images."""

    logits: NDArray[np.int32]
    codes: Arrays
    sums: Arrays

    def difference(self, other: Answers) -> str:
        """The first layer in which ``other`` is not the same; empty when all are."""
        for mine, theirs in ((self.sums, other.sums), (self.codes, other.codes)):
            for name, values in theirs.items():
                if not np.array_equal(mine[name], values):
                    return name
        return "" if np.array_equal(self.logits, other.logits) else "logits"


class LayerTap:
    """Whole layers on the chip, with the codes of each one's first use kept; logits tell of later ones."""

    def __init__(self, layers: MeasuredLayers) -> None:
        self._layers = layers
        self.codes: Arrays = {}

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        found = self._layers.layer(step, codes, sample)
        self.codes.setdefault(step.name, found)
        return found


def random_network(graph: NetworkGraph, seed: int, *, weight_bits: int = WEIGHT_BITS) -> NetworkFile:
    """A network file of a graph, with as many random calibration images as an exactness test needs."""
    channels, height, width = graph.input_shape
    images = np.random.default_rng(seed).integers(0, 256, (CALIBRATION_IMAGES, height, width, channels))
    return NetworkFile(graph, weight_bits, ACTIVATION_BITS, images.astype(np.uint8))


def large_enough(network: NetworkFile, name: str) -> int:
    """How many macros of chip ``name`` the network takes, or up to 64 that the chip file has if that is more."""
    spec = load_chip(name)
    shapes = [matrix_shape(op) for op in lower(network.graph) if isinstance(op, MatrixOp)]
    return max(
        min(spec.macros, MOST_EMULATED),
        needed_macros(shapes, spec, Cutting(BitWidths(network.weight_bits, network.activation_bits))),
    )


def ideal_answers(program: ConductanceProgram, images: NDArray[np.uint8]) -> Answers:
    codes: Arrays = {}
    sums: Arrays = {}

    def keep(step: MatrixStep, inputs: NDArray[np.int16], found: NDArray[np.int32]) -> None:
        sums[step.name], codes[step.name] = found, finish(found, step.bias, step.requantise)

    return Answers(run(program, images, IdealMultiply(program), tap=keep), codes, sums)


def measured_layers(driver: ChipDriver, program: ConductanceProgram, images: NDArray[np.uint8]) -> Answers:
    """The chip adds tiles, corrects and requantises."""
    tap = LayerTap(MeasuredLayers(driver, program, nominal_corrections(program)))
    return Answers(run(program, images, tap), tap.codes, {})


def measured_sums(driver: ChipDriver, program: ConductanceProgram, images: NDArray[np.uint8]) -> tuple[Answers, int]:
    """The chip gives sums of tiles (or raw codes, where it has no sums); and how many conversions that took."""
    sums: Arrays = {}

    def keep(step: MatrixStep, inputs: NDArray[np.int16], found: NDArray[np.int32]) -> None:
        sums[step.name] = found

    multiply = MeasuredSums(driver, nominal_corrections(program))
    logits = run(program, images, multiply, tap=keep)
    saturated = sum(count.saturated for count in multiply.conversions.values())
    if saturated:
        raise ArithmeticError(f"{saturated} conversions of an ideal chip ended at the end of the scale")
    return Answers(logits, {}, sums), sum(count.total for count in multiply.conversions.values())


def raw_chip(spec: ChipSpec) -> EmulatedChip:
    """An ideal chip that offers raw codes and neither sums nor layers."""
    capabilities = ALL_CAPABILITIES & ~(Capability.SUMS | Capability.LAYER)
    return EmulatedChip(spec, 0, capabilities=capabilities)


def compare(program: ConductanceProgram, images: NDArray[np.uint8], address: str, *, raw: bool) -> dict[str, Any]:
    """Run a compiled network on the ideal chip at ``address`` in every mode; fields of ``Row``."""
    ideal = ideal_answers(program, images)
    with open_chip(address, chip=program.spec) as driver:
        written = program_chip(driver, program, sample=0, watch=Watch())
        if written.unreached:
            raise ArithmeticError(f"{written.unreached} cells of an ideal chip missed their targets")
        found = {"layer": measured_layers(driver, program, images)}
        found["sums"], conversions = measured_sums(driver, program, images)
    if raw:
        with connect(InProcessTransport(raw_chip(program.spec), "raw"), chip=program.spec) as driver:
            program_chip(driver, program, sample=0, watch=Watch())
            found["raw"], _ = measured_sums(driver, program, images)
            if not driver.fallbacks:
                raise ArithmeticError("the chip without sums gave sums")
    differs = [f"{mode} {where}" for mode, answers in found.items() if (where := ideal.difference(answers))]
    return {
        "equal": not differs,
        "modes": "+".join(found),
        "layers": len(program.matrices),
        "signed_layers": sum(m.group.input_signed for m in program.matrices),
        "macros": len(program.macros),
        "pulses": written.pulses,
        "conversions": conversions // len(images),
        "differs": differs[0] if differs else "",
    }


def measure(architecture: str, chip: str, *, raw: bool | None = None, images: int = 1, **options: Any) -> Row:
    """One row; ``options`` go to the architecture (``width``, ``depth``)."""
    start = time.monotonic()
    graph = build(architecture, classes=tuple("0123456789"), rng=np.random.default_rng(1), **options)
    network = random_network(graph, 2)
    macros = large_enough(network, chip)
    program = compile_network(network, idealised(load_chip(chip, macros=macros)))
    seen = np.random.default_rng(3).integers(0, 256, (images, *network.calibration_images.shape[1:])).astype(np.uint8)
    small = macros <= RAW_MACROS if raw is None else raw
    result = compare(program, seen, f"emulated:{chip}?ideal=1&macros={macros}", raw=small)
    return Row(architecture, chip, **result, seconds=round(time.monotonic() - start, 1))


def read_table(path: Path = TABLE) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def append(path: Path, row: Row) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__), lineterminator="\n")
        if new:
            file.write("# python benchmarks/studies.py exact-matrix   (emulated chips, NOT SILICON)\n")
            writer.writeheader()
        writer.writerow(asdict(row))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="ARCHITECTURE:CHIP")
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_args()
    if given.only:
        row = measure(*given.only.split(":"))
        print(json.dumps(asdict(row)))
        return 0 if row.equal else 1
    there = {(r["architecture"], r["chip"]) for r in read_table(given.table)}
    for architecture in ARCHITECTURES:
        for chip in CHIPS:
            if (architecture, chip) not in there:
                row = measure(architecture, chip)
                append(given.table, row)
                print(json.dumps(asdict(row)), flush=True)
    rows = read_table(given.table)
    equal = sum(r["equal"] == "True" for r in rows)
    print(json.dumps({"benchmark": "exact_matrix", "rows": len(rows), "equal": equal}))
    return 0 if equal == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
