"""Public names of a package, listed once: in the imports that its ``__init__`` shows to type checkers."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def public_names(source: str) -> dict[str, str]:
    """Name -> module of the imports below ``if TYPE_CHECKING`` in the file of a package."""
    return {
        alias.name: str(node.module)
        for block in ast.parse(Path(source).read_bytes()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imported(package: str, homes: Mapping[str, str], name: str) -> Any:
    """A public name, imported when it is first used.

    Raises:
        AttributeError: the package has no public name ``name``.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)
