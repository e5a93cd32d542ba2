"""Step numbers of a calibration: stored calibrations and wire logs rest on them."""

from __future__ import annotations

import pytest

from hil.calibration.measurements import STEP_REQUESTS, STEPS, VECTORS, NumberRange, NumberTable
from hil.calibration.plan import PLANS, CalibrationPlan, later_ages


def test_the_numbers_of_earlier_calibrations_stand() -> None:
    first = {r.name: r.first for r in STEPS.ranges}
    assert first == {
        "idle": 1,
        "stuck": 2,
        "pattern": 8,
        "age": 9,
        "repeat": 20,
        "cells": 21,
        "transfer": 24,
        "small": 38,
        "blocks": 39,
        "network": 40,
        "steps": 42,
        "before heating": 44,
        "hot": 45,
        "rows": 46,
        "check": 60,
    }
    vectors = {r.name: r.first for r in VECTORS.ranges}
    some = {"pattern": 0, "blocks": 2, "network": 3, "small": 4, "steps": 5}
    assert vectors == some | {"transfer": 16, "hot transfer": 31}
    assert STEPS.limit * STEP_REQUESTS == 1 << 16, "step and request share 16 bits of a sample number"


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_plan_finds_a_number_for_each_of_its_turns(plan: CalibrationPlan) -> None:
    STEPS.number("stuck", plan.stuck_cycles - 1)
    batches = plan.most_vectors // plan.batch
    STEPS.number("transfer", batches - 1)
    VECTORS.number("transfer", batches - 1)
    for turn in range(len(later_ages(1e12, 0.0, plan)) - 1):
        STEPS.number("age", turn)


def test_a_table_with_a_number_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="number 4 is of stuck and of pattern"):
        NumberTable(64, (NumberRange("stuck", 2, turns=3), NumberRange("pattern", 4)))
    with pytest.raises(ValueError, match="idle stands twice"):
        NumberTable(64, (NumberRange("idle", 1), NumberRange("idle", 2)))
    with pytest.raises(ValueError, match="numbers 63 to 64, not in 0 to 63"):
        NumberTable(64, (NumberRange("age", 63, turns=2),))


def test_a_turn_that_has_no_number_is_refused() -> None:
    assert STEPS.number("stuck", 5) == 7
    with pytest.raises(ValueError, match="stuck has numbers for 6 turns, turn 6"):
        STEPS.number("stuck", 6)
