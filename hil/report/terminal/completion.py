"""Values that a shell completes: chips, data sets, techniques, examples, and choices of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Complete = Callable[[str], list[str]]


def beginning(names: Iterable[str], begun: str) -> list[str]:
    """The names that begin with ``begun``."""
    return [name for name in names if name.startswith(begun)]


def chips(incomplete: str) -> list[str]:
    """Chip files that come with hil; a path is the shell's matter."""
    from cim.chip.file import chip_names

    return beginning(chip_names(), incomplete)


def datasets(incomplete: str) -> list[str]:
    """Data sets by name."""
    from hil.datasets.image_set import dataset_names

    return beginning(dataset_names(), incomplete)


def techniques(incomplete: str) -> list[str]:
    """Techniques by name, before their settings."""
    from mapping.recipe.registry import techniques as known

    return beginning(known(), incomplete)


def example_names(incomplete: str) -> list[str]:
    """Examples of the documents."""
    from hil.pages.examples import examples

    return beginning(examples(), incomplete)


def one_of(choices: Sequence[str]) -> Complete:
    """Choices of a setting."""
    return lambda incomplete: beginning(map(str, choices), incomplete)


BY_FIELD: dict[str, Complete] = {"chip": chips, "data": datasets, "having": techniques, "without": techniques}
"""Fields of settings whose values have names."""
