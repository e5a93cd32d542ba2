"""Mitigations against radiation, each with what it notices or corrects and what it costs.

Prices are over the plain network: energy and time of an image, cells of the array, bytes of the host. Energy of the
chip is priced with the chip file's [cost], energy of the host with mission.toml; counts are named at each price.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from cim.chip.spec import CostSpec
from cim.cost.network_cost import NoCostModel, estimate
from hil.payload.image_energy import image_energy
from hil.payload.radiation.checksums import CheckedProgram
from hil.payload.radiation.detectors import SCRUB_READS, Detector
from hil.payload.radiation.kinds import FaultKind
from hil.payload.requirements import MissionPlan
from hil.payload.secded import CHECK_BITS, WORD_BYTES, WORD_OPERATIONS
from mapping.program.conductance import ConductanceProgram
from mapping.workload import program_workload

CODE_SHARE = CHECK_BITS / (8 * WORD_BYTES)  # check bits of a SECDED word over those of its data
GOLDEN_EVERY = 100  # images between two runs of the golden vectors
TUNE_EVERY_S = 30 * 86400.0
TUNE_IMAGES = 128
RESIDUE_SHARE = 0.125  # of the energy of an addition: two bits beside sixteen (assumed)


class Mitigation(enum.StrEnum):
    """One thing that can be switched on."""

    TIMER = "timer"
    RANGE = "range-guards"
    CHECKSUM = "checksum-columns"
    SCRUB = "scrubbing"
    GOLDEN = "golden-vectors"
    PARITY = "parity"
    RESIDUE = "residues"
    ECC = "ecc"
    REGISTERS = "register-readback"
    SIGNATURE = "step-signature"
    TWICE = "second-conversion"
    TRIPLE = "triple-layer"
    TUNE = "re-tuning"


DETECTORS: dict[Mitigation, Detector] = {
    Mitigation.TIMER: Detector.TIMER,
    Mitigation.RANGE: Detector.RANGE,
    Mitigation.CHECKSUM: Detector.CHECKSUM,
    Mitigation.SCRUB: Detector.SCRUB,
    Mitigation.GOLDEN: Detector.GOLDEN,
    Mitigation.PARITY: Detector.PARITY,
    Mitigation.RESIDUE: Detector.RESIDUE,
    Mitigation.ECC: Detector.ECC,
    Mitigation.REGISTERS: Detector.REGISTERS,
    Mitigation.SIGNATURE: Detector.SIGNATURE,
    Mitigation.TWICE: Detector.TWICE,
}
"""The detector that a mitigation brings; triple copies outvote a fault, re-tuning corrects a drift, neither notices."""

OUTVOTED = (
    FaultKind.CELL_NEIGHBOUR,
    FaultKind.CELL_EXTREME,
    FaultKind.CONVERTER_TRIM,
    FaultKind.CONVERTER_RANGE,
    FaultKind.ROW_ENABLE,
    FaultKind.CONVERSION,
    FaultKind.CORRECTION,
)
"""Kinds that strike one of three copies of a layer: the median of three sums is not theirs. By construction."""


@dataclass(frozen=True, slots=True)
class Price:
    """Costs over the plain network. ``counted``: what was counted."""

    energy_j: float  # of an image
    seconds: float  # of an image
    cells: int
    host_bytes: int
    counted: str

    def __add__(self, other: Price) -> Price:
        return Price(
            self.energy_j + other.energy_j,
            self.seconds + other.seconds,
            self.cells + other.cells,
            self.host_bytes + other.host_bytes,
            "",
        )


FREE = Price(0.0, 0.0, 0, 0, "")


def prices(
    program: ConductanceProgram,
    checked: CheckedProgram,
    plan: MissionPlan,
    *,
    scrub_s: float,
    golden: int,
    tripled: str,
) -> dict[Mitigation, Price]:
    """The price of each mitigation for one network and mission.

    Args:
        scrub_s: between two scrubs.
        golden: golden vectors.
        tripled: the layer that has three copies.

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section.
    """
    spec = program.spec
    cost = spec.cost
    if cost is None:
        raise NoCostModel(spec.name)
    image = image_energy(program, plan)
    per_scrub = max(1.0, plan.images_per_orbit * scrub_s / (60.0 * plan.orbit_minutes))
    sums, channels, codes = _sums(program)
    cells = sum(t.levels.size for m in program.matrices for t in m.group.tiles) * (2 if spec.macro.paired else 1)
    scrub_j = (
        cells * SCRUB_READS * cost.verify_pj * 1e-12 + cells * SCRUB_READS * 16 * plan.host.link_pj_per_bit * 1e-12
    )
    scrub_time = cells * SCRUB_READS * spec.timing.cell_read_ns * 1e-9
    tune_images = plan.images_per_orbit * TUNE_EVERY_S / (60.0 * plan.orbit_minutes)
    registers = 8 * len(program.macros) * (spec.macro.rows // 8 + spec.macro.outputs)
    check_j, check_s = _difference(program, checked.program)
    golden_bytes = golden * (math.prod(program.input.shape) + 4 * len(program.classes))
    return {
        Mitigation.TIMER: Price(0.0, 0.0, 0, 8, "a counter of the host"),
        Mitigation.RANGE: _host(plan, 2 * sums, 8 * channels, f"2 comparisons of {sums:,} sums", cost),
        Mitigation.CHECKSUM: Price(
            check_j, check_s, checked.cells, 8 * len(checked.checks), "cost model with the columns"
        ),
        Mitigation.SCRUB: Price(
            scrub_j / per_scrub,
            scrub_time / per_scrub,
            0,
            cells,
            f"{cells:,} cells read {SCRUB_READS} times in {per_scrub:,.0f} images; a byte a cell",
        ),
        Mitigation.GOLDEN: Price(
            golden * image.energy_j / GOLDEN_EVERY,
            golden * image.seconds / GOLDEN_EVERY,
            0,
            golden_bytes,
            f"{golden} images more in {GOLDEN_EVERY}",
        ),
        Mitigation.PARITY: Price(
            codes * (cost.buffer_write_pj_per_bit + cost.buffer_read_pj_per_bit) * 1e-12,
            0.0,
            0,
            -(-image.load.ram_bytes // 8),
            f"one bit more of {codes:,} codes, written and read",
        ),
        Mitigation.RESIDUE: Price(
            RESIDUE_SHARE * sums * cost.accumulate_pj * 1e-12,
            0.0,
            0,
            0,
            f"{RESIDUE_SHARE:g} additions of {sums:,} sums",
        ),
        Mitigation.ECC: _ecc(program, plan, cost, image.load.program_bytes, per_scrub),
        Mitigation.REGISTERS: Price(
            registers * plan.host.link_pj_per_bit * 1e-12,
            registers / plan.host.link_bit_per_s,
            0,
            registers // 8,
            f"{registers:,} bits of configuration read back each image",
        ),
        Mitigation.SIGNATURE: _host(
            plan, 2 * len(program.steps), 8, f"2 operations of {len(program.steps)} steps", cost
        ),
        Mitigation.TWICE: _twice(program),
        Mitigation.TRIPLE: _triple(program, tripled),
        Mitigation.TUNE: Price(
            TUNE_IMAGES * image.energy_j / max(1.0, tune_images),
            0.0,
            0,
            TUNE_IMAGES * math.prod(program.input.shape),
            f"{TUNE_IMAGES} stored images every {TUNE_EVERY_S / 86400:g} days",
        ),
    }


def _host(plan: MissionPlan, operations: int, size: int, counted: str, cost: CostSpec) -> Price:
    """Integer operations where the digital operations are done: on the host, or in chip logic as accumulations."""
    if not plan.host.digital_on_host:
        return Price(operations * cost.accumulate_pj * 1e-12, 0.0, 0, size, counted)
    seconds = operations / plan.host.operations_per_s
    return Price(seconds * (plan.host.active_w - plan.host.idle_w), seconds, 0, size, counted)


def _ecc(program: ConductanceProgram, plan: MissionPlan, cost: CostSpec, stored: int, per_scrub: float) -> Price:
    """Words of rules, corrections and input table decoded at each use, all words once a scrub: in the memory where chip
    logic works, by the host where it does."""
    levels = sum(
        t.levels.size * program.weight_bits_of(m.name) / 8 for m in program.matrices for t in m.group.matrix_tiles
    )
    words = math.ceil(stored / WORD_BYTES)
    read = math.ceil((stored - levels) / WORD_BYTES) + words / per_scrub  # an image
    checks = math.ceil(stored * CODE_SHARE)
    counted = f"{words:,} words of 72 bits, {read:,.0f} of them decoded an image"
    if plan.host.digital_on_host:
        return _host(plan, round(WORD_OPERATIONS * read), checks, counted, cost)
    through = words / per_scrub * 8 * WORD_BYTES * cost.buffer_read_pj_per_bit  # a scrub reads the data besides
    return Price((CHECK_BITS * read * cost.buffer_read_pj_per_bit + through) * 1e-12, 0.0, 0, checks, counted)


def _twice(program: ConductanceProgram) -> Price:
    """Every held sample converted once more, while the next inputs wait."""
    cost = estimate(program_workload(program), program.spec)
    count = sum(layer.conversions for layer in cost.layers)
    seconds = sum(layer.busy_ns["adc"] for layer in cost.layers) * 1e-9
    return Price(cost.energy_by_module_pj["adc"] * 1e-12, seconds, 0, 0, f"{count:,} conversions more, cost model")


def _triple(program: ConductanceProgram, layer: str) -> Price:
    """Two copies more of one layer, read at the same time; its energy twice more, and a vote."""
    cost = estimate(program_workload(program), program.spec)
    own = next(part for part in cost.layers if part.name == layer)
    return Price(2 * own.total_pj * 1e-12, 0.0, 2 * own.cells, 0, f"two copies more of {layer}, cost model")


def _difference(program: ConductanceProgram, checked: ConductanceProgram) -> tuple[float, float]:
    before, after = (estimate(program_workload(p), p.spec) for p in (program, checked))
    return (after.energy_pj - before.energy_pj) * 1e-12, max(0.0, (after.latency_ns - before.latency_ns) * 1e-9)


def _sums(program: ConductanceProgram) -> tuple[int, int, int]:
    """How many level sums an image needs, channels all layers have, and codes are stored between layers."""
    sums = channels = 0
    for step in filter(None, map(program.product_of, program.steps)):
        positions = 1 if step.group.window is None else step.group.window.positions
        sums, channels = sums + positions * step.group.outputs, channels + step.group.outputs
    codes = sum(math.prod(layer.out_shape) for layer in program_workload(program).layers)
    return sums, channels, codes


def total(chosen: frozenset[Mitigation], known: dict[Mitigation, Price]) -> Price:
    """Price of a set of mitigations together."""
    found = FREE
    for mitigation in sorted(chosen):
        found = found + known[mitigation]
    return replace(found, counted=", ".join(sorted(chosen)))
