"""Examples of the documents: folders and scripts of ``examples/``, which a wheel holds beside this file."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

from hil.pages.example_lists import LEFT_OUT, PAYLOAD_NETWORK

HELD = "example_files"  # beside this file in a wheel
WITHIN = ("plugins", "notebooks")  # whose parts are copied one by one


def example_root() -> Path:
    """Where the examples lie: beside this file, or in the checkout."""
    beside = Path(__file__).parent / HELD
    return beside if beside.is_dir() else Path(__file__).parents[2] / "examples"


def examples() -> dict[str, str]:
    """Every example by its name, with what it shows."""
    root, found = example_root(), {}
    places = [path for path in root.iterdir() if path.name not in (*WITHIN, *LEFT_OUT)]
    places += [path for folder in WITHIN for path in (root / folder).iterdir()]
    for path in sorted(places):
        if not path.name.startswith((".", "__")):
            found[str(path.relative_to(root))] = _about(path)
    return {**found, PAYLOAD_NETWORK: "network of the payload how-to, EuroSAT"}


def copy_example(name: str, to: Path | None = None) -> Path:
    """Copy an example, by default below ``examples`` here, where the documents expect it.

    Raises:
        KeyError: no such example. FileExistsError: something is there already. OSError: it cannot be written.
    """
    if name not in examples():
        raise KeyError(name)
    source, target = example_root() / name, to or Path("examples") / name
    if target.exists():
        raise FileExistsError(str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    else:
        shutil.copyfile(source, target)
    return target


def _about(path: Path) -> str:
    """The first line that an example says of itself; of a folder its first script's, or its README's title."""
    if path.is_dir():
        readme = path / "README.md"
        if readme.is_file():
            return _about(readme)
        scripts = sorted(path.glob("*.py"))
        return _about(scripts[0]) if scripts else ", ".join(sorted(p.name for p in path.iterdir()))
    if path.suffix == ".py":
        text = path.read_text("utf-8")
        titled = re.search(r"^# # (.*)$", text, re.MULTILINE)  # a notebook's
        said = ast.get_docstring(ast.parse(text)) or (titled[1] if titled else "")
        return said.partition("\n")[0].rstrip(".")
    if path.suffix == ".md":
        return path.read_text("utf-8").partition("\n")[0].lstrip("# ")
    return {".pt": "a trained network", ".ipynb": "a notebook with its outputs"}.get(path.suffix, path.suffix[1:])
