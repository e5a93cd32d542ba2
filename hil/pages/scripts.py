"""Scripts that pages hold: plotly.js draws their figures, DataTables sorts and filters their tables.

Both come out of Python packages while the project is installed or built (``setup.py``), and lie compressed beside this
file; a page undoes that in the browser. This file imports nothing of ours, so that ``setup.py`` can run it alone.
"""

from __future__ import annotations

import base64
import functools
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Source:
    """Where a script comes from: a file of a package, made a plain script by ``made``."""

    package: str
    file: str
    made: Callable[[str], str] = str


def plain(module: str) -> str:
    """A module that stands for itself as a plain script; of what it exports, ``jQuery`` goes to the window.

    Raises:
        ValueError: it has not just one export, or no ``jQuery`` in it.
    """
    (found,) = re.finditer(r"\bexport ?\{([^{}]*)\};$", module, re.MULTILINE)
    names = {outside: inside for inside, _, outside in (one.partition(" as ") for one in found[1].split(","))}
    if "jQuery" not in names:
        raise ValueError(f"a module that exports {sorted(names)}, without jQuery")
    return f"(() => {{{module[: found.start()]}\nwindow.jQuery = {names['jQuery']};\n}})();{module[found.end() :]}"


SCRIPTS = {
    "plotly": Source("plotly", "package_data/plotly.min.js"),
    "tables": Source("itables", "html/dt_bundle.js", plain),
}


def write(folder: Path) -> None:
    """Put every script, compressed, into ``folder``, with the licence of its package.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    made = {name: (_made(source), _licence(source.package)) for name, source in SCRIPTS.items()}
    for name, (content, licence) in made.items():
        (folder / f"{name}.js.gz").write_bytes(content)
        (folder / f"{name}.LICENSE.txt").write_text(licence, "utf-8")


@functools.cache
def script(name: str) -> str:
    """A script of ``SCRIPTS`` as a page holds it: gzip in base64.

    Raises:
        ModuleNotFoundError: neither does it lie beside this file nor is its package installed.
    """
    beside = HERE / f"{name}.js.gz"
    content = beside.read_bytes() if beside.is_file() else _made(SCRIPTS[name])
    return base64.b64encode(content).decode()


def has(name: str) -> bool:
    """Whether a script can be had."""
    try:
        return bool(script(name))
    except ModuleNotFoundError:
        return False


def packed(text: str) -> str:
    """Text as a page holds it: gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _made(source: Source) -> bytes:
    try:
        place = metadata.distribution(source.package).locate_file(f"{source.package}/{source.file}")
        text = Path(str(place)).read_text("utf-8")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"{source.package} is not installed: pip install -e '.[dev]' in a checkout"
        ) from error
    return gzip.compress(source.made(text).encode(), 9, mtime=0)


def _licence(package: str) -> str:
    files = metadata.files(package) or []
    found = [file for file in files if re.search(r"dist-info/(licenses/)?LICENSE", str(file))]
    return "\n".join(file.read_text("utf-8") for file in found)
