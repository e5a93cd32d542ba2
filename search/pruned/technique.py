"""Pruning as a technique of a recipe, which acts before the network is compiled: ``hil deploy --with prune=60``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.recipe.technique import RecipeError, Technique, TunePlan
from mapping.settings import setting

if TYPE_CHECKING:  # recipes are read by the command line, which imports nothing that takes time
    from cim.chip.spec import ChipSpec
    from mapping.layout.lay_out import LayoutOptions
    from mapping.network.file import NetworkFile

FEW = 64  # stored training images below which weights in closed form mean little
HELD = 0.2  # of them choose among plans


@dataclass(frozen=True, slots=True)
class Prune(Technique):
    """Remove channels, residual blocks and bits until an image costs ``share`` of before on this chip; weights are
    refitted to the training images that the network file stores."""

    name: ClassVar[str] = "prune"
    words: ClassVar[str] = "channels, blocks and bits go before compiling, until an image costs so much less"
    rank: ClassVar[int] = 5
    before_compile: ClassVar[bool] = True
    share: float = setting(50.0, "energy × latency after pruning, percent of before", low=1, high=100, unit="%")
    plans: int = setting(3, "pruning plans to make and measure; the best is taken", low=1, high=6)

    def before_compiling(
        self, network: NetworkFile, spec: ChipSpec, layout: LayoutOptions, tune: TunePlan
    ) -> NetworkFile:
        import numpy as np

        from search.pruned.limits import PruningLimits
        from search.pruned.make import prune, pruned_file, teacher_of
        from search.pruned.plan import PruningPlan
        from search.pruned.price import PlanPrices
        from search.pruned.refit import FitSettings
        from search.space.target import ChipTarget
        from search.train.images import Images

        stored, labels = network.calibration_images, network.calibration_labels
        if len(stored) < FEW:
            raise RecipeError(
                f"prune: the network stores {len(stored)} training images, and weights are found on {FEW} at least; "
                "hil search prune takes them from --data"
            )
        if spec.cost is None:
            raise RecipeError(f"prune: {spec.name} has no prices, the [cost] section of its chip file")
        images = Images(stored, np.zeros(len(stored), np.int64) if labels is None else labels)
        fit, held = images.split(HELD, 0)
        teacher = teacher_of(network.graph)
        price = PlanPrices(teacher, ChipTarget(spec, layout, tune.rank))
        own = PruningPlan(network.weight_bits, network.activation_bits, layer_bits=dict(network.layer_bits))
        most = self.share / 100 * price(own)
        best = prune(teacher, fit, held, price, most, PruningLimits(), FitSettings(), ways=self.plans)[0]
        return pruned_file(network, best, teacher, (fit, held), f"technique {self}, {spec.name}")
