"""Notebooks of examples/notebooks: each is a script, and beside it the same cells with what they gave.

    python docs/notebooks.py [NAME …]     # runs the scripts in a kernel and writes NAME.ipynb

A cell begins with ``# %%``, a cell of text with ``# %% [markdown]``. Nothing is written by hand into an .ipynb: cells
are run from the first to the last in an empty folder, and a cell that fails ends it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
TIMEOUT_S = 600  # of one cell
MARK, TEXT = "# %%", "# %% [markdown]"


def cells_of(script: str) -> list[tuple[str, str]]:
    """Cells of a script: ``markdown`` or ``code``, and what stands in them."""
    found = []
    for part in re.split(rf"^(?={re.escape(MARK)})", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if head.startswith(TEXT):
            found.append(("markdown", "\n".join(re.sub("^# ?", "", line) for line in body.strip().splitlines())))
            continue
        title = head.removeprefix(MARK).strip()
        if title:
            found.append(("markdown", f"## {title}"))
        found.append(("code", body.strip()))
    return found


def notebook_of(script: Path) -> Any:
    """The notebook of a script, without outputs; cells are named by their number, so that the file stays the same."""
    cells = []
    for number, (kind, text) in enumerate(cells_of(script.read_text("utf-8"))):
        new = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        cells.append(new(text, id=f"cell-{number}"))
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=about)


def run(script: Path, folder: Path) -> Any:
    """The notebook of a script, run in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = notebook_of(script)
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )  # fmt: skip
    client.execute()
    notebook.metadata = notebook_of(script).metadata  # the kernel adds the version of its Python
    return notebook


def main() -> None:
    # One thread: sums of floats are those of the next run. The kernel's commands are those of this Python.
    os.environ |= {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.py")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(FOLDER / f"{name}.py", Path(folder))
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
