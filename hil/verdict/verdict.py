"""One question judged: do measured and simulated accuracy, or another metric, agree within the tolerance?

The same function answers both questions of a run. *This chip*: virtual chips conditioned on
what was read back from it. *Other chips*: virtual chips programmed again, nothing read back.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.intervals import mean_interval, wilson
from hil.verdict.fidelity import Fidelity, Logits, fidelity
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.set_metric import SetScore, SetScores, drawn_interval
from hil.verdict.statistics import (
    FEWEST_CHIPS,
    FEWEST_IMAGES,
    FEWEST_REPEATS,
    Comparison,
    CriticalValues,
    Equivalence,
    McNemar,
    PredictionTest,
    Trend,
    chance_to_agree,
    compare,
    discordance,
    equivalence_test,
    image_variance,
    images_enough,
    look_limits,
    mcnemar,
    prediction_test,
    repeat_discordance,
    repeat_trend,
    score_step,
    smallest_gap,
)


class Verdict(enum.StrEnum):
    AGREE = "agree"
    DISAGREE = "disagree"
    INCONCLUSIVE = "inconclusive"


class Mode(enum.StrEnum):
    """Knowledge of the virtual chips about the real one."""

    CONDITIONED = "conditioned"  # record and read-back of this programming: *this chip*
    UNCONDITIONAL = "unconditional"  # record only, programmed again: *other chips*


PREDICTION_HOLDS = "these images held fixed; virtual chips and reads vary"
INTERVAL_HOLDS = "this chip and its programming held fixed; images vary"
TESTED = {
    Mode.CONDITIONED: "this chip as it is written: does it score here like a virtual chip that knows its cells",
    Mode.UNCONDITIONAL: "this chip as one of its kind: does it score here like a virtual chip that was written again",
}


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Variance components of the metric, as standard deviations in its unit (points)."""

    image: float  # s_d / √n
    read: float | None  # √r2, one repeat; None without repeats
    chip: float  # √max(0, v1 − r2): programming spread, or what the read-back leaves open


@dataclass(frozen=True, slots=True)
class Discordance:
    """Shares of images on which right and wrong differ."""

    chip_simulator: float
    chip_ideal: float
    repeat_repeat: float | None


