"""Age of the cells of a run: planned, waited for, and as far as a clock shows it."""

from __future__ import annotations

from hil.driver.chip_driver import WAITED_ENOUGH, ChipDriver
from hil.pages.tables import duration
from hil.watch import Watch


def let_age(driver: ChipDriver, planned_s: float, watch: Watch) -> float:
    """Wait until cells have the planned age; the age that they have by a clock that was looked at, s.

    Where it is not the planned one, that is noted: the run goes on with cells of another age, and says so.
    """
    with watch.stage("waiting"):
        passed_s = driver.wait(planned_s, watch)
    if passed_s >= WAITED_ENOUGH * planned_s:
        return planned_s
    watch.note(
        f"{driver.fallbacks[-1]}: cells count as {passed_s:.3g} s old, as virtual chips do; "
        f"{duration(planned_s)} were planned and not reached, so targets for that age miss"
    )
    return passed_s


def clock_set_back(youngest_s: float, age_s: float) -> str:
    """What to say of cells that are younger by the chip's clock than they were let age; empty where they are not."""
    if youngest_s >= WAITED_ENOUGH * age_s:
        return ""
    return (
        f"by the chip's clock cells were {youngest_s:.3g} s old when they were read first, after a wait of "
        f"{duration(age_s)} that was seen to pass: its clock was set back, and its ages are not known"
    )
