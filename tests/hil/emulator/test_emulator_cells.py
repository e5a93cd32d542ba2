"""The hidden truth and the cells of the emulated chip: how big each effect is, and what it belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from firmware_protocols.messages import CellBlock, Polarity, Pulse
from hil.emulator import noise
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.emulator.relaxation import choose_traces, load_table, shift_us
from hil.emulator.sample import BOUNDED, STUCK_HIGH, STUCK_LOW, ChipSample, UnknownSampleKey
from hil.errors import UsageError

from ..emulated_bench import QUIET, finish, multiply, program_request, read_us, wait_s, write_cells, write_levels


@pytest.fixture(scope="module")
def spec() -> ChipSpec:
    return load_chip("lab-128", macros=1)


def targets(spec: ChipSpec, level: int | None = None, seed: int = 0) -> np.ndarray:
    shape = (spec.macro.rows, spec.macro.columns)
    levels = np.array(spec.macro.levels_us)
    picked = np.random.default_rng(seed).integers(0, len(levels), shape) if level is None else np.full(shape, level)
    return levels[picked]


# --- noise ------------------------------------------------------------------------------


def test_hashed_normals_are_normal_out_to_the_tails() -> None:
    z = noise.hashed_normals(noise.fold_key(1, 2, 3), np.arange(2_000_000))
    assert stats.kstest(z[:200_000], "norm").pvalue > 1e-3
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
    for sigmas in (2.0, 3.0, 4.0):
        expected = z.size * 2 * stats.norm.sf(sigmas)
        assert abs((np.abs(z) > sigmas).sum() - expected) < 5 * np.sqrt(expected)


def test_hashed_normals_of_neighbouring_keys_and_indices_are_unrelated() -> None:
    grid = np.stack([noise.hashed_normals(noise.fold_key(7, sample), np.arange(4000)) for sample in range(20)])
    between_keys = np.corrcoef(grid)[~np.eye(20, dtype=bool)]
    assert np.abs(between_keys).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(grid[:, 1:].ravel(), grid[:, :-1].ravel())[0, 1]) < 5 / np.sqrt(grid.size)


def test_the_order_of_key_words_matters() -> None:
    assert noise.fold_key(1, 2) != noise.fold_key(2, 1)


# --- the hidden sample --------------------------------------------------------------------


def test_shares_of_bad_cells_lie_within_binomial_bounds(spec: ChipSpec) -> None:
    sample = ChipSample.draw(load_chip("lab-128", macros=8), seed=1)
    kinds = np.concatenate([m.kind.ravel() for m in sample.macros])
    for kind, share in ((STUCK_LOW, 0.022), (STUCK_HIGH, 0.002), (BOUNDED, sample.parameters.unreached_share)):
        low, high = stats.binom.interval(0.9999, kinds.size, share)
        assert low <= (kinds == kind).sum() <= high


def test_a_seed_fixes_the_sample_and_the_number_of_macros_changes_none_of_it() -> None:
    few, many = (ChipSample.draw(load_chip("lab-128", macros=n), seed=5) for n in (1, 3))
    np.testing.assert_array_equal(few.macros[0].gain, many.macros[0].gain)
    np.testing.assert_array_equal(few.macros[0].kind, many.macros[0].kind)
    assert (many.macros[0].gain != many.macros[1].gain).any()
    assert (ChipSample.draw(load_chip("lab-128", macros=1), seed=6).macros[0].gain != few.macros[0].gain).any()


def test_gain_is_per_column_and_offset_and_inl_per_converter(spec: ChipSpec) -> None:
    sample = ChipSample.draw(load_chip("lab-128", macros=16), seed=2)
    gains = np.concatenate([m.gain for m in sample.macros])
    offsets = np.concatenate([m.offset_codes for m in sample.macros])
    assert gains.size == 16 * 64
    assert offsets.size == 16 * 64 // spec.macro.adc.shared_by
    assert gains.std() == pytest.approx(0.05, rel=0.1)
    assert ((np.abs(offsets) >= 1.0) & (np.abs(offsets) <= 2.0)).all()
    assert 0.3 < (offsets > 0).mean() < 0.7
    t = np.linspace(-1, 1, 2001)
    for a, b, c, d, e, f in sample.macros[0].inl.T:
        curve = a + b * t + c * t**2 + d * t**3 + e * (t > 0) + f * ((t > 0.5).astype(float) + (t > -0.5))
        assert np.abs(curve).max() == pytest.approx(sample.parameters.inl_lsb, rel=0.05)
        assert np.abs(np.polyfit(t, curve, 1)).max() < 0.02


def test_columns_of_one_converter_share_its_offset_through_the_wire(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 1, {**QUIET, "adc_offset_codes": 1.5})
    tile = write_levels(chip, np.zeros((8, 64), np.int8))
    codes = multiply(chip, tile, np.zeros((1, 8)), bits=1).values[0]
    groups = codes.reshape(-1, spec.macro.adc.shared_by)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(groups[:, 0])) > 1


def test_unknown_missing_and_negative_sample_parameters_are_named(spec: ChipSpec) -> None:
    with pytest.raises(UnknownSampleKey, match=r"wire_ohms.*there are.*wire_ohm"):
        EmulatedChip(spec, 0, {"wire_ohms": 1.0})
    with pytest.raises(UnknownSampleKey, match="inl_lsb = -1 must be a number from 0"):
        EmulatedChip(spec, 0, {"inl_lsb": -1.0})


# --- writing ------------------------------------------------------------------------------


def test_write_verify_reaches_the_window_except_where_cells_are_bad(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 1)
    wanted = targets(spec)
    result = write_cells(chip, wanted)
    kind = chip._sample.macros[0].kind
    readings = result.readings * 1e-3
    assert (np.abs(readings - wanted) <= spec.macro.tolerance_us + 1e-3)[result.reached].all()
    assert result.reached[kind == 0].mean() > 0.995
    assert (~result.reached).sum() > 0.9 * (kind == STUCK_LOW).sum() * 0.8
    assert (~result.reached[kind == BOUNDED]).mean() > 0.5
    assert chip.status().pulses_total == result.pulses.sum()
    assert chip.status().programmed_cells == (result.pulses > 0).sum()
    good = result.pulses[kind == 0]
    assert 4 < np.median(good) < 20
    assert good.max() > 5 * np.median(good)  # heavy tail
    true_error = chip._cells[0].conductance_us(chip._settled_ns)[kind == 0] - wanted[kind == 0]
    assert (np.abs(true_error) > spec.macro.tolerance_us).mean() > 0.01  # false passes


def test_a_cell_left_alone_takes_no_pulse_and_keeps_its_place(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 1, {"relaxation": 0.0})  # the second write takes time, in which cells would wander
    write_cells(chip, targets(spec))
    before = read_us(chip, 128, 128, sample=3)
    again = np.full((128, 128), np.nan)
    again[:, :10] = 20.0
    result = write_cells(chip, again, sample=9)
    assert result.pulses[:, 10:].sum() == 0
    np.testing.assert_array_equal(read_us(chip, 128, 128, sample=3)[:, 10:], before[:, 10:])


def test_a_block_cut_in_two_ends_as_the_whole_would(spec: ChipSpec) -> None:
    wanted = targets(spec)
    whole, halves = EmulatedChip(spec, 1), EmulatedChip(spec, 1)
    full = write_cells(whole, wanted)
    top, bottom = write_cells(halves, wanted[:50]), write_cells(halves, wanted[50:], row0=50)
    np.testing.assert_array_equal(full.pulses, np.concatenate([top.pulses, bottom.pulses]))
    assert whole.chip_time_ns == halves.chip_time_ns
    for chip in (whole, halves):
        wait_s(chip, 100.0)
    np.testing.assert_array_equal(read_us(whole, 128, 128), read_us(halves, 128, 128))


def test_an_interrupted_write_keeps_the_pulses_given(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 1)
    writing = chip.program_tile(program_request(chip, targets(spec)))
    progress = next(writing)
    writing.close()
    assert progress.total == 128 * 128
    assert 0 < progress.done < progress.total
    assert chip.status().pulses_total > 0


def test_single_pulses_move_cells_the_way_they_should_and_more_at_higher_voltage(spec: ChipSpec) -> None:
    moved = {}
    for polarity in Polarity:
        for millivolts in (1500, 2500):
            chip = EmulatedChip(spec, 1, {"read_variance_us2": 0.0, "relaxation": 0.0})
            write_cells(chip, np.full((128, 128), 20.0))
            before = read_us(chip, 128, 128)
            pulse = Pulse(CellBlock(0, 0, 128, 0, 128), polarity, 1000, 1, np.full((128, 128), millivolts, np.uint16))
            finish(chip.pulse(pulse))
            moved[polarity, millivolts] = float(np.median(read_us(chip, 128, 128) - before))
    assert 0 < moved[Polarity.SET, 1500] < moved[Polarity.SET, 2500]
    assert 0 > moved[Polarity.RESET, 1500] > moved[Polarity.RESET, 2500]


# --- relaxation and reads -----------------------------------------------------------------


@pytest.mark.parametrize(("k", "age_s"), list(enumerate((0.01, 0.1, 1.0, 4.0, 1e5))))
def test_resampled_shifts_follow_the_measured_ones(k: int, age_s: float) -> None:
    table = load_table()
    with np.load(Path(noise.__file__).parent / "levy_tech_c.npz") as data:
        measured = data["shift"][:, k] * float(data["step_us"])
    start = table.start_us.astype(np.float32)
    traces = choose_traces(table, start, np.random.default_rng(k).random(len(start)))
    ages = np.full(len(start), age_s)
    bare = shift_us(table, traces, start, ages, 0.0)
    assert stats.ks_2samp(bare, measured).statistic < 0.02
    fresh = np.sqrt(1.7) * np.random.default_rng(9).standard_normal(len(start))
    one_read = shift_us(table, traces, start, ages, 1.7) + fresh
    assert one_read.mean() == pytest.approx(measured.mean(), abs=0.08)
    if age_s >= 1.0:  # before, the data spread less than the fresh part alone
        assert one_read.var() == pytest.approx(measured.var(), rel=0.06)


def test_the_variance_grows_linearly_in_log_time_between_measured_times() -> None:
    table = load_table()
    start = table.start_us.astype(np.float32)
    traces = choose_traces(table, start, np.random.default_rng(0).random(len(start)))
    ages = np.array([10.0, 100.0, 1e3, 1e4])
    variance = [shift_us(table, traces, start, np.full(len(start), a), 0.0).var() for a in ages]
    fit = stats.linregress(np.log10(ages), variance)
    assert fit.slope > 1.0
    assert fit.rvalue**2 > 0.99
    assert shift_us(table, traces[:9], start[:9], np.full(9, 1e-4), 0.0) == pytest.approx(np.zeros(9))


def test_cells_wander_through_the_chip_as_the_table_says(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 3, {"read_variance_us2": 0.0})
    write_cells(chip, np.full((128, 128), 23.7))
    good = (chip._sample.macros[0].kind == 0)[:64]
    start = read_us(chip, 64, 128)[good]
    wait_s(chip, 3600.0)
    hour = read_us(chip, 64, 128)[good] - start
    wait_s(chip, 96400.0)
    day = read_us(chip, 64, 128)[good] - start
    assert hour.mean() > day.mean() > -3.5
    assert 2.4 < hour.std() < day.std() < 4.5
    assert 0.5 < np.corrcoef(hour, day)[0, 1] < 0.99  # one path per cell, not a new draw per reading


@pytest.mark.parametrize(("traces", "file"), [("levy-b", "levy_tech_b.npz"), ("levy-c", "levy_tech_c.npz")])
def test_an_address_says_whose_measured_cells_a_chip_follows(traces: str, file: str) -> None:
    with np.load(Path(noise.__file__).parent / file) as data:
        start, times = data["start"] * float(data["step_us"]), data["times_s"].tolist()
        measured = data["shift"][np.abs(start - 23.7) < 1.0] * float(data["step_us"])
    chip = chip_from_address(f"emulated:lab-128?macros=1&seed=3&read_variance_us2=0&traces={traces}")
    write_cells(chip, np.full((128, 128), 23.7))
    good = chip._sample.macros[0].kind[:64] == 0
    wait_s(chip, times[-1])
    moved = (read_us(chip, 64, 128) - chip._cells[0]._written_us[:64])[good]
    far = stats.ks_2samp(moved, measured[:, -1]).statistic
    assert (
        far < 1.63 * len(measured) ** -0.5 + 0.03
    )  # the 99 % point of so few cells, and what reads round and bins smear


def test_traces_that_nobody_measured_are_refused() -> None:
    with pytest.raises(UsageError, match="no traces 'levy-z'"):
        chip_from_address("emulated:lab-128?traces=levy-z")


def test_stuck_cells_do_not_wander(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 3, {"read_variance_us2": 0.0})
    write_cells(chip, targets(spec))
    stuck = (chip._sample.macros[0].kind == STUCK_LOW) | (chip._sample.macros[0].kind == STUCK_HIGH)
    before = read_us(chip, 128, 128)[stuck]
    wait_s(chip, 1e5)
    np.testing.assert_array_equal(read_us(chip, 128, 128)[stuck], before)


def test_each_read_of_each_cell_is_fresh_and_averages_as_it_should(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 1)
    write_cells(chip, np.full((128, 128), 25.0))
    wait_s(chip, 10.0)
    reads = np.stack([read_us(chip, 128, 128, sample=s) for s in range(6)])
    np.testing.assert_array_equal(reads[0], read_us(chip, 128, 128, sample=0))
    good = chip._sample.macros[0].kind == 0
    assert reads[:, good].var(0, ddof=1).mean() == pytest.approx(1.7, rel=0.05)
    noise_part = reads - reads.mean(0)
    assert abs(np.corrcoef(noise_part[0][good], noise_part[1][good])[0, 1] + 1 / 5) < 0.04
    mean_of_nine = read_us(chip, 128, 128, reads=9, sample=100) - read_us(chip, 128, 128, reads=9, sample=101)
    assert mean_of_nine[good].var() == pytest.approx(2 * 1.7 / 9, rel=0.05)


def test_reads_through_the_columns_carry_the_column_gain() -> None:
    spec = load_chip("a111", macros=1)
    chip = EmulatedChip(spec, 1, {**QUIET, "column_gain_sigma": 0.05})
    write_cells(chip, np.full((spec.macro.rows, spec.macro.columns), 9.0))
    apparent = np.median(read_us(chip, spec.macro.rows, spec.macro.columns), axis=0) / 9.0
    gain = chip._sample.macros[0].gain
    order = np.array(spec.macro.column_order)
    true = np.empty(spec.macro.columns)
    true[order] = gain
    assert apparent == pytest.approx(true, rel=1e-3)


def test_an_oven_that_comes_on_moves_every_conductance_and_the_status(spec: ChipSpec) -> None:
    heat = {"heat_to_c": 65.0, "heat_after_s": 100.0, "conductance_per_k": 1e-3}
    chip = EmulatedChip(spec, 3, {**QUIET, **heat})
    write_cells(chip, targets(spec))
    cold = read_us(chip, 128, 128)
    assert chip.status().temperature_c == 25.0
    wait_s(chip, 100.0)
    assert chip.status().temperature_c == 65.0
    np.testing.assert_allclose(read_us(chip, 128, 128), cold * 1.04, atol=2e-3)
    write_cells(chip, targets(spec, seed=1), sample=2)
    np.testing.assert_allclose(read_us(chip, 128, 128), targets(spec, seed=1), atol=1e-2)


def test_a_bench_without_an_oven_stays_as_it_is(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, 3, {"temperature_c": 40.0})
    wait_s(chip, 1e6)
    assert chip.status().temperature_c == 40.0
