"""Cost of a deployment before anything is written: bytes, time at this baud rate, pulses, wear.

Bytes are those of the same calls on a chip of paper (``hil.driver.counting.wire_cost``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.frames import DEFAULT_PAYLOAD
from firmware_protocols.messages import Capability
from hil.calibration.dry_run import dry_run
from hil.calibration.plan import PLANS, Budget
from hil.deployment.inference import IMAGES_IN_FLIGHT, measure_layers, measured_multiply
from hil.deployment.layer_sums import exact_layers
from hil.deployment.options import DeployOptions
from hil.deployment.plan import plan_of
from hil.deployment.resumable import AGE_FILE
from hil.deployment.running.network_runs import network_run
from hil.deployment.targets.counted import count_recipe, pulse_ns
from hil.deployment.targets.wired import read_back
from hil.driver.chip_driver import ChipDriver
from hil.driver.counting.wire_cost import EVERYTHING, CountingChip, WireEstimate
from hil.pages.tables import Table, duration
from hil.report.work_folder import WorkFolder
from hil.transports import is_serial
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.counts import tile_counts, total
from mapping.program.rounds import RoundRun, part_of_round
from mapping.tune.low_rank import with_blank_adapters

LONG_RUN_S, ASKED_FROM_S = 600.0, 60.0
CALIBRATION_PULSES = 37.5  # a cell of every macro in use: hil calibrate --emulated, all SET, all RESET, pattern
PATTERN_PULSES = 7.4  # of them for the test pattern


@dataclass(frozen=True, slots=True)
class DeploymentCost:
    """Cost of one deployment; ``cells`` are those written."""

    cells: int
    calibrate: WireEstimate
    program: WireEstimate  # cells read right after writing included, where causes are asked for
    read_back: WireEstimate
    tune: WireEstimate  # stored training images, and the first images without the tune
    layers: WireEstimate  # loading them, and their samples
    inference: WireEstimate  # all images of the first look, all repeats
    images: int
    most_pulses: int
    chip_s: float  # chip time of inference and of the expected pulses
    typical_pulses: int
    calibrate_pulses: int
    rounds: int
    rewrite_pulses: int = 0  # expected, of cells that left their window

    @property
    def parts(self) -> dict[str, WireEstimate]:
        """Cost on the wire of each part of a run by its name, in their order."""
        names = ("calibrate", "program", "read_back", "tune", "layers", "inference")
        return {name: getattr(self, name) for name in names}

    @property
    def total_bytes(self) -> int:
        """Both directions together, framing included."""
        return sum(part.bytes_both for part in self.parts.values())

    def wire_s(self, baud: int) -> float:
        """Seconds on a serial line, 10 bits a byte; within a part both directions run at once."""
        return sum(part.seconds(baud) for part in self.parts.values())

    def table(self, baud: int, max_pulses: int, without: DeploymentCost | None = None) -> Table:
        """The cost as a table; ``without``: cost on a chip without plans and packed bodies, for comparison."""
        named = {name.replace("_", " "): part for name, part in self.parts.items()}
        named[f"{self.images} images"] = named.pop("inference")
        named["all"] = sum(named.values(), WireEstimate())
        rows = [(name, f"{part.bytes_both / 1e6:.2f} MB", "") for name, part in named.items()]
        rows.append(("wire", f"{self.wire_s(baud):.0f} s", f"at {baud} baud"))
        if without is not None:
            more = f"{without.total_bytes / 1e6:.1f} MB for a chip without plans and packed bodies"
            rows.append(("", f"{without.wire_s(baud):.0f} s", more))
        rows.append(("chip time", f"{self.chip_s:.1f} s", "without the wait for the age"))
        most = f"at most {self.most_pulses} ({max_pulses} a cell)"
        rows.append(("pulses", f"{self.typical_pulses}", f"expected for {self.cells} cells, {most}"))
        if self.rewrite_pulses:
            rows.append(("", f"{self.rewrite_pulses}", "expected for cells that are written again"))
        if self.calibrate_pulses:
            rows.append(("", f"{self.calibrate_pulses}", "expected for the calibration before"))
        if self.rounds > 1:
            rows.append(("rounds", f"{self.rounds}", "times the chip is written and its cells wait for their age"))
        long = self.wire_s(baud) + self.chip_s > LONG_RUN_S
        note = f"This run takes more than {LONG_RUN_S / 60:.0f} minutes on such a line." if long else ""
        return Table("Dry run", ("", "", ""), tuple(rows), note)

    def to_json(self, baud: int) -> dict[str, float]:
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.parts}
        sizes = {f"{name}_bytes": part.bytes_both for name, part in self.parts.items()}
        return {**plain, **sizes, "total_bytes": self.total_bytes, "baud": baud, "wire_s": self.wire_s(baud)}


def estimate(
    program: ConductanceProgram,
    options: DeployOptions,
    *,
    calibrate: bool = True,
    capabilities: Capability = EVERYTHING,
    payload: int = DEFAULT_PAYLOAD,
    address: str = "",
    watch: Watch | None = None,
) -> DeploymentCost:
    """Cost of deploying ``program``; without a record the chip is calibrated first.

    Args:
        capabilities: of the chip; all by default. Pulses that the host gives itself are not counted.
        payload: of a frame, bytes.
        address: of the chip, for errors about what it cannot do.
        watch: told each part that is counted.

    Raises:
        mapping.errors.CannotMap: the program is to be adapted and cannot be.
        hil.errors.DeviceError: the chip lacks what the deployment needs.
    """
    options.recipe.check(program)
    spec, macro, macros = program.spec, program.spec.macro, len(program.macros)
    at_once = program.rounds > 1 or options.all_images  # one look at all
    images = options.samples if at_once else min(options.samples, 500)
    asked, timing = total(tile_counts(program)), spec.timing
    image_ns = asked.reads * (timing.row_setup_ns + timing.conversion_ns * macro.adc.shared_by)
    image_ns += asked.input_cycles * timing.input_cycle_ns
    recipe, early_reads = options.recipe_of(program), options.early_reads if options.causes else 0
    calibrate_pulses = round(macros * macro.rows * macro.columns * CALIBRATION_PULSES) * calibrate
    chip, before = CountingChip(spec, capabilities, payload, address), WireEstimate()
    if calibrate:
        pattern_s = 1e-9 * macro.rows * macro.columns * PATTERN_PULSES * pulse_ns(spec)
        default = PLANS[Budget.DEFAULT]
        before = chip.count(lambda: dry_run(chip.driver, program.macros, default, options.age_s, pattern_s))
    tell = (watch or Watch()).step
    parts = _parts(program)
    rank = recipe.tune_plan.rank
    running = with_blank_adapters(program, rank) if rank else program
    tell(0, 5, "writing")
    writing = count_recipe(program, recipe, chip=chip, early_reads=early_reads)
    counts: dict[str, Callable[[], WireEstimate]] = {
        "program": lambda: writing.wire("programming", "rewriting"),
        "read_back": lambda: writing.wire("reading back") + _reading_again(chip, parts, options),
        "tune": lambda: writing.wire("tuning") + _untuned(chip, program, parts, options),
        "layers": lambda: _layers(chip, program, parts, options),
        "inference": lambda: _inference(chip, running, _parts(running), images, options.repeats),
    }
    counted = {}
    for done, (name, count) in enumerate(counts.items()):
        tell(done, len(counts), name.replace("_", " "))
        counted[name] = count()
    return DeploymentCost(
        cells=writing.cells,
        calibrate=before,
        **counted,
        images=images,
        most_pulses=writing.cells * spec.write.max_pulses,
        typical_pulses=writing.pulses,
        calibrate_pulses=calibrate_pulses,
        rounds=program.rounds,
        chip_s=1e-9 * (options.repeats * images * image_ns + calibrate_pulses * pulse_ns(spec)) + writing.write_s,
        rewrite_pulses=writing.pulses_again,
    )


def _parts(program: ConductanceProgram) -> list[ConductanceProgram]:
    """The program of each round."""
    return [program] if program.rounds == 1 else [part_of_round(program, n) for n in range(program.rounds)]


# --- the calls of hil.deployment.deploy and hil.deployment.rounds that speak to a chip ----------


def _reading_again(chip: CountingChip, parts: list[ConductanceProgram], options: DeployOptions) -> WireEstimate:
    """Wire cost of reading the cells once more after the last image."""
    reads = options.read_back_reads
    return chip.count(lambda: [read_back(chip.driver, p.macros, reads=reads, sample=0, watch=Watch()) for p in parts])


def _layers(
    chip: CountingChip, program: ConductanceProgram, parts: list[ConductanceProgram], options: DeployOptions
) -> WireEstimate:
    """Wire cost of loading layers and plan, once more after the tune, and of reading the sums of single layers."""
    exact = exact_layers(program, _stand_ins(program, options.layer_images))
    fresh = CountingChip(chip.spec, chip.capabilities, chip.payload, chip.address)
    tuned = len(options.recipe.tune_images(program)) > 0

    def layers() -> None:
        for part in parts:
            corrections = nominal_corrections(part)
            for _ in range(1 + tuned):
                if len(parts) == 1:
                    network_run(fresh.driver, part, corrections)
                else:
                    measured_multiply(fresh.driver, part, corrections)
            measure_layers(fresh.driver, part, corrections, exact, Watch())

    return fresh.count(layers)


def _untuned(
    chip: CountingChip, program: ConductanceProgram, parts: list[ConductanceProgram], options: DeployOptions
) -> WireEstimate:
    """Wire cost of running the first images before the tune."""
    if not len(options.recipe.tune_images(program)):
        return WireEstimate()
    return _inference(chip, program, parts, min(options.untuned_images, options.samples), 1)


def _inference(
    chip: CountingChip, program: ConductanceProgram, parts: list[ConductanceProgram], images: int, repeats: int
) -> WireEstimate:
    """Wire cost of running all images; batches of equal size cost the same, so only one of each size is counted."""
    whole, rest = divmod(images, IMAGES_IN_FLIGHT)
    cost = WireEstimate()
    for size, times in ((IMAGES_IN_FLIGHT, whole), (rest, 1)):
        if not (size and times):
            continue
        if len(parts) == 1:
            chip_run = network_run(chip.driver, program, nominal_corrections(program))
            blank = _stand_ins(program, size)
            cost += chip.count(lambda r=chip_run, b=blank: r.logits(b, 0, repeats)) * times  # type: ignore[misc]
            continue
        with RoundRun(program, _stand_ins(program, size), [0], batch=size) as batch:
            for number, part in enumerate(parts):
                multiply = measured_multiply(chip.driver, part, nominal_corrections(part))
                once = chip.count(lambda b=batch, n=number, m=multiply: b.run(n, m))  # type: ignore[misc]
                cost += once * (times * repeats)
    return cost


def _stand_ins(program: ConductanceProgram, images: int) -> NDArray[np.uint8]:
    """Substitutes for the images of the run: stored training images, or black images."""
    channels, height, width = program.input.shape
    shape = (images, height, width, channels)
    stored = program.calibration_images
    return np.resize(stored, shape) if len(stored) else np.zeros(shape, np.uint8)


def with_chosen_age(driver: ChipDriver, options: DeployOptions, work: WorkFolder, watch: Watch) -> DeployOptions:
    """Let the user choose the age of the cells on a chip without WAIT, where the host must wait in real time.

    Asked before the first pulse; a resumed run keeps the choice.
    """
    planned = duration(options.age_s)
    if Capability.WAIT in driver.capabilities or options.age_s < ASKED_FROM_S:
        return options
    answers = (f"wait {planned}, counted down", "do not wait, and run on young cells (--age 0s)")
    question = f"this chip has no WAIT: its cells are {planned} old only after {planned} by the clock"
    age_s = work.json_part(AGE_FILE, float, lambda: 0.0 if watch.choose(question, answers) else options.age_s)
    if age_s != options.age_s:
        watch.note(f"cells run young, as was chosen, not {planned} old: the chip has no WAIT")
    return dataclasses.replace(options, age_s=age_s)


def say_plan(
    driver: ChipDriver, program: ConductanceProgram, baud: int, options: DeployOptions, watch: Watch, *, calibrate: bool
) -> None:
    """Show the plan of a deployment before any cell is written; note a run of more than ten minutes, and where the time
    goes: to bytes on a serial line, or to silicon until its cells have the planned age.
    """
    watch.found("compile", plan_of(program, options.recipe_of(program)).in_brief)
    serial, silicon = is_serial(driver.address), driver.description.kind == "silicon"
    if not (serial or silicon):
        return
    can = driver.capabilities if serial else driver.capabilities & ~Capability.PACKED
    cost = estimate(program, options, calibrate=calibrate, capabilities=can, address=driver.address)
    parts = []
    if serial:
        parts.append((cost.wire_s(baud), f"on the line at {baud} baud"))
    if silicon:
        ages = options.age_s * (cost.rounds + calibrate)
        parts.append((cost.chip_s + ages, "on the chip, the wait for the age included"))
    total = sum(seconds for seconds, _ in parts)
    if total > LONG_RUN_S:
        words = ", ".join(f"{seconds / 60:.0f} minutes {where}" for seconds, where in parts)
        watch.note(f"this run takes more than {LONG_RUN_S / 60:.0f} minutes: {words} (Ctrl-C ends it at any time)")
