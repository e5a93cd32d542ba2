"""The cheapest set of mitigations that meets a mission: every set judged from one campaign, with its price.

Each injection of the campaign records every detector, so that a set is judged without injecting again. Detection
is the share of harmful faults that are noticed or outvoted, each kind weighted with its harmful upsets a day. Accuracy
is the lower end of the band at the end of the mission, of the best simulated scenario whose mitigations are all in the
set (``hil.payload.settings.SCENARIOS``). Prices are over the plain network: energy and time of an image, cells of the
array, bytes of the host. Energy of the chip is priced with the chip file's [cost], energy of the host with
mission.toml; counts are named at each price.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cim.chip.spec import CostSpec
from cim.cost.network_cost import NoCostModel, estimate
from cim.files import read_text
from cim.json_text import parse_json
from hil.atomic import write_text
from hil.errors import FileError, MismatchError, UsageError
from hil.pages.summary import Fact, Headline, Summary, Tone
from hil.pages.tables import Table
from hil.payload.budget import KnownAccuracy, busy_share, image_energy
from hil.payload.radiation.campaign import MOST_BYTES, REPORT, TABLE, file_digest, read_injections, report_digest
from hil.payload.radiation.detectors import SCRUB_READS
from hil.payload.radiation.faults import CELLS, REGISTERS, exposures
from hil.payload.radiation.outcomes import DETECTORS, InjectionResult, Share, WeightedShare, shares, weighted
from hil.payload.radiation.report import FORMAT as REPORT_FORMAT
from hil.payload.radiation.stored_words import CHECK_BITS, CODE_SHARE, WORD_BYTES, WORD_OPERATIONS
from hil.payload.requirements import MissionPlan
from hil.payload.settings import MAIN, MENDING, SCENARIOS, SCRUBBED, FaultKind, Mitigation, OrbitSettings
from mapping.program.conductance import ConductanceProgram
from mapping.workload import program_workload

FORMAT, HARDENING = "hil.hardening/3.0", "hardening.json"
MOST_ALARMS = 1e-3  # share of fault-free images with an alarm, beyond which range guards are not taken
GOLDEN_EVERY = 100  # images between two runs of the golden vectors
TUNE_EVERY_S = 30 * 86400.0
TUNE_IMAGES = 128
OUTVOTED = (*CELLS, *REGISTERS, FaultKind.CONVERSION, FaultKind.CORRECTION)
"""Kinds that strike one of three copies of a layer: the median of three sums is not theirs. By construction."""


@dataclass(frozen=True, slots=True)
class Price:
    """Costs added to the plain network. ``counted``: the counts behind them, as text."""

    energy_j: float = 0.0  # of an image
    seconds: float = 0.0  # of an image
    cells: int = 0
    host_bytes: int = 0
    counted: str = ""

    def __add__(self, other: Price) -> Price:
        return Price(
            self.energy_j + other.energy_j,
            self.seconds + other.seconds,
            self.cells + other.cells,
            self.host_bytes + other.host_bytes,
        )

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Energy, time, cells and bytes as columns of a table."""
        return (
            f"{1e6 * self.energy_j:.4g} µJ",
            f"{1e6 * self.seconds:.4g} µs",
            f"{self.cells:,}",
            f"{self.host_bytes:,}",
        )


PRICED = ("energy", "time", "cells", "host bytes")


@dataclass(frozen=True, slots=True)
class HardenedSet:
    """One set of mitigations: accuracy and detection that it reaches, and its cost."""

    mitigations: frozenset[Mitigation]
    accuracy: float  # lower end of the band at the end of the mission, a fraction
    detection: WeightedShare
    price: Price

    @property
    def words(self) -> str:
        return ", ".join(sorted(self.mitigations)) or "none"

    def to_json(self) -> dict[str, Any]:
        price = asdict(self.price)
        del price["counted"]
        return {
            "mitigations": sorted(self.mitigations),
            "accuracy_low": self.accuracy,
            "detection": self.detection.to_json(),
            **price,
        }


