"""Training of the layers downstream of those that a chip holds already, on what the chip made of the images.

The student (``search.train.graph_net``) begins as a compiled program and keeps its scales of codes, so that its layers
go back into the program one by one (``mapping.tune.reweighted``). Layers that are written are not computed: their
results are codes that were measured. Layers that are not written yet meet the errors of virtual chips in every batch,
smaller by √n where n copies are averaged. The teacher's answers are those of the float network for the same images,
which are not moved: what was measured cannot be. Imports torch: import this module late.

Weights that training left between levels, put on levels: those of an output make up for each other.

As the compiler rounds (``mapping.quantise.rounding``), from what the layers see of training images; the mean of the
error that is left goes into the bias. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from cim.simulator.training_errors import ArrayNoise
from mapping.layout.tile import stretch
from mapping.network.file import NetworkFile
from mapping.operators.fused import MatrixOp
from mapping.operators.node import INPUT
from mapping.program.conductance import ConductanceProgram
from mapping.quantise.input_sample import input_vectors
from mapping.quantise.rounding import input_statistics, round_weights
from mapping.tune.reweighted import LayerWeights
from search.train.arrays import ArrayLinear
from search.train.graph_net import GraphNet, MatrixUnit, graph_net
from search.train.graph_part import GraphPart, PixelGraph, merged
from search.train.images import Images, batches
from search.train.losses import distillation
from search.train.training import At, Batch, Machine, ProgressCallback, TrainingSchedule, TrainingTask, fit

TEMPERATURE = 4.0
SCORED = 4  # passes over the images kept out, each with chips of its own
SCORE_SEED = 0x5C0E
SCORE_BATCH = 100
ROUNDED_ON = 256  # training images
Measured = Mapping[str, NDArray[Any]]
"""Codes of results, (n, …), as a chip gave them."""


@dataclass(frozen=True, slots=True)
class DownstreamRecipe:
    """``teacher_weight`` of the loss is the float network's, the rest is the labels'; errors are the record's times
    ``strength``; ``chips`` virtual chips share a batch."""

    epochs: int
    batch: int
    rate: float
    teacher_weight: float = 1.0
    strength: float = 1.0
    chips: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """Mean loss on the images kept out, before and after; ``kept``: the weights are the new ones, which lose less."""

    before: float
    after: float

    @property
    def kept(self) -> bool:
        return self.after < self.before


class DownstreamLayers:
    """The student of one network and its teacher.

    Args:
        program: of the network, untuned, none of its layers adapted to defects.
        noise: errors of layers that are not written yet.
        images, kept: training images, and those that only decide whether a training helped.
    """

    def __init__(
        self,
        network: NetworkFile,
        program: ConductanceProgram,
        noise: ArrayNoise,
        images: Images,
        kept: Images,
        machine: Machine,
    ) -> None:
        torch.manual_seed(0)
        self.net = graph_net(network, program, noise)
        self.names = [step.name for step in program.matrices]
        for name, unit in self._units(self.net):
            unit.array.range_code = program.layers[name].group.range_code
        for step in self.net.steps.values():
            step.requires_grad_(False)
        self.machine, self.images, self.kept = machine, images, kept
        teacher = PixelGraph(GraphPart(merged(network.graph.nodes), INPUT), network.graph.preprocess)
        teacher.eval().requires_grad_(False)
        self.answers, self.kept_answers = _answers(teacher, images), _answers(teacher, kept)

    def _units(self, net: GraphNet) -> Iterator[tuple[str, MatrixUnit]]:
        return ((name, net.unit(name)) for name in self.names)

    @property
    def float_right(self) -> float:
        """Percent of the images kept out that the float network has right."""
        return 100.0 * float((self.kept_answers.argmax(1).numpy() == self.kept.labels).mean())

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, as they are written to a file."""
        return dict(self.net.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(state)

    def train(
        self,
        written: Collection[str],
        measured: Measured,
        kept: Measured,
        recipe: DownstreamRecipe,
        *,
        checkpoint: Path,
        key: str,
        progress: ProgressCallback | None = None,
    ) -> Trained:
        """Train the layers that are not ``written``; they stay as they were where that does not help.

        Args:
            measured, kept: what the written layers gave for the images, and for those kept out.
            checkpoint: goes on from there; ``key``: names all else that the answer depends on.
        """
        names = {op.name for op in self.net.ops} | {INPUT}
        if unknown := set(measured) - names:
            raise ValueError(f"no operations of the network: {', '.join(sorted(unknown))}")
        for name, unit in self._units(self.net):
            unit.requires_grad_(name not in written)
            if isinstance(unit.array, ArrayLinear):
                unit.array.bias.requires_grad_(False)
        found: Trained = self.machine.run(self._train, measured, kept, recipe, checkpoint, key, progress=progress)
        return found

    def _train(
        self,
        fabric: Fabric,
        measured: Measured,
        kept: Measured,
        recipe: DownstreamRecipe,
        checkpoint: Path,
        key: str,
        progress: ProgressCallback | None,
    ) -> Trained:
        task = _Downstream(self, measured, kept, recipe, fabric)
        schedule = TrainingSchedule(
            recipe.epochs, batch=recipe.batch, rate=recipe.rate, decay=0.0, warm=0.1, shift=0, symmetry="none",
            seed=recipe.seed,
        )  # fmt: skip
        before_state = {name: value.clone() for name, value in self.net.state_dict().items()}
        before = task.kept_loss(self.net)
        trained, _ = fit(fabric, task, self.images, schedule, checkpoint=checkpoint, key=key, progress=progress)
        assert isinstance(trained, GraphNet)
        self._make_whole(trained, task, fabric.device)
        found = Trained(before, task.kept_loss(trained))
        self.net.load_state_dict(trained.state_dict() if found.kept else before_state)
        return found

    def _make_whole(self, net: GraphNet, task: _Downstream, device: torch.device) -> None:
        """Round the weights that were trained, as they will be written."""
        few = torch.arange(min(ROUNDED_ON, len(self.images)))
        pixels, _ = next(batches(self.images, len(few), device))
        trained = [name for name, unit in self._units(self.net) if unit.shift.requires_grad]
        self.set_errors(net, 0.0, 1)
        make_whole(net.eval(), trained, pixels, task.known(task.measured, few))

    def weights(self, program: ConductanceProgram, layers: Collection[str]) -> dict[str, LayerWeights]:
        """The integers of some layers, for ``mapping.tune.reweighted``."""
        found = {}
        for name in layers:
            step = program.layers[name]
            levels, unit, bias = self.net.unit(name).in_levels()
            wide = stretch(self.net.unit(name).array.quantiser.high, program.spec.macro.max_level)
            one = program.scales[step.inputs[0]] * unit / wide  # what a level sum stands for
            group = step.group
            shape = (group.groups, group.outputs // group.groups, group.inputs // group.groups)
            found[name] = LayerWeights(
                (np.rint(levels).astype(np.int16) * wide).reshape(shape), one / program.scales[name], bias / one
            )
        return found

    def set_errors(self, net: GraphNet, strength: float, chips: int) -> None:
        net.set_errors(strength, chips)
        for _, unit in self._units(net):
            unit.array.forget_chips()


class _Downstream(TrainingTask):
    def __init__(
        self, layers: DownstreamLayers, measured: Measured, kept: Measured, recipe: DownstreamRecipe, fabric: Fabric
    ) -> None:
        self.layers, self.recipe, self.fabric, self.device = layers, recipe, fabric, fabric.device
        self.model: GraphNet = layers.net
        self.measured, self.kept = ({k: torch.from_numpy(v) for k, v in part.items()} for part in (measured, kept))

    def begin(self, model: nn.Module, at: At) -> None:
        assert isinstance(model, GraphNet)
        self.layers.set_errors(model, self.recipe.strength, self.recipe.chips)

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        index = batch.index.cpu()
        found = model(batch.pixels, self.known(self.measured, index)).float()
        wanted = self.layers.answers[index].to(self.device)
        return distillation(found, batch.labels, wanted, self.recipe.teacher_weight, TEMPERATURE)

    def known(self, measured: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        return {name: codes[index].to(self.device).float() for name, codes in measured.items()}

    def score(self, model: nn.Module) -> float:
        assert isinstance(model, GraphNet)
        return -self.kept_loss(model)

    @torch.no_grad()
    def kept_loss(self, net: GraphNet) -> float:
        """Mean loss on the images kept out, under the same draws of errors each time."""
        net.eval()
        total, kept = 0.0, self.layers.kept
        with torch.random.fork_rng(), self.fabric.autocast():
            torch.manual_seed(SCORE_SEED)
            for _ in range(SCORED):
                self.layers.set_errors(net, self.recipe.strength, 1)
                for number, (pixels, labels) in enumerate(batches(kept, SCORE_BATCH, self.device)):
                    index = torch.arange(number * SCORE_BATCH, number * SCORE_BATCH + len(labels))
                    found = net(pixels, self.known(self.kept, index)).float()
                    wanted = self.layers.kept_answers[index].to(self.device)
                    loss = distillation(found, labels, wanted, self.recipe.teacher_weight, TEMPERATURE)
                    total += float(loss) * len(labels)
        return total / (SCORED * len(kept))


@torch.no_grad()
def _answers(teacher: nn.Module, images: Images) -> Tensor:
    parts = [teacher(pixels).float() for pixels, _ in batches(images, 250, torch.device("cpu"))]
    return torch.cat(parts)


Seen = tuple[NDArray[np.int16], Tensor]
"""Input codes of a layer, and what one of them stands for."""


@torch.no_grad()
def make_whole(net: GraphNet, layers: Collection[str], pixels: Tensor, known: Mapping[str, Tensor]) -> None:
    """Round the weights of ``layers``, from their inputs when ``net`` as it is runs training images.

    Args:
        layers: none of them before a result that is ``known``, or equal to another one.
        pixels: 0..1, (n, channels, height, width); known: codes of results that were measured, (n, …).
    """
    seen = _inputs(net, layers, pixels, known)
    for op in net.ops:
        if isinstance(op, MatrixOp) and op.name in seen:
            _round(net.unit(op.name), op, *seen[op.name])


def _inputs(net: GraphNet, layers: Collection[str], pixels: Tensor, known: Mapping[str, Tensor]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}

    def keep(name: str, arguments: tuple[Any, ...]) -> None:
        codes, scale = arguments
        found.setdefault(name, (codes.to("cpu", torch.int16).numpy(), scale))

    hooks = [
        net.unit(name).register_forward_pre_hook(lambda _, arguments, name=name: keep(name, arguments))
        for name in layers
    ]
    try:
        net(pixels, known)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _round(unit: MatrixUnit, op: MatrixOp, codes: NDArray[np.int16], scale: Tensor) -> None:
    array = unit.array
    sample, mean = input_vectors(codes, op)
    levels, step = array.levels_now()
    real = levels.flatten(1).double().cpu().numpy().reshape(op.stored.shape)
    integers = np.arange(array.quantiser.low, array.quantiser.high + 1)
    whole = round_weights(real, input_statistics(sample), np.ones(real.shape[:2]), integers)
    lost = torch.from_numpy(np.einsum("goi,gi->go", real - whole, mean).reshape(-1)).to(step.device)
    unit.shift.add_((scale * step.flatten() * unit.gain * lost / unit.usual).float())
    array.weight.copy_(torch.from_numpy(whole.astype(np.float32)).to(step.device).view_as(array.weight) * step)
