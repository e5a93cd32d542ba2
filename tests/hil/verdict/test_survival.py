"""What a report says first of a network that loses its accuracy on the chip."""

from __future__ import annotations

import pytest

from hil.verdict.survival import lost_on_virtual_chips, survival


def judged(ideal: float, simulated: float, measured: float, *, tolerance: float = 0.01):  # type: ignore[no-untyped-def]
    return survival(ideal=ideal, simulated=simulated, measured=measured, tolerance=tolerance)


def test_a_network_that_keeps_its_accuracy_is_not_said_to_be_lost() -> None:
    assert judged(0.92, 0.915, 0.91) is None


@pytest.mark.parametrize(("loss", "lost"), [(0.05, False), (0.061, True)])
def test_the_loss_has_to_pass_five_points_and_three_tolerances(loss: float, lost: bool) -> None:
    assert (judged(0.9, 0.9, 0.9 - loss, tolerance=0.02) is not None) is lost


def test_a_loss_that_was_simulated_is_called_predicted() -> None:
    found = judged(0.88, 0.30, 0.29)
    assert found is not None
    assert found.predicted
    assert "does not survive" in found.text
    assert "88 → 29 %, simulated 30" in found.text


def test_a_loss_that_was_not_simulated_points_to_the_record() -> None:
    found = judged(0.88, 0.85, 0.29)
    assert found is not None
    assert not found.predicted
    assert "virtual chips keep 85 %" in found.text


def test_a_loss_on_virtual_chips_is_said_where_it_is_much() -> None:
    assert lost_on_virtual_chips(0.92, 0.90) == ""
    assert lost_on_virtual_chips(0.88, 0.0) == "88 points from a perfect chip to these"