@dataclass(frozen=True)
class Hardening:
    """The chosen set of mitigations; ``chosen`` is None if no set reaches the required accuracy and detection."""

    chosen: HardenedSet | None
    bare: HardenedSet
    best: HardenedSet  # most accurate, then most detection
    floor: float
    wanted: float
    tripled: str
    by_kind: Mapping[str, Share]  # detection of the chosen set (else of the best)
    prices: Mapping[Mitigation, Price]
    alarms: Share
    injections: int

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "accuracy_floor": self.floor,
            "detection_wanted": self.wanted,
            "tripled_layer": self.tripled,
            "false_alarms": self.alarms.to_json(),
            "injections": self.injections,
            "chosen": None if self.chosen is None else self.chosen.to_json(),
            "bare": self.bare.to_json(),
            "best": self.best.to_json(),
            "detection_by_kind": {kind: share.to_json() for kind, share in self.by_kind.items()},
            "prices": {str(name): asdict(price) for name, price in self.prices.items()},
        }

    def summary(self) -> Summary:
        """Summary: the chosen set, the share of faults it detects, and the prices of all mitigations."""
        shown = self.chosen or self.best
        low, high = shown.detection.interval
        word = "FOUND" if low >= self.wanted else "NOT ENOUGH INJECTIONS"
        noticed = f"{100 * low:.2f} … {100 * high:.2f} % noticed{self._more()}"
        reach = f"accuracy {100 * shown.accuracy:.1f} % at the end, {noticed}"
        text = (
            f"{shown.words}: {reach}" if self.chosen else f"no set reaches both; the best, {shown.words}, has {reach}"
        )
        tone = Tone.BAD if self.chosen is None else Tone.GOOD if low >= self.wanted else Tone.OPEN
        loud = "; more than 1 in 1,000, so no set has them" if self.alarms.share > MOST_ALARMS else ""
        alarms = f"{self.alarms.count} of {self.alarms.of} fault-free images by range guards{loud}"
        kinds = tuple(
            (kind, f"{share.count} of {share.of}", f"{100 * share.interval[0]:.1f} … {100 * share.interval[1]:.1f} %")
            for kind, share in self.by_kind.items()
        )
        every = {"chosen": self.chosen, "most accurate": self.best, "none": self.bare}
        sets = tuple(
            (name, one.words, f"{100 * one.accuracy:.2f} %", f"{100 * one.detection.share:.2f} %", *one.price.words)
            for name, one in every.items()
            if one is not None
        )
        return Summary(
            f"mitigations for {100 * self.floor:g} % at the end and {100 * self.wanted:g} % of harmful faults noticed",
            "SIMULATED",
            Headline(tone, word if self.chosen else "NONE REACHES IT", text),
            (
                Table("Sets", ("set", "mitigations", "accuracy at the end, low", "noticed", *PRICED), sets),
                Fact("False alarms", alarms),
                Table("Noticed", ("kind", f"by {shown.words}", "95 % interval"), kinds),
                Table(
                    "Prices",
                    ("mitigation", *PRICED, "counted"),
                    tuple((str(name), *price.words, price.counted) for name, price in self.prices.items()),
                    "Prices are over the plain network.",
                ),
            ),
        )

    def _more(self) -> str:
        """Number of injections that would prove the chosen set's detection, if this campaign has too few."""
        detection = None if self.chosen is None else self.chosen.detection
        if detection is None or detection.interval[0] >= self.wanted:
            return ""
        room = detection.share - self.wanted
        if room <= 0:
            return "; no number of injections would show it, the share is the required one"
        return f"; {math.ceil(self.injections * (1.96 * detection.error / room) ** 2):,} injections would do"


