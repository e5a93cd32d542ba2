"""Does a network survive on its chip? The first thing that a reader wants to know, beside whether it was predicted."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_LOSS = 0.05  # of accuracy from ideal to chip, below which a network is not said to be lost
TOLERANCES = 3.0  # and at least so many tolerances
RESIDUAL = "residual=2,reads=32"  # the technique that saved the deepest network that was tried (docs/benchmarks.md)
PREDICTED_SHARE = 0.25  # of the loss that simulated and measured accuracy may be apart, to call the loss predicted


@dataclass(frozen=True, slots=True)
class Survival:
    """A network that loses much of its accuracy on the chip: ``lost``, a fraction, and ``help``, best first."""

    lost: float
    predicted: bool  # virtual chips lose as much
    text: str
    help: tuple[str, ...]


def survival(
    *, ideal: float, simulated: float, measured: float, tolerance: float, tuned: bool, network: str
) -> Survival | None:
    """Judge accuracies, fractions; None where the network keeps its accuracy.

    Args:
        tuned: whether gains and biases were tuned to the chip.
        network: name of the network, for the commands.

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
    file = f"{network}.pt"
    steps = [] if tuned else [f"hil deploy {file} with its tune: gains and biases tuned to the chip"]
    steps += [
        f"hil improve {file} --data DATA …   techniques from cheap to dear, each with what it gave",
        f"hil deploy {file} --with {RESIDUAL} …   lower bit slices hold what cells missed, on more macros",
        f"hil deploy {file} --with rewrite=3 …   write cells again that left their window",
        f"hil finetune {file} --data DATA --calibration RECORD -o tuned.pt   train under the chip's errors",
    ]
    return Survival(lost, predicted, text, tuple(steps))


def lost_on_virtual_chips(ideal: float, simulated: float, *, residual: bool) -> str:
    """What virtual chips lose of the ideal network, and an option that helps; "" where they keep it.

    Args:
        ideal, simulated: accuracies, fractions.
        residual: whether the network has residual slices already.

    Example: 88 % ideal and 0 simulated are 88 points, and ``--with residual=2,reads=32`` is named.
    """
    lost = ideal - simulated
    if lost < LEAST_LOSS:
        return ""
    helps = "hil improve looks for more" if residual else f"try hil simulate --with {RESIDUAL}, which takes more macros"
    return f"{100 * lost:.0f} points from a perfect chip to these; {helps}"
