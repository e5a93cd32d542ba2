"""Recipe: techniques in order, and the one function that carries them out on a chip.

    written = run_recipe(recipe, program, target, inputs, recipe.targets(program))

A chip on the wire, a virtual chip and a counted one go through the same call; they differ in their ``RecipeTarget``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cim.json_text import parse_json
from mapping.recipe.registry import offers, technique
from mapping.recipe.standing import Standing, Written
from mapping.recipe.technique import RecipeError, Technique, TunePlan

if TYPE_CHECKING:  # recipes are read by the command line, which imports nothing that takes time
    import numpy as np
    from numpy.typing import NDArray

    from cim.chip.spec import ChipSpec
    from cim.record.calibration import CalibrationRecord
    from mapping.layout.lay_out import LayoutOptions
    from mapping.network.file import NetworkFile
    from mapping.program.conductance import ConductanceProgram
    from mapping.program.training_inputs import LayerInputs
    from mapping.recipe.target import ProgressObserver, RecipeTarget
    from mapping.tune.channel_affine import ChannelTune, TuneTargets

Kind = TypeVar("Kind", bound=Technique)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The techniques that are applied to a network on a chip, in order of their rank, each at most once.

    ``age_s``: chip time from the last writing to the reading that columns are corrected by, a mean of ``reads``.

    Raises:
        RecipeError: techniques that exclude each other, or one without what it builds on.
    """

    techniques: tuple[Technique, ...] = ()
    age_s: float = 3600.0
    reads: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "techniques", tuple(sorted(self.techniques, key=lambda t: (t.rank, t.name))))
        names = [t.name for t in self.techniques]
        for t in self.techniques:
            if names.count(t.name) > 1:
                raise RecipeError(f"{t.name} stands twice in a recipe")
            if excluded := [name for name in t.excludes if name in names]:
                raise RecipeError(f"{t.name} excludes {', '.join(excluded)}")
            if missing := [name for name in t.needs if name not in names]:
                raise RecipeError(f"{t.name} builds on {', '.join(missing)}, which the recipe leaves out")

    def get(self, kind: type[Kind]) -> Kind | None:
        """The technique of this kind; None where the recipe lacks it."""
        return next((t for t in self.techniques if isinstance(t, kind)), None)

    def having(self, *techniques: Technique) -> Recipe:
        """The recipe with these techniques, in place of others of their names."""
        names = {t.name for t in techniques}
        return replace(self, techniques=(*(t for t in self.techniques if t.name not in names), *techniques))

    def using(self, wanted: Technique, settings: Recipe | None = None) -> Recipe:
        """The recipe with a technique and what it builds on, in place of what it excludes.

        Args:
            settings: of what it builds on, where they are not the usual ones.

        Raises:
            RecipeError: another technique excludes it.
        """
        named = {t.name: t for t in (*(settings or Recipe()).techniques, *self.techniques)}
        needed = (named.get(name) or technique(name)() for name in wanted.needs)
        return self.without(*wanted.excludes).having(*needed, wanted)

    def without(self, *names: str) -> Recipe:
        """The recipe without the techniques of these names."""
        return replace(self, techniques=tuple(t for t in self.techniques if t.name not in names))

    def changed(self, having: Sequence[str], without: Sequence[str]) -> Recipe:
        """The recipe after ``--with`` (``NAME`` or ``NAME=SETTINGS``) and ``--without`` (``NAME``).

        Raises:
            RecipeError: no such technique, or no such setting; techniques that exclude each other.
        """
        left_out = [technique(name).name for name in without]
        parts = [part.partition("=") for part in having]
        return self.without(*left_out).having(*(technique(name).parse(text) for name, _, text in parts))

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        """The layout options with what these techniques need."""
        for t in self.techniques:
            options = t.laid_out(options)
        return options

    def before_compiling(self, network: NetworkFile, spec: ChipSpec) -> NetworkFile:
        """The network that is compiled for a chip in place of the one that was given."""
        if any(t.before_compile for t in self.techniques):
            from mapping.layout.lay_out import LayoutOptions

            layout = self.laid_out(LayoutOptions())
            for t in self.techniques:
                network = t.before_compiling(network, spec, layout, self.tune_plan)
        return network

    def check_compiled(self, program: ConductanceProgram, name: str) -> None:
        """Refuse what acts before a network is compiled or on its layout, and was not done to a program that is; copies
        on idle cells and rounds are left out where there are none.

        Raises:
            RecipeError: it was asked for; ``name`` is the program's.
        """
        from mapping.layout.lay_out import LayoutOptions

        done = Recipe.of_text(program.recipe).techniques if program.recipe else ()
        plain = (LayoutOptions(), LayoutOptions(averaged=True), LayoutOptions(rounds=True))
        lying = [t for t in self.techniques if t.before_compile or t.laid_out(plain[0]) not in plain]
        if late := [str(t) for t in lying if t not in done]:
            raise RecipeError(
                f"{', '.join(late)} acts on a network before it is compiled, and {name} is a compiled program; "
                "name its net.pt"
            )

    @property
    def treats_cells(self) -> bool:
        """Whether cells are read and written again between the first writing and the age."""
        return any(t.treats_cells for t in self.techniques)

    def check(self, program: ConductanceProgram, record: CalibrationRecord | None = None) -> None:
        """Refuse a program, or a chip with this record, that a technique cannot be done to.

        Raises:
            RecipeError, mapping.errors.CannotMap: with what would fit.
        """
        for t in self.techniques:
            t.check(program, record)

    def prepared(
        self, program: ConductanceProgram, record: CalibrationRecord, progress: ProgressObserver
    ) -> ConductanceProgram:
        """The program prepared once for all chips of a record; a prepared program is returned unchanged."""
        for t in self.techniques:
            program = t.prepare(program, record, self.read_s(program), progress)
        return program

    def read_s(self, program: ConductanceProgram) -> float:
        """Time from the first writing until cells are read back, s."""
        return self.age_s + sum(t.holds_up_s(program) for t in self.techniques)

    @property
    def tune_plan(self) -> TunePlan:
        """How the digital part is fitted to a chip's answers."""
        plan = TunePlan()
        for t in self.techniques:
            plan = t.planned(plan)
        return plan

    def tune_images(self, program: ConductanceProgram) -> NDArray[np.uint8]:
        """Stored training images that chips are tuned with; empty where no technique tunes."""
        images = program.calibration_images[: self.tune_plan.images]
        return images if len(images) > 1 else images[:0]

    def targets(self, program: ConductanceProgram, progress: ProgressObserver | None = None) -> TuneTargets | None:
        """What the layers of the ideal network give for these images, once for all chips that are tuned.

        None where they are not, or where the program stores too few images, which is noted.
        """
        if not self.tune_plan.images:
            return None
        images = self.tune_images(program)
        if not len(images):
            if progress is not None:
                progress.note(f"not tuned: the program stores {len(program.calibration_images)} training images")
            return None
        from mapping.tune.channel_affine import tune_targets

        return tune_targets(program, images, self.tune_plan.rank)

    def to_json(self) -> list[dict[str, Any]]:
        """Techniques and their settings, as plain data."""
        return [{"name": t.name, **asdict(t)} for t in self.techniques]  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, found: Sequence[Mapping[str, Any]]) -> Recipe:
        """Inverse of ``to_json``.

        Raises:
            RecipeError: not a recipe, a technique that there is not, or settings that it does not take.
        """
        techniques = []
        for row in found:
            kind = technique(str(row.get("name")))
            settings = {k: v for k, v in row.items() if k != "name"}
            if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in settings.values()):
                raise RecipeError(f"{kind.name}: settings {settings}, not numbers")
            try:
                techniques.append(kind(**settings))
            except TypeError as error:
                raise RecipeError(f"{kind.name}: settings {settings}: {error}") from error
        return cls(tuple(techniques))

    @property
    def text(self) -> str:
        """The recipe as text, as a program holds it (``ConductanceProgram.recipe``)."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Recipe:
        """Inverse of ``text``; raises ``RecipeError`` for anything else."""
        try:
            return cls.from_json(parse_json(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise RecipeError(f"its recipe cannot be read: {error}") from error

    @classmethod
    def of_words(cls, words: str) -> Recipe:
        """Inverse of ``str``: techniques as ``--with`` takes them, with blanks between."""
        return cls().changed(words.split(), ())

    def __str__(self) -> str:
        return " ".join(map(str, self.techniques))


class Use(Protocol):
    """Whoever a network is written for, called in every round of it."""

    def corrected(self, written: Written) -> None:
        """Called once the chip of this round is written and its columns are corrected, before anything is tuned."""

    def ready(self, written: Written) -> None:
        """Called once the chip of this round is ready: written, waited for and tuned. The next round writes it
        again."""


def run_recipe(
    recipe: Recipe,
    program: ConductanceProgram,
    target: RecipeTarget,
    inputs: LayerInputs,
    targets: TuneTargets | None = None,
    use: Use | None = None,
) -> Written:
    """Round after round: write, treat the cells, wait until they have their age, read them back, correct the columns,
    and tune. The answer is the last round's.

    Args:
        inputs: input codes of every layer for training images, for the corrections.
        targets: what chips are tuned towards (``Recipe.targets``); None: they are not.
    """
    program, tune, written = recipe.prepared(program, target.record, target), None, None
    for number, part in target.parts(program):
        standing = write_cells(recipe, part, target)
        if targets is not None and tune is None:
            tune = begun_tune(standing.program if number is None else program, targets)
        written = fit_digital(standing, target, recipe.reads, inputs, tune, use, number)
    assert written is not None  # a program has a round at least
    return written


def begun_tune(
    program: ConductanceProgram,
    targets: TuneTargets,
    *,
    done: int = 0,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> ChannelTune:
    """A tune of a chip, which takes up the layers of one round after the other; ``done`` and ``values``: of an earlier
    one that it goes on from (``mapping.tune.channel_affine.ChannelTune``)."""
    from mapping.tune.channel_affine import ChannelTune

    return ChannelTune(program, targets, done=done, values=values)


def recipe_of_effort(effort: int) -> Recipe:
    """What the dial of effort asks for: 0: nothing, the network as compiled; 1: what costs neither macros, chip time
    nor training; 2 and 3: what the chip has of both. A technique that excludes others is used by name only."""
    recipe = Recipe()
    for kind, offer in offers():
        if offer.effort <= effort and not kind.excludes:
            recipe = recipe.using(kind(**offer.changes[0]))
    return recipe


def with_recipe(program: ConductanceProgram, recipe: Recipe) -> ConductanceProgram:
    """The program that says itself what is to be done to it on a chip."""
    from mapping.program.file import program_digest

    found = replace(program, recipe=recipe.text, digest="")
    return replace(found, digest=program_digest(found))


def write_cells(recipe: Recipe, program: ConductanceProgram, target: RecipeTarget) -> Standing:
    """The first half of a round: write the cells, treat them by the techniques, and wait until they have their age."""
    for t in recipe.techniques:
        program = t.first(program, target.record)
    with target.stage("programming"):
        standing = Standing(program, target.write(program))
    if standing.slots:
        for t in recipe.techniques:
            t.treat(standing, target)
    standing.age_s = target.let_age(recipe.age_s)
    return standing


def fit_digital(
    standing: Standing,
    target: RecipeTarget,
    reads: int,
    inputs: LayerInputs,
    tune: ChannelTune | None = None,
    use: Use | None = None,
    number: int | None = None,
) -> Written:
    """The digital part of ``run_recipe`` for one round: all that is fitted to a chip whose cells are written."""
    with target.stage("reading back"):
        readings = target.read_back(standing.program, reads)
    with target.stage("correcting"):
        corrections = target.correct(standing, readings, inputs)
    written = Written(standing.program, readings, corrections, standing.age_s, number=number)
    if use is not None:
        use.corrected(written)
    if tune is not None:
        with target.stage("tuning"):
            written = replace(written, tuned=target.tune(tune, written))
    if use is not None:
        use.ready(written)
    return written