def harden_campaign(folder: Path, program: ConductanceProgram, plan: MissionPlan, options: OrbitSettings) -> Hardening:
    """Judge every set of mitigations and write ``hardening.json`` beside the campaign.

    Args:
        options: ``floor`` (None: that of the mission), ``detection``, ``always`` and ``never``.

    Raises:
        FileError: no campaign, or a damaged one.
        MismatchError: the campaign is of another program.
        UsageError: as ``harden``; or no floor is requested.
    """
    report = read_report(folder, program)
    if file_digest(folder / TABLE) != report["digests"][TABLE]:
        raise _edited(folder, TABLE)
    results = read_injections(folder / TABLE)
    timeline = report.get("timeline") or {"scenarios": {}, "scrub_s": options.scrub_s}
    tripled = most_critical_layer(results, [m.name for m in program.matrices])
    known = prices(program, plan, scrub_s=timeline["scrub_s"], golden=report["settings"]["golden"], tripled=tripled)
    exposed = exposures(busy_share(program, plan))
    weights = {
        kind: about["upsets_per_day"] / about["exposure"] * exposed[FaultKind(kind)]
        for kind, about in report["kinds"].items()
    }
    alarms = Share(report["false_alarms"]["count"], report["false_alarms"]["of"])
    floor = plan.limits.accuracy_floor if options.floor is None else options.floor
    if floor is None:
        raise UsageError("no accuracy is requested", hint="accuracy_floor = 0.85 in mission.toml")
    found = harden(
        results,
        weights,
        timeline["scenarios"],
        known,
        alarms,
        tripled=tripled,
        floor=floor,
        detection=options.detection,
        always=mitigations_of(options.always, "--with"),
        never=mitigations_of(options.never, "--without"),
    )
    write_text(folder / HARDENING, json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
    return found


def mitigations_of(names: str, option: str) -> list[Mitigation]:
    """Mitigations by their names, comma-separated."""
    try:
        return [Mitigation(name.strip()) for name in names.split(",") if name]
    except ValueError as error:
        raise UsageError(f"{option}: {error}", hint=f"one of {', '.join(Mitigation)}") from None


def accuracy_at_end(folder: Path, program: ConductanceProgram, plan: MissionPlan) -> KnownAccuracy:
    """Lower end of a campaign's accuracy at the end of a mission, with scrubbing, ECC and register read-back.

    Raises:
        FileError: no campaign, or a damaged one.
        MismatchError: the campaign is of another program.
        UsageError: it holds no accuracy at that year.
    """
    timeline = read_report(folder, program).get("timeline") or {"years": []}
    if plan.mission.years not in timeline["years"]:
        raise UsageError(
            f"the campaign holds no accuracy after {plan.mission.years:g} years",
            where=str(folder),
            hint=f"hil campaign … --years 0,{plan.mission.years:g}",
        )
    low = float(timeline["scenarios"][SCRUBBED][timeline["years"].index(plan.mission.years)]["low"])
    words = (
        f"simulated: 5 % of {timeline['chips']} virtual chips, {timeline['images']} images, {SCRUBBED}; extrapolated"
    )
    return KnownAccuracy(low, words)


def read_report(folder: Path, program: ConductanceProgram) -> dict[str, Any]:
    """Read ``campaign.json`` of a folder; it must belong to the program.

    Raises:
        FileError: missing or damaged. MismatchError: it belongs to another program.
    """
    try:
        found = parse_json(read_text(folder / REPORT, MOST_BYTES))
        if found["format"] != REPORT_FORMAT:
            raise ValueError(f"format {found['format']!r:.60}")
        digest = str(found["settings"]["program"])
        if report_digest(found) != found["digests"]["report"]:
            raise _edited(folder, REPORT)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{folder} holds no whole campaign", likely=str(error), hint=f"hil campaign … -o {folder}"
        ) from error
    if digest != program.digest:
        raise MismatchError(
            f"the campaign is of program {digest[:12]}…, this one is {program.digest[:12]}…",
            where=str(folder),
            hint="name the network, chip and macros of the campaign",
        )
    return dict(found)


def _edited(folder: Path, name: str) -> FileError:
    return FileError(
        f"{folder / name} was changed after the campaign wrote it",
        likely="its digest is not that of campaign.json",
        hint="give the command of the campaign again: the report is written again from what is stored",
    )


