"""Does the warning of an implausible tune tell wrong chips from faithful ones, whatever their physics?

Chips of four physics (the emulated chip with traps, the C die, and two of ``foreign_chips``), faithful and wrong ones
of each (``CHIPS``), are calibrated, written, read back, tuned and run through the driver, with a network of one macro;
20 exact virtual chips are tuned beside each. What both give is a line of the results; lines that stand there are not
made again.

    python benchmarks/studies.py foreign-tunes [--out benchmarks/results/foreign_tunes.jsonl]
    python benchmarks/studies.py foreign-tunes --table                # rates, of what stands in the results

``MISFIT`` and ``EFFECT_LIMIT`` of ``hil.verdict.tuning`` were set on these chips, of which wrong ones count whose tuned
or untuned accuracy is more than ``MOVED`` points from their virtual chips'. They are tested on others
(``not_as_calibrated.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from cached_rows import cache_row, cached_rows
from foreign_chips import ROOT, Filaments, Mirrors, Tampered
from numpy.typing import NDArray

from cim.chip.file import load_chip
from hil.calibration.procedure import calibrate
from hil.deployment.deploy import write_whole
from hil.deployment.deployment import Deployment
from hil.deployment.options import DeployOptions, usual_recipe
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.emulator.address import chip_from_address
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.transports.in_process import InProcessTransport
from hil.verdict.fidelity import explained_share
from hil.verdict.tuning import MISFIT, summarise_tune, t_limit, taken_away
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.moves import Flatten
from mapping.operators.products import Conv, Linear
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.tune.channel_affine import ChannelFit, TuneTargets, tune_targets

SPEC = load_chip("lab-128", macros=1)
CHIPS = {"C die": (10, 15), "filaments": (10, 11), "emulated": (5, 5), "mirrors": (5, 5)}  # faithful, wrong
PHYSICS = ("emulated", "mirrors", "C die", "filaments")
MOVED = 1.0  # points
RESULTS = ROOT / "benchmarks" / "results" / "foreign_tunes.jsonl"
WRONG = (
    ("gains", 0.15), ("losses", 0.4), ("crosstalk", 0.2), ("residue", 0.3), ("compression", 0.6),
    ("gains", 0.3), ("losses", 0.7), ("crosstalk", 0.4), ("residue", 0.5), ("compression", 0.9),
    ("crosstalk", 0.3),
)  # fmt: skip
WRONG_DIE = (
    {"residue": 0.2}, {"residue": 0.3}, {"residue": 0.4}, {"residue": 0.5}, {"residue": 0.6},
    {"droop": 0.2}, {"droop": 0.3}, {"droop": 0.4}, {"droop": 0.5}, {"droop": 0.6},
    {"residue": 0.15}, {"residue": 0.25}, {"residue": 0.35}, {"residue": 0.45}, {"residue": 0.55},
)  # fmt: skip
LASTING_US = (0.05, 0.1, 0.15, 0.2, 0.25)
SIDE, PATCH, CLASSES, FILTERS = 12, 4, 10, 14
IMAGES = 1000
OPTIONS = DeployOptions(samples=IMAGES, repeats=2, virtual_chips=20, causes=False, recipe=usual_recipe("tune=64"))


def images(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images of ten faint patterns under noise, and their classes."""
    patterns = np.random.default_rng(7).normal(0, 1, (CLASSES, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = 128 + 14 * patterns[labels] + 36 * rng.standard_normal((count, SIDE, SIDE))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None], labels


def network(seed: int = 1) -> ConductanceProgram:
    """Convolution of random kernels, ReLU, linear layer by least squares: 14 and 10 outputs, W4A8."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.4, (FILTERS, 1, PATCH, PATCH)).astype(np.float32)
    pixels, labels = images(6000, seed=2)
    x = (pixels[..., 0] / 255.0 - 0.5).reshape(-1, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    features = np.maximum(np.einsum("niyjx,ocyx->noij", x, kernel), 0).reshape(len(x), -1)
    features = np.hstack([features, np.ones((len(x), 1))])
    wanted = np.eye(CLASSES)[labels] - 1 / CLASSES
    solved = np.linalg.solve(features.T @ features + 2 * np.eye(features.shape[1]), features.T @ wanted)
    nodes = (
        Conv(name="conv", inputs=("input",), weight=kernel, stride=(PATCH, PATCH)),
        Relu(name="relu", inputs=("conv",)),
        Flatten(name="flat", inputs=("relu",)),
        Linear(
            name="fc", inputs=("flat",), weight=solved[:-1].T.astype(np.float32), bias=solved[-1].astype(np.float32)
        ),
    )
    graph = NetworkGraph((1, SIDE, SIDE), nodes, Preprocess((0.5,), (1.0,)), tuple("abcdefghij"))
    file = NetworkFile(graph, 4, 8, pixels[:64], labels[:64])
    return compile_network(file, SPEC, options=LayoutOptions(averaged=True))


@contextlib.contextmanager
def opened(physics: str, number: int, wrong: bool) -> Iterator[tuple[ChipDriver, Tampered | None, str]]:
    """A chip behind its driver, what puts the effect into its products once calibrated, and the effect in words."""
    seed, lasting = 500 + number, LASTING_US[number % len(LASTING_US)]
    if physics == "C die":
        settings = WRONG_DIE[number] if wrong else {"telegraph_us": 0.5 + 0.2 * number, "line_ohm": 0.2 * (number % 5)}
        firmware = running_firmware(FirmwareTarget.NATIVE, SPEC, seed=seed, settings=settings, where="127.0.0.1:0")
        with firmware as place, open_chip(place, chip=SPEC) as driver:
            yield driver, None, " ".join(f"{k}={v:.3g}" for k, v in settings.items())
        return
    chip: Any
    if physics == "emulated":
        more = f"&supply_droop={0.01 * (number % 3)}&inl_lsb={0.3 + 0.2 * (number % 4)}"
        chip = chip_from_address(f"emulated:lab-128?macros=1&seed={seed}&lasting_noise_us={lasting}{more}")
    else:
        chip = {"mirrors": Mirrors, "filaments": Filaments}[physics](SPEC, seed, lasting)
    effect, size = WRONG[number] if wrong else ("", 0.0)
    role = Tampered(chip, effect, size, seed)
    with connect(InProcessTransport(role, f"{physics} {number}"), chip=SPEC) as driver:
        yield driver, role, f"{effect} {size}" if wrong else f"lasting {lasting}"


def measured(program: ConductanceProgram, physics: str, number: int, wrong: bool) -> dict[str, Any]:
    """One chip and its virtual chips: lines of every layer, accuracies in percent, shares explained."""
    start_s, watch = time.process_time(), Watch()
    pixels, labels = images(IMAGES, seed=3)
    with opened(physics, number, wrong) as (driver, role, words):
        record = calibrate(driver, program.macros)
        if role is not None:
            role.begin()
        recipe = OPTIONS.recipe_of(program)
        aimed = recipe.prepared(program, record, watch)
        targets, inputs = recipe.targets(aimed, watch), training_inputs(aimed)
        assert targets is not None
        chip = write_whole(driver, aimed, record, inputs, targets, pixels, OPTIONS, watch, force=True)
        tuned = chip.measure(pixels, 0, watch)
        job = Deployment(driver, aimed, record, {}, inputs, None, {}, OPTIONS, None, targets=targets).on_chip(chip)  # type: ignore[arg-type]
        virtual = job.virtual_chips(conditioned=True)
        simulated = virtual.run(pixels, 0, watch)
        plain = job.virtual_chips(conditioned=True, tuned=False, chips=5).run(pixels, 0, watch)
        assert chip.tuned is not None
        assert chip.untuned is not None
        fits, others = chip.tuned.fits, [virtual.tunes[n].fits for n in range(virtual.chips)]
    ideal = run(program, pixels, IdealMultiply(program))
    rho = float(np.square(np.diff(tuned.astype(np.float64), axis=0)).mean()) / 2.0

    def right(logits: NDArray[Any]) -> float:
        return round(100 * float((logits.argmax(-1) == labels).mean()), 2)

    def eta(answers: NDArray[Any], belief: NDArray[Any], noise: float) -> float | None:
        share = explained_share(answers, belief, ideal, noise)
        return None if share is None else round(share, 4)

    def lines(fit: Any) -> dict[str, Any]:
        return {
            "gain": np.round(fit.gain, 5).tolist(), "offset": np.round(fit.offset, 2).tolist(),
            "before": round(fit.before, 6), "after": round(fit.after, 6),
        }  # fmt: skip

    rest = [eta(z, (simulated.sum(0) - z) / (len(simulated) - 1), rho) for z in simulated]
    return {
        "physics": physics, "chip": number, "wrong": wrong, "what": words,
        "flicker": round(float(record.read_noise.flicker_us2.mean()), 5),
        "ideal": right(ideal), "tuned": right(tuned), "simulated": right(simulated), "untuned": right(chip.untuned),
        "untuned_simulated": right(plain),
        "eta": eta(tuned.mean(0), simulated.mean(0), rho / 2), "eta_untuned": eta(chip.untuned[0], plain.mean(0), rho),
        "eta_virtual": round(float(np.mean([e for e in rest if e is not None] or [0.0])), 4),
        "layers": [
            {"name": fit.layer, "own": lines(fit), "virtual": [lines(o[at]) for o in others]}
            for at, fit in enumerate(fits)
        ],
        "cpu_s": round(time.process_time() - start_s, 1),
    }  # fmt: skip


def fit_of(layer: str, kept: dict[str, Any]) -> ChannelFit:
    return ChannelFit(
        layer, np.array(kept["gain"]), np.array(kept["offset"]), kept["before"], kept["after"], limited=0, still=0
    )


def moved(row: dict[str, Any]) -> float:
    """How far an accuracy is from that of the virtual chips, the tuned or the untuned one, points."""
    return max(abs(row["tuned"] - row["simulated"]), abs(row["untuned"] - row["untuned_simulated"]))


def judged(row: dict[str, Any], targets: TuneTargets) -> tuple[bool, float, float]:
    """Whether the tune is warned of, its largest distance, and its largest e / e_v."""
    own = [fit_of(layer["name"], layer["own"]) for layer in row["layers"]]
    virtual = [
        [fit_of(layer["name"], layer["virtual"][n]) for layer in row["layers"]]
        for n in range(len(row["layers"][0]["virtual"]))
    ]
    found = summarise_tune(own, virtual, targets)
    ratios = []
    for at, fit in enumerate(own):
        chip, among = taken_away(fit, [lines[at] for lines in virtual], targets.sums[fit.layer])
        ratios.append(chip / among)
    return bool(found.warnings), max(layer.distance or 0.0 for layer in found.layers), max(ratios)


def table(rows: list[dict[str, Any]]) -> str:
    """Of each physics, and of all: chips, warned, ranges."""
    program = network()
    targets = tune_targets(program, OPTIONS.recipe.tune_images(program))
    every = [(row, *judged(row, targets)) for row in rows]
    groups = {**{p: (p,) for p in PHYSICS}, "all": PHYSICS}
    lines = [
        "| physics | chips | warned | by the distance alone | e / e_v | η, tuned |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, physics in groups.items():
        for wrong in (False, True):
            here = [e for e in every if e[0]["physics"] in physics and e[0]["wrong"] == wrong]
            here = [e for e in here if not wrong or moved(e[0]) > MOVED]
            limit = t_limit(OPTIONS.virtual_chips, 2 * len(program.matrices))
            ratios, etas = [e[3] for e in here], [e[0]["eta"] for e in here if e[0]["eta"] is not None]
            lines.append(
                f"| {name} | {'wrong' if wrong else 'faithful'} | {sum(e[1] for e in here)} of {len(here)} "
                f"| {sum(e[2] > limit for e in here)} of {len(here)} | {min(ratios):.1f} … {max(ratios):,.1f} "
                f"| {min(etas):.2f} … {max(etas):.2f} |"
            )
    left = [row for row in rows if row["wrong"] and moved(row) <= MOVED]
    lines.append(f"\n{len(left)} more wrong chips moved by {MOVED:g} point or less; e / e_v above {MISFIT:g} is asked")
    return "\n".join(lines)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, default=RESULTS)
    ask.add_argument("--table", action="store_true")
    given = ask.parse_args()
    if given.table:
        print(table(cached_rows(given.out)))
        return
    program, rows = network(), cached_rows(given.out)
    done = {(r["physics"], r["chip"], r["wrong"]) for r in rows}
    asked = [(p, n, bool(w)) for p, many in CHIPS.items() for w in (0, 1) for n in range(many[w])]
    for physics, number, wrong in asked:
        if (physics, number, wrong) not in done:
            cache_row(given.out, measured(program, physics, number, wrong))


if __name__ == "__main__":
    main()
