"""Programming a network: what is written, what came of it, when it is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from hil.deployment.targets.wired import ensure_programmed, holds, program_chip, read_back, spot_check
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.driver.requests import reading_unit_ns
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.layout.place import macro_targets_us

from ..conftest import CHIP, Small


def opened(chip: EmulatedChip) -> ChipDriver:
    return connect(InProcessTransport(chip, "here"), chip=chip.spec)


def test_every_used_cell_is_written_and_most_reach_their_window(small: Small) -> None:
    program = small.program
    with open_chip(CHIP) as driver:
        report = program_chip(driver, program, sample=1, watch=Watch())
        assert report.cells == sum(int(np.isfinite(macro_targets_us(program, m)).sum()) for m in program.macros)
        assert 0 < report.unreached < 0.08 * report.cells
        assert report.pulses == driver.status().pulses_total > report.cells
        for part in report.macros:
            assert np.array_equal(part.used, np.isfinite(macro_targets_us(program, part.slot)))
            error = np.abs(part.readings_us - part.targets_us)[part.used & part.reached]
            assert error.max() <= program.spec.macro.tolerance_us + 0.01
            assert not part.pulses[~part.used].any()
            assert 0 < part.programmed_s <= driver.chip_time_ns * 1e-9


def test_an_ideal_chip_reaches_every_cell_exactly(small: Small) -> None:
    from cim.chip.file import idealised
    from mapping.compile import compile_network

    from ..small_net import small_network

    chip = chip_from_address("emulated:lab-128?macros=4&ideal=1")
    program = compile_network(small_network(), idealised(small.program.spec))
    with opened(chip) as driver:
        report = program_chip(driver, program, sample=1, watch=Watch())
        assert report.unreached == 0
        readings = {macro: driver.read_cells(macro, sample=2) for macro in program.macros}
        rounded = read_back(driver, program.macros, reads=1, sample=2, watch=Watch())
    for part in report.macros:
        assert np.abs(readings[part.slot] - part.targets_us)[part.used].max() < 0.01
        far = np.abs(rounded[part.slot] - readings[part.slot])[part.used]
        assert far.max() <= reading_unit_ns(program.spec.macro) / 2000 + 1e-3


def test_the_chip_remembers_the_digest_and_is_then_left_alone(small: Small) -> None:
    chip, watch = chip_from_address(CHIP), Watch()
    with opened(chip) as driver:
        assert not holds(driver, small.program)
        assert ensure_programmed(driver, small.program, sample=1, force=False, watch=watch) is not None
    pulses = chip.status().pulses_total
    with opened(chip) as driver:
        assert holds(driver, small.program)
        assert ensure_programmed(driver, small.program, sample=2, force=False, watch=watch) is None
        assert chip.status().pulses_total == pulses
        assert ensure_programmed(driver, small.program, sample=3, force=True, watch=watch) is not None
    assert [note for note in watch.notes if "not rewritten" in note]


def test_a_spot_check_sees_a_macro_that_is_not_what_it_should_be(small: Small) -> None:
    chip = chip_from_address(CHIP)
    with opened(chip) as driver:
        program_chip(driver, small.program, sample=1, watch=Watch())
        assert spot_check(driver, small.program, sample=2)
        last = small.program.macros[-1]
        driver.program_cells(last, np.full((128, 128), 2.0, np.float32), sample=3)
        assert not spot_check(driver, small.program, sample=4)


def test_programming_forgets_the_digest_of_what_was_there_before(small: Small) -> None:
    chip = chip_from_address(CHIP)
    with opened(chip) as driver:
        program_chip(driver, small.program, sample=1, watch=Watch())
    with opened(chip) as driver:
        assert driver.held_program() is not None
        driver.program_cells(0, np.full((128, 128), 2.0, np.float32), sample=3)
    with opened(chip) as driver:
        assert driver.held_program() is None


def test_a_read_back_averages_as_many_reads_as_asked(small: Small) -> None:
    chip = chip_from_address(CHIP)
    with opened(chip) as driver:
        program_chip(driver, small.program, sample=1, watch=Watch())
        once = [read_back(driver, (0,), reads=1, sample=s, watch=Watch())[0] for s in (10, 11)]
        often = [read_back(driver, (0,), reads=16, sample=s, watch=Watch())[0] for s in (12, 13)]
    assert once[0].shape == (128, 128)
    used = np.isfinite(macro_targets_us(small.program, 0))
    ratio = np.var((once[1] - once[0])[used]) / np.var((often[1] - often[0])[used])
    assert ratio == pytest.approx(16, rel=0.5)


def test_progress_names_every_macro(small: Small) -> None:
    seen: list[tuple[int, int, str]] = []

    class Steps(Watch):
        def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
            seen.append((done, total, what))

    with open_chip(CHIP) as driver:
        program_chip(driver, small.program, sample=1, watch=Steps())
    assert seen == [(0, 2, "macro 0"), (1, 2, "macro 1")]
