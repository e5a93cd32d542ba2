"""Techniques by name: ours and those of installed packages, found by an entry point (pyproject.toml)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from mapping.recipe.technique import Offer, RecipeError, Technique

GROUP = "hil.techniques"


@cache
def techniques() -> dict[str, type[Technique]]:
    """All techniques that are installed, by name, in the order in which a recipe does them.

    Raises:
        RecipeError: one that cannot be loaded, or two of a name.
    """
    found: dict[str, type[Technique]] = {}
    for entry in entry_points(group=GROUP):
        try:
            kind = entry.load()
        except Exception as error:  # code of others: whatever it raises, its name is said
            raise RecipeError(f"technique {entry.name} ({entry.value}) cannot be loaded: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, Technique) and kind.name == entry.name):
            raise RecipeError(f"{entry.value} is not a technique named {entry.name}")
        if entry.name in found and found[entry.name] is not kind:
            raise RecipeError(f"two techniques are named {entry.name}: {entry.value} is one of them")
        found[entry.name] = kind
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def technique(name: str) -> type[Technique]:
    """The technique of a name.

    Raises:
        RecipeError: there is none; the message names those that there are.
    """
    if name not in techniques():
        raise RecipeError(f"no technique {name!r}; there are {', '.join(techniques())} (hil techniques)")
    return techniques()[name]


def offers() -> list[tuple[type[Technique], Offer]]:
    """What techniques offer where nobody asks for them by name, from cheap to dear."""
    found = [(kind, offer) for kind in techniques().values() for offer in kind.offers]
    return sorted(found, key=lambda item: (item[1].dear, item[1].name))
