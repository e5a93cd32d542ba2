"""The examples run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_first_measurement_programs_reads_multiplies_and_plots(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_measurement.py"), "emulated:lab-128?seed=7&macros=1"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4096 cells" in done.stdout
    assert float(done.stdout.split("R² ")[1].split()[0]) > 0.8
    assert (tmp_path / "first_measurement.html").stat().st_size > 10_000
