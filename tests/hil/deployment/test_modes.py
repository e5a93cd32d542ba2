"""How virtual chips run whole networks: every conversion, or one product of matched noise where that is as good."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cim.simulator.modes import SimulationMode
from hil.deployment.deployment import MOST_SATURATED, Deployment
from hil.deployment.options import DeployOptions
from hil.errors import UsageError
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.tune.channel_affine import TuneTargets
from tests.hil.conftest import Small

TUNED = cast("TuneTargets", object())


def mode(program: ConductanceProgram, asked: str, targets: TuneTargets | None) -> SimulationMode:
    nothing = cast("Any", None)
    options = DeployOptions(mode=asked)
    return Deployment(nothing, program, nothing, nothing, nothing, None, {}, options, nothing, targets=targets).mode


def saturating(program: ConductanceProgram) -> ConductanceProgram:
    """The program with one layer whose sums often pass the end of the scale."""

    def change(step: MatrixStep) -> MatrixStep:
        return replace(step, group=replace(step.group, saturated_share=MOST_SATURATED + 0.01))

    return replace(program, steps=tuple(change(s) if isinstance(s, MatrixStep) else s for s in program.steps))


def test_auto_is_fast_for_tuned_chips_and_exact_for_others(small: Small) -> None:
    assert mode(small.program, "auto", TUNED) is SimulationMode.FAST
    assert mode(small.program, "auto", None) is SimulationMode.EXACT


def test_auto_is_exact_where_a_layer_often_ends_the_scale(small: Small) -> None:
    assert mode(saturating(small.program), "auto", TUNED) is SimulationMode.EXACT


def test_a_named_mode_is_taken_as_it_is_and_an_unknown_one_refused(small: Small) -> None:
    assert mode(saturating(small.program), "fast", None) is SimulationMode.FAST
    assert mode(small.program, "exact", TUNED) is SimulationMode.EXACT
    with pytest.raises(UsageError, match="mode 'quick', not one of auto, exact, fast"):
        DeployOptions(mode="quick")


def test_the_report_says_how_virtual_chips_were_run(finished_run: Path) -> None:
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    assert report["environment"]["simulation"] in tuple(SimulationMode)
