"""The gallery: each published number is what its chip file says, and it stops being so when the file says otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.cells.programming_law import law_at
from cim.chip.evidence import AT_CELLS
from cim.chip.file import ChipFileError, chip_names, chip_text, load_chip, parse_chip
from cim.chip.spec import CellModel, ChipSpec
from cim.errors import CimUsageError
from cim.gallery import found, of_source, own_copy
from cim.record.published import nominal_record

SHOWN = [name for name in chip_names() if load_chip(name).evidence is not None]


def otherwise(spec: ChipSpec) -> ChipSpec:
    """The chip with the law of other cells, or slower by a tenth."""
    assert spec.evidence is not None
    assert spec.models is not None
    if spec.evidence.quantity in AT_CELLS:
        sigma = ((1.5 * spec.evidence.value if spec.evidence.value > 0 else 5.0,),)
        models = replace(
            spec.models,
            programming=CellModel.POLYNOMIAL,
            programming_ages_s=(1.0,),
            programming_sigma_us=sigma,
        )
        return replace(spec, models=models)
    t = spec.timing
    slower = replace(t, input_cycle_ns=1.1 * t.input_cycle_ns, conversion_ns=1.1 * t.conversion_ns)
    return replace(spec, timing=slower)


def test_eight_chips_of_four_technologies_show_a_published_number() -> None:
    assert len(SHOWN) >= 8
    assert len({load_chip(name).technology.split(" (")[0] for name in SHOWN}) >= 4


@pytest.mark.parametrize("name", SHOWN)
def test_the_number_that_was_measured_on_other_chips_is_what_the_file_says(name: str) -> None:
    told = found(load_chip(name))
    assert told is not None
    assert told.holds, told.text


@pytest.mark.parametrize("name", SHOWN)
def test_a_file_that_says_otherwise_is_seen_to(name: str) -> None:
    told = found(otherwise(load_chip(name)))
    assert told is not None
    assert not told.holds, told.text
    assert "NOT within" in told.text


@pytest.mark.parametrize("name", SHOWN)
def test_the_number_is_never_taken_from_the_evidence(name: str) -> None:
    spec = load_chip(name)
    assert spec.evidence is not None
    first, told = found(spec), found(replace(spec, evidence=replace(spec.evidence, value=1234.5)))
    assert first is not None
    assert told is not None
    assert told.value == first.value


def test_what_is_assumed_is_counted_by_section() -> None:
    counts = of_source(load_chip("lab-128"), "assumed")
    assert counts["timing"] == (6, 6)
    assert counts["models"][0] < counts["models"][1]


@pytest.mark.parametrize("name", chip_names())
def test_a_copy_of_ones_own_has_its_name_and_none_of_the_evidence(name: str) -> None:
    mine = parse_chip(own_copy(name, "my-chip"), "my-chip.toml")
    theirs = load_chip(name)
    assert (mine.name, mine.evidence, mine.macro) == ("my-chip", None, theirs.macro)
    assert mine.models == theirs.models
    assert mine.sample == theirs.sample


def test_a_copy_is_refused_a_name_that_no_chip_can_have() -> None:
    with pytest.raises(CimUsageError, match="not the name of a chip"):
        own_copy("lab-128", 'x", source = "y')


def test_evidence_that_the_file_cannot_answer_is_refused_at_its_line() -> None:
    text, _ = chip_text("joshi-2020")
    start = text.index("[models]")
    without = text[:start] + text[text.index("[cost]", start) :]
    with pytest.raises(ChipFileError, match=r"computed from \[models\], which this file lacks") as caught:
        parse_chip(without, "my.toml")
    assert caught.value.field == "evidence.quantity"
    with pytest.raises(ChipFileError, match="cells have a level and an age"):
        parse_chip(text.replace("age_s = {", "# age_s = {"), "my.toml")


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_publication_does_not_say_of_its_cells_and_columns_is_a_range(name: str) -> None:
    about = load_chip(name).models
    assert about is not None
    assert {"cell_error_factor", "stuck_low_share"} <= set(about.ranges)
    for value, (low, high) in about.ranges.items():
        assert low <= getattr(about, value) <= high
        assert low < high


def test_values_of_other_chips_are_borrowed_and_counted_apart() -> None:
    spec = load_chip("agrawal-2022")
    assert spec.provenance["write.set_start_v"].startswith("borrowed from: doi 10.1038/s41586-022-04992-8")
    assert of_source(spec, "borrowed from")["write"] == (6, 9)
    own = [source for source in spec.provenance.values() if source.startswith(("published", "measured"))]
    assert all("IEDM45625.2022.10019564" in source or "CrossSim" in source for source in own)


@pytest.mark.parametrize("name", ["agrawal-2022", "falcone-2025", "joshi-2020", "neurram-256"])
def test_a_number_that_values_of_the_file_were_made_from_is_called_a_fit(name: str) -> None:
    told = found(load_chip(name))
    assert told is not None
    assert "a fit" in told.text


def test_the_mean_drift_of_sonos_cells_is_in_their_law() -> None:
    """CrossSim's SONOS.py at 1,600 nA after five days: -40.7 nA, of a spread of 34.6 (1 - exp(-1600 / 207.3))."""
    spec = load_chip("agrawal-2022")
    law = nominal_record(spec, (0,)).programming
    here = law_at(law, np.array([8.0, 16.0]), 432_000.0)
    np.testing.assert_allclose(here.loc_us, [-0.152, -0.407], atol=0.004)
    assert abs(here.loc_us[1]) > here.spread_us()[1]
