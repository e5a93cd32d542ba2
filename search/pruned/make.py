"""Pruned networks of a teacher for a price: planned several ways, each made and measured, the best of them kept.

    found = prune(teacher, fit, held, price, most, limits, settings)    # the best first

No image that is given here may score a network later. Imports torch: import this module late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapping.bits import BitWidths
from mapping.network.file import NetworkFile, image_keys
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.affine import BatchNorm
from mapping.operators.products import Conv
from search.errors import SearchError
from search.pruned.blocks import blocks_of_graph
from search.pruned.channels import channels_of
from search.pruned.choose import Chooser
from search.pruned.limits import PruningLimits, Way
from search.pruned.plan import PruningPlan, Teacher
from search.pruned.refit import FitSettings, Refitted, noise_like, refitted
from search.pruned.relevance import relevance
from search.train.graph_part import merged
from search.train.images import Images

WAYS = (
    Way(4, 4, even=True),
    Way(6, 8, channels=0.1, blocks=0.1),
    Way(4, 4, channels=0.1, blocks=0.1),
    Way(5, 5, even=True),
    Way(4, 8, channels=0.1, blocks=3.0),
    Way(6, 8, channels=0.3, blocks=0.3),
)
"""Plans that are made and measured, the first in front. Losses of bits, channels and blocks are known to
first order and each by itself, so that the ways differ in what they let go rather than in how it is weighed."""
SEEN = 256  # images that relevance is known from
MAP_VALUES = 1 << 24  # of the largest map of all images that weights are fitted on

ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class ValidationAnswers:
    """On held-out training images: right answers of a network and of its teacher, percent, and mean divergence from it.
    Errors of an array are in all but ``teacher_right``, if one was named.

    ``agreement``: images that get the class that the teacher gives them, percent, right or wrong.
    ``divergence``: KL of the teacher's classes from the pruned network's, in nats; of what gives no classes, the mean
    square by which logits are off.
    """

    right: float | None
    teacher_right: float | None
    divergence: float
    agreement: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PrunedNetwork:
    """One network as it was made. ``seconds`` of the processor that its weights took."""

    plan: PruningPlan
    graph: NetworkGraph
    price: float
    answers: ValidationAnswers
    seconds: float


def teacher_of(graph: NetworkGraph) -> Teacher:
    """Raises ``SearchError`` where its channels cannot be taken apart."""
    whole = folded(graph)
    return Teacher(whole, channels_of(whole), blocks_of_graph(whole))


def prune(
    teacher: Teacher,
    fit: Images,
    held: Images,
    price: Callable[[PruningPlan], float],
    most: float,
    limits: PruningLimits,
    settings: FitSettings,
    *,
    ways: int = len(WAYS),
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> tuple[PrunedNetwork, ...]:
    """Pruned networks whose price is at most ``most``, the best first.

    Args:
        fit: images that weights are found on; held: that choose among them.
        price: of a plan; asked a few thousand times.
        ways: how many plans are made and measured.

    Raises:
        SearchError: no plan within the limits has the price.
    """
    found = relevance(teacher.graph, teacher.channels, teacher.blocks, fit.spread(SEEN).pixels, seed)
    reached: list[PruningPlan] = []
    for way in WAYS[:ways]:
        plan = Chooser(teacher, found, way.within(limits), way, price).chosen(most)
        if plan not in reached:
            reached.append(plan)
    plans = [plan for plan in reached if price(plan) <= most]
    if not plans:
        least = min(map(price, reached))
        raise SearchError(
            f"no pruned network within W{limits.least_weight_bits}A{limits.least_activation_bits} and half of the "
            f"channels has a price of {most:g} mJ·ms or less: the cheapest that was met has {least:.3g}\n"
            "  try     that price, limits of fewer bits, or a smaller network"
        )
    images = fit.spread(fitted_images(teacher)).pixels
    wanted = float_logits(teacher.graph, held.pixels)
    made = []
    for number, plan in enumerate(plans):
        if progress is not None:
            progress(number, len(plans), plan.text)
        made.append(make_pruned(teacher, plan, images, held, wanted, price(plan), settings))
    return tuple(sorted(made, key=lambda pruned: pruned.answers.divergence))


def fitted_images(teacher: Teacher) -> int:
    """Images whose maps stand in memory together."""
    largest = max(int(np.prod(shape)) for shape in node_shapes(teacher.graph).values())
    return max(64, MAP_VALUES // largest)


def make_pruned(
    teacher: Teacher, plan: PruningPlan, images: NDArray[np.uint8], held: Images, wanted: NDArray[np.float32],
    price: float, settings: FitSettings,
) -> PrunedNetwork:  # fmt: skip
    """One plan with weights, and its answers on held-out images; ``wanted`` are the teacher's."""
    began, narrowed = time.process_time(), teacher.narrowed(plan)
    bits = BitWidths(plan.weight_bits, plan.activation_bits, teacher.bits_in(plan, narrowed))
    made = refitted(teacher.graph, narrowed, teacher.channels, plan.classes, bits, images, settings)
    seconds = time.process_time() - began
    return PrunedNetwork(plan, made.graph, price, answers(made, held, wanted), seconds)


def answers(made: Refitted, held: Images, wanted: NDArray[np.float32]) -> ValidationAnswers:
    """What a network answers, with the errors of its array."""
    random, graph = torch.Generator().manual_seed(0), made.graph

    def seen(name: str, values: Tensor) -> None:
        if name in made.added:
            values += noise_like(values, made.added[name], random)

    found = float_logits(graph, held.pixels, seen=seen)
    if not graph.classes:
        return ValidationAnswers(None, None, float(np.mean((found - wanted) ** 2)))
    ours, theirs = _log_shares(found), _log_shares(wanted)
    divergence = float((np.exp(theirs) * (theirs - ours)).sum(1).mean())
    right = [100.0 * float((logits.argmax(1) == held.labels).mean()) for logits in (found, wanted)]
    agreement = 100.0 * float((found.argmax(1) == wanted.argmax(1)).mean())
    return ValidationAnswers(right[0], right[1], divergence, agreement)


def _log_shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    shares: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return shares


def pruned_file(
    network: NetworkFile, pruned: PrunedNetwork, teacher: Teacher, used: Sequence[Images], said: str
) -> NetworkFile:
    """The pruned network as ``net.pt``; images that it was fitted and chosen on never score."""
    keys = [network.trained_on, *(image_keys(images.pixels) for images in used)]
    provenance = {"pruned by": said, "pruned from": network.digest}
    bits = teacher.bits_in(pruned.plan, pruned.graph)
    return replace(
        network,
        graph=replace(pruned.graph, provenance={**network.graph.provenance, **provenance}),
        weight_bits=pruned.plan.weight_bits,
        activation_bits=pruned.plan.activation_bits,
        layer_bits=bits,
        trained_on=np.unique(np.concatenate(keys)),
    )


def folded(graph: NetworkGraph) -> NetworkGraph:
    """The same network with its batch norms in the convolutions before them, wherever nothing else reads those."""
    nodes = merged(graph.nodes)
    there = {node.name for node in nodes}
    names = {
        node.name: node.inputs[0] for node in graph.nodes if isinstance(node, BatchNorm) and node.inputs[0] not in there
    }
    own = {node.name for node in nodes if isinstance(node, Conv)} & names.keys()
    found = {name: names[name] for name in own}
    return replace(
        graph,
        nodes=tuple(
            replace(node, name=found.get(node.name, node.name), inputs=tuple(found.get(i, i) for i in node.inputs))
            for node in nodes
        ),
    )
