"""Recipe: techniques in order, and the one function that carries them out on a chip.

    written = run_recipe(recipe, program, target, inputs)

A chip on the wire, a virtual chip and a counted one go through the same call; they differ in their ``RecipeTarget``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from cim.json_text import parse_json
from mapping.recipe.registry import technique
from mapping.recipe.standing import Standing
from mapping.recipe.technique import RecipeError, Technique

if TYPE_CHECKING:  # recipes are read by the command line, which imports nothing that takes time
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram
    from mapping.program.corrections import Corrections
    from mapping.program.training_inputs import LayerInputs
    from mapping.recipe.target import Cells, RecipeTarget

Kind = TypeVar("Kind", bound=Technique)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a network on a chip: techniques in order of their rank, each at most once.

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
        """The technique of this kind; None: it is not done."""
        return next((t for t in self.techniques if isinstance(t, kind)), None)

    def having(self, *techniques: Technique) -> Recipe:
        """The recipe with these techniques, in place of others of their names."""
        names = {t.name for t in techniques}
        return replace(self, techniques=(*(t for t in self.techniques if t.name not in names), *techniques))

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
        """How a network is laid out that this is done to."""
        for t in self.techniques:
            options = t.laid_out(options)
        return options

    @property
    def treats_cells(self) -> bool:
        """Whether cells are read and written again between the first writing and the age."""
        return any(t.treats_cells for t in self.techniques)

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
        """As a program holds it (``ConductanceProgram.recipe``)."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Recipe:
        """Inverse of ``text``; raises ``RecipeError`` for anything else."""
        try:
            return cls.from_json(parse_json(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise RecipeError(f"its recipe cannot be read: {error}") from error

    def __str__(self) -> str:
        return " ".join(map(str, self.techniques))


@dataclass(frozen=True)
class Written:
    """A program on a chip: ``program`` as the chip holds it, what its cells read at ``age_s``, its corrections."""

    program: ConductanceProgram
    readings_us: Cells
    corrections: Corrections
    age_s: float


def run_recipe(recipe: Recipe, program: ConductanceProgram, target: RecipeTarget, inputs: LayerInputs) -> Written:
    """Write ``program``, treat its cells, wait until it has its age, read it back and correct its columns.

    Args:
        program: or the part of it that stands on the chip in one round.
        inputs: input codes of every layer for training images, for the corrections.
    """
    standing, readings = write_cells(recipe, program, target)
    with target.stage("correcting"):
        corrections = target.correct(standing, readings, inputs)
    return Written(standing.program, readings, corrections, standing.age_s)


def with_recipe(program: ConductanceProgram, recipe: Recipe) -> ConductanceProgram:
    """The program that says itself what is to be done to it on a chip."""
    from mapping.program.file import program_digest

    found = replace(program, recipe=recipe.text, digest="")
    return replace(found, digest=program_digest(found))


def write_cells(recipe: Recipe, program: ConductanceProgram, target: RecipeTarget) -> tuple[Standing, Cells]:
    """``run_recipe`` up to the correction of columns: what stands on the chip, and what its cells read."""
    for t in recipe.techniques:
        program = t.first(program, target.record)
    with target.stage("programming"):
        standing = Standing(program, target.write(program))
    if standing.slots:
        for t in recipe.techniques:
            t.treat(standing, target)
    standing.age_s = target.let_age(recipe.age_s)
    with target.stage("reading back"):
        return standing, target.read_back(standing.program, recipe.reads)
