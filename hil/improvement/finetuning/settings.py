"""Settings of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from hil.simulation.torch_device import check_device
from mapping.recipe.aim import AgedTargets
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting

EPOCHS = 12  # where neither epochs nor minutes are asked for
RATE, STRENGTH = 0.0015, 1.0  # of a training that is too short for trials
LEAST_MINUTES = 0.1
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")
MOST_MEASURED = 100_000  # images
IMAGES, TRAINING, MACHINE, ON_THE_CHIP = "Images", "Training", "Machine", "On the chip"  # groups of options


def on_chip(usual: str, there: float) -> str:
    """Help text for a setting with another default on a chip."""
    return f"default: {usual}, on a chip {there:g}"


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """Settings of a fine-tuning; the result depends on them, on network, images and record.

    ``epochs`` 0 and ``minutes`` 0: the usual number of epochs. ``shift`` None and ``symmetry`` "": what suits the data
    set. Training begins on squares of side ``crop`` (0: whole images) for ``crop_until`` of its steps.
    The float network teaches; another ``teacher`` (``net.pt``) replaces it, and also guides the activations of
    blocks. ``precision`` "":
    bfloat16 where the processor multiplies it. ``recipe``: what a deployment will do to the network, by which it is
    judged; without ``aims`` the mean drift of cells counts as an error, too. ``rate`` 0 and ``strength`` 0: by short
    trials (``hil.improvement.finetuning.run``).
    """

    age_s: float = setting(3600.0, "age after programming", low=0, unit="s", group="Chip")
    recipe: str = str(USUAL_RECIPE)
    shift: int | None = setting(
        None, "largest random shift of images in pixels; default: by data set", low=0, high=64, group=IMAGES, unset=True
    )
    symmetry: str = setting(
        "",
        "symmetry of images: none, mirror or turn; default: by data set",
        choices=SYMMETRIES,
        group=IMAGES,
        unset=True,
    )
    crop: int = setting(0, "train on random squares of this side first; faster", low=1, group=IMAGES, unset=True)
    held_out: int = setting(
        2000, f"training images held out for scores, at most a tenth; {on_chip('2000', 400)}",
        low=2, group=IMAGES, unset=True,
    )  # fmt: skip
    epochs: int = setting(
        0, f"passes over all training images; {on_chip(str(EPOCHS), 4)}", low=1, group=TRAINING, unset=True
    )
    minutes: float = setting(
        0.0,
        "train for this time instead of a number of epochs; trials and scores take further time",
        low=LEAST_MINUTES,
        group=TRAINING,
        unset=True,
    )
    rate: float = setting(
        0.0, f"highest learning rate; {on_chip('by trials', 0.0003)}",
        low=1e-6, high=1, group=TRAINING, unset=True,
    )  # fmt: skip
    batch: int = setting(128, f"images in a batch; even; {on_chip('128', 64)}", low=2, group=TRAINING, unset=True)
    teacher: str = setting(
        "", "net.pt of a teacher, as the network before pruning; default: itself", group=TRAINING, unset=True
    )
    strength: float = setting(
        0.0, f"scale of injected errors; 1: the record's values; {on_chip('by trials', STRENGTH)}",
        low=0.01, high=10, group=TRAINING, unset=True,
    )  # fmt: skip
    seed: int = setting(0, "seed of all random draws", low=0, high=(1 << 63) - 1, group=TRAINING)
    device: str = setting("cpu", "device for training: cpu or cuda", group=MACHINE)
    precision: str = setting(
        "", "precision: 32-true, bf16-mixed or 16-mixed; default: bf16-mixed if the processor has it",
        choices=PRECISIONS, group=MACHINE, unset=True,
    )  # fmt: skip
    crop_until: float = 0.6

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        for good, text in (
            (not (self.epochs and self.minutes), "epochs and minutes exclude each other"),
            (self.batch % 2 == 0, f"batch: {self.batch}, an even number of images is needed"),
            (0 <= self.crop_until <= 1, f"squares for a share of {self.crop_until}"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)
        usual = self.recipe == str(USUAL_RECIPE)  # hil --help loads no technique
        if ahead := [] if usual else [t.name for t in self.treated.techniques if t.before_compile]:
            raise UsageError(
                f"{', '.join(ahead)}: acts before compiling, and this trains the network as it is",
                hint="hil search prune net.pt -o small.pt first",
            )

    @property
    def treated(self) -> Recipe:
        """``recipe`` as techniques."""
        return Recipe.of_words(self.recipe)

    @property
    def aimed(self) -> bool:
        """Whether targets are offset for drift, so that the mean cell is at its level at ``age_s``."""
        return self.treated.get(AgedTargets) is not None


ON_CHIP = FinetuneSettings(epochs=4, rate=0.0003, strength=STRENGTH, batch=64, held_out=400)
"""Usual settings where layers are trained downstream of those that a chip holds."""


def working_folder(out: Path) -> Path:
    """Folder of an unfinished fine-tuning: ``tuned.pt`` -> ``tuned.pt.training``."""
    return out.with_name(out.name + ".training")


@dataclass(frozen=True, slots=True)
class OnChipSettings:
    """Settings of fine-tuning on the chip, besides network, images and record.

    ``groups``: layers are written in so many groups, one after the other. ``images``: most training images to
    measure. ``training``: of the layers downstream of each group; its epochs count for each.
    """

    groups: int = setting(4, "groups of layers that are written in turn", low=2, group=ON_THE_CHIP)
    images: int = setting(
        2000, "most training images that run through the chip",
        low=2, high=MOST_MEASURED, option="measure", group=ON_THE_CHIP,
    )  # fmt: skip
    training: FinetuneSettings = field(default_factory=lambda: ON_CHIP)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        asked = self.training
        for good, text in (
            (asked.rate > 0, "a learning rate on a chip is needed: --rate"),
            (asked.epochs >= 1 and not asked.minutes, "epochs of a fine-tuning on the chip are counted: --epochs"),
            (not asked.crop and not asked.shift, "images are measured as they are: neither --crop nor --shift"),
            (asked.symmetry in ("", "none"), "images are measured as they are: no --symmetry"),
            (asked.aimed, "cells are written beside their levels, for the planned age: they are aimed"),
            (self.recipe.tune_plan.images, "the next group is trained on answers of a tuned chip: not without tune"),
            (not asked.teacher, "a network on a chip is taught by itself: no --teacher"),
        ):
            if not good:
                raise UsageError(text)

    @property
    def recipe(self) -> Recipe:
        """Techniques applied to each group of layers on the chip."""
        return replace(self.training.treated, age_s=self.training.age_s)
