"""Does a network survive on its chip? The first thing that a reader wants to know, beside whether it was predicted."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_LOSS = 0.05  # of accuracy from ideal to chip, below which a network is not said to be lost
TOLERANCES = 3.0  # and at least so many tolerances
PREDICTED_SHARE = 0.25  # of the loss that simulated and measured accuracy may be apart, to call the loss predicted


@dataclass(frozen=True, slots=True)
class Survival:
    """A network that loses much of its accuracy on the chip: ``lost``, a fraction."""

    lost: float
    predicted: bool  # virtual chips lose as much
    text: str


def survival(*, ideal: float, simulated: float, measured: float, tolerance: float) -> Survival | None:
    """Judge accuracies, fractions; None where the network keeps its accuracy.

    Example: 88 % ideal, 29 % simulated and 28 % measured: lost 0.60, predicted.
    """
    lost = ideal - measured
    if lost < max(LEAST_LOSS, TOLERANCES * tolerance):
        return None
    predicted = abs(measured - simulated) <= PREDICTED_SHARE * lost
    fall = f"{100 * ideal:.0f} → {100 * measured:.0f} %"
    if predicted:
        text = (
            f"the chip predicts well, and this network does not survive on it: {fall}, simulated {100 * simulated:.0f}"
        )
    else:
        text = (
            f"this network does not survive on the chip: {fall}, and virtual chips keep {100 * simulated:.0f} %: "
            "look for what the record does not know (causes, layers, cells) before anything else"
        )
    return Survival(lost, predicted, text)


def lost_on_virtual_chips(ideal: float, simulated: float) -> str:
    """What virtual chips lose of the ideal network, accuracies as fractions; "" where they keep it.

    Example: 88 % ideal and 0 simulated are 88 points.
    """
    lost = ideal - simulated
    return f"{100 * lost:.0f} points from a perfect chip to these" if lost >= LEAST_LOSS else ""
