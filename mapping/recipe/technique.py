"""Technique: one thing that is done to a network on a chip, with its settings, limits and words, and its action.

A technique is a frozen dataclass in a file of its own, found by an entry point (pyproject.toml):

    @dataclass(frozen=True, slots=True)
    class Rewrite(Technique):
        name, words, rank = "rewrite", "cells that left their window are written again", 60
        times: int = setting(3, "times", low=1, high=100)
        after_s: float = setting(1.0, "chip time before each", low=0.0, high=1e6, unit="s")

    Rewrite.parse("3,after=2s")          # hil deploy --with rewrite=3,after=2s
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mapping.errors import MappingUsageError
from mapping.settings import short

if TYPE_CHECKING:  # settings are read by the command line, which imports nothing that takes time
    from cim.chip.spec import ChipSpec
    from cim.record.calibration import CalibrationRecord
    from mapping.layout.lay_out import LayoutOptions
    from mapping.network.file import NetworkFile
    from mapping.program.conductance import ConductanceProgram
    from mapping.recipe.standing import Standing
    from mapping.recipe.target import ProgressObserver, RecipeTarget

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


GAINS = "python benchmarks/accuracy.py gains --out benchmarks/results/gains.jsonl"
ABLATION = (
    "ResNet-20 W4A8, 4 virtual chips",
    "python benchmarks/accuracy.py techniques (benchmarks/results/ablation.jsonl)",
)


class RecipeError(MappingUsageError):
    """A technique that there is not, settings beyond its limits, or techniques that exclude each other."""


@dataclasses.dataclass(frozen=True, slots=True)
class TunePlan:
    """How the digital part is fitted to the chip's answers: to at most ``images`` stored training images, none: it is
    not; each layer with an adapter of ``rank``, 0: without."""

    images: int = 0
    rank: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """How a technique is used where nobody asks for it by name: by the dial of effort, and by an improvement.

    Args:
        effort: the least that it takes: 1: neither macros nor chip time, 2: what the chip has of both.
        changes: its settings, from the best to the least; the first that the chip has a place for are taken.
        leads: tried before others, and kept without a gain, where a network is right no more often than by chance:
            what one technique gives does not show there, but several may give all.
    """

    effort: int
    changes: tuple[Mapping[str, float], ...] = ({},)
    leads: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Gave:
    """What a technique gave where it was measured: points of accuracy, ``low`` to ``high`` with 95 %; ``where`` it
    stands with its command. ``noise``: whether the network was trained with noise. ``settings`` that it had."""

    points: float
    low: float
    high: float
    network: str
    where: str
    noise: bool = False
    settings: str = ""


def gave_each(*points: tuple[float, float, float]) -> tuple[Gave, ...]:
    """What a technique of the default gave to each network of the row ``gains`` of the benchmarks: 20 virtual chips."""
    return tuple(Gave(*each, network, GAINS, noise) for each, (network, noise) in zip(points, TRIED, strict=True))


TRIED = (
    ("bundled, Fashion-MNIST, 2,000 images", True),
    ("fashion_small.pt, Fashion-MNIST, 2,000 images", True),
    ("5×5 CNN, Fashion-MNIST, 2,000 images", False),
    ("ResNet-8, CIFAR-10, 1,000 images", False),
)


class Technique:
    """One thing that is done to a network on a chip.

    ``rank`` orders the techniques of a recipe. ``treats_cells``: cells are read and written again before their age.
    ``before_compile``: it changes the network itself, so that a compiled program comes too late for it.
    ``excludes``: names of techniques that it leaves no place for; ``needs``: of those that it builds on. ``offers``:
    none, it is used by name only.

    A technique answers those of the methods below that it has something to do with, in the order of a recipe.
    """

    __slots__ = ()
    name: ClassVar[str]
    words: ClassVar[str]
    rank: ClassVar[int]
    treats_cells: ClassVar[bool] = False
    before_compile: ClassVar[bool] = False
    excludes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    offers: ClassVar[tuple[Offer, ...]] = ()
    gave: ClassVar[tuple[Gave, ...]] = ()

    def __post_init__(self) -> None:
        for field in settings_of(type(self)):
            value, about = getattr(self, field.name), field.metadata
            if not about["low"] <= value <= about["high"]:
                unit = f" {about['unit']}" if about["unit"] else ""
                raise RecipeError(
                    f"{self.name}: {field.name}: {value:g}{unit}, "
                    f"not from {about['low']:g} to {about['high']:g}{unit} ({about['words']})"
                )

    def before_compiling(
        self, network: NetworkFile, spec: ChipSpec, layout: LayoutOptions, tune: TunePlan
    ) -> NetworkFile:
        """The network that is compiled in place of the one that was given (``before_compile``).

        Args:
            layout, tune: how the recipe will lay it out and fit its digital part, which its price depends on.
        """
        return network

    def laid_out(self, options: LayoutOptions) -> LayoutOptions:
        """Options of the layout of a network that it is done to."""
        return options

    def check(self, program: ConductanceProgram, record: CalibrationRecord | None) -> None:
        """Refuse a program, or a chip with this record (None: not measured yet), that it cannot be done to."""

    def prepare(
        self, program: ConductanceProgram, record: CalibrationRecord, read_s: float, progress: ProgressObserver
    ) -> ConductanceProgram:
        """The program for chips of a record, once for all of them; one that is prepared stays as it is.

        Args:
            read_s: time from the first writing until cells are read back.
        """
        return program

    def holds_up_s(self, program: ConductanceProgram) -> float:
        """Time between the first writing and the last, s."""
        return 0.0

    def first(self, program: ConductanceProgram, record: CalibrationRecord) -> ConductanceProgram:
        """The program as this chip is written first."""
        return program

    def treat(self, standing: Standing, target: RecipeTarget) -> None:
        """Apply the technique to the cells of a program that was just written."""

    def planned(self, tune: TunePlan) -> TunePlan:
        """What the digital part is to be fitted with, once columns are corrected."""
        return tune

    @classmethod
    def parse(cls, text: str) -> Self:
        """A technique by its settings: "3", "3,after=2s", "after=2s", or nothing for its defaults.

        The first may stand without its name; a name may leave its unit out (``after`` for ``after_s``).

        Raises:
            RecipeError: no such setting, or a value that it does not take.
        """
        fields, values = settings_of(cls), dict[str, float]()
        for number, part in enumerate(filter(None, text.split(","))):
            key, given, value = part.rpartition("=")
            if given or not fields:
                field = next((f for f in fields if key in (f.name, short(f))), None)
            else:
                field = fields[0] if number == 0 else None
            if field is None:
                names = ", ".join(map(short, fields)) or "none"
                raise RecipeError(f"{cls.name}: no setting {key or value!r}; its settings are {names}")
            values[field.name] = _number(cls.name, field, value)
        return cls(**values)

    def __str__(self) -> str:
        """The technique as ``--with`` takes it, without settings that have their defaults."""
        own = [f for f in settings_of(type(self)) if getattr(self, f.name) != f.default]
        text = ",".join(f"{short(f)}={getattr(self, f.name):g}{_unit(f)}" for f in own)
        return f"{self.name}={text}" if text else self.name


def settings_of(kind: type[Technique]) -> tuple[dataclasses.Field[Any], ...]:
    """The settings of a technique, in order."""
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def _unit(field: dataclasses.Field[Any]) -> str:
    return "s" if field.metadata["unit"] == "s" else ""


def _number(name: str, field: dataclasses.Field[Any], text: str) -> float:
    unit, whole = field.metadata["unit"], isinstance(field.default, int)
    found = re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*([smhd%]?)", text.strip())
    if found is None or (found[2] and (unit != "s" if found[2] in SECONDS else unit != found[2])):
        example = {"s": "30s, 1h", "%": "25"}.get(unit, "3")
        raise RecipeError(f"{name}: {short(field)} is {text!r}, not a number as {example}")
    value = float(found[1]) * (SECONDS.get(found[2], 1.0) if unit == "s" else 1.0)
    if not math.isfinite(value):
        raise RecipeError(f"{name}: {short(field)} is {text}, too large a number")
    if whole and value != int(value):
        raise RecipeError(f"{name}: {short(field)} is {text}, not a whole number")
    return int(value) if whole else value
