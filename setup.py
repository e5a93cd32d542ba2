"""What pyproject.toml cannot say: files that lie elsewhere in a checkout, and beside the pages in a wheel.

The word list of the pages is docs/nomenclature.md; the examples of the documents lie in examples/; the script of the
pages comes out of the Python package that ``[build-system]`` asks for (``hil/pages/scripts.py``), compressed.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildPages(build_py):
    """Copies the packages, and puts word list and script beside the pages."""

    def run(self) -> None:
        super().run()
        pages = (ROOT if self.editable_mode else Path(self.build_lib)) / "hil" / "pages"
        if not self.editable_mode:
            shutil.copyfile(ROOT / "docs" / "nomenclature.md", pages / "nomenclature.md")
            self.copy_examples(ROOT / "examples", pages / "example_files")
        runpy.run_path(str(ROOT / "hil" / "pages" / "scripts.py"))["write"](pages)

    def copy_examples(self, root: Path, to: Path) -> None:
        """The examples of the documents (``hil/pages/examples.py``)."""
        known = runpy.run_path(str(ROOT / "hil" / "pages" / "example_lists.py"))
        shutil.copytree(root, to, ignore=shutil.ignore_patterns(*known["LEFT_OUT"]), dirs_exist_ok=True)
        network = to / known["PAYLOAD_NETWORK"]
        network.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / known["PAYLOAD_NETWORK"], network)


setup(cmdclass={"build_py": BuildPages})