@dataclass(frozen=True, slots=True)
class Power:
    agree_if_equal: float  # P(agree | no difference) at this number of images
    smallest_gap: float  # fraction; seen by test P with 95 %
    images_enough: int | None  # fewest images with P(agree | no difference) ≥ 90 %
    advice: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The numbers behind one verdict, as fractions or as scores of ``metric`` in their unit."""

    verdict: Verdict
    text: str
    final: bool  # False: another planned interim analysis follows
    flags: tuple[str, ...]
    mode: Mode
    claim: str
    tolerance: float
    n: int
    repeats: int
    chips: int
    simulator_reads: int
    look: int  # counts from 1
    looks: tuple[int, ...]
    alpha_prediction: float
    alpha_equivalence: float
    ideal: Interval
    measured: Interval  # 95 % over n images
    measured_repeats: tuple[float, ...]
    simulated: Interval  # prediction band for one chip on these images
    simulated_chips: tuple[float, ...]
    difference: float  # measured − simulated
    interval90: tuple[float, float]  # simultaneous over the interim analyses
    interval95: tuple[float, float]
    prediction: PredictionTest
    equivalence: Equivalence
    components: VarianceComponents
    discordance: Discordance | None  # of right and wrong answers
    power: Power
    loss: Interval  # measured − ideal, 90 %: a difference in spite of its name, which reports 1.x keep
    mcnemar: McNemar | None  # of right and wrong answers
    trend: Trend | None
    fidelity: Fidelity | None
    metric: Metric = ACCURACY
    tested: str = ""  # the question in words; "" before report 1.4

    @property
    def lost(self) -> Interval:
        """Lost from ideal to measured, 90 %; below zero gained, whichever way of the metric is better."""
        d = self.loss
        return Interval(-d.mean, -d.high, -d.low) if self.metric.greater else d


def judge(
    measured_correct: NDArray[Any],
    simulated_correct: NDArray[Any],
    ideal_correct: NDArray[Any],
    *,
    mode: Mode,
    tolerance: float = 0.01,
    look: int = 1,
    looks: Sequence[int] | None = None,
    population: int | None = None,
    simulator_reads: int = 1,
    alpha_p: float = 0.05,
    alpha_e: float = 0.05,
    measured_logits: Logits | None = None,
    simulated_logits: Logits | None = None,
    ideal_logits: Logits | None = None,
    metric: Metric = ACCURACY,
    set_score: SetScore | None = None,
) -> Judgement:
    """Judge right answers, or scores of ``metric``, of the chip (m, n), the virtual chips (S, n) and the ideal network.

    ``looks`` are the planned image counts and ``look`` the number of this one, from 1; the plan
    is fixed before the first image. ``population`` makes the claim about that fixed set of which
    these images were drawn at random. ``simulator_reads`` says of how many reads a value of the
    virtual chips is the mean. With logits, (…, classes), fidelity is reported too.

    The ideal network's scores are (n,). With ``set_score`` the metric is one of the whole set
    (``hil.verdict.set_metric``) and the scores are evidence, (…, n, k).
    """
    y, v, q = (np.asarray(a, np.float64) for a in (measured_correct, simulated_correct, ideal_correct))
    plan = (len(q),) if looks is None else tuple(looks)
    _check(y, v, q, tolerance, look, plan, population, metric)
    sets = None if set_score is None else SetScores.of(set_score, y, v, q)
    c = compare(y, v, binary=metric.binary) if sets is None else sets.compared()
    limits = look_limits(plan, c.chips, alpha_e=alpha_e, alpha_p=alpha_p)
    accuracies = v.mean(axis=1) if sets is None else sets.simulated[:, 0]
    claim = "new images like these" if population is None else f"the fixed set of {population:,} images"
    z_chip, z_sim, z_ideal = measured_logits, simulated_logits, ideal_logits
    logits = None
    if z_chip is not None and z_sim is not None and z_ideal is not None:
        logits = fidelity(z_chip, z_sim, z_ideal, conditioned=mode is Mode.CONDITIONED, classes=metric.binary)
    return judgement_of(
        c,
        accuracies,
        limits,
        tolerance=tolerance,
        look=look,
        looks=plan,
        population=population,
        metric=metric,
        loss=_loss(y, q, metric) if sets is None else sets.loss(),
        same_logits=_all_same(z_chip),
        mode=mode,
        claim=claim,
        simulator_reads=simulator_reads,
        alpha_prediction=alpha_p,
        alpha_equivalence=alpha_e,
        ideal=_over_samples(q[None], metric) if sets is None else _over_draws(sets.ideal),
        measured=_over_samples(y, metric) if sets is None else _over_draws(sets.measured.mean(axis=0)),
        measured_repeats=tuple(float(a) for a in (y.mean(axis=1) if sets is None else sets.measured[:, 0])),
        discordance=Discordance(discordance(y, v), discordance(y, q), repeat_discordance(y)) if metric.binary else None,
        mcnemar=mcnemar(y, v) if metric.binary else None,
        trend=repeat_trend(y) if sets is None else sets.trend(),
        fidelity=logits,
        tested=f"{TESTED[mode]}, and within the tolerance of their mean for {claim}?",
    )


def judgement_of(
    c: Comparison,
    accuracies: NDArray[np.float64],
    limits: CriticalValues,
    *,
    tolerance: float,
    looks: tuple[int, ...],
    loss: tuple[float, float],
    look: int = 1,
    population: int | None = None,
    metric: Metric = ACCURACY,
    same_logits: bool = False,
    **known: Any,
) -> Judgement:
    """The verdict on a comparison, with all that it rests on.

    Args:
        accuracies: (S,) of the virtual chips.
        loss: measured − ideal, and its standard error.
        known: further fields of the judgement, as they are.
    """
    p = prediction_test(c, accuracies, limits)
    e = equivalence_test(c, tolerance, limits.z_equivalence, population)
    refusals, power = refusals_of(c), power_of(c, tolerance, limits)
    verdict = decide(p, e, last=look == len(looks), refused=bool(refusals))
    band = limits.t_prediction * c.prediction_error
    wide = c.quantile(limits.z_prediction, population) * e.standard_error
    lost, half = loss[0], limits.z_equivalence * loss[1]
    ends = (0.0, 1.0) if metric.share else (-np.inf, np.inf)
    return Judgement(
        verdict=verdict,
        text=verdict_text(verdict, c, p, e, tolerance, power, refusals, metric),
        final=verdict is not Verdict.INCONCLUSIVE or look == len(looks),
        flags=(*refusals, *flags_of(c, p, e, known["trend"], verdict, metric, same_logits)),
        tolerance=tolerance,
        n=c.n,
        repeats=c.repeats,
        chips=c.chips,
        look=look,
        looks=looks,
        simulated=Interval(c.simulated, max(ends[0], c.simulated - band), min(ends[1], c.simulated + band)),
        simulated_chips=tuple(float(a) for a in accuracies),
        difference=c.difference,
        interval90=(e.low, e.high),
        interval95=(c.difference - wide, c.difference + wide),
        prediction=p,
        equivalence=e,
        components=VarianceComponents(
            metric.factor * (c.image_variance / c.n) ** 0.5,
            None if c.read_variance is None else metric.factor * c.read_variance**0.5,
            metric.factor * c.persistent_variance**0.5,
        ),
        power=power,
        loss=Interval(lost, lost - half, lost + half),
        metric=metric,
        **known,
    )


def _all_same(logits: Logits | None) -> bool:
    """Whether repeats (m, …) are equal to the bit."""
    return logits is not None and bool((np.asarray(logits) == np.asarray(logits)[:1]).all())


def _loss(y: NDArray[Any], q: NDArray[Any], metric: Metric) -> tuple[float, float]:
    """Measured − ideal over samples, and its standard error."""
    lost = y.mean(axis=0) - q
    variance = image_variance(lost, score_step(lost, binary=metric.binary))
    return float(lost.mean()), (variance / len(q)) ** 0.5


def _over_samples(scores: NDArray[Any], metric: Metric) -> Interval:
    """Mean of scores (m, n) with its 95 % interval over samples: Wilson of right answers, else Student's t."""
    mean, n = float(scores.mean()), scores.shape[1]
    if metric.binary:
        return Interval(mean, *wilson(float(scores.sum(axis=1).mean()), n))
    low, high = mean_interval(scores.mean(axis=0))
    return Interval(mean, max(0.0, low), min(1.0, high)) if metric.share else Interval(mean, low, high)


