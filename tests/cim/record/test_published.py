"""Published models against the numbers that AIHWKit and CrossSim give for them.

AIHWKit at 4545f11b: src/aihwkit/inference/noise/reram.py and pcm.py, run with unit normals for
sigmas of programming, with 2,000,000 cells a level for the rest. CrossSim at 0a2eb1ed:
simulator/devices/custom/RRAM_Milo.py, RRAM_Wan.py, PCM_Joshi.py, run with unit normals.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.cells.programming_law import law_at
from cim.chip.file import chip_names, load_chip, parse_chip
from cim.chip.spec import CellModel
from cim.record.device import CLIP, draw_programming
from cim.record.file import load_record, save_record
from cim.record.published import (
    PUBLISHED,
    CmoHfoxModel,
    NoModels,
    UnknownModel,
    nominal_record,
    published_model,
)

DAY = 86400.0
WAN = [1.0, 5.0, 10.0, 20.0, 30.0, 40.0]
WAN_SIGMA = {
    1.0: [0.722045, 1.751100, 2.258270, 2.022937, 1.532988, 1.103000],
    DAY: [1.222146, 2.756386, 3.720758, 3.909000, 3.366476, 2.651000],
    2 * DAY: [1.262233, 2.705926, 3.663789, 3.929125, 3.374352, 2.677000],
}
CMO = [10.0, 30.0, 50.0, 88.0]
CMO_MEAN = {1.0: 0.0, 3600.0: -0.728810, DAY: -1.011664}
CMO_SIGMA = {  # 2 % window, programming, relaxation and read noise together
    1.0: [0.44203, 0.56046, 0.72817, 1.10399],
    3600.0: [0.77651, 0.85395, 0.97435, 1.28236],
    DAY: [0.90817, 0.97674, 1.08428, 1.36870],
}
PCM = [2.5, 6.25, 12.5, 25.0]
PCM_MEAN = {
    1.0: [-0.0073, -0.0137, -0.0298, -0.0605],
    3600.0: [-0.6585, -1.3975, -2.8023, -5.6062],
    DAY: [-0.9613, -2.0830, -4.1869, -8.3731],
}
PCM_SIGMA = {
    1.0: [0.6061, 0.8846, 1.1935, 1.3970],
    3600.0: [0.5271, 0.7843, 1.0570, 1.4093],
    DAY: [0.5128, 0.7616, 1.0278, 1.5152],
}


@pytest.mark.parametrize("age", WAN_SIGMA)
def test_wan_2022_has_the_sigmas_of_aihwkit(age: float) -> None:
    law = published_model("wan-2022").programming(WAN, [age])
    assert law.scale_us[0] == pytest.approx(WAN_SIGMA[age], abs=2e-6)
    assert not law.loc_us.any()


def test_wan_2022_interpolates_in_log_time_between_its_three_ages() -> None:
    model = published_model("wan-2022")
    one, half, day = (model.programming(WAN, [a]).scale_us[0] for a in (1.0, np.sqrt(DAY), DAY))
    assert half == pytest.approx((one + day) / 2)
    assert model.programming(WAN).ages_s == pytest.approx([1.0, DAY, 2 * DAY])


def test_wan_2022_scales_with_the_highest_conductance() -> None:
    """AIHWKit means to, but leaves sigma in µS unscaled for its standard coefficients: 2.258 µS at 5 of 20 µS."""
    half = published_model("wan-2022", 20.0).programming([5.0, 20.0], [1.0])
    assert half.scale_us[0] == pytest.approx([2.258270 / 2, 1.103 / 2], abs=2e-6)


def test_the_cubic_reading_of_wan_2022_has_the_sigmas_of_crosssim() -> None:
    law = published_model("wan-2022-cubic").programming([1.0, 5.0, 10.0, 20.0, 30.0, 39.0])
    assert law.scale_us[0] == pytest.approx([1.278884, 1.967450, 2.413600, 2.361800, 1.819200, 1.672928], abs=2e-6)


def test_two_readings_of_one_figure_agree_within_0_6_us() -> None:
    levels = np.linspace(1.0, 39.0, 39)
    a, b = (published_model(n).programming(levels, [1.0]).scale_us[0] for n in ("wan-2022", "wan-2022-cubic"))
    assert 0.1 < np.abs(a - b).max() < 0.6


def test_cmo_hfox_programming_sigmas_are_those_of_aihwkit_for_both_windows() -> None:
    for name, expected in (
        ("cmo-hfox", [0.011499, 0.032875, 0.054251, 0.094865]),
        ("cmo-hfox-2", [0.124121, 0.349927, 0.575732, 1.004763]),
    ):
        model = published_model(name).model
        assert isinstance(model, CmoHfoxModel)
        b, a = model.programming
        assert a * np.array(CMO) + b == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("age", CMO_SIGMA)
def test_cmo_hfox_has_the_means_and_sigmas_of_aihwkit(age: float) -> None:
    law = published_model("cmo-hfox-2").programming(CMO, [age])
    assert law.loc_us[0] == pytest.approx(np.full(4, CMO_MEAN[age]), abs=1e-6)
    assert law.scale_us[0] == pytest.approx(CMO_SIGMA[age], rel=0.003)  # sampling error of theirs: 0.1 %


@pytest.mark.parametrize("age", PCM_SIGMA)
def test_pcm_like_has_the_means_and_sigmas_of_aihwkit(age: float) -> None:
    law = published_model("pcm-like").programming(PCM, [age])
    assert law.loc_us[0] == pytest.approx(PCM_MEAN[age], abs=0.006)
    assert law.scale_us[0] == pytest.approx(
        PCM_SIGMA[age], rel=0.01
    )  # there Q follows the programmed cell, here the target


def test_pcm_like_programming_sigmas_are_those_of_aihwkit() -> None:
    """0.302, 0.448, 0.681, 0.953, 1.055 µS at 0.5, 2.5, 6.25, 12.5, 25 µS: what is left without drift and reads."""
    x = np.array([0.5, 2.5, 6.25, 12.5, 25.0]) / 25.0
    sigma = np.polynomial.polynomial.polyval(x, published_model("pcm-like").model.programming_us)  # type: ignore[attr-defined]
    assert sigma == pytest.approx([0.302311, 0.448249, 0.681411, 0.952705, 1.055380], abs=1e-6)


@pytest.mark.parametrize(("name", "levels", "expected"), [
    ("milo", [50.0, 100.0, 150.0, 225.0], [4.326971, 3.871621, 3.416271, 2.733246]),
    ("joshi-pcm", [0.5, 2.5, 6.25, 12.5, 25.0], [0.323868, 0.464856, 0.690663, 0.955278, 1.065523]),
])  # fmt: skip
def test_milo_and_joshi_have_the_sigmas_of_crosssim(name: str, levels: list[float], expected: list[float]) -> None:
    assert published_model(name).programming(levels).scale_us[0] == pytest.approx(expected, abs=2e-6)


def test_flicker_of_a_model_is_what_its_law_gathers_over_time() -> None:
    """Half the variance of the difference of two reads a time apart is the published σ_r²."""
    noise = published_model("cmo-hfox").read_noise([50.0])
    half = noise.difference_variance(np.array([50.0]), 1.0) / 2
    assert half == pytest.approx((0.0277316483 * np.log10(50.0)) ** 2 * np.log(1.0 / 2e-6), rel=0.02)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_model_gives_a_gaussian_law_and_a_read_noise_over_its_window(name: str) -> None:
    model = published_model(name)
    levels = np.linspace(max(model.window_us[0], 0.5), model.window_us[1], 8)
    law = model.programming(levels)
    here = law_at(law, levels, float(law.ages_s[-1]))
    assert here.scale_us == pytest.approx(law.scale_us[-1], rel=1e-6)
    assert (law.df >= 1e5).all()
    assert (law.scale_us > 0.005).all()
    assert (model.read_noise(levels, 1.7).variance_us2 == 1.7).all()


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UnknownModel, match="wan-2022") as caught:
        published_model("wan-2021")
    assert caught.value.name == "wan-2021"


# ---- a record from the chip file alone ----


def test_chip_files_may_name_every_published_model_and_their_own() -> None:
    assert {m.value for m in CellModel} == {*PUBLISHED, "polynomial"}


@pytest.mark.parametrize("chip", chip_names())
def test_every_shipped_chip_can_be_predicted_before_one_was_measured(chip: str) -> None:
    spec = load_chip(chip)
    record = nominal_record(spec, (0, 1))
    assert (record.kind, record.serial, sorted(record.macros)) == ("model", "", [0, 1])
    assert record.spec_digest == spec.digest
    targets = np.full((spec.macro.rows, spec.macro.columns), spec.macro.levels_us[-1])
    cells = draw_programming(targets, record, 0, 1.0, np.random.default_rng(0))
    law = law_at(record.programming, spec.macro.levels_us[-1], 1.0)
    if spec.models is not None and spec.models.programming is CellModel.WAN_2022:
        assert law.scale_us == pytest.approx(1.103 * spec.macro.levels_us[-1] / 40.0, rel=0.001)  # highest level, 1 s
    drawn = np.minimum(targets + law.draw(targets.shape, np.random.default_rng(1)), CLIP * targets)
    assert np.std(cells) == pytest.approx(np.std(drawn), rel=0.05)


def test_the_record_of_lab_128_says_what_its_file_says() -> None:
    spec = load_chip("lab-128")
    record = nominal_record(spec)
    assert spec.models is not None
    assert len(record.macros) == 64
    assert record.wire.ohm == spec.models.wire_ohm
    assert record.programming.stuck_low_share == 0.022
    assert (record.read_noise.variance_us2 == 1.7).all()
    assert (record.macros[5].conversion_noise_codes == 0.5).all()
    assert "10.1038/s41586-022-04992-8" in record.method


def test_a_record_of_models_is_kept_in_a_file(tmp_path: Path) -> None:
    record = nominal_record(load_chip("yao-2020"), (0,))
    save_record(record, tmp_path / "models.h5")
    again = load_record(tmp_path / "models.h5")
    assert (again.kind, again.method) == ("model", record.method)
    assert np.array_equal(again.programming.scale_us, record.programming.scale_us)
    assert np.array_equal(again.read_noise.flicker_us2, record.read_noise.flicker_us2)
    assert again.read_noise.reference_s == record.read_noise.reference_s


def test_coefficients_of_a_chip_file_are_used() -> None:
    text = load_chip("lab-128").text.replace(
        'programming = { value = "wan-2022"',
        'programming_ages_s = { value = [1.0, 100.0], source = "assumed" }\n'
        'programming_sigma_us = { value = [[1.0, 2.0], [2.0, 4.0]], source = "assumed" }\n'
        'programming = { value = "polynomial"',
    )
    law = nominal_record(parse_chip(text, "own.toml")).programming
    assert law.ages_s == pytest.approx([1.0, 100.0])
    assert law.scale_us[:, -1] == pytest.approx([3.0, 6.0])
    assert law.scale_us[0, 0] == pytest.approx(1.0 + 2.0 * 2.0 / 40.0)


def test_a_chip_file_without_models_says_so() -> None:
    text = load_chip("lab-128").text
    start, end = text.index("[models]"), text.index("[sample]")
    with pytest.raises(NoModels, match=r"old\.toml"):
        nominal_record(parse_chip(text[:start] + text[end:], "old.toml"))


def test_a_record_says_in_words_whose_cells_its_law_tells_of() -> None:
    record = nominal_record(load_chip("lab-128"))
    assert record.origin == "models of the chip file lab-128"
    measured = replace(record, kind="emulated", serial="7aecdedfac45", date="2026-11-27")
    assert measured.origin == "record of emulated lab-128 7aecdedfac45, 2026-11-27"
    assert replace(record, kind="table", serial="", date="").origin == "record of table lab-128"


def test_two_cells_in_parallel_are_twice_the_mean_and_root_two_of_the_spread_of_one() -> None:
    one, two = published_model("pcm-like").model, published_model("pcm-like-pair").model
    levels = np.array([0.0, 5.0, 12.5, 25.0])
    for age_s in (1.0, 3600.0):
        mean, sigma = one.error(levels, age_s)
        both, spread = two.error(2 * levels, age_s)
        np.testing.assert_allclose(both, 2 * mean)
        np.testing.assert_allclose(spread, np.sqrt(2.0) * sigma)
    np.testing.assert_allclose(two.flicker(2 * levels)[0], 2 * one.flicker(levels)[0])
