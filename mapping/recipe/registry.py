"""Techniques by name: ours and those of installed packages, found by an entry point (pyproject.toml)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint

from cim.plug_ins import installed
from mapping.recipe.technique import Offer, RecipeError, Technique

GROUP = "hil.techniques"


@cache
def techniques() -> dict[str, type[Technique]]:
    """All techniques that are installed, by name, in the order in which a recipe does them.

    Raises:
        RecipeError: two of a name.
    """
    found: dict[str, type[Technique]] = {}
    for entry, kind in installed(GROUP, {}, _is_technique):
        if entry.name in found and found[entry.name] is not kind:
            raise RecipeError(f"two techniques are named {entry.name}: {entry.value} is one of them")
        found[entry.name] = kind
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def _is_technique(entry: EntryPoint, found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Technique) and found.name == entry.name


def technique(name: str) -> type[Technique]:
    """The technique of a name.

    Raises:
        RecipeError: there is none; the message names those that there are.
    """
    if name not in techniques():
        raise RecipeError(f"no technique {name!r}; there are {', '.join(techniques())} (hil help techniques)")
    return techniques()[name]


def offers() -> list[tuple[type[Technique], Offer]]:
    """What techniques offer where nobody asks for them by name, by effort."""
    found = [(kind, offer) for kind in techniques().values() for offer in kind.offers]
    return sorted(found, key=lambda item: item[1].effort)
