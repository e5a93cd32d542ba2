"""The loop of a search over pruned networks of a teacher: propose, measure, learn; then write the best.

Every sample is a network with weights in closed form, measured on held-out training images; none is trained. A third of
them are what pruning plans for the prices that are asked for, and others that are drawn; then a model of what was
measured proposes others, round after round. Of the *measured* front the best networks are written.
The same call resumes one that was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from hil.atomic import output_errors
from hil.errors import NothingLearned
from hil.report.work_folder import DAMAGED, WorkFolder
from hil.searching.folder import FORMAT as KIND
from hil.searching.folder import SearchFolder
from hil.searching.learned import by_chance
from hil.searching.networks import imperfect
from hil.searching.pruned_inputs import (
    CHIP_IMAGES,
    CHIPS,
    MeasuredPruned,
    PruningInputs,
    PruningJob,
    made,
    measure_pruned,
    percent_on_chips,
)
from hil.searching.pruning import percent, priced_as
from hil.searching.settings import SearchSettings
from hil.searching.table import FORMAT, VERSION, Row
from hil.watch import Watch
from mapping.network.file import save_network
from search.choice.additive import kendall_tau
from search.choice.pruned import drawn, learned, planned, proposed, pruned_front
from search.files import Lines
from search.pruned.make import PrunedNetwork, fitted_images, pruned_file
from search.pruned.plan import PruningPlan
from search.space.genes import Genome
from search.space.significance import Floats
from search.train.workers import side_by_side

TRIED = 3  # of the best pruned networks below a price, made again with all images
WRITTEN = 3  # along the front, where no prices are asked for
LEAST_TOLD = 8  # pruned networks of a last round whose order says something
TAUGHT = 1e-6  # divergence, of a pruned network that answers as its teacher does


class PrunedSearch:
    """A search under way: ``genomes`` were proposed, ``found`` is what was measured of them."""

    def __init__(
        self, folder: SearchFolder, settings: SearchSettings, inputs: PruningInputs, watch: Watch, client: Any
    ) -> None:
        self.folder, self.settings, self.inputs, self.watch, self.client = folder, settings, inputs, watch, client
        self.work = WorkFolder(folder.root, {}, kind=KIND, about=folder.settings.name)
        self.genomes = np.empty((0, len(inputs.space.genes)), np.int64)
        self.lines = Lines(folder.measured)
        self.found = dict(self._stored())
        self.agreement: float | None = None

    def run(self) -> None:
        """Measure pruned networks, write the best of them, and leave ``table.json``.

        Raises:
            NothingLearned: what was measured separates no pruned network from another, or none has the prices.
        """
        with self.watch.stage("candidates"):
            self.measure()
        self.check_learned()
        with self.watch.stage("writing"):
            written = self.write()
        self.work.keep_json(self.folder.table.name, self.table(written))

    def measure(self) -> None:
        """Measure the networks of all rounds, those of finished ones from the folder."""
        space = self.inputs.space
        for number, count in enumerate(self.settings.rounds):
            begun = len(self.genomes)
            genomes = self.work.json_part(f"rounds/{number:02d}.json", list, partial(self._next, number, count))
            self.genomes = np.concatenate([self.genomes, np.array(genomes, np.int64).reshape(-1, len(space.genes))])
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

        def done(number: int, pruned: MeasuredPruned) -> None:
            self.found[left[number]] = pruned
            with output_errors(self.folder.measured):
                self.lines.add({"number": left[number], "edp_mj_ms": jobs[number].price, **asdict(pruned)})
            self.watch.step(len(self.found), self.settings.candidates, plans[number].text)

        side_by_side(self.client, measure_pruned, jobs, self.inputs.bench, done=done)

    def _stored(self) -> Iterator[tuple[int, MeasuredPruned]]:
        """What was measured before; a line that is damaged is measured again."""
        for _, text in self.lines.read():
            try:
                data = Lines.values(text)
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
                where=f"{self.folder.root} (what was measured is kept)",
                likely="the teacher does not know these images, or the pruned networks are too few",
                hint="--from a network that was trained on images of --data, or more --candidates",
            )

    def write(self) -> list[Row]:
        """The best pruned network below each price, made again with all images: rows of the table."""
        prices, losses, space = self.prices, self.losses, self.inputs.space
        front = pruned_front(prices, losses)
        ends = np.quantile(prices[front], np.linspace(0, 1, WRITTEN + 1)[1:], method="nearest")
        images = self.inputs.fit.spread(fitted_images(self.inputs.space.teacher)).pixels
        again: dict[tuple[object, ...], tuple[PrunedNetwork, float | None]] = {}
        written: list[Row] = []
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
            written.append(self._written(best, on_chips, f"edp-{most:.4g}"))
        if not written:
            raise NothingLearned(
                f"none of {len(prices)} pruned networks has a price of {max(self.settings.edp):g} mJ·ms or less",
                hint="a higher --edp, fewer bits, or more --candidates",
            )
        return written

    def _written(self, pruned: PrunedNetwork, on_chips: float | None, name: str) -> Row:
        bench, target = self.inputs.bench, self.inputs.target
        said = f"hil search run --from, {target.name}, {self.settings.candidates} networks, seed {self.settings.seed}"
        file = pruned_file(bench.network, pruned, bench.teacher, (self.inputs.fit, bench.held), said)
        place = f"networks/{name}/net.pt"
        self.work.keep(place, file, save_network)
        answers = pruned.answers
        return self._row(name, pruned.plan, answers.right, answers.divergence, on_chips, place, file.digest)

    def _row(
        self, name: str, plan: PruningPlan, right: float | None, divergence: float, on_chips: float | None,
        network: str | None = None, digest: str | None = None,
    ) -> Row:  # fmt: skip
        cost = self.inputs.target.cost(self.inputs.bench.teacher.workload(plan))
        known = {"right": right, "divergence": divergence, "on_chips": on_chips}
        file = {"network": network, "digest": digest}
        return {"name": name, "choices": plan.text, **known, **file, "edp_mj_ms": cost.edp_mj_ms, **asdict(cost)}

    def table(self, written: list[Row]) -> Row:
        """The measured front by rising price, and the networks that were written."""
        prices, found, bench = self.prices, self.found, self.inputs.bench
        front = [
            self._row(
                f"{i:03d}", self.inputs.space.plan(self.genomes[i]), found[i].right, found[i].divergence,
                found[i].on_chips,
            )
            for i in pruned_front(prices, self.losses)
        ]  # fmt: skip
        classes = bench.network.graph.classes
        right = 100.0 * float((bench.wanted.argmax(1) == bench.held.labels).mean()) if classes else None
        chips = f"{CHIPS} virtual chips of {bench.chip.name}, fast" if bench.chip else "a perfect chip"
        each = float(np.mean([pruned.seconds for pruned in found.values()]))
        agreed = (
            "too few pruned networks" if self.agreement is None else f"Kendall's tau {self.agreement:.2f}, last round"
        )
        return {
            "format": FORMAT,
            "version": VERSION,
            "costs": self.inputs.target.name,
            "costs_of": priced_as(self.inputs.target).partition(": ")[2],
            "method": "pruned",
            "seed": self.settings.seed,
            "simulations": len(found),
            "knee": written[-1]["name"],
            "notes": list(self.watch.notes),
            "basis": f"Of {len(bench.held):,} training images held out, on {chips}; {len(front)} pruned networks on "
            "the front. Networks named by a price were made again with all images, and are written.",
            "facts": {
                "Teacher": f"{percent(right)} of these images",
                "Predicted": agreed,
                "Took": f"{len(found)} pruned networks, {each:.1f} CPU seconds each",
            },
            "networks": [*written, *front],
        }
