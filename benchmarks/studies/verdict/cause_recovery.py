"""Does the split of the gap find the cause that was put in? One cause at a time, on an otherwise ideal chip.

Each row of ``results/cause_recovery.csv`` is one whole deployment of the bundled network on an
emulated chip (NOT SILICON) that has one non-ideality and no other, scaled to a gap of three points or
more: calibrated through the wire, programmed, aged an hour, measured on 500 images. ``share`` is the
part of the gap that went to the cause put in, which is to be 80 % or more. Rows that are there are not run again.

    python benchmarks/studies.py cause-recovery               # complete the table, print the summary
    python benchmarks/studies.py cause-recovery --only INL    # run these rows again
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cim.chip.file import load_chip
from cim.chip.spec import AdcSpec, ChipSpec
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import deploy_on
from hil.deployment.network_source import BUNDLED_DATA, BUNDLED_NETWORK
from hil.deployment.options import DeployOptions, usual_recipe
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.verdict.agreement import AgreementReport
from hil.verdict.cause_split import QUANTISATION, UNEXPLAINED
from mapping.compile import compile_network
from mapping.network.file import load_network

TABLE = Path(__file__).parents[2] / "results" / "cause_recovery.csv"
IMAGES = 500
SEED = 11  # of the emulated chip


@dataclass(frozen=True)
class Case:
    """One cause on an otherwise ideal lab-128; ``switched_on`` are values of the file's section [sample]."""

    name: str
    cause: str  # the part of the split that it belongs to
    switched_on: Mapping[str, float] = field(default_factory=dict)
    adc_bits: int | None = None
    full_scale_us: float | None = None  # the one range of such converters
    weight_bits: int | None = None
    activation_bits: int | None = None
    lift_us: float = 0.0  # added to all levels: readings are cut at zero, which would hide half of a large noise
    calibrated_before: bool = False  # the chip was ideal when it was calibrated
    budget: Budget = Budget.DEFAULT  # of its calibration


CASES = (
    Case("few bits", QUANTISATION, weight_bits=2, activation_bits=2),
    Case("stuck cells", "programming", {"stuck_low_share": 0.15}),
    Case(
        "false passes of noisy verifies",
        "programming",
        {"pulse_step_us": 6.0, "pulse_sigma": 0.6, "verify_noise_us": 16.0},
    ),
    Case("relaxation", "relaxation", {"relaxation": 1.7}),
    Case("read noise", "read noise", {"read_variance_us2": 120.0}, lift_us=24.0, budget=Budget.FULL),
    Case("converters that saturate", "ADC", adc_bits=8, full_scale_us=50.0),
    Case("wires", "IR drop", {"wire_ohm": 42.0}),
    Case("crosstalk since the calibration", UNEXPLAINED, {"column_crosstalk": 0.35}, calibrated_before=True),
)


def chip_spec(case: Case) -> ChipSpec:
    """A lab-128 without any non-ideality but its 8-bit converters, or coarser ones where the case asks for them."""
    spec = load_chip("lab-128")
    levels = tuple(level + case.lift_us for level in spec.macro.levels_us)
    macro = dataclasses.replace(spec.macro, levels_us=levels)
    if case.adc_bits is not None and case.full_scale_us is not None:
        adc = AdcSpec(case.adc_bits, (case.full_scale_us,), macro.adc.shared_by)
        macro = dataclasses.replace(macro, adc=adc)
    return dataclasses.replace(spec, macro=macro, sample=dict.fromkeys(spec.sample, 0.0))


def deploy_case(case: Case, images: int = IMAGES) -> AgreementReport:
    """One deployment with one cause."""
    spec = chip_spec(case)
    file = load_network(BUNDLED_NETWORK)
    program = compile_network(file, spec, weight_bits=case.weight_bits, activation_bits=case.activation_bits)
    data = load_dataset(BUNDLED_DATA, "test")
    chosen = DeployOptions(
        samples=images,
        repeats=2,
        virtual_chips=10,
        read_back_reads=255,
        early_reads=64,
        recipe=usual_recipe(without=["aims", "tune"]),
    )
    then = {} if case.calibrated_before else case.switched_on
    with connect(InProcessTransport(EmulatedChip(spec, SEED, then), "emulated:calibrated"), chip=spec) as driver:
        record = calibrate(driver, program.macros, age_s=chosen.age_s, budget=case.budget)
    chip = EmulatedChip(spec, SEED, case.switched_on)
    with connect(InProcessTransport(chip, "emulated:one-cause"), chip=spec) as driver:
        report, _ = deploy_on(driver, program, data, graph=file.graph, record=record, options=chosen)
    return report


def row_of(case: Case, report: AgreementReport) -> dict[str, object]:
    """The split of one deployment, in points."""
    split = report.causes
    if split is None:
        raise ValueError("the deployment was made without causes")
    part = split.part(case.cause)
    rest = {p.name: round(100 * p.loss, 2) for p in split.parts if p.name != case.cause}
    largest = max(rest, key=lambda name: abs(rest[name]))
    bits = {"ADC": case.adc_bits, "weight": case.weight_bits, "activation": case.activation_bits}
    on = [*(f"{k}={v:g}" for k, v in case.switched_on.items()), *(f"{k}_bits={v}" for k, v in bits.items() if v)]
    if case.full_scale_us:
        on.append(f"full scale {case.full_scale_us:g} µS")
    if case.lift_us:
        on.append(f"levels {case.lift_us:+g} µS")
    return {
        "case": case.name,
        "switched_on": ", ".join(on),
        "cause": case.cause,
        "images": split.images,
        "gap": round(100 * split.gap, 2),
        "found": round(100 * part.loss, 2),
        "low": round(100 * part.low, 2),
        "high": round(100 * part.high, 2),
        "share": round(part.loss / split.gap, 3),
        "largest_other": f"{largest} {rest[largest]:+.2f}",
        "causes_s": round(report.timing_s["finding causes"], 1),
    }


def read_table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """All rows, in the order of ``CASES``."""
    place = {case.name: i for i, case in enumerate(CASES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(
            "# python benchmarks/studies.py cause-recovery   (emulated chips, NOT SILICON; points of accuracy)\n"
        )
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda r: place[str(r["case"])]))


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    return {
        "benchmark": "cause_recovery",
        "cases": len(rows),
        "gaps_of_3_points": sum(float(str(r["gap"])) >= 3 for r in rows),
        "found_80_percent": sum(float(str(r["share"])) >= 0.8 for r in rows),
        "smallest_share": min(float(str(r["share"])) for r in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], help="names of cases to run again")
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    known = {case.name for case in CASES}
    rows: list[dict[str, object]] = [
        dict(r) for r in read_table(options.table) if r["case"] in known and r["case"] not in options.only
    ]
    for case in CASES:
        if any(r["case"] == case.name for r in rows) or (options.only and case.name not in options.only):
            continue
        rows.append(row_of(case, deploy_case(case)))
        print(json.dumps(rows[-1]), flush=True)
        write_table(options.table, rows)
    print(json.dumps(summary(rows)))


if __name__ == "__main__":
    main()
