"""Whether the sample networks of a search have taught it anything: else its front would name winners by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hil.errors import NothingLearned
from hil.searching.networks import samples_of
from hil.searching.work import SearchRun
from search.choice.accuracy import AdditiveAccuracy

CHANCE = 0.05  # what is likelier than this by chance alone has taught nothing


def check_learned(run: SearchRun, model: AdditiveAccuracy) -> None:
    """Refuse to choose networks by accuracies that say nothing.

    Raises:
        NothingLearned: no sample network is better than the commonest class, none is better than another, or all
            predictions are the mean within their errors.
    """
    genomes, accuracies = samples_of(run.inputs.space, run.folder.samples)
    predicted, error = model.additive.predict(genomes)
    settings, kept = run.settings, run.inputs.kept
    found = nothing_learned(accuracies, kept.labels)
    if not found and bool((np.abs(predicted - predicted.mean()) <= error).all()):
        found = f"the predicted accuracies of all {len(accuracies)} sample networks are their mean within the error"
    if found:
        raise NothingLearned(
            f"the search has learned nothing, so it names no network: {found}",
            where=f"{run.folder.root} (teacher, stages and sample networks are kept)",
            likely=f"{settings.sample_epochs} epochs of {len(run.inputs.brief):,} images a sample network are too few, "
            f"or {len(accuracies)} sample networks, or {len(kept):,} images that score them",
            hint=f"hil search run … --sample-epochs {4 * settings.sample_epochs} --samples {2 * settings.samples} "
            f"--teacher {run.folder.teacher} --out ANOTHER, with more images where there are",
        )


def nothing_learned(accuracies: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    """Why accuracies (percent) of networks on images with these labels tell none of them apart; "": they do.

    The best is tested against the share of the commonest class (binomial, by the number of networks), and all against
    their mean (χ², with the variance that so many images leave).
    """
    if found := by_chance(accuracies, labels):
        return found
    images = len(labels)
    right = _right(accuracies, images)
    share = float(right.mean()) / images
    spread = float(((right - right.mean()) ** 2).sum()) / (images * share * (1 - share)) if 0 < share < 1 else 0.0
    if float(stats.chi2.sf(spread, len(accuracies) - 1)) > CHANCE:
        return (
            f"accuracies of {len(accuracies)} sample networks, {accuracies.min():.1f} to {accuracies.max():.1f} %, "
            f"differ by no more than {images:,} images leave to chance"
        )
    return ""


def by_chance(accuracies: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    """Why the best network is no better than always predicting the commonest class; "": it is better."""
    count, images = len(accuracies), len(labels)
    chance = float(np.bincount(labels).max()) / images
    best = int(_right(accuracies, images).max())
    if count * float(stats.binom.sf(best - 1, images, chance)) > CHANCE:
        return (
            f"the best of {count} networks has {best} of {images:,} images right, "
            f"{round(chance * images)} are of the commonest class"
        )
    return ""


def _right(accuracies: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Counts that ``hil.searching.networks.imperfect`` made percentages of."""
    return np.asarray(np.rint(accuracies / 100 * (images + 1) - 0.5))