def harden(
    results: Sequence[InjectionResult],
    weights: Mapping[str, float],
    scenarios: Mapping[str, Sequence[Mapping[str, float]]],
    known: Mapping[Mitigation, Price],
    alarms: Share,
    *,
    tripled: str,
    floor: float,
    detection: float = 0.99,
    always: Collection[Mitigation] = (),
    never: Collection[Mitigation] = (),
) -> Hardening:
    """Judge every set of mitigations.

    Args:
        weights: upsets of each kind in a day.
        scenarios: bands over the years of each scenario (``Timeline.to_json``).
        known: the price of each mitigation.
        floor: accuracy at the end of the mission, a fraction.
        detection: share of harmful faults to be noticed.
        always: mitigations of every set, whether it needs them or not.
        never: those of no set.

    Raises:
        UsageError: the campaign has no harmful fault, or no accuracy over the years; one mitigation always and never.
    """
    both = frozenset(always) & frozenset(never)
    if both:
        raise UsageError(f"{', '.join(sorted(both))}: with and without at once")
    if any(scenario not in scenarios for scenario in MAIN):
        raise UsageError("the campaign holds no accuracy over the years", hint="hil campaign … --chips 20")
    harmed = [r for r in results if r.harmful]
    if not harmed:
        raise UsageError("no injection of the campaign did harm", hint="hil campaign … with more injections")
    rates = {kind: weights[kind] * share.share for kind, share in shares(results).items()}
    table = _Noticed(harmed, rates, tripled)
    ends = {SCENARIOS[name]: float(bands[-1]["low"]) for name, bands in scenarios.items()}
    reached = {chosen: max(low for scenario, low in ends.items() if scenario <= chosen) for chosen in _subsets(MENDING)}

    def judged(chosen: frozenset[Mitigation]) -> HardenedSet:
        price = sum((known[mitigation] for mitigation in sorted(chosen)), Price())
        return HardenedSet(chosen, reached[chosen & frozenset(MENDING)], table.share(chosen), price)

    free = tuple(m for m in Mitigation if m not in always and m not in never)
    every = [chosen.union(always) for chosen in _subsets(free)]
    sets = [judged(chosen) for chosen in every if Mitigation.RANGE not in chosen or alarms.share <= MOST_ALARMS]
    if not sets:
        raise UsageError(
            f"{Mitigation.RANGE} in every set, but {alarms.count} of {alarms.of} fault-free images raised an alarm, "
            "more than 1 in 1,000"
        )
    meets = [s for s in sets if s.accuracy >= floor and s.detection.share >= detection]
    picked = min(meets, key=lambda s: (s.price.energy_j, s.price.cells, s.price.host_bytes), default=None)
    best = max(sets, key=lambda s: (s.accuracy, s.detection.share, -s.price.energy_j))
    return Hardening(
        chosen=picked,
        bare=judged(frozenset()),
        best=best,
        floor=floor,
        wanted=detection,
        tripled=tripled,
        by_kind=table.by_kind((picked or best).mitigations),
        prices=known,
        alarms=alarms,
        injections=len(results),
    )


def most_critical_layer(results: Sequence[InjectionResult], layers: Sequence[str]) -> str:
    """The layer whose faults of cells and converters do harm most often."""
    found = shares([r for r in results if r.kind in OUTVOTED], lambda r: r.step)
    return max(layers, key=lambda name: found[name].share if name in found else -1.0)


class _Noticed:
    """Which detector saw each harmful fault, by kind; ``weights``: harmful upsets of each kind in a day."""

    def __init__(self, harmed: Sequence[InjectionResult], weights: Mapping[str, float], tripled: str) -> None:
        self.kinds = list(dict.fromkeys(r.kind for r in harmed))
        self.weights = {kind: weights[kind] for kind in self.kinds}
        self.kind = np.array([self.kinds.index(r.kind) for r in harmed])
        self.of = np.bincount(self.kind)
        self.seen = {name: np.array([notices(r) for r in harmed]) for name, notices in DETECTORS.items()}
        self.seen[Mitigation.TRIPLE] = np.array([r.step == tripled and r.kind in OUTVOTED for r in harmed])
        self.seen[Mitigation.TUNE] = np.zeros(len(harmed), np.bool_)

    def by_kind(self, chosen: frozenset[Mitigation]) -> dict[str, Share]:
        noticed = np.any([self.seen["loader"], *(self.seen[mitigation] for mitigation in chosen)], axis=0)
        caught = np.bincount(self.kind, weights=noticed, minlength=len(self.kinds))
        return {k: Share(int(c), int(n)) for k, c, n in zip(self.kinds, caught, self.of, strict=True)}

    def share(self, chosen: frozenset[Mitigation]) -> WeightedShare:
        return weighted(self.by_kind(chosen), self.weights)


def _subsets(items: Sequence[Mitigation]) -> list[frozenset[Mitigation]]:
    return [frozenset(c) for n in range(len(items) + 1) for c in itertools.combinations(items, n)]


# --- prices -----------------------------------------------------------------------------


