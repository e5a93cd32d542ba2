"""What a report says first of a network that loses its accuracy on the chip."""

from __future__ import annotations

import pytest

from hil.verdict.survival import lost_on_virtual_chips, survival


def judged(ideal: float, simulated: float, measured: float, *, tolerance: float = 0.01, tuned: bool = True):  # type: ignore[no-untyped-def]
    return survival(
        ideal=ideal, simulated=simulated, measured=measured, tolerance=tolerance, tuned=tuned, network="resnet8"
    )


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


def test_help_names_commands_and_begins_with_the_tune_where_it_was_left_out() -> None:
    found = judged(0.88, 0.30, 0.29, tuned=False)
    assert found is not None
    assert "--without", "tune" in found.help[0]
    assert [step.split()[1] for step in found.help[1:]] == ["improve", "deploy", "deploy", "finetune"]
    assert "--with residual=2,reads=32" in found.help[2]
    tuned = judged(0.88, 0.30, 0.29)
    assert tuned is not None
    assert "hil improve resnet8.pt" in tuned.help[0]


def test_a_loss_on_virtual_chips_is_told_with_the_option_that_helps() -> None:
    assert lost_on_virtual_chips(0.92, 0.90, residual=False) == ""
    said = lost_on_virtual_chips(0.88, 0.0, residual=False)
    assert said.startswith("88 points from a perfect chip to these; try hil simulate --with residual=2,reads=32")
    assert "residual" not in lost_on_virtual_chips(0.88, 0.70, residual=True)
