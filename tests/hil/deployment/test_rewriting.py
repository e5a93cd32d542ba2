"""Relax and rewrite on the emulated chip, in the plan, and on virtual chips alike."""

from __future__ import annotations

import numpy as np

from cim.record.rewriting import Rewrite, expected_us
from hil.deployment.dry_run import estimate
from hil.deployment.options import DeployOptions
from hil.deployment.programming import program_chip
from hil.deployment.rewriting import rewrite_cells
from hil.driver.open_chip import open_chip
from hil.watch import Watch

from ..conftest import CHIP, Small


def test_a_rewrite_brings_cells_back_and_says_what_it_took(small: Small) -> None:
    record, watch = small.record, Watch()
    with open_chip(CHIP, spec=small.program.spec) as driver:
        written = program_chip(driver, small.program, sample=1, watch=watch)
        driver.wait(1.0)
        expected = {m.slot: expected_us(record.programming, m.targets_us, 1.0) for m in written.macros}

        def off() -> float:
            found = [np.abs(driver.read_cells(m, reads=64, sample=7) - e) for m, e in expected.items()]
            return float(np.mean([np.nanmean(f > small.program.spec.macro.tolerance_us) for f in found]))

        before = off()
        again = rewrite_cells(driver, small.program, record, written, Rewrite(3, 1.0, 8), sample=1, watch=watch)
        driver.wait(1.0)
        assert off() < before
    assert again.pulses > written.pulses
    assert again.cells == written.cells
    assert "rewritten: " in watch.notes[-1]


def test_a_dry_run_plans_the_rewrites(small: Small) -> None:
    plain, more = (estimate(small.program, DeployOptions(rewrite=n, rewrite_after_s=2.0)) for n in (0, 3))
    assert plain.rewrite_pulses == 0
    assert 0 < more.rewrite_pulses < 3 * more.typical_pulses
    assert more.chip_s > plain.chip_s + 6.0
    assert more.total_bytes > plain.total_bytes
    assert any("written again" in line for line in more.lines(921600, 200))
