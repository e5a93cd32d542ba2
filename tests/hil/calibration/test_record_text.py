"""A record in words, and drawn."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal
from cim.cells.write_statistics import WriteStatistics
from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord, CellState, nominal_macro
from cim.record.file import save_record
from hil.calibration.account import account_of, first_of, record_json
from hil.cli import run
from hil.pages.shell import page

from ..page_parts import figures_of

SPEC = load_chip("lab-128")
LEVELS = np.array(SPEC.macro.levels_us)


def made(seed: int = 0, **changes: Any) -> CalibrationRecord:
    """A record whose every number is off by its standard error times a normal draw of ``seed``."""
    rng = np.random.default_rng(seed)

    def around(value: float, error: float, *shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return value + error * rng.standard_normal(shape)

    def full(value: float, *shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.full(shape, value)

    law = ProgrammingLaw(
        ages_s=np.array([1.0, 3600.0]),
        levels_us=LEVELS,
        loc_us=around(-0.5, 0.05, 2, 8),
        scale_us=around(1.5, 0.04, 2, 8),
        df=full(4.0, 2, 8),
        loc_se_us=full(0.05, 2, 8),
        scale_se_us=full(0.04, 2, 8),
        ln_df_se=full(0.2, 2, 8),
        stuck_low_share=0.02,
        stuck_high_share=0.002,
        unreached_share=0.003,
        unreached_us=np.zeros(0),
    )
    plain = nominal_macro(SPEC.macro, 0)
    n, curves = len(plain.gain), plain.inl_codes.shape
    cells = plain.cells.copy()
    cells[3, :5] = CellState.STUCK_LOW
    macro = dataclasses.replace(
        plain,
        gain=around(1.0, 0.003, n),
        gain_se=full(0.003, n),
        offset_codes=around(0.0, 0.1, n),
        offset_se=full(0.1, n),
        inl_codes=around(0.0, 0.1, *curves),
        inl_se=full(0.1, *curves),
        cells=cells,
    )
    record = CalibrationRecord(
        chip_name="lab-128",
        revision="A",
        serial="feed",
        firmware="fw 2",
        kind="silicon",
        spec_digest=SPEC.digest,
        temperature_c=25.0,
        date="2026-01-02T03:04:05+00:00",
        method="hil.calibrate 1.1",
        seed=seed,
        age_s=3600.0,
        macros={0: macro},
        programming=law,
        read_noise=ReadNoise(LEVELS, around(1.7, 0.05, 8), full(0.05, 8), around(0.4, 0.03, 8), full(0.03, 8)),
        wire=Wire(float(around(1.0, 0.02)), 0.02),
        goodness={"programming_ks": 0.012, "columns_r2": 0.9987, "columns_residual_codes": 0.8},
        thermal=Thermal(25.0, -0.0008, 0.0001, 0.002, 0.001, 0.5, 0.05),
        writes=WriteStatistics(
            LEVELS, np.full(8, 1000), np.full(8, 994), np.array([0.5, 0.9, 0.99]), np.tile([8.0, 30.0, 120.0], (8, 1))
        ),
        pulses=12345,
    )
    return dataclasses.replace(record, **changes)


# --- words ------------------------------------------------------------------------------------


def said(record: CalibrationRecord) -> str:
    return "\n".join(first_of(record).lines())


def test_a_record_in_a_dozen_lines_says_chip_cells_columns_wires_and_wear() -> None:
    text = said(made())
    for word in (
        *("silicon lab-128, serial feed", "1 measured, cells to 1 h and at 25 °C", "stuck low 0.03%", "KS 0.012"),
        *("µS² a read", "column gain: 1.000", "Ω a cell", "R² 0.99870, residual 0.80 codes", "12345 pulses"),
    ):
        assert word in text, text
    assert "NOT SILICON" not in text
    assert "NOT SILICON" in said(made(kind="emulated"))


def test_an_account_says_every_number_with_its_error_and_where_it_is_from() -> None:
    text = account_of(made()).markdown()
    for word in (
        *("fw 2", "2026-01-02", "hil.calibrate 1.1", SPEC.digest, "± 0.050", "± 0.040", "memory"),
        *("-0.0800 ± 0.0100 % a kelvin", "0.500 ± 0.050 eV", "± 0.0500", "± 0.0300", "Write-verify"),
        *("99.40%", "98.70% to 99.72%", "120", "columns r2", "median se", "after programming"),
    ):
        assert word in text, (word, text)


def test_row_drivers_are_said_where_they_were_measured() -> None:
    units, se = np.arange(16.0), np.full(16, 0.01)
    units[7] += 0.4
    record = made(drive=InputDrive(units, se))
    assert re.search(r"row drivers: \+0\.\d\d\d ± 0\.010 steps at unit 7 of 15, rms 0\.1", said(record))
    (table,) = (table for table in account_of(record).tables if table.title == "Row drivers")
    assert len(table.rows) == 16
    assert record_json(record)["drive"]["units"][15] == 15.0
    assert "row drivers" not in page(account_of(made())).lower()
    assert record_json(made())["drive"] is None


def test_a_record_of_cells_says_that_its_columns_are_nobodys() -> None:
    text = account_of(made(kind="table", macros={}, chip_name="lab.csv", goodness={"programming_ks": 0.02})).markdown()
    assert "lab.csv (fitted to a table of cells" in text
    assert "columns are taken as a chip file says" in text
    assert "none measured" in text
    assert "column gain" not in text
    assert "wear" not in text


def test_a_record_without_optional_parts_is_shown_too() -> None:
    text = account_of(made(thermal=None, writes=None, goodness={})).markdown()
    assert "kelvin" not in text
    assert "Write-verify" not in text


def test_the_record_as_plain_data_is_json_with_states_counted() -> None:
    value = json.loads(json.dumps(record_json(made()), allow_nan=False))
    assert value["wire"]["end"] == "last"
    assert value["macros"]["0"]["states"]["stuck_low"] == 5
    assert len(value["programming"]["loc_us"]) == 2
    assert value["programming"]["tail"] == made().programming.tail.name
    assert "stuck_us" not in value["macros"]["0"]


# --- page -------------------------------------------------------------------------------------


def test_the_page_holds_every_figure_and_loads_nothing() -> None:
    text = page(account_of(made()))
    assert "default-src 'none'" in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="', text)
    figures = figures_of(text)
    assert set(figures) == {"shift", "spread", "gain", "stuck"}
    for name in figures:
        assert f'id="plot-{name}"' in text


def test_the_figures_are_figures_to_plotly() -> None:
    import plotly.graph_objects as go

    for figure in figures_of(page(account_of(made()))).values():
        text = re.sub(r'"@\w+"', '"#123456"', json.dumps(figure))
        go.Figure(json.loads(text))


def test_a_record_of_cells_has_no_figures_of_columns() -> None:
    text = page(account_of(made(kind="table", macros={}, writes=None)))
    assert set(figures_of(text)) == {"shift", "spread"}
    assert "columns are taken as a chip file says" in text


# --- commands ---------------------------------------------------------------------------------


def test_the_command_shows_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = tmp_path / "a.h5"
    save_record(made(0), a)
    assert run(["chip", "calibration", str(a)]) == 0
    assert "serial feed" in capsys.readouterr().out
    assert run(["chip", "calibration", str(a), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["serial"] == "feed"
    assert run(["chip", "calibration", str(a), "--plot", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").stat().st_size > 1e6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.html"]
