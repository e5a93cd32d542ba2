"""A bench of one digital board before a macro of 32 x 32 cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hil.bench.benches import write_bench


@pytest.fixture
def bench_path(tmp_path: Path) -> Path:
    return write_bench(tmp_path)
