"""Figures of the how-tos, each made by commands of its page or of what the page counts.

    python docs/how_to_figures.py [PAGE …]     # writes docs/images/how-to/PAGE.svg

A function a page, of its name: what it calls are commands of the page, in an empty folder, on emulated or virtual
chips (NOT SILICON). What studies of hours counted is read from benchmarks/results.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cim
import hil
from firmware_protocols import TileAddress

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "images" / "how-to"
RESULTS = ROOT / "benchmarks" / "results"
BUNDLED = Path(hil.__file__).parent / "datasets" / "bundled" / "fashion_mnist.pt"
FEW = hil.DeployOptions(samples=300, causes=False)
matplotlib.rcParams |= {"svg.hashsalt": "hil", "svg.fonttype": "none", "font.size": 9}  # small, and the same again


def shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text("utf-8").splitlines()]


def bars(axes: Axes, groups: Sequence[str], series: dict[str, Sequence[float]], errors: Any = None) -> None:
    """Bars of each group side by side, one colour a series; ``errors``: half-widths by series."""
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        axes.bar(places, values, width, label=name, yerr=None if errors is None else errors[name], capsize=2)
    axes.set_xticks(range(len(groups)), groups)
    if len(series) > 1:
        axes.legend(fontsize="small")


# --- a page each -------------------------------------------------------------------------------


def bench_of_instruments(axes: Axes) -> None:
    shell("hil pulse staircase --emulated --macros 1 --cell 3-4,5 --cell 0:9,1 -o st.csv")
    with open("st.csv", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    for cell in sorted({row["cell"] for row in read}):
        own = [row for row in read if row["cell"] == cell]
        axes.plot(
            [int(row["pulses"]) for row in own], [float(row["conductance_us"]) for row in own], ".-",
            label=f"cell {own[0]['row']},{own[0]['column']}",
        )  # fmt: skip
    axes.set(xlabel="pulses of the staircase", ylabel="conductance in µS")
    axes.legend(fontsize="small")


def bring_your_network(axes: Axes) -> None:
    program = hil.compile(BUNDLED, "lab-128")
    found = hil.simulate(
        program, None, "fashion-mnist-bundled", ages=["1s", "1h", "1d", "30d"], chips=8, mode="fast", options=FEW
    )
    over_time(axes, found)


def over_time(axes: Axes, found: Any) -> None:
    """Virtual chips and their mean at each age."""
    names = {1.0: "1 s", 3600.0: "1 h", 86400.0: "1 d", 2592000.0: "30 d"}
    frame = 100 * found.to_frame()
    for place, age in enumerate(frame.columns):
        axes.plot([place] * len(frame), frame[age], "o", color="C0", alpha=0.4, ms=4)
    axes.plot(range(len(frame.columns)), frame.mean(), "D-", color="C1", label="mean")
    axes.set_xticks(range(len(frame.columns)), [names[age] for age in frame.columns])
    axes.set(xlabel="after writing", ylabel="images right in %")
    axes.legend(fontsize="small")


def calibrate(axes: Axes) -> None:
    shell("hil calibrate --emulated --macros 1 --quick -o a.h5")
    law = cim.load_record("a.h5").programming
    for age_s, spread in zip(law.ages_s, law.scale_us, strict=True):
        axes.plot(law.levels_us, spread, "o-", label=f"{age_s:.0f} s after programming")
    axes.set(xlabel="target in µS", ylabel="spread of the error in µS", ylim=(0, None))
    axes.legend(fontsize="small")


def data(axes: Axes) -> None:
    held = hil.load_dataset("fashion-mnist-bundled")
    np.savez("mine.npz", images=held.images, labels=held.labels, classes=held.classes)
    mine = hil.load_dataset("mine.npz")
    shown = [[mine.images[np.flatnonzero(mine.labels == k)[n], :, :, 0] for k in range(10)] for n in range(3)]
    axes.imshow(255 - np.block(shown), cmap="gray", aspect="equal")
    axes.set_xticks(14 + 28 * np.arange(10), [str(name)[:9] for name in mine.classes], fontsize=6, rotation=20)
    axes.set_yticks([])


def describe_your_chip(axes: Axes) -> None:
    shell("hil chips copy lab-128 my-chip.toml")
    for place, name in enumerate(("my-chip.toml", "neurram-256", "yao-2020")):
        levels = cim.load_chip(name).macro.levels_us
        axes.plot(levels, [place] * len(levels), "|", ms=18, mew=1.5)
        axes.annotate(name, (0, place), (0, 14), textcoords="offset points")
    axes.set(xlabel="levels of a cell in µS", yticks=[], ylim=(-0.6, 2.9))


def fine_tune(axes: Axes) -> None:
    page = (ROOT / "docs" / "how-to" / "fine-tune.md").read_text("utf-8")
    table = page[page.index("| percent right | before | tuned |") :].splitlines()[2:6]
    found = [[re.match(r"[\d.]+", cell.strip()) for cell in line.split("|")[2:4]] for line in table]
    numbers = np.array([[float(number[0]) for number in line if number] for line in found])
    names = ["in training:\nvirtual chips", "ideal", "virtual chips", "emulated chip\n(NOT SILICON)"]
    bars(axes, names, {"before": numbers[:, 0], "tuned": numbers[:, 1]})
    axes.set(ylabel="images right in %", ylim=(75, 90))


def first_real_chip(axes: Axes) -> None:
    tile = TileAddress(macro=0, row0=0, rows=8, output0=0, outputs=4)
    with hil.open_chip("emulated:lab-128?seed=7", chip="lab-128", macros=1) as chip:
        chip.program_tile(tile, np.full((8, 4), 3, np.int8))
        cells_us = chip.read_cells(0)
    shown = axes.imshow(cells_us[:12, :12])
    axes.figure.colorbar(shown, label="conductance in µS")
    axes.set(xlabel="bit line", ylabel="word line")


def first_tasks(axes: Axes) -> None:
    shell("hil chips copy lab-128 my-chip.toml")
    shell(
        r"sed -i 's/^macros = { value = 64/macros = { value = 1/; "
        r"s/^\(rows\|columns\|rows_per_read\) = { value = 128/\1 = { value = 32/' my-chip.toml"
    )
    shell("hil calibrate --emulated --chip ./my-chip.toml --quick --age 2s -o record.h5")
    law = cim.load_record("record.h5").programming
    axes.errorbar(law.levels_us, law.loc_us[-1], law.scale_us[-1], fmt="o", capsize=3)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.set(xlabel="target in µS", ylabel="shift and spread of cells in µS")


def interrupted_runs(axes: Axes) -> None:
    ended = [end.split(" at ") for row in rows("resume_anywhere") for end in row["ended"] if " at " in end]
    for place, kind in enumerate(sorted({name for name, _ in ended})):
        at = [float(where.rstrip("%")) for name, where in ended if name == kind]
        axes.plot(at, np.full(len(at), place), "|", ms=14)
    axes.set_yticks(range(len({name for name, _ in ended})), sorted({name for name, _ in ended}))
    axes.set(xlabel="ended at … % of the run; every result has the bits of one that was not interrupted", xlim=(0, 100))


def chip_disagrees(axes: Axes) -> None:
    as_calibrated = "emulated:lab-128?seed=7&macros=16"
    shell(f"hil calibrate --port '{as_calibrated}' -o day1.h5")
    changed = f"{as_calibrated}&column_gain_sigma=0.4"
    shell(
        f"hil deploy --port '{changed}' --macros 16 --calibration day1.h5 --samples 500 --without tune --no-causes "
        "--out run || true"
    )
    layers = json.loads(Path("run/report.json").read_text("utf-8"))["layers"]
    spread = {
        "chip": [layer["residual_sigma"] for layer in layers],
        "virtual chips that know its record": [layer["simulated_residual_sigma"] for layer in layers],
    }
    bars(axes, [layer["layer"] for layer in layers], spread)
    axes.set(ylabel="residual of sums, levels")


def judge_answers(axes: Axes) -> None:
    shell("hil deploy --emulated --samples 300 --repeat 2 --no-causes --out run1 || true")
    report = json.loads(Path("run1/report.json").read_text("utf-8"))["accuracy"]
    for place, name in enumerate(("simulated", "measured")):
        mean, low, high = (100 * report[name][part] for part in ("mean", "low", "high"))
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="D", capsize=4)
    axes.set_yticks(range(2), ["simulated: one chip", "answers: images"])
    axes.axvline(100 * report["float"], color="0.4", linestyle=":", label="float")
    axes.set(xlabel="images right in %, 95 % intervals", ylim=(-0.6, 1.6))
    axes.legend(fontsize="small")


def mlperf_tiny(axes: Axes) -> None:
    found = [row for row in rows("mlperf_tiny") if (row["network"], row["inputs"]) == ("ic_resnet8", "suite-200")]
    found = [row for row in found if row["images"] == 200]
    named = {f"{row['backend']}\n{row['arrangement']}": row["right"] for row in found}
    bars(axes, list(named), {"": list(named.values())})
    axes.tick_params("x", labelsize=7)
    axes.set(ylabel="right of the suite's 200 images")


def my_network_loses_accuracy(axes: Axes) -> None:
    steps = {
        "none": ("rounding", "untuned"), "scales": ("output", "untuned"), "+ copies": ("output+idle", "untuned"),
        "+ tune: all": ("output+aims+idle", "tuned"), "+ rewrite=3": ("output+aims+idle+rewrite", "tuned"),
    }  # fmt: skip
    found = {(row["network"], row["techniques"]): row for row in rows("ablation")}
    networks = {"resnet20": "ResNet-20", "fmnist_cnn5x5": "5×5 CNN", "bundled": "bundled"}
    series = {
        name: [100 * found[key, techniques][how] for techniques, how in steps.values()]
        for key, name in networks.items()
    }
    bars(axes, list(steps), series)
    axes.set(ylabel="images right in %", ylim=(55, 95))


def orbit(axes: Axes) -> None:
    for row in (r for r in rows("flight") if not r["left_out"]):
        axes.plot(100 * row["predicted"], 100 * row["accuracy"], "o", color={"small": "C0"}.get(row["network"], "C1"))
    axes.axline((80, 80), slope=1, color="0.6", lw=0.8)
    axes.set(xlabel="predicted of the mission, images right in %", ylabel="flown")


def peers(axes: Axes) -> None:
    found, names = rows("peer_noise"), {"ours": "hil", "aihwkit": "AIHWKit", "crosssim": "CrossSim"}
    series = {name: [row[key]["mean"] for row in found] for key, name in names.items()}
    errors = {name: [row[key]["se"] for row in found] for key, name in names.items()}
    bars(axes, ["ResNet-14, W4", "ResNet-20, W4"], series, errors)
    axes.set(ylabel="images right in %, ± 1 SE")


def port_the_firmware(axes: Axes) -> None:
    server = subprocess.Popen(
        ["hil", "emulate", "--firmware", "native", "--pty"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        with hil.open_chip(server.stdout.readline().strip()) as chip:
            tile = TileAddress(macro=0, row0=0, rows=chip.spec.macro.rows, output0=0, outputs=4)
            levels = np.random.default_rng(1).integers(-3, 4, (tile.rows, 4)).astype(np.int8)
            chip.program_tile(tile, levels)
            codes = np.random.default_rng(2).integers(0, 16, (40, tile.rows)).astype(np.int16)
            sums = chip.mvm(tile, codes, range_code=3, input_bits=4, input_signed=False).values
    finally:
        server.terminate()
        server.wait(30)
    axes.plot((codes.astype(int) @ levels).ravel(), sums.ravel(), ".", ms=3)
    axes.set(xlabel="integer product", ylabel="ADC codes of the C firmware")


def predict_ahead(axes: Axes) -> None:
    shutil.copy(BUNDLED, "net.pt")
    found = hil.simulate(
        hil.compile("net.pt", "lab-128"), None, "fashion-mnist-bundled", ages=["1d", "30d"], chips=30, mode="fast",
        options=FEW,
    )  # fmt: skip
    frame = 100 * found.to_frame()
    for age, name in zip(frame.columns, ("1 d", "30 d"), strict=True):
        axes.hist(frame[age], bins=12, alpha=0.6, label=name)
    axes.set(xlabel="images right in %", ylabel="virtual chips")
    axes.legend(fontsize="small")


def search(axes: Axes) -> None:
    for name in ("fashion-mnist", "cifar10"):
        front = json.loads((ROOT / "examples" / "searches" / name / "front.json").read_text("utf-8"))["members"]
        axes.plot([m["edp_mj_ms"] for m in front], [m["accuracy"] for m in front], "o", ms=4, label=name)
    axes.set(xscale="log", xlabel="EDP in mJ·ms", ylabel="predicted accuracy in %")
    axes.legend(fontsize="small")


def tasks(axes: Axes) -> None:
    found = rows("task_studies")
    names = ["float", "ideal", "simulated", "emulated"]
    series = {n: [100 * (r[n] if n in ("float", "ideal") else r[n][0]) for r in found] for n in names}
    bars(axes, [f"{row['study']}\n{row['metric']}" for row in found], series)
    axes.set(ylabel="score in %")


def techniques(axes: Axes) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import accuracy

    found = accuracy.gains(accuracy.cached_rows(RESULTS / "gains.jsonl"))
    networks = list(dict.fromkeys(Path(network).stem for network, *_ in found))
    for network in networks:
        own = [(technique, points, half) for name, technique, points, half in found if Path(name).stem == network]
        places = np.arange(len(own)) + 0.15 * (networks.index(network) - (len(networks) - 1) / 2)
        axes.errorbar(places, [o[1] for o in own], [o[2] for o in own], fmt="o", ms=4, capsize=3, label=network)
        axes.set_xticks(range(len(own)), [o[0] for o in own])
    axes.axhline(0, color="0.6", lw=0.8)
    axes.set(ylabel="points that it gives, 95 % interval")
    axes.legend(fontsize="small")


FIGURES: dict[str, Callable[[Axes], None]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        bench_of_instruments, bring_your_network, calibrate, chip_disagrees, data, describe_your_chip, fine_tune,
        first_real_chip,
        first_tasks, interrupted_runs, judge_answers, mlperf_tiny, my_network_loses_accuracy, orbit, peers,
        port_the_firmware, predict_ahead, search, tasks, techniques,
    )
}  # fmt: skip


def main() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or list(FIGURES):
        figure = Figure(figsize=(5.6, 3.0), layout="constrained")
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            FIGURES[name](figure.add_subplot())
        figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
        print(f"docs/images/how-to/{name}.svg", flush=True)


if __name__ == "__main__":
    main()
