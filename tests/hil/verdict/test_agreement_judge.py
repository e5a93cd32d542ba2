"""The verdict as a whole: its table, its refusals, and how often it is right on answers whose truth is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hil.verdict.fidelity import compare_readbacks, fidelity
from hil.verdict.statistics import Equivalence, PredictionTest
from hil.verdict.verdict import Mode, Verdict, decide, judge

PLAN = (500, 1000, 2000)


def answers(rng: np.random.Generator, n: int = 2000, *, loss: float = 0.0, chips: int = 20, repeats: int = 3):
    """Right answers of a chip, conditioned virtual chips and the ideal network, spread as in the study.

    Most images are sure; some hang on read noise, fewer on what the read-back leaves open. ``loss``
    is a share of images that the chip alone has wrong, unknown to the simulator.
    """
    margin = np.where(rng.random(n) < 0.92, 6.0, 0) + rng.normal(0, 1.5, n)  # in units of read noise
    own = rng.normal(0, 0.5, n)
    lost = rng.random(n) < loss
    y = (margin + own + rng.normal(0, 1, (repeats, n)) > 0) & ~lost
    v = margin + own + rng.normal(0, 0.3, (chips, n)) + rng.normal(0, 1, (chips, n)) > 0
    return y, v, margin > 0


def sequential(y, v, q):
    """Look after look as ``hil deploy`` does."""
    for look, n in enumerate(PLAN, 1):
        found = judge(y[:, :n], v[:, :n], q[:n], mode=Mode.CONDITIONED, look=look, looks=PLAN)
        if found.final:
            break
    return found


def verdicts(*, seed: int, loss: float, runs: int = 100) -> Counter[Verdict]:
    rng = np.random.default_rng(seed)
    return Counter(sequential(*answers(rng, loss=loss)).verdict for _ in range(runs))


def test_a_right_simulator_agrees_nearly_always_and_is_hardly_ever_called_wrong():
    found = verdicts(seed=1, loss=0.0)
    assert found[Verdict.AGREE] >= 90
    assert found[Verdict.DISAGREE] <= 5


def test_a_loss_of_three_points_disagrees_nearly_always_and_never_agrees():
    found = verdicts(seed=2, loss=0.03)
    assert found[Verdict.DISAGREE] >= 95
    assert found[Verdict.AGREE] == 0


@pytest.mark.parametrize(
    ("holds", "rejects", "beyond", "refused", "verdict"),
    [
        (True, False, "", False, Verdict.AGREE),
        (True, True, "", False, Verdict.AGREE),
        (True, True, "", True, Verdict.INCONCLUSIVE),
        (False, True, "", False, Verdict.INCONCLUSIVE),
        (False, False, "beyond", False, Verdict.INCONCLUSIVE),
        (False, True, "beyond", False, Verdict.DISAGREE),
        (False, True, "beyond", True, Verdict.DISAGREE),
    ],
)
def test_the_verdict_table(holds, rejects, beyond, refused, verdict):
    p = PredictionTest(statistic=1, limit=2, p_value=0.1, p_rank=0.1, rejects=rejects)
    e = Equivalence(standard_error=0.001, low=0, high=0, holds=holds, beyond=bool(beyond))
    for last in (False, True):
        assert decide(p, e, last=last, refused=refused) is verdict


def test_a_likely_excess_is_enough_at_the_last_analysis_only():
    p = PredictionTest(statistic=3, limit=2, p_value=0.01, p_rank=0.1, rejects=True)
    e = Equivalence(standard_error=0.002, low=0.008, high=0.016, holds=False, beyond=False, likely_beyond=True)
    assert decide(p, e, last=False) is Verdict.INCONCLUSIVE
    assert decide(p, e, last=True) is Verdict.DISAGREE


@pytest.mark.parametrize(("n", "repeats", "chips", "named"), [(299, 3, 20, "299"), (400, 1, 20, "1"), (400, 3, 9, "9")])
def test_agreement_is_refused_on_too_little(n, repeats, chips, named):
    everything_right = np.ones((repeats, n)), np.ones((chips, n)), np.ones(n)
    found = judge(*everything_right, mode=Mode.CONDITIONED, tolerance=0.05)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert f"this run has {named}" in found.text


def test_a_real_but_small_difference_agrees_with_a_flag():
    rng = np.random.default_rng(5)
    y, v, q = answers(rng)
    wrong = np.zeros(2000, bool)
    wrong[rng.choice(2000, 14, replace=False)] = True  # 0.7 points, surely there
    found = judge(v[:3] & ~wrong, np.repeat(v[:1], 20, 0), q, mode=Mode.CONDITIONED, tolerance=0.03)
    assert found.verdict is Verdict.AGREE
    assert found.prediction.rejects
    assert any("real difference" in flag for flag in found.flags)
    assert y.shape == (3, 2000)


def test_beyond_and_not_resolved_are_told_apart():
    rng = np.random.default_rng(6)
    y, v, q = answers(rng, loss=0.06)
    assert "beyond 1 point" in judge(y, v, q, mode=Mode.CONDITIONED).text
    y, v, q = answers(np.random.default_rng(9), n=500, loss=0.025)
    likely = judge(y, v, q, mode=Mode.CONDITIONED)
    assert likely.verdict is Verdict.DISAGREE
    assert "probably beyond 1 point" in likely.text
    early = judge(y, v, q, mode=Mode.CONDITIONED, look=1, looks=PLAN)
    assert early.verdict is Verdict.INCONCLUSIVE
    assert any("whether by more than the tolerance is not decided" in flag for flag in early.flags)
    rank, lost = np.arange(2000), np.linspace(48, 360, 20)  # images that virtual chips lose; this chip loses 320
    wide = judge(np.repeat(rank[None] >= 320, 3, 0), rank >= lost[:, None], rank >= 0, mode=Mode.CONDITIONED)
    assert wide.verdict is Verdict.INCONCLUSIVE
    assert wide.interval90[1] < -wide.tolerance
    assert "virtual chips scatter by ±10.4 points and this chip may be one of them" in wide.text


@pytest.mark.parametrize(("loss", "least", "most"), [(0.005, 0, 5), (0.0075, 0, 20), (0.015, 85, 100), (0.02, 95, 100)])
def test_a_loss_inside_the_tolerance_seldom_disagrees_and_one_beyond_it_does(loss, least, most):
    """At most 5 % at half the tolerance and 20 % at three quarters, at least 85 % at 1.5 of it, 95 % at 2."""
    found = verdicts(seed=3, loss=loss / 0.96)  # 4 % of answers are wrong already
    assert least <= found[Verdict.DISAGREE] <= most


def test_no_disagree_has_an_interval_that_holds_no_difference():
    rng = np.random.default_rng(21)
    for loss in (0.012, 0.03):
        for n in (150, 300, 500):
            for _ in range(40):
                y, v, q = answers(rng, n=n, loss=loss)
                found = judge(y, v, q, mode=Mode.CONDITIONED)
                low, high = found.interval90
                assert found.verdict is not Verdict.DISAGREE or not low <= 0 <= high


def test_a_test_and_an_interval_that_differ_say_what_each_holds_fixed():
    """Test P sees that every image is answered worse; so few lost images that other images may show none."""
    y, v, q = answers(np.random.default_rng(5))
    wrong = np.zeros(2000, bool)
    wrong[:2] = True
    found = judge(np.repeat(v[:1], 3, 0) & ~wrong, np.repeat(v[:1], 20, 0), q, mode=Mode.CONDITIONED)
    assert found.prediction.rejects
    assert found.interval90[0] <= 0 <= found.interval90[1]
    assert any("images held fixed" in flag and "programming held fixed" in flag for flag in found.flags)
    assert y.shape == (3, 2000)


@pytest.mark.parametrize(
    ("mode", "words"), [(Mode.CONDITIONED, "this chip as it is"), (Mode.UNCONDITIONAL, "one of its kind")]
)
def test_each_question_says_what_is_tested(mode, words):
    found = judge(*answers(np.random.default_rng(16)), mode=mode)
    assert words in found.tested
    assert "within the tolerance" in found.tested
    assert "new images" in found.tested


def test_an_inconclusive_run_says_how_many_images_would_be_enough():
    y, v, q = answers(np.random.default_rng(8), n=300)
    found = judge(y, v, q, mode=Mode.CONDITIONED, tolerance=0.01)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.power.images_enough is not None
    assert f"{found.power.images_enough:,} images would be enough" in found.text


def test_repeats_without_read_noise_are_flagged():
    y, v, q = answers(np.random.default_rng(10))
    found = judge(np.repeat(y[:1], 3, 0), v, q, mode=Mode.CONDITIONED)
    assert any("no answer changed its score from repeat to repeat" in flag for flag in found.flags)


def test_fresh_reads_are_doubted_only_where_logits_are_equal_to_the_bit():
    y, v, q = answers(np.random.default_rng(10))
    same, logits = np.repeat(y[:1], 3, 0), np.zeros((3, y.shape[1], 10))
    for change, doubted in ((0.0, True), (0.008, False)):
        logits[1, 0, 0] = change
        found = judge(same, v, q, mode=Mode.CONDITIONED, measured_logits=logits)
        assert any("are the repeats fresh reads?" in flag for flag in found.flags) == doubted


def test_intervals_count_images_and_not_images_times_repeats():
    y, v, q = answers(np.random.default_rng(11))
    once, thrice = (judge(np.repeat(y[:1], m, 0), v, q, mode=Mode.CONDITIONED) for m in (1, 3))
    assert once.measured == thrice.measured


def test_a_fixed_set_gives_a_narrower_interval_and_says_so():
    y, v, q = answers(np.random.default_rng(12))
    new, fixed = (judge(y, v, q, mode=Mode.CONDITIONED, population=p) for p in (None, 2000))
    assert fixed.equivalence.standard_error < new.equivalence.standard_error
    assert "2,000" in fixed.claim
    assert "new images" in new.claim


def test_no_look_outside_the_plan():
    y, v, q = answers(np.random.default_rng(13), n=700)
    with pytest.raises(ValueError, match="none is made outside the plan"):
        judge(y, v, q, mode=Mode.CONDITIONED, look=1, looks=PLAN)


def test_later_looks_use_stricter_limits_and_only_the_last_is_final():
    y, v, q = answers(np.random.default_rng(14), n=500)
    early = judge(y, v, q, mode=Mode.CONDITIONED, look=1, looks=PLAN, tolerance=0.002)
    alone = judge(y, v, q, mode=Mode.CONDITIONED, tolerance=0.002)
    assert early.prediction.limit > alone.prediction.limit
    assert not early.final
    assert alone.final


@pytest.mark.parametrize("bad", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"population": 10}, {"looks": (499,)}])
def test_impossible_questions_are_refused(bad):
    y, v, q = answers(np.random.default_rng(15), n=500)
    with pytest.raises(ValueError, match=r"tolerance|fixed set|plan"):
        judge(y, v, q, mode=Mode.CONDITIONED, **bad)


def logits_of_a_chip(rng: np.random.Generator, *, excess: float = 0.0, scale: float = 1.0):
    """Ideal logits; a chip with errors of its own; virtual chips that know them up to a little."""
    ideal = rng.normal(0, 100, (300, 10))
    own = rng.normal(0, 20, ideal.shape)
    chip = scale * ideal + own + rng.normal(0, 10 + excess, (3, *ideal.shape))
    virtual = ideal + own + rng.normal(0, 4, (20, *ideal.shape)) + rng.normal(0, 10, (20, *ideal.shape))
    return chip, virtual, ideal


def test_fidelity_of_a_right_simulator_is_near_one_and_its_rank_is_nothing_special():
    f = fidelity(*logits_of_a_chip(np.random.default_rng(1)), conditioned=True)
    assert f.explained == pytest.approx(0.96, abs=0.05)
    assert f.explained_virtual_mean == pytest.approx(f.explained, abs=0.1)
    ranks = [fidelity(*logits_of_a_chip(np.random.default_rng(s)), conditioned=True).distance_rank for s in range(40)]
    assert sum(r == 1 for r in ranks) <= 6


@pytest.mark.parametrize("unmodelled", [{"excess": 5.0}, {"scale": 0.9}])
def test_fidelity_sees_effects_that_accuracy_does_not(unmodelled):
    f = fidelity(*logits_of_a_chip(np.random.default_rng(2), **unmodelled), conditioned=True)
    assert f.distance_rank == 1
    assert f.distance_p == pytest.approx(1 / 21)


def test_explained_share_is_not_given_for_chips_programmed_again():
    assert fidelity(*logits_of_a_chip(np.random.default_rng(3)), conditioned=False).explained is None


def test_readbacks_that_differ_by_read_noise_alone_show_no_drift():
    rng = np.random.default_rng(4)
    truth = rng.normal(20, 8, (4, 128, 128))
    before, after = (truth + rng.normal(0, 0.4, truth.shape) for _ in range(2))
    found = compare_readbacks(before, after, read_variance_us2=16 * 0.4**2, reads_before=16, reads_after=16)
    assert not found.drifted
    assert found.expected_spread_us == pytest.approx(0.4 * 2**0.5)


def test_read_noise_that_lasts_is_not_taken_for_drift():
    rng = np.random.default_rng(4)
    truth = rng.normal(20, 8, (128, 128))
    before = truth + rng.normal(0, 0.1, truth.shape)
    after = truth + rng.normal(0, 0.1, truth.shape) + rng.normal(0, 0.4, truth.shape)
    about = {"read_variance_us2": 0.16, "reads_before": 16, "reads_after": 16}
    assert compare_readbacks(before, after, **about).drifted
    assert not compare_readbacks(before, after, lasting_variance_us2=0.16, **about).drifted


@pytest.mark.parametrize(("shift", "spread"), [(-0.2, 0.0), (0.0, 0.5)])
def test_drift_between_readbacks_is_named(shift, spread):
    rng = np.random.default_rng(5)
    truth = rng.normal(20, 8, (128, 128))
    before = truth + rng.normal(0, 0.4, truth.shape)
    after = truth + shift + rng.normal(0, spread, truth.shape) + rng.normal(0, 0.4, truth.shape)
    before[0] = np.nan
    found = compare_readbacks(before, after, read_variance_us2=16 * 0.4**2, reads_before=16, reads_after=16)
    assert found.drifted
    assert found.cells == 127 * 128
    assert "moved" in found.text
