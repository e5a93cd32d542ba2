"""Prune a network for a price on an array: ``net.pt`` in, a smaller ``net.pt`` out, without gradients.

    result = hil.prune("net.pt", "small.pt", edp=0.125, data="cifar10", costs="mnsim-default")

Weights of the smaller network are found in closed form on training images; other training images choose. None of them
scores it later.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cim.chip.file import is_cost_model, load_chip
from cim.chip.spec import ChipSpec
from cim.cost.workload import Workload
from hil.atomic import output_errors
from hil.datasets.image_set import load_dataset
from hil.deployment.options import TechniqueOptions
from hil.errors import UsageError
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.searching.settings import FEW, USUAL_IMAGES, SearchSettings
from hil.watch import Watch
from mapping.network.file import NetworkFile, load_network, save_network
from search.pruned.array_errors import ArrayErrors
from search.pruned.choose import counts
from search.pruned.limits import MOST_PLANS
from search.pruned.make import PrunedNetwork, pruned_file, teacher_of
from search.pruned.make import prune as best_pruned
from search.pruned.plan import PruningPlan
from search.pruned.price import PlanPrices
from search.pruned.refit import FitSettings
from search.space.target import ChipTarget, MnsimTarget, Target, load_target
from search.train.images import Images

HELD, MOST_HELD = 0.2, 1000  # training images that choose
EDP_TEXT = "{:.4g} mJ·ms"


@dataclass(frozen=True, slots=True, eq=False)
class PruneResult:
    """``pruned`` that were made and measured, the best first; the first was written. ``errors``: chip whose errors they
    were made for and chosen under, "": a perfect one.
    """

    path: Path
    digest: str
    array: str
    priced: str
    errors: str
    before: dict[str, float]
    after: dict[str, float]
    pruned: tuple[PrunedNetwork, ...]
    widths: dict[str, tuple[int, int]]
    layers_before: int
    fitted: int
    held: int
    seconds: float
    cpu_seconds: float
    memory_mb: float

    def summary(self, network: str, steps: tuple[NextStep, ...] = ()) -> Summary:
        best = self.pruned[0]
        before, after = (EDP_TEXT.format(part["edp_mj_ms"]) for part in (self.before, self.after))
        text = f"{after} an image on {self.array}, from {before}"
        larger = self.after["edp_mj_ms"] > self.before["edp_mj_ms"]
        if larger:
            text += ": the network had the price before, and the rest of it went into more bits"
        rows = tuple(
            (one.plan.text, f"{one.price:.4g}", percent(one.answers.right), percent(one.answers.agreement),
             f"{one.answers.divergence:.4f}", f"{one.seconds:.0f} s")
            for one in self.pruned
        )  # fmt: skip
        head = ("pruned", "EDP mJ·ms", "right", "agree", "divergence", "made in")
        taught = percent(best.answers.teacher_right)
        chip = f"errors of {self.errors} in" if self.errors else "a perfect chip"
        note = (
            f"Of {self.held:,} training images held out, {chip}; the teacher has {taught} right; agree: its class, "
            "right or wrong."
        )
        return Summary(
            f"{network} pruned for {self.array}",
            "SIMULATED",
            Headline(
                Tone.OPEN if larger else Tone.GOOD,
                f"{self.after['edp_mj_ms'] / self.before['edp_mj_ms']:.0%} of the EDP",
                text,
            ),
            (
                Table("Pruned networks that were measured", head, rows, note),
                Fact("Price", self.priced),
                Fact("Parts", f"{self.after['latency_ms']:.4g} ms x {self.after['energy_mj']:.4g} mJ an image"),
                Fact("Layers", f"{len(self.widths)} of {self.layers_before} on cells"),
                Fact("Took", f"{self.cpu_seconds:.0f} CPU seconds, {self.memory_mb:.0f} MB at most"),
                Fact("network", str(self.path)),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        best = self.pruned[0]
        return {
            "format": "hil.prune/1.0",
            "network": str(self.path),
            "digest": self.digest,
            "array": self.array,
            "priced": self.priced,
            "errors_of": self.errors or None,
            "before": self.before,
            "after": self.after,
            "weight_bits": best.plan.weight_bits,
            "activation_bits": best.plan.activation_bits,
            "layer_bits": {name: asdict(bits) for name, bits in sorted(best.plan.layer_bits.items())},
            "outputs": {name: {"teacher": before, "pruned": after} for name, (before, after) in self.widths.items()},
            "blocks_left_out": sorted(best.plan.blocks),
            "candidates": [
                {"plan": h.plan.text, "edp_mj_ms": h.price, **asdict(h.answers), "cpu_seconds": h.seconds}
                for h in self.pruned
            ],
            "images": {"fitted": self.fitted, "held_out": self.held},
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "memory_mb": self.memory_mb,
        }


def prune(
    network: str | Path,
    out: str | Path,
    *,
    edp: float | None = None,
    data: str | None = None,
    costs: str = "mnsim-default",
    chip: str = "",
    macros: int | None = None,
    treated: TechniqueOptions | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> PruneResult:
    """Prune a network to one whose energy times latency on an array is at most ``edp``.

    Args:
        network: path of a trained net.pt.
        out: path of the net.pt to write.
        edp: largest energy times latency of one image, mJ·ms.
        data: data set whose training images are used; None: those that the network file stores.
        costs: chip file or MNSIM configuration whose array is priced.
        chip: chip file whose errors weights are found and plans are chosen under; "": a perfect chip.
        macros: of the priced array; None: as its file says.
        treated: what a deployment does to the network, which the price is of (copies, adapters); MNSIM has neither.
        watch: hears stages and progress; None: nobody does.
        settings: fields of ``hil.SearchSettings``: ``weight_bits="3-6"``, ``activation_bits``,
            ``candidates`` (plans that are made, 6 at most), ``subset`` (training images), ``seed``.

    Returns:
        what was written, its price before and after, and all candidates.

    Raises:
        UsageError: too few images.
        search.errors.SearchError: the network has parts that cannot be pruned, or no pruned network has the price.

    Example:
        >>> small = prune("net.pt", "small.pt", edp=2e-6, data="stripes.npz")
        >>> small.after["edp_mj_ms"] < small.before["edp_mj_ms"]
        False
    """
    began, cpu = time.monotonic(), time.process_time()
    if not edp:
        raise UsageError("a price is needed", hint="--edp 0.125")
    usual = {"candidates": MOST_PLANS, "weight_bits": "3-6", "pruned": True, **settings}
    asked, watch, out = SearchSettings(data or "", chip, edp=(edp,), **usual), watch or Watch(), Path(out)
    erring = erring_chip(chip)
    with watch.stage("loading"):
        given = load_network(network)
        fit, held = pruning_images(given, data, asked.subset, asked.seed)
        target = load_target(costs, macros=macros, recipe=(treated or TechniqueOptions()).recipe())
        teacher = teacher_of(given.graph)
        own = PruningPlan(given.weight_bits, given.activation_bits, layer_bits=dict(given.layer_bits))
    with watch.stage("pruning"):
        prices, fitting = PlanPrices(teacher, target), fit_settings(erring)
        pruned = best_pruned(
            teacher, fit, held, prices, edp, asked.limits, fitting,
            ways=asked.candidates, seed=asked.seed, progress=watch.step,
        )  # fmt: skip
    best = pruned[0]
    under = f", errors of {chip}" if chip else ""
    said = f"hil search prune, {target.name}, EDP {edp:g} mJ·ms or less, seed {asked.seed}{under}"
    file = pruned_file(given, best, teacher, (fit, held), said)
    with output_errors(out):
        save_network(file, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return PruneResult(
        path=out,
        digest=file.digest,
        array=target.name,
        priced=priced_as(target),
        errors=chip,
        before=price_parts(target, teacher.workload(own)),
        after=price_parts(target, teacher.workload(best.plan)),
        pruned=pruned,
        widths=counts(teacher, best.graph),
        layers_before=len(counts(teacher, teacher.graph)),
        fitted=len(fit),
        held=len(held),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu,
        memory_mb=peak / (1e6 if sys.platform == "darwin" else 1e3),
    )


def price_parts(target: Target, work: Workload) -> dict[str, float]:
    """EDP of one image, its two factors, and macros (of MNSIM: tiles)."""
    found = target.cost(work)
    return {
        "edp_mj_ms": found.edp_mj_ms,
        "latency_ms": found.latency_ns * 1e-6,
        "energy_mj": found.energy_pj * 1e-9,
        "macros": float(found.macros),
    }


def priced_as(target: Target) -> str:
    """Whose array a price is of, and what lies on it."""
    if isinstance(target, MnsimTarget):
        return f"{target.name}: MNSIM 2.0 restated, each layer once, no copies, no adapters"
    assert isinstance(target, ChipTarget)
    copies = "with copies on idle cells" if target.layout.averaged else "each layer once"
    return f"{target.name}: chip file, {copies}, adapters of rank {target.adapter_rank}"


def erring_chip(name: str, macros: int | None = None) -> ChipSpec | None:
    """The chip whose errors count; None without a name. Raises ``UsageError`` for a mere scale of costs."""
    if not name:
        return None
    if is_cost_model(name):
        raise UsageError(
            f"{name} is a scale of costs: it has no errors of cells",
            hint=f"--chip mnsim-256 --costs {name}; without --chip, networks are measured on a perfect chip",
        )
    return load_chip(name, macros=macros)


def fit_settings(chip: ChipSpec | None) -> FitSettings:
    """How weights are found: for the errors of a chip, if one is named."""
    return FitSettings(array=None if chip is None else ArrayErrors.of(chip))


def pruning_images(network: NetworkFile, data: str | None, count: int, seed: int) -> tuple[Images, Images]:
    """So many training images (0: 2000): those that weights are found on, and those that choose.

    Raises:
        UsageError: too few, or of another size than the network's.
    """
    if data is None:
        stored = network.calibration_images
        labels = network.calibration_labels
        images = Images(stored, np.zeros(len(stored), np.int64) if labels is None else labels)
    else:
        found = load_dataset(data, "train")
        images = Images(found.images, found.labels.astype(np.int64))
    if images.pixels.shape[1:] != (*network.graph.input_shape[1:], network.graph.input_shape[0]):
        raise UsageError(
            f"images of {data} are {images.pixels.shape[1:]}, and the network takes {network.graph.input_shape}",
            hint="--data of the images that the network was trained on",
        )
    if len(images) < FEW:
        raise UsageError(
            f"{len(images)} training images are too few to find weights with: {FEW} at least",
            hint="--data NAME, whose training images are used",
        )
    some = images.spread(count or USUAL_IMAGES)
    share = min(HELD, MOST_HELD / len(some))
    return some.split(share, seed)


def percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f} %"
