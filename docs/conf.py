"""Site of the documentation: the pages of this folder and the reference of public names, by Sphinx.

python -m sphinx -W -b html docs site
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import hil

project = "hil"
author = "the hil authors"
version = release = hil.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"hil {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"

# The names of __all__ in the order of their kind, signatures with short types.
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def leave_properties(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Napoleon takes "levels: as written" in a property for a type and its text; an empty comment before it helps."""
    if what in ("property", "attribute"):
        lines[:0] = ["..", ""]


def name_outer_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to files beside docs/ work in a checkout; the site, which does not hold them, names the file."""
    outside = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(examples/[^)#]+)[^)]*\)")
    source[0] = outside.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", leave_properties, priority=400)
    app.connect("source-read", name_outer_files)
    app.add_lexer("mermaid", TextLexer)  # diagrams that a forge draws stand as text on the site, which works offline
