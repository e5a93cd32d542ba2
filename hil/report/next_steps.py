"""Next commands after a report: at most three, the most useful first."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from hil.pages.summary import NextStep
from hil.report.losses import lost_to
from hil.report.step_words import RECALIBRATED, REWRITTEN, with_options, word_of, words_for
from hil.report.tables import worst_layers
from hil.verdict.agreement import AgreementReport
from hil.verdict.statistics import FEWEST_IMAGES, FEWEST_REPEATS
from hil.verdict.verdict import Verdict

MOST_STEPS = 3
ENOUGH_IMAGES, ENOUGH_PASSES = 2000, 3
CELLS = {"programming", "relaxation", "programming and relaxation"}  # causes that writing again can mend
LEFT = 0.005  # share of the answers that so many copies or reads leave lost
FORBIDS = {  # by cause: what a chip would need to lose less; {n}: copies or reads that leave ``LEFT``
    **dict.fromkeys(CELLS, "the cells: {n} copies would leave about {left}, if the loss falls with their variance"),
    "read noise": "the cells: {n} reads of a product would leave about {left}, if the loss falls with their variance",
    "ADC": "the converter: its range, bits or noise",
    "IR drop": "the array: its wires; fewer rows lose less",
    "inputs": "the array: its row drivers",
    "quantisation": "the array: its bits of weights and inputs",
}


def next_steps(report: AgreementReport) -> tuple[NextStep, ...]:
    """At most three commands, by verdict and loss, the most useful first."""
    if report.moved and report.verdict is not Verdict.DISAGREE:
        steps = _after_moved(report)
    elif report.verdict is Verdict.DISAGREE:
        steps = _after_disagree(report)
    elif report.verdict is Verdict.INCONCLUSIVE:
        steps = _after_inconclusive(report)
    elif lost_to(report).seen:
        steps = _after_loss(report)
    else:
        steps = _after_agree(report)
    return tuple(steps)[:MOST_STEPS]


def _after_agree(report: AgreementReport) -> Iterator[NextStep]:
    yield NextStep(words_for(report).simulated(), "does it last?")
    yield NextStep(f"hil estimate {word_of(report.run + '/program.h5')}", "cost of every layer")
    yield NextStep(f"hil show {word_of(report.run)} --all", "every number of this run")


def _after_moved(report: AgreementReport) -> Iterator[NextStep]:
    yield NextStep(words_for(report).deployed(RECALIBRATED), "a record of the chip as it is now")
    yield NextStep(f"hil show {word_of(report.run)} --all", "what moved, layer by layer")


def _after_loss(report: AgreementReport) -> Iterator[NextStep]:
    lost = next((cause.name for cause in lost_to(report).told), "")
    if lost in CELLS and not report.chip.told_by and report.rewrite is None:
        yield NextStep(words_for(report).deployed(REWRITTEN), "writes cells again that left their window")
    yield NextStep(words_for(report).improved(), f"techniques from cheap to dear{_forbids(report)}")
    yield NextStep(words_for(report).trained(), "trains it for the errors of this chip")


def _forbids(report: AgreementReport) -> str:
    """The largest cause of loss and its remedy as a phrase; "" if no cause stands out."""
    metric = report.decisive.metric
    largest = next((cause for cause in lost_to(report).told if cause.loss > 0 and cause.name in FORBIDS), None)
    if largest is None or not metric.binary:
        return ""
    needed = FORBIDS[largest.name].format(n=max(2, ceil(largest.loss / LEFT)), left=metric.amount(LEFT, 1))
    return f"; {metric.amount(largest.loss, 1)} are lost to {needed}"


def _after_disagree(report: AgreementReport) -> Iterator[NextStep]:
    if not report.chip.told_by:
        yield NextStep(words_for(report).deployed(RECALIBRATED), "measures again what the simulator knows of the chip")
    if worst := worst_layers(report):
        yield NextStep(f"hil show {word_of(report.run)} --all", f"the layers that are off: {', '.join(worst)}")
    if report.chip.told_by:
        yield NextStep(f"hil show {word_of(report.run)} --all", "every number that the verdict rests on")
    else:
        yield NextStep(
            f"hil board mvm --port {word_of(report.chip.address)} --level 3", "one product that is known, by itself"
        )


def _after_inconclusive(report: AgreementReport) -> Iterator[NextStep]:
    j = report.decisive
    enough = j.power.images_enough
    if report.chip.told_by:
        yield NextStep(f"hil show {word_of(report.run)} --all", "every number that the verdict rests on")
        return
    few, once = j.n < FEWEST_IMAGES, j.repeats < FEWEST_REPEATS
    words, available = words_for(report), report.data.available
    images = min(ENOUGH_IMAGES, available)
    if few and available < FEWEST_IMAGES:
        yield NextStep(words.with_more_samples(), f"there are {available:,} samples; a verdict takes {FEWEST_IMAGES:,}")
    elif few and once:
        both = with_options(f"--samples {images} --repeat {ENOUGH_PASSES}", samples=images, repeats=ENOUGH_PASSES)
        yield NextStep(words.deployed(both), "enough for a verdict")
    elif few:
        more = with_options(f"--samples {images}", samples=images)
        yield NextStep(words.deployed(more), "enough images for a verdict")
    elif once:
        passes = with_options(f"--repeat {ENOUGH_PASSES}", repeats=ENOUGH_PASSES)
        yield NextStep(words.deployed(passes), "enough passes for a verdict")
    elif j.equivalence.beyond:
        yield from _after_loss(report)  # less scatter, which more images do not bring
    elif enough is not None and j.n < enough <= available:
        all_of = with_options(f"--samples {enough} --all-images", samples=enough, all_images="True")
        yield NextStep(words.deployed(all_of), "enough images for a verdict")
    else:
        seed = report.seeds.get("host", 0) + 1
        yield NextStep(words.deployed(with_options(f"--seed {seed}", seed=seed)), "other images, other virtual chips")
    yield NextStep(f"hil show {word_of(report.run)} --all", "every number that the verdict rests on")
