"""Size of what ``pip install rram-hil`` brings: the files of its dependencies, as they are installed here.

python benchmarks/studies.py installed-size [EXTRA ...]
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
SHOWN = 8  # of the largest packages


def closure(needs: list[str]) -> set[str]:
    """Names of the packages that requirements need, and of all that those need."""
    found: set[str] = set()
    waiting = [(Requirement(text), ("",)) for text in needs]
    while waiting:
        need, extras = waiting.pop()
        name = canonicalize_name(need.name)
        applies = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
        if applies and name not in found:
            found.add(name)
            own = ("", *need.extras)
            waiting += [(Requirement(text), own) for text in metadata.requires(name) or ()]
    return found


def megabytes(name: str) -> float:
    """Of the files of one installed package."""
    places = (file.locate() for file in metadata.files(name) or ())
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6  # type: ignore[union-attr]


def main() -> None:
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    extras = [text for extra in sys.argv[1:] for text in project["optional-dependencies"][extra]]
    sizes = {name: megabytes(name) for name in closure([*project["dependencies"], *extras])}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{name:<20} {size:6.0f} MB")
    print(f"{len(sizes)} packages  {sum(sizes.values()):8.0f} MB")


if __name__ == "__main__":
    main()
