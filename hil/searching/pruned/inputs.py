"""Inputs of a search over pruned networks: teacher, images, array and virtual chips, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hil.deployment.options import DeployOptions
from hil.searching.pruned.measure import CHIPS, PruningContext
from hil.searching.pruned.settings import PrunedSearchSettings
from hil.searching.pruning import erring_chip, fit_settings, pruning_images
from mapping.layout.lay_out import LayoutOptions
from mapping.network.file import load_network
from mapping.network.float_run import float_logits
from search.pruned.genes import PruningSpace, pruning_space
from search.pruned.make import SEEN, teacher_of
from search.pruned.price import PlanPrices
from search.pruned.relevance import Relevance, relevance
from search.space.target import Target, load_target
from search.train.images import Images

SAMPLED = 384  # images that weights of a sample are found on


@dataclass(frozen=True, slots=True, eq=False)
class PruningInputs:
    """``fit``: images that weights of written pruned networks are found on; samples take some of them (``bench``)."""

    space: PruningSpace
    relevance: Relevance
    target: Target
    prices: PlanPrices
    bench: PruningContext
    fit: Images

    @property
    def digests(self) -> dict[str, str]:
        """Digests of everything besides the settings that the result depends on, by name."""
        chip = self.bench.chip
        return {
            "teacher": self.bench.network.digest,
            "array": self.target.digest,
            "chip description": chip.digest if chip else "",
            "images": self.fit.digest,
            "images held out": self.bench.held.digest,
        }


def load_pruning_inputs(teacher_file: Path, settings: PrunedSearchSettings) -> PruningInputs:
    """Load everything.

    Raises:
        UsageError: too few images, or a scale of costs where a chip is asked for.
        search.errors.SearchError: the teacher has parts whose channels cannot be taken apart.
    """
    chip = erring_chip(settings.chip, settings.macros or None)
    given = load_network(teacher_file)
    folder = Path(settings.data_dir) if settings.data_dir else None
    fit, held = pruning_images(given, settings.data or None, folder, settings.images, settings.seed)
    recipe = settings.asked
    options = DeployOptions(virtual_chips=CHIPS, age_s=settings.age_s, seed=settings.seed, recipe=recipe)
    target = load_target(
        settings.costs,
        chip=chip,
        macros=(settings.macros or None) if settings.costs == settings.chip else None,
        layout=recipe.laid_out(LayoutOptions()),
        adapter_rank=recipe.tune_plan.rank,
    )
    teacher = teacher_of(given.graph)
    seen = relevance(teacher.graph, teacher.channels, teacher.blocks, fit.spread(SEEN).pixels, settings.seed)
    wanted = np.asarray(float_logits(teacher.graph, held.pixels), np.float32)
    fitting = fit_settings(settings.cell_error, chip)
    bench = PruningContext(given, teacher, fit.spread(SAMPLED).pixels, held, wanted, fitting, chip, options)
    space = pruning_space(teacher, seen, settings.limits)
    return PruningInputs(space, seen, target, PlanPrices(teacher, target), bench, fit)