def _over_draws(scores: NDArray[Any]) -> Interval:
    return Interval(float(scores[0]), *drawn_interval(scores))


def decide(p: PredictionTest, e: Equivalence, *, last: bool, refused: bool = False) -> Verdict:
    """The table: within the tolerance; else not predicted and beyond the tolerance; else inconclusive.

    Args:
        last: no analysis is planned after this one, so that a likely excess is enough.
        refused: bars agreement only.
    """
    if e.holds:
        return Verdict.INCONCLUSIVE if refused else Verdict.AGREE
    beyond = e.beyond or (last and e.likely_beyond)
    return Verdict.DISAGREE if p.rejects and beyond else Verdict.INCONCLUSIVE


def verdict_text(
    verdict: Verdict,
    c: Comparison,
    p: PredictionTest,
    e: Equivalence,
    tolerance: float,
    power: Power,
    refusals: Sequence[str] = (),
    metric: Metric = ACCURACY,
) -> str:
    """The verdict in plain words, with its numbers in the metric's unit."""
    d, delta = metric.difference(c.difference), metric.limit(tolerance)
    interval = f"90 % interval {metric.span((e.low, e.high))}"
    if verdict is Verdict.AGREE and not p.rejects:
        return f"predicted, within {delta}: difference {d}, {interval}"
    if verdict is Verdict.AGREE:
        return f"within {delta}, but a real difference of about {d} exists, smaller than the tolerance ({interval})"
    if verdict is Verdict.DISAGREE:
        size = "beyond" if e.beyond else "probably beyond"
        return f"not predicted, {size} {delta}: difference {d}, {interval}"
    if refusals:
        return f"no verdict of agreement: {'; '.join(refusals)} (difference {d}, {interval})"
    among = (  # beyond, and not rejected: the simulator itself predicts chips that lie as far from their mean
        f"beyond the tolerance, but virtual chips scatter by ±{metric.amount(p.limit * c.prediction_error, 1)} and "
        "this chip may be one of them: averaged copies or repeated reads narrow the scatter, more images do not"
    )
    return f"not decided: difference {d}, {interval}, tolerance {delta}; {among if e.beyond else power.advice}"