def prices(
    program: ConductanceProgram, plan: MissionPlan, *, scrub_s: float, golden: int, tripled: str
) -> dict[Mitigation, Price]:
    """The price of each mitigation for one network and mission.

    Args:
        scrub_s: time between two scrubs, s.
        golden: number of golden vectors.
        tripled: name of the layer that is computed three times.

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section.
    """
    spec, cost, host = program.spec, program.spec.cost, plan.host
    if cost is None:
        raise NoCostModel(spec.name)
    image = image_energy(program, plan)
    plain = estimate(program_workload(program), spec)
    tripled_layer = next(part for part in plain.layers if part.name == tripled)
    per_scrub = max(1.0, plan.images_per_second * scrub_s)
    per_tune = max(1.0, plan.images_per_second * TUNE_EVERY_S)
    sums, channels, codes = _sums(program)
    cells = sum(t.levels.size for m in program.matrices for t in m.group.tiles) * (2 if spec.macro.paired else 1)
    scrub_j = cells * SCRUB_READS * (cost.verify_pj + 16 * host.link_pj_per_bit) * 1e-12
    registers = 8 * len(program.macros) * (spec.macro.rows // 8 + spec.macro.outputs)
    pixels, steps = math.prod(program.input.shape), len(program.steps)
    buffer_pj = cost.buffer_write_pj_per_bit + cost.buffer_read_pj_per_bit
    return {
        Mitigation.TIMER: Price(host_bytes=8, counted="a counter of the host"),
        Mitigation.RANGE: _host(plan, 2 * sums, 8 * channels, f"2 comparisons of {sums:,} sums", cost),
        Mitigation.SCRUB: Price(
            scrub_j / per_scrub,
            cells * SCRUB_READS * spec.timing.cell_read_ns * 1e-9 / per_scrub,
            0,
            cells,
            f"{cells:,} cells read {SCRUB_READS} times in {per_scrub:,.0f} images; a byte a cell",
        ),
        Mitigation.GOLDEN: Price(
            golden * image.energy_j / GOLDEN_EVERY,
            golden * image.seconds / GOLDEN_EVERY,
            0,
            golden * (pixels + 4 * len(program.classes)),
            f"{golden} images more in {GOLDEN_EVERY}",
        ),
        Mitigation.PARITY: Price(
            codes * buffer_pj * 1e-12,
            host_bytes=-(-codes // 8),
            counted=f"one bit more of {codes:,} codes, written and read",
        ),
        Mitigation.ECC: _ecc(program, plan, cost, image.load.program_bytes, per_scrub),
        Mitigation.REGISTERS: Price(
            registers * host.link_pj_per_bit * 1e-12,
            registers / host.link_bit_per_s,
            0,
            registers // 8,
            f"{registers:,} bits of configuration read back each image",
        ),
        Mitigation.SIGNATURE: _host(plan, 2 * steps, 8, f"2 operations of {steps} steps", cost),
        Mitigation.TRIPLE: Price(  # two copies more of one layer, read at the same time, and a vote
            2 * tripled_layer.total_pj * 1e-12,
            cells=2 * tripled_layer.cells,
            counted=f"two copies more of {tripled}, cost model",
        ),
        Mitigation.TUNE: Price(
            TUNE_IMAGES * image.energy_j / per_tune,
            host_bytes=TUNE_IMAGES * pixels,
            counted=f"{TUNE_IMAGES} stored images every {TUNE_EVERY_S / 86400:g} days",
        ),
    }


def _host(plan: MissionPlan, operations: int, size: int, counted: str, cost: CostSpec) -> Price:
    """Price of integer operations where they run: on the host, or in chip logic, counted as accumulations."""
    if not plan.host.digital_on_host:
        return Price(operations * cost.accumulate_pj * 1e-12, 0.0, 0, size, counted)
    seconds = operations / plan.host.operations_per_s
    return Price(seconds * (plan.host.active_w - plan.host.idle_w), seconds, 0, size, counted)


def _ecc(program: ConductanceProgram, plan: MissionPlan, cost: CostSpec, stored: int, per_scrub: float) -> Price:
    """Price of ECC: words of rules, corrections and input table are decoded at each use, all words once a scrub; by
    chip logic or by the host, whichever runs the digital operations."""
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


def _sums(program: ConductanceProgram) -> tuple[int, int, int]:
    """Counts for one image: level sums, channels of all layers, and codes stored between layers."""
    sums = channels = 0
    for step in filter(None, map(program.product_of, program.steps)):
        positions = 1 if step.group.window is None else step.group.window.positions
        sums, channels = sums + positions * step.group.outputs, channels + step.group.outputs
    codes = sum(math.prod(layer.out_shape) for layer in program_workload(program).layers)
    return sums, channels, codes
