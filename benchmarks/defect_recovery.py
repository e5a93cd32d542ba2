"""How much of the accuracy that stuck cells cost comes back when the program is adapted to the chip.

ResNet-20 (W4A8) on the 1,000 lossless CIFAR-10 test images. Emulated lab-128 chips (NOT SILICON) with every
non-ideality off but stuck cells: 2.2 % low, 0.2 % high, at random. Per chip the right answers of

    blind            placed as on any chip
    pairs            each pair as close as its cells allow
    swapped          and columns with exchanged roles
    ordered          and channels and outputs in the best order
    adapted          and columns balanced: all that mapping.adapt.adaptation does

with nominal corrections, and ``blind``, ``ordered`` and ``adapted`` once more (``_columns``) with per-column
corrections fitted to the cells. The stuck map is the true one.

``recovered`` is the share of what ``blind`` loses against ``ideal`` that comes back, over all chips. Products are
computed from the conductances without converter rounding. Exit code 1 below 70 %.

    HIL_DATA=... python benchmarks/defect_recovery.py --chips 5
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import apply_correction
from cim.chip.encoding import tile_halves_us
from cim.chip.file import load_chip
from cim.chip.spec import AdcSpec, ChipSpec
from cim.record.calibration import CalibrationRecord, CellState, nominal_macro
from cim.record.published import nominal_record
from hil.emulator.sample import STUCK_HIGH, STUCK_LOW, ChipSample
from mapping.adapt.adaptation import AdaptOptions, adapt
from mapping.adapt.defects import record_defects
from mapping.compile import compile_network
from mapping.layout.place import macro_targets_us
from mapping.network.architectures import build
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import Corrections, nominal_corrections
from mapping.program.exact_product import unfold_columns
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

SHARES = {"stuck_low_share": 0.022, "stuck_high_share": 0.002}
VERSIONS = {
    "pairs": AdaptOptions(permute=False, swap=False, balance=False),
    "swapped": AdaptOptions(permute=False, balance=False),
    "ordered": AdaptOptions(balance=False),
    "adapted": AdaptOptions(),
}
WITH_COLUMNS = ("blind", "ordered", "adapted")
GATE = 0.70


@dataclasses.dataclass(frozen=True)
class Cells:
    """A chip without converters: level sums from conductances, corrected (a ``mapping.program.execute.Multiply``)."""

    program: ConductanceProgram
    cells_us: dict[int, NDArray[np.float32]]
    corrections: Corrections

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        spec, group, window = self.program.spec.macro, step.group, step.group.window
        unfolded = codes[:, :, None].astype(np.float32) if window is None else unfold_columns(codes, window)
        total = np.zeros((len(codes), unfolded.shape[2], group.outputs), np.int32)
        for tile, correction in zip(group.tiles, self.corrections[step.name], strict=True):
            rows, outputs = tile.levels.shape
            plus, minus = tile_halves_us(self.cells_us[tile.macro], spec, tile.row0, rows, tile.output0, outputs)
            held = (plus - minus) / spec.lsb_us(group.range_code)
            sums = np.rint(np.matmul(unfolded[:, tile.inputs.start : tile.inputs.stop].transpose(0, 2, 1), held))
            levels = apply_correction(sums.astype(np.int64), np.zeros(sums.shape[:2], np.int64), correction)
            total[:, :, tile.outputs.start : tile.outputs.stop] += tile.multiplier * levels
        if window is None:
            return total[:, 0]
        return total.transpose(0, 2, 1).reshape(len(codes), group.outputs, window.out_height, window.out_width)


def fine_converters(spec: ChipSpec) -> ChipSpec:
    """The chip with converters that count whole level steps and never saturate; cells as in its file."""
    macro = spec.macro
    bits = (macro.rows * macro.max_level).bit_length() + 2
    adc = AdcSpec(bits, (macro.level_step_us * float(1 << (bits - macro.adc_signed)),), macro.adc.shared_by)
    return dataclasses.replace(spec, macro=dataclasses.replace(macro, adc=adc))


def true_record(spec: ChipSpec, truth: ChipSample) -> CalibrationRecord:
    """What a perfect calibration of this chip would say: its stuck cells, and nothing else amiss."""
    model = nominal_record(load_chip("lab-128"))
    macros = {}
    for number, cells in enumerate(truth.macros):
        states = np.select(
            [cells.kind == STUCK_LOW, cells.kind == STUCK_HIGH], [CellState.STUCK_LOW, CellState.STUCK_HIGH], 0
        ).astype(np.int8)
        stuck_us = np.where(states > 0, cells.low_us, np.nan).astype(np.float32)
        macros[number] = dataclasses.replace(nominal_macro(spec.macro, number), cells=states, stuck_us=stuck_us)
    return dataclasses.replace(
        model, spec_digest=spec.digest, macros=macros, wire=dataclasses.replace(model.wire, ohm=0.0)
    )


def chip_cells(program: ConductanceProgram, record: CalibrationRecord) -> dict[int, NDArray[np.float32]]:
    """Cells after writing: on target, or stuck."""
    cells = {}
    for macro in program.macros:
        targets, stuck_us = macro_targets_us(program, macro), record.macro(macro).stuck_us
        cells[macro] = np.where(np.isfinite(stuck_us) & np.isfinite(targets), stuck_us, np.nan_to_num(targets))
    return cells


def right(program: ConductanceProgram, cells: dict[int, NDArray[np.float32]], corrections: Corrections,
          images: NDArray[np.uint8], labels: NDArray[np.int64]) -> int:  # fmt: skip
    answers = run(program, images, Cells(program, cells, corrections)).argmax(1)
    return int((answers == labels).sum())


def one_chip(
    program: ConductanceProgram, seed: int, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, float]:
    """Right answers of every version, and what adaptation did."""
    spec = program.spec
    record = true_record(spec, ChipSample.draw(spec, seed, SHARES))
    defects, inputs = record_defects(record, spec.macro), training_inputs(program)
    done = {n: adapt(program, defects, inputs, serial=f"seed {seed}", options=o) for n, o in VERSIONS.items()}
    found: dict[str, float] = {"seed": seed}
    for name, version in {"blind": program, **{n: a.program for n, a in done.items()}}.items():
        cells = chip_cells(version, record)
        found[name] = right(version, cells, nominal_corrections(version), images, labels)
        if name in WITH_COLUMNS:
            fitted = column_corrections(version, record, cells, training_inputs(version))
            found[f"{name}_columns"] = right(version, cells, fitted, images, labels)
    last = done["adapted"]
    found |= {name: last.total(name) for name in ("stuck", "hit", "left")}
    found |= {f"error_{n}": round(a.error[1], 6) for n, a in done.items()}
    return found | {"error_blind": round(last.error[0], 6)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    from safetensors.torch import load_file

    start, data = time.monotonic(), Path(os.environ["HIL_DATA"])
    with h5py.File(data / "cifar10_train.h5") as train, h5py.File(data / "cifar10_test.h5") as test:
        calibration = train["lossless/images"][::4][:512]
        images, labels = test["lossless/images"][: given.images], test["lossless/labels"][: given.images].astype(int)
    state = load_file(data / "models" / "cifar10_resnet20_a.safetensors")
    graph = build("cifar_resnet20_a", classes=tuple("0123456789"), state=state)
    program = compile_network(NetworkFile(graph, 4, 8, calibration), fine_converters(load_chip("lab-128")))
    ideal = int((run(program, images, IdealMultiply(program)).argmax(1) == labels).sum())
    rows = []
    for seed in range(given.chips):
        rows.append(one_chip(program, seed, images, labels))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    lost = sum(ideal - r["blind"] for r in rows)
    names = ("blind_columns", "pairs", "swapped", "ordered", "ordered_columns", "adapted", "adapted_columns")
    recovered = {name: round(1.0 - sum(ideal - r[name] for r in rows) / lost, 3) for name in names}
    passed = recovered["adapted"] >= GATE and recovered["adapted_columns"] >= GATE
    found = {
        "benchmark": "defect_recovery", "network": "cifar10_resnet20_a W4A8", "images": len(images), **SHARES,
        "emulated": True, "ideal": ideal, "recovered": recovered, "gate": GATE, "passed": passed, "chips": rows,
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip
    print(json.dumps(found))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
