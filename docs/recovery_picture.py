"""Picture for the README: what a network keeps on a chip of its float accuracy, untreated and treated.

    hil deploy r20.pt --emulated --data cifar10 --effort 0 --no-causes
    hil deploy r20.pt --emulated --data cifar10 --no-causes
    python docs/recovery_picture.py "as compiled=runs/0001" "as hil deploy does=runs/0002"

Writes docs/images/recovery.svg: intervals of 20 virtual chips, and beside them the chip, of the same images.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

PICTURE = Path(__file__).parent / "images" / "recovery.svg"
HEIGHT_IN, ROW_IN = 1.1, 0.55
matplotlib.rcParams["svg.hashsalt"] = "hil"  # the same file from the same runs


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    named = [argument.partition("=") for argument in sys.argv[1:]]
    reports = [(name, json.loads((Path(run) / "report.json").read_text("utf-8"))) for name, _, run in named]
    figure = Figure(figsize=(7.2, HEIGHT_IN + ROW_IN * len(reports)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, report) in enumerate(reports):
        found = report["accuracy"]
        simulated, chip = found["simulated"], found["measured"]
        mean, low, high = (100 * simulated[name] for name in ("mean", "low", "high"))
        axes.errorbar(
            mean, place, xerr=[[mean - low], [high - mean]], fmt="o", mfc="white", color="#4c6ef5", capsize=4,
            label=f"simulated, {report['questions']['this_chip']['chips']} virtual chips"
            if not place and "this_chip" in report["questions"]
            else None,
        )  # fmt: skip
        axes.plot(100 * chip["mean"], place, "D", color="#e8590c", label=None if place else report["backend"])
        axes.annotate(f"{100 * chip['mean']:.1f} %", (100 * chip["mean"], place), (0, -14), textcoords="offset points")
    exact = 100 * reports[0][1]["accuracy"]["float"]
    axes.axvline(exact, color="0.4", linestyle=":", label=f"float {exact:.1f} %")
    axes.set_yticks(range(len(reports)), [name for name, _ in reports])
    axes.set_ylim(len(reports) - 0.4, -0.6)
    axes.set_xlabel("accuracy in %, the same 1,000 CIFAR-10 images")
    axes.legend(fontsize="small", loc="lower left")
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
