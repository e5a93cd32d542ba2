"""`hil improve` as a page: every technique with its gain and prices, and drawn by a real browser where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hil.improvement.account import account_of, improvement_summary, trial_figure, trial_table
from hil.improvement.improve import Improvement, TrialResult
from hil.pages.shell import page
from hil.pages.summary import NextStep
from hil.prediction.promise import Promise

from ..browser import AXE, BROWSER, faults, violations
from ..fitting import misfits


def result(name: str, mean: float, gain: float, *, kept: bool, macros: int = 12, minutes: float = 1.5) -> TrialResult:
    chips = tuple(mean + d for d in (-0.01, -0.004, 0.002, 0.012))
    prices = {"macros": macros, "cells": 1000, "pulses": 8000, "write_s": 0.8 * macros, "minutes": minutes}
    return TrialResult(name, f"words of {name}", kept, {}, chips, gain, 0.003, energy_uj=2.5, latency_us=31.0, **prices)


TRIALS = (
    result("compiled", 0.84, 0.0, kept=True),
    result("tune", 0.88, 0.04, kept=True, minutes=2.0),
    result("scales", 0.879, -0.001, kept=False),
    result("copies", 0.9, 0.02, kept=True, macros=24),
    TrialResult("<b>last", "words of the last", False, {}, skipped="no macro is free"),
)
PROMISE = Promise(0.9, 0.88, 0.92, 20, 1000)
FOUND = Improvement(
    TRIALS, {}, 500, 4, 3600.0, "models of <lab-128>", "every technique was tried", (), PROMISE, 0.92, 1000
)


def test_every_technique_is_a_row_and_one_that_was_not_tried_says_why() -> None:
    table = trial_table(TRIALS)
    assert [row[0] for row in table.rows] == [r.name for r in TRIALS]
    assert "+4.00 ± 0.30" in table.rows[1]
    assert table.rows[2][4] == "let go"
    assert "not tried: no macro is free" in table.rows[4]


def test_columns_of_energy_and_time_that_nobody_knows_are_left_out_with_the_reason() -> None:
    unknown = [dataclasses.replace(r, energy_uj=None, latency_us=None) for r in TRIALS]
    table = trial_table(unknown)
    assert "latency" not in table.header
    assert "Left out: energy an image, latency; the chip file has no model" in table.note


def test_techniques_that_were_let_go_are_drawn_open() -> None:
    symbols = [t["marker"].get("symbol") for t in trial_figure(TRIALS[:4])["data"][1::2]]
    assert symbols == ["circle", "circle", "circle-open", "circle"]


def test_the_page_says_what_was_reached_and_where_it_was_measured() -> None:
    text = page(account_of(FOUND, "net")).split("<script", 1)[0]
    for words in ("84.0 %", "90.0 %", "+6.00 points", "SIMULATED", "1,000 test images", "&lt;lab-128&gt;"):
        assert words in text
    assert PROMISE.text in text
    assert "<b>last" not in text


def test_its_summary_fits_60_80_and_120_columns() -> None:
    step = NextStep("hil deploy improved/program.h5 --port /dev/ttyUSB0 --data fashion-mnist", "run it")
    assert misfits(improvement_summary(FOUND, "network", (step,), "improved/index.html")) == []


@pytest.mark.skipif(BROWSER is None or not AXE.exists(), reason="no chromium, or no axe-core-python")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_every_screen_and_reads_well(tmp_path: Path, theme: str) -> None:
    text, dark = page(account_of(FOUND, "net")), theme == "dark"
    assert faults(text, tmp_path, dark=dark, plots=1) == []
    assert violations(text, tmp_path, dark=dark) == []
