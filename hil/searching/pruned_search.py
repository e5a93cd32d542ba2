"""A search over the pruned networks of one trained network, in a small folder.

    front = search_pruned(Path("runs/pruned"), Path("r32a.pt"), settings, Watch())

Every sample is a network with weights in closed form, measured on held-out training images; none is trained. A third of
them are what pruning plans for the prices that are asked for, and others that are drawn; then a model of what was
measured proposes others, round after round. Of the *measured* front the best networks are written.
The same call resumes one that was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hil.atomic import output_errors
from hil.errors import FileError, Interrupted, NothingLearned
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.report.work_folder import DAMAGED, GO_ON, WorkFolder, is_work, load_json
from hil.searching.learned import by_chance
from hil.searching.networks import imperfect
from hil.searching.prune_settings import PrunedSearchSettings
from hil.searching.pruned_inputs import (
    CHIP_IMAGES,
    CHIPS,
    MeasuredPruned,
    PruningInputs,
    PruningJob,
    load_pruning_inputs,
    made,
    measure_pruned,
    percent_on_chips,
)
from hil.searching.pruning import percent, price_parts, priced_as
from hil.watch import PlannedStage, Watch
from mapping.network.file import save_network
from search.choice.additive import kendall_tau
from search.choice.pruned import drawn, learned, planned, proposed, pruned_front
from search.pruned.make import PrunedNetwork, fitted_images, pruned_file
from search.space.genes import Genome
from search.space.significance import Floats
from search.train.workers import check_shared, side_by_side, workers

FORMAT, VERSION = "hil.pruned-front", "1.0"
ABOUT, FRONT, MEASURED = "pruned-search.json", "front.json", "measured.jsonl"  # files of the folder
MOST_TOLD = 12  # rows
TRIED = 3  # of the best pruned networks below a price, made again with all images
WRITTEN = 3  # along the front, where no prices are asked for
LEAST_TOLD = 8  # pruned networks of a last round whose order says something
PRUNED_S = 10.0  # about what one takes on one core
TAUGHT = 1e-6  # divergence, of a pruned network that answers as its teacher does


def search_pruned(
    root: Path,
    teacher: Path,
    settings: PrunedSearchSettings,
    watch: Watch,
    *,
    scheduler: str | None = None,
    restart: bool = False,
) -> PrunedFront:
    """Measure pruned networks and write the best of them.

    Raises:
        Interrupted: Ctrl-C; the same call goes on. MismatchError: the folder was begun with other inputs.
        NothingLearned: what was measured separates no pruned network from another.
        UsageError, search.errors.SearchError: of ``load_pruning_inputs``; or none has the prices that are asked for.
    """
    planned = {"loading": 8.0, "candidates": PRUNED_S * settings.candidates, "writing": 90.0}
    watch.plan([PlannedStage(name, seconds) for name, seconds in planned.items()])
    with watch.stage("loading"):
        inputs = load_pruning_inputs(teacher, settings)
        of = {**asdict(settings), **inputs.digests}
        work = WorkFolder(
            root, of, kind="hil.pruned-search", about=ABOUT, free=("workers", "data_dir"), restart=restart
        )
    with contextlib.ExitStack() as stack:
        client = None
        if scheduler or settings.workers > 1:
            client = stack.enter_context(workers(scheduler or settings.workers))
            check_shared(client, root / ABOUT)
        run = _Search(root, settings, inputs, work, watch, client)
        try:
            with watch.stage("candidates"):
                run.measure()
            run.check_learned()
            with watch.stage("writing"):
                written = run.write()
        except KeyboardInterrupt:
            raise Interrupted(f"the search in {root} was interrupted; what is done is kept", hint=GO_ON) from None
    front = run.front(str(teacher), written)
    work.keep_json(FRONT, front.to_json())
    return front


class _Search:
    """A search under way: ``genomes`` were proposed, ``found`` is what was measured of them."""

    def __init__(
        self, root: Path, settings: PrunedSearchSettings, inputs: PruningInputs, work: WorkFolder, watch: Watch,
        client: Any,
    ) -> None:  # fmt: skip
        self.root, self.settings, self.inputs, self.work = root, settings, inputs, work
        self.watch, self.client = watch, client
        self.genomes = np.empty((0, len(inputs.space.genes)), np.int64)
        self.found = dict(self._stored())
        self.agreement: float | None = None

    def measure(self) -> None:
        """Measure the networks of all rounds, those of finished ones from the folder."""
        space = self.inputs.space
        for number, count in enumerate(self.settings.rounds):
            begun = len(self.genomes)
            name = f"rounds/{number:02d}.json"
            asked = self.work.json_part(name, list, partial(self._next, number, count))
            self.genomes = np.concatenate([self.genomes, np.array(asked, np.int64).reshape(-1, len(space.genes))])
            self._measure_from(begun)
            if number and len(self.genomes) - begun >= LEAST_TOLD:
                model = learned(space, self.inputs.relevance, self.genomes[:begun], self.losses[:begun])
                told = model.predict(self.genomes[begun:])[0]
                self.agreement = kendall_tau(told, self.losses[begun:])

    @property
    def prices(self) -> Floats:
        return np.array([self.inputs.prices(self.inputs.space.plan(genome)) for genome in self.genomes])

    @property
    def losses(self) -> Floats:
        """Logarithms of what is to be small: odds of a wrong answer on virtual chips, or the divergence."""
        images = min(CHIP_IMAGES, len(self.inputs.bench.held)) * CHIPS
        values = []
        for pruned in (self.found[number] for number in range(len(self.genomes))):
            if pruned.on_chips is None:
                values.append(np.log(max(pruned.divergence, TAUGHT)))
            else:
                right = imperfect(pruned.on_chips, images)
                values.append(np.log((100 - right) / right))
        return np.array(values)

    def _next(self, number: int, count: int) -> list[Any]:
        """Genomes to measure in a round: drawn at first, later chosen by the model of those measured before."""
        space, prices, window = self.inputs.space, self.inputs.prices, self.settings.window
        rng = np.random.default_rng(np.random.SeedSequence([self.settings.seed, 0x4E15, number]))
        if not number:
            asked = self.settings.edp, self.settings.limits
            begun = planned(space, self.inputs.relevance, prices, *asked)[:count]
            rest = drawn(space, prices, count - len(begun), window, rng).tolist()
            return [list(genome) for genome in dict.fromkeys([*begun, *map(tuple, rest)])]
        model = learned(space, self.inputs.relevance, self.genomes, self.losses)
        best = self.genomes[pruned_front(self.prices, self.losses)]
        known: list[Genome] = [tuple(int(i) for i in genome) for genome in self.genomes]
        seed = int(rng.integers(1 << 31))
        return list(proposed(space, model, prices, known, best, count, window, seed).tolist())

    def _measure_from(self, begun: int) -> None:
        """Pruned networks that were proposed and not measured, each kept as soon as it is there."""
        left = [n for n in range(begun, len(self.genomes)) if n not in self.found]
        plans = [self.inputs.space.plan(self.genomes[n]) for n in left]
        jobs = [PruningJob(plan, self.inputs.prices(plan)) for plan in plans]
        path, total, found = self.root / MEASURED, self.settings.candidates, self.found

        def done(number: int, pruned: MeasuredPruned) -> None:
            found[left[number]] = pruned
            line = json.dumps({"number": left[number], "edp_mj_ms": jobs[number].price, **asdict(pruned)})
            with output_errors(path), path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self.watch.step(len(found), total, plans[number].text)

        side_by_side(self.client, measure_pruned, jobs, self.inputs.bench, done=done)

    def _stored(self) -> Iterator[tuple[int, MeasuredPruned]]:
        """What was measured before; a line that was cut off is measured again."""
        if not self.work.has(MEASURED):
            return
        text = self.work.load(MEASURED, lambda path: path.read_text("utf-8"))
        if text and not text.endswith("\n"):
            with output_errors(self.root / MEASURED), (self.root / MEASURED).open("a", encoding="utf-8") as file:
                file.write("\n")
        for line in text.splitlines():
            try:
                data = json.loads(line)
                number, _ = int(data.pop("number")), data.pop("edp_mj_ms")
                yield number, MeasuredPruned(**data)
            except DAMAGED:
                continue

    def check_learned(self) -> None:
        """Raises ``NothingLearned`` where what was measured separates no pruned network from another."""
        model = learned(self.inputs.space, self.inputs.relevance, self.genomes, self.losses)
        predicted, error = model.predict(self.genomes)
        judged = [self.found[n].judged for n in range(len(self.genomes))]
        held = self.inputs.bench.held
        labels = held.labels if self.inputs.bench.chip is None else held.spread(CHIP_IMAGES).labels
        said = ""
        right = [percent for percent in judged if percent is not None]
        if len(right) == len(judged):
            said = by_chance(np.array([imperfect(percent, len(labels)) for percent in right]), labels)
        if not said and bool((np.abs(predicted - predicted.mean()) <= error).all()):
            said = f"what is predicted of all {len(judged)} pruned networks is their mean within its error"
        if said:
            raise NothingLearned(
                f"the search has learned nothing, so it names no network: {said}",
                where=f"{self.root} (what was measured is kept)",
                likely="the teacher does not know these images, or the pruned networks are too few",
                hint="--from a network that was trained on images of --data, or more --candidates",
            )

    def write(self) -> tuple[WrittenNetwork, ...]:
        """The best pruned network below each price, made again with all images."""
        prices, losses, space = self.prices, self.losses, self.inputs.space
        front = pruned_front(prices, losses)
        ends = np.quantile(prices[front], np.linspace(0, 1, WRITTEN + 1)[1:], method="nearest")
        images = self.inputs.fit.spread(fitted_images(self.inputs.space.teacher)).pixels
        again: dict[tuple[object, ...], tuple[PrunedNetwork, float | None]] = {}
        written: list[WrittenNetwork] = []
        for most in sorted(self.settings.edp) or sorted({float(end) for end in ends}):
            below = [int(i) for i in np.argsort(losses, kind="stable") if prices[i] <= most * (1 + 1e-12)][:TRIED]
            if not below:
                self.watch.note(
                    f"none was found for {most:g} mJ·ms: --weight-bits and --activation-bits, or more --candidates"
                )
                continue
            for i in below:
                plan = space.plan(self.genomes[i])
                if plan.key not in again:
                    pruned = made(PruningJob(plan, float(prices[i])), self.inputs.bench, images)
                    chips = percent_on_chips(pruned, self.inputs.bench) if self.inputs.bench.chip else None
                    again[plan.key] = pruned, chips
            choice = [again[space.plan(self.genomes[i]).key] for i in below]
            best, on_chips = min(choice, key=lambda one: (-(one[1] or 0.0), one[0].answers.divergence))
            written.append(self._written(best, on_chips, most))
        if not written:
            raise NothingLearned(
                f"none of {len(prices)} pruned networks has a price of {max(self.settings.edp):g} mJ·ms or less",
                hint="a higher --edp, fewer bits, or more --candidates",
            )
        return tuple(written)

    def _written(self, pruned: PrunedNetwork, on_chips: float | None, most: float) -> WrittenNetwork:
        bench, target = self.inputs.bench, self.inputs.target
        said = f"hil search run --from, {target.name}, {self.settings.candidates} networks, seed {self.settings.seed}"
        file = pruned_file(bench.network, pruned, bench.teacher, (self.inputs.fit, bench.held), said)
        place = f"networks/edp-{most:.4g}/net.pt"
        self.work.keep(place, file, save_network)
        parts = price_parts(target, bench.teacher.workload(pruned.plan))
        del parts["macros"]
        return WrittenNetwork(
            place, pruned.plan.text, most, **parts, right=pruned.answers.right, on_chips=on_chips, digest=file.digest,
        )  # fmt: skip

    def front(self, teacher: str, written: tuple[WrittenNetwork, ...]) -> PrunedFront:
        prices, found, bench = self.prices, self.found, self.inputs.bench
        rows = tuple(
            PrunedRow(
                self.inputs.space.plan(self.genomes[i]).text, float(prices[i]), found[i].right, found[i].divergence,
                found[i].on_chips,
            )
            for i in pruned_front(prices, self.losses)
        )  # fmt: skip
        classes = bench.network.graph.classes
        right = 100.0 * float((bench.wanted.argmax(1) == bench.held.labels).mean()) if classes else None
        chips = f"{CHIPS} virtual chips of {bench.chip.name}, fast" if bench.chip else "a perfect chip"
        each = float(np.mean([pruned.seconds for pruned in found.values()]))
        return PrunedFront(
            self.settings.data, teacher, right, priced_as(self.inputs.target), chips, len(found), len(bench.held),
            self.agreement, each, rows, written,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrunedRow:
    """One network of the measured front; percent right of held-out images."""

    plan: str
    edp_mj_ms: float
    right: float | None
    divergence: float
    on_chips: float | None


@dataclass(frozen=True, slots=True)
class WrittenNetwork:
    """A pruned network that was made again with all images and written; ``below`` is the price that was asked for."""

    network: str
    plan: str
    below: float
    edp_mj_ms: float
    latency_ms: float
    energy_mj: float
    right: float | None
    on_chips: float | None
    digest: str


@dataclass(frozen=True, slots=True)
class PrunedFront:
    """``priced``: whose array prices are of; ``measured_on``: what measured networks. ``agreement``: Kendall's tau
    between what was predicted of the last round before it was measured, and what was measured (None: too few)."""

    data: str
    teacher: str
    teacher_right: float | None
    priced: str
    measured_on: str
    candidates: int
    held_out: int
    agreement: float | None
    seconds_each: float
    rows: tuple[PrunedRow, ...]
    written: tuple[WrittenNetwork, ...]

    def summary(self, root: str) -> Summary:
        best = self.written[-1]
        text = (
            f"of held-out training images at {best.edp_mj_ms:.4g} mJ·ms; the teacher has {percent(self.teacher_right)}"
        )
        step = max(1, -(-len(self.rows) // MOST_TOLD))
        head = ("pruned network", "EDP, mJ·ms", "ideal", "on virtual chips", "divergence")
        rows = tuple(
            (r.plan, f"{r.edp_mj_ms:.4g}", percent(r.right), percent(r.on_chips), f"{r.divergence:.4f}")
            for r in self.rows[::step]
        )
        note = f"Measured on {self.held_out:,} training images held out; {len(self.rows)} pruned networks on the front."
        files = Table(
            "Written",
            ("network", "EDP, mJ·ms", "latency, ms", "energy, mJ", "ideal", "on virtual chips"),
            tuple(
                (w.network, f"{w.edp_mj_ms:.4g}", f"{w.latency_ms:.4g}", f"{w.energy_mj:.4g}", percent(w.right),
                 percent(w.on_chips))
                for w in self.written
            ),
            "Made again with all images; held-out training images chose them.",
        )  # fmt: skip
        agreed = (
            "too few pruned networks" if self.agreement is None else f"Kendall's tau {self.agreement:.2f}, last round"
        )
        place = shlex.quote(f"{root}/{best.network}")
        named = f" --data {shlex.quote(self.data)}" if self.data else ""
        steps = (
            NextStep(f"hil simulate {place}{named}", "what virtual chips make of it"),
            NextStep(
                f"hil finetune {place} --teacher {shlex.quote(self.teacher)} --data DATA -o tuned.pt", "trains it"
            ),
        )
        return Summary(
            f"pruned networks of {Path(self.teacher).name}",
            "SIMULATED",
            Headline(Tone.GOOD, percent(best.right if best.on_chips is None else best.on_chips), text),
            (
                files,
                Table("Front", head, rows, note),
                Fact("Price", self.priced),
                Fact("Measured on", self.measured_on),
                Fact("Predicted", agreed),
                Fact("Took", f"{self.candidates} pruned networks, {self.seconds_each:.1f} CPU seconds each"),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def is_pruned_search(root: Path) -> bool:
    return is_work(root, ABOUT)


def read_pruned_front(root: Path) -> PrunedFront:
    """Raises ``FileError`` where the search has none yet, or it is damaged."""
    path = root / FRONT
    if not path.exists():
        raise FileError(f"the search in {root} has no front yet", hint="the hil search that began it resumes it")
    data = load_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FileError(f"{path} is no front of pruned networks")
    try:
        rows = tuple(PrunedRow(**row) for row in data.pop("rows"))
        written = tuple(WrittenNetwork(**row) for row in data.pop("written"))
        return PrunedFront(
            **{k: v for k, v in data.items() if k not in ("format", "version")}, rows=rows, written=written
        )
    except (KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error
