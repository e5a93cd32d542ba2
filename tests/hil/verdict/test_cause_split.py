"""The shares of a game: what Shapley's axioms promise, closed forms, and gaps whose parts are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.verdict.cause_split import CauseAnswers, shapley, split_energy, split_losses

PLAYERS = ("programming", "read noise", "calibration error")


def game(players: int, worth: object) -> NDArray[np.float64]:
    """Values of all coalitions; ``worth`` takes the set of players that are in."""
    sets = [{i for i in range(players) if c >> i & 1} for c in range(1 << players)]
    return np.array([worth(s) for s in sets], np.float64)  # type: ignore[operator]


def test_two_players_share_what_only_both_together_bring() -> None:
    assert shapley(np.array([0.0, 1.0, 2.0, 5.0])) == pytest.approx([2.0, 3.0])


def test_shares_sum_to_the_value_of_everything_on() -> None:
    values = np.random.default_rng(1).normal(size=(64, 7))
    shares = shapley(values)
    assert shares.shape == (6, 7)
    assert shares.sum(axis=0) == pytest.approx(values[-1] - values[0], abs=1e-12)


def test_a_player_that_never_adds_anything_gets_nothing() -> None:
    """v = |S without 2|²: player 2 is a dummy; the others are alike and share 4."""
    shares = shapley(game(3, lambda s: len(s - {2}) ** 2))
    assert shares == pytest.approx([2.0, 2.0, 0.0])


def test_players_that_add_alike_get_alike() -> None:
    """v = |S|² of five players: each gets 25 / 5."""
    assert shapley(game(5, lambda s: len(s) ** 2)) == pytest.approx([5.0] * 5)


def test_an_additive_game_gives_each_player_its_own_value() -> None:
    own = [0.5, 2.0, 0.0, 7.25]
    assert shapley(game(4, lambda s: sum(own[i] for i in s))) == pytest.approx(own)


def test_the_glove_game_pays_the_scarce_glove_two_thirds() -> None:
    """One left glove (0), two right ones (1, 2); a pair is worth 1: shares 2/3, 1/6, 1/6."""
    assert shapley(game(3, lambda s: float(0 in s and len(s) > 1))) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_shares_of_a_sum_of_games_are_sums_of_shares() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 16))
    assert shapley(a + 3 * b) == pytest.approx(shapley(a) + 3 * shapley(b))


def test_a_game_without_all_coalitions_is_refused() -> None:
    with pytest.raises(ValueError, match="2\\^n"):
        shapley(np.zeros(6))


# --- a gap of accuracy --------------------------------------------------------------------------

N = 400


def wrong(*images: range) -> NDArray[np.bool_]:
    """All right but these."""
    right = np.ones(N, np.bool_)
    for part in images:
        right[part.start : part.stop] = False
    return right


def answers(*, unexplained: int = 0, chips: int = 4) -> CauseAnswers:
    """Programming loses images 0–39, read noise 20–79 (the first half of 20–39 in both), calibration nothing."""
    programming, noise = range(40), range(20, 80)
    both = wrong(programming, noise)
    rows = [
        wrong(programming)[None],  # {programming}
        wrong(noise)[None],  # {read noise}
        both[None],
        np.stack([wrong()] * 2),  # {calibration error}
        np.stack([wrong(programming)] * 2),
        np.stack([wrong(noise)] * 2),
    ]
    measured = np.stack([wrong(programming, noise, range(100, 100 + unexplained))] * 3)
    start = np.ones(N, np.bool_)
    ideal = start.copy()
    ideal[399] = False
    for row in (*rows, measured):
        row[..., 399] = False
    simulated = np.stack([both & ideal] * chips)
    return CauseAnswers(start, ideal, measured, simulated, rows)


def test_the_parts_of_a_gap_sum_to_it_exactly() -> None:
    gap, parts = split_losses(answers(unexplained=10), PLAYERS, seed=0)
    assert gap.loss == pytest.approx(91 / N)
    assert sum(p.loss for p in parts) == pytest.approx(gap.loss, abs=1e-12)
    assert [p.name for p in parts] == ["quantisation", *PLAYERS, "unexplained"]


def test_images_lost_to_either_of_two_parts_are_shared_between_them() -> None:
    """20 images are lost to programming alone, 40 to read noise alone, 20 to either: 30 and 50."""
    _, parts = split_losses(answers(unexplained=10), PLAYERS, seed=0)
    loss = {p.name: p.loss * N for p in parts}
    assert loss == pytest.approx(
        {"quantisation": 1, "programming": 30, "read noise": 50, "calibration error": 0, "unexplained": 10}, abs=1e-9
    )


def test_intervals_hold_the_estimate_and_have_the_width_of_a_binomial_share() -> None:
    """30 of 400 images: σ = √(0.075 · 0.925 / 400) would be 1.3 points; halves of shared images make it less."""
    gap, parts = split_losses(answers(), PLAYERS, seed=0)
    noise = next(p for p in parts if p.name == "read noise")
    assert noise.low < noise.loss < noise.high
    values = np.r_[np.ones(40), np.full(20, 0.5), np.zeros(N - 60)]
    assert noise.high - noise.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(N), rel=0.1)
    assert gap.low < gap.loss < gap.high
    nothing = next(p for p in parts if p.name == "unexplained")
    assert (nothing.loss, nothing.low, nothing.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, again, other = (split_losses(answers(unexplained=9), PLAYERS, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_virtual_chips_that_were_not_in_the_coalitions_count_as_calibration_error() -> None:
    """Two of four chips lose 40 images more: the mean of all four loses 20 more than that of the first two."""
    base = answers()
    simulated = base.simulated.copy()
    simulated[2:, 200:240] = False
    gap, parts = split_losses(
        CauseAnswers(base.start, base.ideal, base.measured, simulated, base.coalitions), PLAYERS, seed=0
    )
    loss = {p.name: p.loss * N for p in parts}
    assert loss["calibration error"] == pytest.approx(20)
    assert loss["unexplained"] == pytest.approx(-20)
    assert sum(loss.values()) == pytest.approx(gap.loss * N)
    interval = next(p for p in parts if p.name == "calibration error")
    assert interval.high - interval.low > 2 * 20 / N


def test_the_error_energy_of_a_layer_is_shared_and_sums() -> None:
    """Energies 4 and 9 that add, one virtual chip with 1 more of calibration error; the chip itself has 20."""
    one = np.ones(1)
    rows = [4 * one, 9 * one, 13 * one, np.array([1.0, 1.0]), np.array([5.0, 5.0]), np.array([10.0, 10.0])]
    layer = split_energy("conv1", 900.0, 20.0, np.array([14.0, 14.0, 17.0]), rows, PLAYERS)
    assert layer.parts == pytest.approx({"programming": 4, "read noise": 9, "calibration error": 2, "unexplained": 5})
    assert sum(layer.parts.values()) == pytest.approx(layer.energy)