def power_of(c: Comparison, tolerance: float, limits: CriticalValues) -> Power:
    """Chance that the comparison ends in agreement with its number of images, and how many would be enough."""
    chance = float(chance_to_agree(c, tolerance, limits.z_equivalence, images=c.n))
    enough = images_enough(c, tolerance, limits.z_equivalence)
    if enough is None:
        advice = "no number of images is enough: average more read-backs or raise the tolerance"
    elif enough <= c.n:
        advice = f"{enough:,} images are enough for a simulator that is right; the difference itself is near the limit"
    else:
        advice = f"{enough:,} images would be enough if the simulator is right"
    return Power(chance, smallest_gap(c, limits), enough, advice)


def refusals_of(c: Comparison) -> tuple[str, ...]:
    """Reasons that exclude *agree*: too few images, repeats or virtual chips."""
    minima = ((c.n, FEWEST_IMAGES, "images"), (c.repeats, FEWEST_REPEATS, "repeats of the chip"))
    needs = (*minima, (c.chips, FEWEST_CHIPS, "virtual chips"))
    return tuple(
        f"agreement needs at least {least} {what}, this run has {has}" for has, least, what in needs if has < least
    )


def flags_of(
    c: Comparison,
    p: PredictionTest,
    e: Equivalence,
    trend: Trend | None,
    verdict: Verdict,
    metric: Metric,
    same_logits: bool = False,
) -> tuple[str, ...]:
    """Reservations that a reader must know beside the verdict."""
    flags = []
    if verdict is Verdict.AGREE and p.rejects:
        flags.append(f"a real difference of about {metric.difference(c.difference)} exists, smaller than the tolerance")
    if verdict is Verdict.INCONCLUSIVE and p.rejects:
        flags.append("not predicted on these images; whether by more than the tolerance is not decided")
    if p.rejects and e.low <= 0 <= e.high:
        flags.append(f"the test ({PREDICTION_HOLDS}) sees a difference, the interval ({INTERVAL_HOLDS}) holds 0 too")
    if c.read_variance == 0.0:
        doubt = ", nor did a single logit: are the repeats fresh reads?" if same_logits else ""
        flags.append(f"no answer changed its score from repeat to repeat{doubt}")
    if trend is not None and trend.seen:
        moved = metric.difference(trend.per_repeat)
        flags.append(f"{metric.title} moves by {moved} from repeat to repeat: drift is likely")
    return tuple(flags)


def _check(
    y: NDArray[Any],
    v: NDArray[Any],
    q: NDArray[Any],
    tolerance: float,
    look: int,
    looks: tuple[int, ...],
    population: int | None,
    metric: Metric,
) -> None:
    axes = 1 if metric.paired else 2  # of a set metric: samples and their evidence
    if y.ndim != axes + 1 or v.ndim != axes + 1 or q.ndim != axes:
        raise ValueError(f"shapes must be (m, n), (S, n) and (n,), got {y.shape}, {v.shape} and {q.shape}")
    if not metric.paired and population is not None:
        raise ValueError(f"{metric.name} is judged for new samples, not for a fixed set of {population}")
    n = len(q)
    if y.shape[1] != n or v.shape[1] != n:
        raise ValueError(f"chip, simulator and ideal answered {y.shape[1]}, {v.shape[1]} and {n} images")
    if not 0 < tolerance < (1 if metric.share else np.inf):
        raise ValueError(f"the tolerance is a fraction between 0 and 1, or a positive score; got {tolerance}")
    if not 1 <= look <= len(looks) or looks[look - 1] != n:
        raise ValueError(f"analysis {look} of the plan {looks} does not have {n} images; none is made outside the plan")
    if population is not None and population < n:
        raise ValueError(f"a fixed set of {population} images cannot give {n} drawn without replacement")
