"""The script that pages hold: plotly.js draws their figures.

It comes out of the Python package while the project is installed or built (``setup.py``), and lies compressed beside
this file; a page undoes that in the browser. This file imports nothing of ours, so that ``setup.py`` can run it alone.
"""

from __future__ import annotations

import base64
import functools
import gzip
import re
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE, FILE = "plotly", "package_data/plotly.min.js"


def write(folder: Path) -> None:
    """Put plotly.js, compressed, into ``folder``, with its licence.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    content = _made()
    licences = [
        file for file in metadata.files(PACKAGE) or [] if re.search(r"dist-info/(licenses/)?LICENSE", str(file))
    ]
    (folder / "plotly.js.gz").write_bytes(content)
    (folder / "plotly.LICENSE.txt").write_text("\n".join(file.read_text("utf-8") for file in licences), "utf-8")


@functools.cache
def plotly() -> str:
    """plotly.js as a page holds it: gzip in base64.

    Raises:
        ModuleNotFoundError: it is neither beside this file nor in an installed package.
    """
    beside = HERE / "plotly.js.gz"
    return base64.b64encode(beside.read_bytes() if beside.is_file() else _made()).decode()


def has_plotly() -> bool:
    """Whether plotly.js is available for pages."""
    try:
        return bool(plotly())
    except ModuleNotFoundError:
        return False


def packed(text: str) -> str:
    """Text as a page holds it: gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _made() -> bytes:
    try:
        text = Path(str(metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/{FILE}"))).read_text("utf-8")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed: pip install -e '.[dev]' in a checkout") from error
    return gzip.compress(text.encode(), 9, mtime=0)
