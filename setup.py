"""What pyproject.toml cannot say: files that lie elsewhere in a checkout, and beside the pages in a wheel.

The word list of the pages is docs/nomenclature.md; the small plotly.js is fetched, digest checked, while a wheel is
built or a checkout is installed. Without npm or a network both are made all the same and say so, and pages are 3.3 MB
larger.
"""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildPages(build_py):
    """Copies the packages, and puts word list and plotly.js beside the pages."""

    def run(self) -> None:
        super().run()
        pages = (ROOT if self.editable_mode else Path(self.build_lib)) / "hil" / "pages"
        if not self.editable_mode:
            shutil.copyfile(ROOT / "docs" / "nomenclature.md", pages / "nomenclature.md")
        bundle = runpy.run_path(str(ROOT / ".ci" / "plotly_bundle.py"))
        if bundle["is_there"](pages):
            return
        try:
            bundle["fetch"](pages)
        except bundle["NoBundle"] as error:
            sys.stderr.write(
                f"warning: {error}\n"
                "  likely  no network, or npm is not installed\n"
                "  so      pages hold the whole of plotly.js, from the Python package: 3.3 MB more each\n"
                "  try     make plotly where there is a network, then build again\n"
            )


setup(cmdclass={"build_py": BuildPages})
