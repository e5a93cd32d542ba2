"""Stored words under a SECDED code: what it mends and notices, and what that does to a campaign and to the years."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.record.calibration import CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.payload.orbit import load_orbit
from hil.payload.radiation.campaign import run_campaign
from hil.payload.radiation.faults import STORED, FaultSpace, fault_space, inject, strike
from hil.payload.radiation.outcomes import FaultOutcome, outcome_of
from hil.payload.radiation.run import FaultContext
from hil.payload.radiation.stored_words import COLUMNS, StoredWords, coded, corrected, stored_words
from hil.payload.radiation.timeline import simulate_years
from hil.payload.settings import WITHOUT, FaultKind, OrbitSettings
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

from .conftest import own_orbit

TEXT = bytes(range(250)) * 2


@pytest.fixture(scope="module")
def space(program: ConductanceProgram) -> FaultSpace:
    return fault_space(program)


@pytest.fixture(scope="module")
def words(program: ConductanceProgram, bench: FaultContext, space: FaultSpace) -> StoredWords:
    return stored_words(program, bench.chip.drawn.corrections, space)


def test_a_word_of_zeros_with_its_first_bit_struck_is_zeros_again() -> None:
    stored = coded(bytes(8))
    assert stored.check[0] == 0
    struck = stored.struck(np.array([0]))
    assert struck.data[0, 0] == 0x80
    assert corrected(struck) == (bytes(8), 1, 0)
    assert len(set(COLUMNS.tolist())) == 64


@pytest.mark.parametrize("bits", [1, 2])
def test_every_single_bit_is_mended_and_every_pair_in_a_word_is_noticed(bits: int) -> None:
    rng = np.random.default_rng(bits)
    stored = coded(TEXT)
    words = len(stored.check)
    for _ in range(300):
        word = int(rng.integers(words))
        own = np.concatenate([64 * word + np.arange(64), 64 * words + 8 * word + np.arange(8)])
        data, mended, lost = corrected(stored.struck(rng.choice(own, bits, replace=False)))
        assert (mended, lost) == ((1, 0) if bits == 1 else (0, 1))
        assert bits == 2 or data == TEXT


@pytest.mark.parametrize("kind", STORED)
def test_every_site_of_a_stored_kind_is_one_bit_of_its_words(
    kind: FaultKind, words: StoredWords, space: FaultSpace
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        fault = space.draw(kind, rng, 0.5)
        assert words.fault_of(words.bit_of(fault)) == fault
    with pytest.raises(KeyError, match="not stored"):
        words.bit_of(space.draw(FaultKind.ACTIVATION, rng, 0.5))


def test_a_wrong_bit_of_the_words_is_what_its_fault_does_to_the_chip(
    words: StoredWords, space: FaultSpace, bench: FaultContext, program: ConductanceProgram
) -> None:
    rng = np.random.default_rng(2)
    for kind in (FaultKind.CORRECTION, FaultKind.REQUANTISE, FaultKind.IMAGE_TABLE):
        fault = space.draw(kind, rng, 0.5)
        if kind is FaultKind.CORRECTION:
            held = strike(bench.chip, bench.chip.drawn, fault)
            assert held is not None
            changed = stored_words(program, held.corrections, space)
        else:
            found = inject(bench.chip, fault)
            steps = tuple(found.steps.get(step.name, step) for step in program.steps)
            other = replace(program, steps=steps, input=found.table or program.input)
            changed = stored_words(other, bench.chip.drawn.corrections, space)
        assert np.flatnonzero(changed.bits != words.bits).tolist() == [words.bit_of(fault)]


def test_two_upsets_in_one_word_stay_and_are_noticed(words: StoredWords) -> None:
    one, two = words.read_after([130]), words.read_after([130, 150])
    assert one.mended
    assert two.wrong == (130, 150)
    assert (two.corrected, two.lost) == (0, 1)


def test_a_campaign_decodes_every_struck_word(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    options = OrbitSettings(injections=24, kinds=(*STORED, FaultKind.ACTIVATION, FaultKind.CELL_EXTREME))
    options = replace(options, widen_images=30, alarm_images=30)
    found = run_campaign(program, data, record, load_orbit("leo-sso"), tmp_path / "c", options, Watch())
    for result in found.results:
        stored = FaultKind(result.kind) in STORED
        assert result.ecc_mended is stored
        assert not stored or outcome_of(result, ["ecc"]) is FaultOutcome.DETECTED


def test_a_code_keeps_the_accuracy_that_upsets_of_stored_words_take(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    scenarios = (WITHOUT, "ecc alone", "scrubbing alone")
    options = OrbitSettings(years=(1.0,), chips=3, year_images=200, scenarios=scenarios)
    soft = own_orbit(tmp_path, memory_bit_per_day="3e-5")  # some ten upsets a year in a program of a few thousand bits
    found = simulate_years(program, data, record, soft, options, Watch())
    without, code, scrub = (found.band(scenario, 0)[1] for scenario in scenarios)
    assert code > 0.8
    assert without < code - 0.1
    assert scrub < code - 0.1
