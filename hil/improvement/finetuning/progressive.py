"""Fine-tuning by groups: layers are written and measured on training images; layers downstream train on these codes.

The chip-in-the-loop procedure of Wan et al., Nature 608, 504 (2022), doi:10.1038/s41586-022-04992-8. For each group of
layers in order:

1. its cells are written, wait until they are of the planned age, are read, and their columns corrected;
2. its gains and biases are fitted to the chip's answers to stored training images, as ``hil deploy`` does it;
3. all training images run through it, on from what the groups before made of them;
4. the layers downstream are trained on these measured codes, taught by the float network
   (``search.train.downstream``), and get new integers.

Each cell is written once. In the end the chip holds an ordinary program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.driver.samples import INFER, REPEAT, TUNE
from hil.improvement.finetuning.written_layers import WrittenLayers
from hil.watch import Watch
from mapping.operators.node import INPUT
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import input_codes
from mapping.program.partial_run import PartialRun
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe, begun_tune
from mapping.tune.reweighted import only_layers, reweighted, with_steps
from search.train.downstream import DownstreamLayers, Measured, Trained

Values = dict[str, NDArray[Any]]


def layer_groups(program: ConductanceProgram, count: int) -> tuple[tuple[str, ...], ...]:
    """The layers in order, in so many groups (fewer, where there are fewer layers) of about as many layers each."""
    names = [step.name for step in program.matrices]
    parts = np.array_split(np.arange(len(names)), min(count, len(names)))
    return tuple(tuple(names[i] for i in part) for part in parts)


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """One group. ``trained``: loss on held-out images of the layers that came after the group before, and of this
    group, before and after their training; None for the first group, which is not trained. ``error``: of its
    level sums on the chip, as a share of their variance, mean over layers, tuned."""

    layers: tuple[str, ...]
    trained: Trained | None
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class OnChipProgress:
    """How far a fine-tuning is: groups that are written and measured.

    ``plain``: the program with the weights of now, untuned; ``running``: with the gains and biases of the layers that
    are written. ``seen``, ``kept`` and ``tune``: codes of training images, of those kept out and of those of the tune,
    as the chip gave them, (n, …) by result that a later step reads.
    """

    plain: ConductanceProgram
    running: ConductanceProgram
    seen: Values
    kept: Values
    tune: Values
    steps: int = 0  # that are done
    groups: tuple[GroupOutcome, ...] = ()


@dataclass
class Progressive:
    """Fine-tuning of one chip, group by group.

    Args:
        recipe: techniques applied to each group; ``train``: trains the downstream layers (``Train``).
        save: called with the progress after each group.
    """

    chip: WrittenLayers
    groups: Sequence[Sequence[str]]
    recipe: Recipe
    downstream: DownstreamLayers
    train: Callable[[int, Sequence[str], Measured, Measured], Trained]
    watch: Watch
    save: Callable[[OnChipProgress], None] = field(default=lambda _: None)

    def begin(self, program: ConductanceProgram) -> OnChipProgress:
        """Progress before the first layer is written: inputs of the network for each set of images."""
        seen, kept, tune = (
            {INPUT: input_codes(images, program.input)}
            for images in (self.downstream.images.pixels, self.downstream.kept.pixels, self.recipe.tune_images(program))
        )
        return OnChipProgress(program, program, seen, kept, tune)

    def finish(self, progress: OnChipProgress) -> OnChipProgress:
        """Write, measure and train all remaining groups; in the result, ``kept`` holds logits."""
        for number in range(len(progress.groups), len(self.groups)):
            progress = self._group(progress, number)
            self.save(progress)
        return progress

    def _group(self, now: OnChipProgress, number: int) -> OnChipProgress:
        layers, plain, running, trained = tuple(self.groups[number]), now.plain, now.running, None
        if number:
            with self.watch.stage(f"training downstream of group {number}"):
                written = [name for group in self.groups[:number] for name in group]
                trained = self.train(number, written, now.seen, now.kept)
            if trained.kept:
                later = [name for name in plain.layers if name not in written]
                plain = reweighted(plain, self.downstream.weights(plain, later))
                running = with_steps(plain, running.steps[: now.steps])
        with self.watch.stage(f"writing group {number + 1}"):
            self.chip.write(only_layers(plain, layers), training_inputs(plain), number)
            self.chip.hold(plain)
        with self.watch.stage(f"measuring group {number + 1}"):
            targets = self.recipe.targets(plain)
            assert targets is not None  # settings refuse a recipe without a tune
            tune = begun_tune(running, targets, done=now.steps, values=now.tune)
            tune.run(self.chip.multiply, until=layers[-1], sample=TUNE, progress=self.watch.step)
            tuned = tune.tuned
            steps, values = now.steps, []
            for codes, first in ((now.seen, INFER), (now.kept, INFER + REPEAT)):
                run = PartialRun(codes, now.steps)
                run.go_on(
                    tuned.program,
                    layers[-1],
                    self.chip.running(only_layers(tuned.program, layers)),
                    sample=first,
                    progress=lambda done, total: self.watch.step(done, total, "images"),
                )
                values.append(run.values)
                steps = run.done
        error = float(np.mean([fit.after for fit in tuned.fits]))
        outcome = GroupOutcome(layers, trained, error)
        return OnChipProgress(plain, tuned.program, values[0], values[1], tune.values, steps, (*now.groups, outcome))


def right_share(logits: Mapping[str, NDArray[Any]], program: ConductanceProgram, labels: NDArray[np.int64]) -> float:
    """Percent of images whose largest logit is that of their class."""
    return 100.0 * float((logits[program.steps[-1].name].argmax(1) == labels).mean())
