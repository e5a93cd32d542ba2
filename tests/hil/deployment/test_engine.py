"""How virtual chips run whole networks: every conversion, or one product of matched noise where that is as good."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.record.published import nominal_record
from cim.simulator.modes import SimulationMode
from hil.deployment.deployment import MOST_SATURATED, Deployment
from hil.deployment.options import DeployOptions
from hil.errors import UsageError
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.training_inputs import training_inputs
from mapping.tune.channel_affine import TuneTargets
from tests.hil.conftest import Small

TUNED = cast("TuneTargets", object())


def mode(program: ConductanceProgram, engine: str, targets: TuneTargets | None) -> SimulationMode:
    nothing = cast("Any", None)
    options = DeployOptions(engine=engine)
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


def exact_layers(program: ConductanceProgram, engine: str = "auto", ohm: float = 1.0) -> frozenset[str]:
    nothing = cast("Any", None)
    record = nominal_record(program.spec, program.macros)
    record = replace(record, wire=replace(record.wire, ohm=ohm))
    options = DeployOptions(engine=engine)
    return Deployment(nothing, program, record, nothing, nothing, None, {}, options, nothing).exact_layers


def test_beside_the_fast_mode_auto_runs_a_layer_exactly_that_reads_colours_over_wires(small: Small) -> None:
    grey = replace(small.program, input=replace(small.program.input, shape=(1, 6, 6)))
    colours = replace(small.program, input=replace(small.program.input, shape=(2, 6, 6)))
    assert exact_layers(colours) == {"conv"}
    assert not exact_layers(grey)
    assert not exact_layers(colours, ohm=0.0)
    assert not exact_layers(colours, "fast")


def test_a_layer_that_runs_exactly_answers_as_in_the_exact_mode_and_others_as_in_the_fast_one(small: Small) -> None:
    program = small.program
    record, inputs = nominal_record(program.spec, program.macros), training_inputs(program)

    def sums(mode: SimulationMode, exact: frozenset[str] = frozenset()) -> list[NDArray[np.int32]]:
        chip = VirtualChips(program, record, 3600.0, 1, 0, 8, inputs=inputs, mode=mode, exact=exact).chip(0)
        return [chip.sums(step, inputs[step.name], 0) for step in program.matrices]

    first = program.matrices[0].name
    mixed, fast = sums(SimulationMode.FAST, frozenset((first,))), sums(SimulationMode.FAST)
    assert (mixed[0] == sums(SimulationMode.EXACT)[0]).all()
    assert (mixed[0] != fast[0]).any()
    assert (mixed[1] == fast[1]).all()


def test_a_named_engine_is_taken_as_it_is_and_an_unknown_one_refused(small: Small) -> None:
    assert mode(saturating(small.program), "fast", None) is SimulationMode.FAST
    assert mode(small.program, "exact", TUNED) is SimulationMode.EXACT
    with pytest.raises(UsageError, match="engine 'quick', not one of auto, exact, fast"):
        DeployOptions(engine="quick")


def test_the_report_says_how_virtual_chips_were_run(finished_run: Path) -> None:
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    assert report["environment"]["simulation"] in tuple(SimulationMode)
