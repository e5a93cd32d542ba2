"""Stored words under a SECDED code: what it mends and notices, and what that does to a campaign and to the years."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hil.payload
from cim.record.calibration import CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.payload.orbit import OrbitFile, load_orbit
from hil.payload.radiation.campaign import run_campaign
from hil.payload.radiation.detectors import Detector
from hil.payload.radiation.folder import CampaignFolder
from hil.payload.radiation.inject import inject, strike
from hil.payload.radiation.kinds import FaultKind
from hil.payload.radiation.outcomes import FaultOutcome, outcome_of
from hil.payload.radiation.run import FaultContext
from hil.payload.radiation.space import FaultSpace, fault_space
from hil.payload.radiation.stored_words import STORED, StoredWords, stored_words
from hil.payload.radiation.timeline import simulate_years
from hil.payload.secded import COLUMNS, coded, corrected
from hil.payload.settings import CampaignOptions, MitigationScenario, TimelineOptions
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

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
    assert corrected(struck).data == bytes(8)
    assert len(set(COLUMNS.tolist())) == 64


@pytest.mark.parametrize("bits", [1, 2])
def test_every_single_bit_is_mended_and_every_pair_in_a_word_is_noticed(bits: int) -> None:
    rng = np.random.default_rng(bits)
    stored = coded(TEXT)
    words = len(stored.check)
    for _ in range(300):
        word = int(rng.integers(words))
        own = np.concatenate([64 * word + np.arange(64), 64 * words + 8 * word + np.arange(8)])
        found = corrected(stored.struck(rng.choice(own, bits, replace=False)))
        assert (found.corrected, found.lost) == ((1, 0) if bits == 1 else (0, 1))
        assert bits == 2 or found.data == TEXT


def test_bits_in_different_words_are_all_mended() -> None:
    stored = coded(TEXT)
    found = corrected(stored.struck(64 * np.arange(len(stored.check)) + 17))
    assert (found.data, found.corrected, found.lost) == (TEXT, len(stored.check), 0)


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
    assert one.whole
    assert one.noticed
    assert two.wrong == (130, 150)
    assert (two.corrected, two.lost) == (0, 1)


def test_a_campaign_decodes_every_struck_word(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    options = CampaignOptions(injections=24, kinds=(*STORED, FaultKind.ACTIVATION, FaultKind.CELL_EXTREME))
    options = replace(options, widen_images=30, alarm_images=30)
    found = run_campaign(program, data, record, load_orbit("leo-sso"), CampaignFolder(tmp_path / "c"), options, Watch())
    for result in found.results:
        stored = FaultKind(result.kind) in STORED
        assert result.ecc_mended is stored
        assert not stored or outcome_of(result, [Detector.ECC]) is FaultOutcome.DETECTED


def test_a_code_keeps_the_accuracy_that_upsets_of_stored_words_take(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    scenarios = (MitigationScenario.WITHOUT, MitigationScenario.ECC_ALONE, MitigationScenario.SCRUB_ALONE)
    options = TimelineOptions((1.0,), chips=3, images=200, scenarios=scenarios)
    found = simulate_years(program, data, record, soft_memory(tmp_path), options, Watch())
    without, code, scrub = (found.band(scenario, 0)[1] for scenario in scenarios)
    assert code > 0.8
    assert without < code - 0.1
    assert scrub < code - 0.1


def soft_memory(folder: Path) -> OrbitFile:
    """An orbit whose memory is struck some ten times a year in a program of a few thousand bits."""
    shipped = (Path(hil.payload.__file__).parent / "orbits" / "leo-sso.toml").read_text("utf-8")
    path = folder / "soft.toml"
    path.write_text(
        shipped.replace("memory_bit_per_day = { value = 4.04e-7", "memory_bit_per_day = { value = 3e-5"), "utf-8"
    )
    return load_orbit(path)
