"""The torch modules of ``benchmarks/torch_networks.py``, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_FILE = Path(__file__).parents[1] / "benchmarks" / "torch_networks.py"
_spec = importlib.util.spec_from_file_location(_FILE.stem, _FILE)
assert _spec is not None
assert _spec.loader is not None
_networks = sys.modules.setdefault(_FILE.stem, importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(_networks)
module = _networks.module
