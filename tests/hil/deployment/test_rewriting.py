"""Relax and rewrite on the emulated chip, in the plan, and on virtual chips alike."""

from __future__ import annotations

import numpy as np

from hil.deployment.dry_run import estimate
from hil.deployment.options import DeployOptions, usual_recipe
from hil.deployment.targets.wired import WiredTarget
from hil.driver.open_chip import open_chip
from hil.watch import Watch
from mapping.recipe.rewrite import Rewrite, expected_us
from mapping.recipe.standing import Standing

from ..conftest import CHIP, Small


def test_a_rewrite_brings_cells_back_and_says_what_it_took(small: Small) -> None:
    record, watch = small.record, Watch()
    with open_chip(CHIP, chip=small.program.spec) as driver:
        target = WiredTarget(driver, record, watch)
        standing = Standing(small.program, target.write(small.program))
        written = target.written
        assert written is not None
        driver.wait(1.0)
        expected = {m.slot: expected_us(record.programming, m.targets_us, 1.0) for m in written.macros}

        def off() -> float:
            found = [np.abs(driver.read_cells(m, reads=64, sample=7) - e) for m, e in expected.items()]
            return float(np.mean([np.nanmean(f > small.program.spec.macro.tolerance_us) for f in found]))

        before = off()
        Rewrite(3, 1.0, 8).treat(standing, target)
        again = target.written
        assert again is not None
        driver.wait(1.0)
        assert off() < before
    assert again.pulses > written.pulses
    assert again.cells == written.cells
    assert "rewritten: " in watch.notes[-1]


def test_a_dry_run_plans_the_rewrites(small: Small) -> None:
    plain, more = (
        estimate(small.program, DeployOptions(recipe=usual_recipe(*having))) for having in ((), ("rewrite=3,after=2",))
    )
    assert plain.rewrite_pulses == 0
    assert 0 < more.rewrite_pulses < 3 * more.typical_pulses
    assert more.chip_s > plain.chip_s + 6.0
    assert more.total_bytes > plain.total_bytes
    assert any("written again" in more for *_, more in more.table(921600, 200).rows)
