"""Short forms of results for a prompt and a notebook."""

from __future__ import annotations

import dataclasses

import numpy as np

from hil.prediction.text import Prediction
from hil.python.answers import Report, Simulation

from ..invented_run import synthetic_run


def test_a_report_has_a_short_form_and_a_table_for_notebooks() -> None:
    report, _ = synthetic_run()
    report = dataclasses.replace(report, run="runs/<7>", network=dataclasses.replace(report.network, name="<net>"))
    assert repr(report).startswith("<AgreementReport runs/<7>: ")
    assert len(repr(report)) < 300
    shown = Report.of(report)._repr_html_()
    assert shown.startswith("<table><caption>&lt;net&gt; on ")
    assert len(shown) < 3000


def test_causes_have_a_short_form_in_points() -> None:
    report, _ = synthetic_run()
    causes = report.causes
    assert causes is not None
    assert repr(causes).startswith(f"<CauseSplit: {100 * causes.gap:.1f} points of accuracy (")
    assert " lost from float to the chip, " in repr(causes)
    assert f"{causes.parts[0].name} {100 * causes.parts[0].loss:+.1f}, " in repr(causes)
    assert len(repr(causes)) < 400


def test_a_prediction_has_a_short_form_and_its_lines_for_notebooks() -> None:
    made = Prediction(0.92, np.full((1, 20), 0.9), 500, (3600.0,), 25.0, "fast", "models of <lab>", target=0.9)
    assert repr(made).startswith("<Prediction 90.00 % ± ")
    assert repr(made).endswith(" points on 20 virtual chips; models of <lab>>")
    shown = Simulation.of(made)._repr_html_()
    assert "&lt;lab&gt;" in shown
    assert shown.startswith("<table><caption>network on 20 virtual chips · SIMULATED")
