"""Pages as a reader has them: on a phone, a tablet and a desk, light and dark, with eyes, keys or a screen reader."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hil.calibration.account import account_of as account_of_record
from hil.pages.account import Account, Plot, Section
from hil.pages.figures import dots, figure
from hil.pages.shell import page
from hil.pages.summary import Summary
from hil.pages.tables import Table
from hil.report.account import FILES, account_of

from ..browser import AXE, BROWSER, UNFOLD, faults, look, violations
from ..calibration.test_record_text import made

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
checked = pytest.mark.skipif(not AXE.exists(), reason="axe-core-python is not installed")
HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_page_with_faults_is_found_to_have_them(tmp_path: Path) -> None:
    words = [{"x": x, "y": 0.5, "text": "over each other", "showarrow": False} for x in (0.5, 0.52)]
    crowded = figure([dots([0, 1], [0, 1], "@ink", "")], 200, annotations=words)
    wide = '<p style="white-space: nowrap; width: 2000px">too wide</p>'
    clipped = '<p style="overflow: hidden; white-space: nowrap; width: 30px">clipped words</p>'
    plots = (Plot("energy", "", crowded), Plot("busy", "", figure([], 100)), Plot("schedule", "", figure([], 100)))
    layers = Table("layers", ("layer",), (("conv",),))
    text = page(Account(Summary("faults"), (Section("Faults", (*plots, layers)),))).replace(
        "</main>", f"{wide}{clipped}</main>"
    )
    (found,) = look(text, tmp_path, dark=False, widths=(400,), also="console.error('said'); missing();")
    assert found["content"] > found["room"]
    assert found["outside"] == [wide]
    assert found["overlaps"] == ["plot-energy: over each other / over each other"]
    assert found["empty"] == ["plot-busy", "plot-schedule"]
    assert found["clipped"] == [clipped]
    assert found["errors"] == ["said", "Uncaught ReferenceError: missing is not defined"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_fits_every_screen_without_an_error(make_run, tmp_path: Path, theme: str) -> None:
    text, dark = page(account_of(*make_run(shift=520.0), FILES)), theme == "dark"
    assert faults(text, tmp_path, dark=dark) == []
    for one in look(text, tmp_path, dark=dark, also=UNFOLD):
        assert one["content"] <= one["room"]
        assert one["drawn"] == one["plots"] >= 7
        assert (one["errors"], one["overlaps"], one["outside"], one["unnamed"]) == ([], [], [], 0)
        steps = zip(one["headings"], one["headings"][1:], strict=False)
        assert one["headings"].count(1) == 1
        assert all(below - above <= 1 for above, below in steps)


def test_names_of_chip_network_and_classes_stay_text_in_the_browser(make_run, tmp_path: Path) -> None:
    report, data = make_run(macros=2, images=200, shift=520.0)
    report = dataclasses.replace(
        report,
        network=dataclasses.replace(report.network, name=HOSTILE),
        chip=dataclasses.replace(report.chip, name=HOSTILE, serial=HOSTILE, firmware=HOSTILE),
        layers=tuple(dataclasses.replace(s, layer=HOSTILE + s.layer) for s in report.layers),
        environment={"command": HOSTILE},
        notes=(HOSTILE,),
    )
    classes = (HOSTILE, *data.classes[1:])
    data = dataclasses.replace(data, classes=classes, layers=tuple(HOSTILE + name for name in data.layers))
    (found,) = look(page(account_of(report, data, FILES)), tmp_path, dark=False, widths=(800,))
    assert (found["injected"], found["errors"]) == (0, [])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_calibration_record_fits_every_screen(tmp_path: Path, theme: str) -> None:
    assert faults(page(account_of_record(made())), tmp_path, dark=theme == "dark", plots=4) == []


@checked
def test_the_check_for_screen_readers_finds_what_is_wrong(tmp_path: Path) -> None:
    text = "<!doctype html><html><head><title>faults</title></head><body><main><img src='data:,'></main></body></html>"
    found = " ".join(violations(text, tmp_path, dark=False, widths=(800,)))
    assert "image-alt" in found
    assert "html-has-lang" in found


@checked
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_can_be_read_by_keys_and_screen_readers(run, tmp_path: Path, theme: str) -> None:
    dark = theme == "dark"
    assert violations(page(account_of(*run, FILES)), tmp_path, dark=dark) == []
