"""What pyproject.toml cannot say: files that lie elsewhere in a checkout, and beside the pages in a wheel.

The word list of the pages is docs/nomenclature.md; the scripts of the pages come out of the Python packages that
``[build-system]`` asks for (``hil/pages/scripts.py``), compressed.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildPages(build_py):
    """Copies the packages, and puts word list and scripts beside the pages."""

    def run(self) -> None:
        super().run()
        pages = (ROOT if self.editable_mode else Path(self.build_lib)) / "hil" / "pages"
        if not self.editable_mode:
            shutil.copyfile(ROOT / "docs" / "nomenclature.md", pages / "nomenclature.md")
        runpy.run_path(str(ROOT / "hil" / "pages" / "scripts.py"))["write"](pages)


setup(cmdclass={"build_py": BuildPages})
