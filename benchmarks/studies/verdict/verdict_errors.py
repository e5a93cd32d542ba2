"""How often is the verdict wrong, by the true loss? Synthetic right and wrong answers, analysed as `hil deploy` does.

Most images are sure; some hang on read noise, fewer on what a simulator does not know of the chip. Chips differ further
by a common shift of all margins, sized to the ``spread`` of their accuracies. The chip loses ``loss`` points that no
virtual chip knows, each on an image of its own, which is the noisiest way to lose them. No network is run:
``hil.verdict`` judges, interim analyses at 500, 1,000 and 2,000 images, 3 repeats, tolerance 1 point.

*this chip*: virtual chips know the chip's own errors but for the spread that the read-back leaves. *other chips*: they
share nothing with it. The chip is ``drawn`` as the virtual chips are, so that its true difference is the loss and a
draw of the spread, or stands ``at the mean``, so that it is the loss. ``former`` is the rule of version 0.8: *disagree*
as soon as test P rejects, normal quantiles in test E.

    python benchmarks/studies.py verdict-errors   # every cell; writes results/verdict_errors.jsonl
    python benchmarks/studies.py verdict-errors --runs 200 --question "this chip" --out errors.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil.verdict.statistics import compare, equivalence_test, look_limits, planned_looks, prediction_test
from hil.verdict.verdict import Verdict, decide

RESULTS = Path(__file__).parents[2] / "results" / "verdict_errors.jsonl"
IMAGES, REPEATS, TOLERANCE = 2000, 3, 0.01
LOSSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # points
UNSURE, MARGIN, OWN, LEFT = 0.08, 1.5, 0.5, 0.3  # share of images; standard deviations, in units of read noise

Right = NDArray[np.bool_]


class Cell(NamedTuple):
    question: str
    chips: int
    spread: float  # points, standard deviation
    drawn: bool  # the chip has a draw of the spread of its own
    loss: float  # points

    @property
    def known(self) -> bool:
        return self.question == "this chip"


NAMES = ("question", "virtual_chips", "spread", "chip", "loss")


def cells() -> Iterator[Cell]:
    """All of the table, in its order."""
    rows = [("this chip", 20, 0.0, True)]
    rows += [("this chip", 20, spread, drawn) for drawn in (False, True) for spread in (0.1, 0.25)]
    rows += [("other chips", chips, 0.5, drawn) for drawn in (False, True) for chips in (20, 10)]
    yield from (Cell(*row, loss) for row in rows for loss in LOSSES)


def answers(rng: np.random.Generator, cell: Cell) -> tuple[Right, Right]:
    """Right answers of the chip (repeats, images) and of the virtual chips (chips, images)."""
    left = LEFT if cell.known else OWN
    margin = np.where(rng.random(IMAGES) < UNSURE, 0.0, 6.0) + rng.normal(0, MARGIN, IMAGES)
    own = rng.normal(0, OWN, IMAGES)
    density = UNSURE / math.sqrt(2 * math.pi * (MARGIN**2 + OWN**2 + left**2 * cell.known + 1))  # of margins at 0
    shift = 0.01 * cell.spread / density * rng.standard_normal((1 + cell.chips, 1))
    lost = rng.random(IMAGES) < 0.01 * cell.loss / (1 - UNSURE / 2)
    chip = margin + own + cell.drawn * shift[0] + rng.standard_normal((REPEATS, IMAGES), np.float32)
    virtual = margin + cell.known * own + shift[1:] + rng.standard_normal((cell.chips, IMAGES), np.float32)
    return (chip > 0) & ~lost, virtual + left * rng.standard_normal((cell.chips, IMAGES), np.float32) > 0


def judged(y: Right, v: Right) -> tuple[Verdict, Verdict, int, bool]:
    """The verdict, that of the former rule, images that it took, and whether its interval holds 0."""
    looks = planned_looks(IMAGES)
    limits = look_limits(looks, len(v))
    former = Verdict.INCONCLUSIVE
    for n in looks:
        c = compare(y[:, :n], v[:, :n])
        p = prediction_test(c, v[:, :n].mean(axis=1), limits)
        e = equivalence_test(c, TOLERANCE, limits.z_equivalence)
        if former is Verdict.INCONCLUSIVE:
            inside = abs(c.difference) + limits.z_equivalence * e.standard_error <= TOLERANCE
            former = Verdict.AGREE if inside else Verdict.DISAGREE if p.rejects else former
        verdict = decide(p, e, last=n == looks[-1])
        if verdict is not Verdict.INCONCLUSIVE:
            break
    return verdict, former, n, e.low <= 0 <= e.high


def row_of(cell: Cell, runs: int) -> dict[str, object]:
    """Shares of verdicts in percent, and images (mean) of one cell."""
    rng = np.random.default_rng(np.random.SeedSequence([cell.chips, cell.known, cell.drawn, *_hundredths(cell)]))
    found = [judged(*answers(rng, cell)) for _ in range(runs)]
    counts, former = Counter(f[0] for f in found), Counter(f[1] for f in found)
    return {
        **name_of(cell),
        "runs": runs,
        **{word.value: round(100 * counts[word] / runs, 2) for word in Verdict},
        "former_agree": round(100 * former[Verdict.AGREE] / runs, 2),
        "former_disagree": round(100 * former[Verdict.DISAGREE] / runs, 2),
        "images": round(sum(f[2] for f in found) / runs),
        "disagree_with_0_inside": sum(f[0] is Verdict.DISAGREE and f[3] for f in found),
    }


def name_of(cell: Cell) -> dict[str, object]:
    chip = "drawn" if cell.drawn else "at the mean"
    return dict(zip(NAMES, (cell.question, cell.chips, cell.spread, chip, cell.loss), strict=True))


def _hundredths(cell: Cell) -> tuple[int, int]:
    return round(100 * cell.spread), round(100 * cell.loss)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000, help="of each cell")
    parser.add_argument("--question", choices=("this chip", "other chips"), help="default: both")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with options.out.open("w", encoding="utf-8") as file:
        for cell in cells():
            if options.question in (None, cell.question):
                line = json.dumps(row_of(cell, options.runs))
                file.write(line + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
