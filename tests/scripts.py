"""Scripts outside the packages (benchmarks, examples, files that a test has written), loaded as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def loaded(path: Path) -> ModuleType:
    """A script as a module of its name, with what it imports by name: files beside it, and those of the benchmarks."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.syspath_prepend(str(path.parent))
        sys.modules[path.stem] = module  # dataclasses and processes of its own look there
        spec.loader.exec_module(module)
    return module


def benchmark(name: str) -> ModuleType:
    """A script of the benchmarks, in whatever folder it stands."""
    (path,) = BENCHMARKS.rglob(f"{name}.py")
    return loaded(path)
