"""Speed, row by row of speed.toml: whole networks beside a plain torch forward, peers beside the same, whole processes.

    python benchmarks/speed.py --list
    python benchmarks/speed.py ROW … [--images 64] [--rounds 5] [--out FILE]
    python benchmarks/speed.py peers --env peers [--peer peers/bin/python --crosssim cross-sim]

A row with a *network* (random weights, compiled for ``lab-128``) runs it from pixels to logits by
``mapping.program.execute.run``, products and all digital operations. ``ideal`` multiplies integers; ``fast`` and
``exact`` are a virtual chip with read noise, conversion noise, gain, offset and INL of every conversion, ``…_wires``
with 1 ohm a cell too; ``single`` is ``exact`` without look-ups, every tile in single precision; ``emulated`` is the
emulated chip through the wire; ``digital`` has products that are known.
Plain torch is the float network, batch normalisation folded, channels last. CPU times of one thread, all runs
interleaved, medians of the ratios of each round; ``made_cpu_s`` is what each mode takes to be made.

A row with *peers* runs each setting of ``peer_forward.py`` in a process of its own, beside a plain forward in the same
process; only the ratios are compared. A row with *techniques* makes virtual chips with and without each of them: cells
drawn, read back, columns corrected. ``--env`` is a folder for a Python of the peers' own, made where it is not there
with AIHWKit and CrossSim; ``--peer`` and ``--crosssim`` take one that is there already. A row with a *command* is the
command as a user starts it: CPU seconds and peak memory, imports included. One JSON line a row, with its limits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cached_rows import cache_row
from numpy.typing import NDArray
from torch.fx.experimental.optimization import fuse
from torch_networks import module

import hil
from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from cim.simulator.exact import lookup_engine
from hil.deployment.inference import MeasuredLayers
from hil.deployment.options import DeployOptions
from hil.deployment.targets.wired import program_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.architectures import build
from mapping.network.capture import capture
from mapping.network.file import NetworkFile, save_network
from mapping.network.graph import Preprocess
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, Multiply, run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe

HERE = Path(__file__).parent
ROWS = HERE / "speed.toml"
SEED = 1
STORED = 32  # training images
PACKAGES = ("torch==2.10.0", "aihwkit==1.1.0", "scipy")
CROSSSIM = "git+https://github.com/sandialabs/cross-sim@main"
FAST = 8  # images of a peer's setting that takes every round


@dataclass(frozen=True, slots=True)
class Row:
    """What is timed: a network in some modes, a command, or settings of peers with the images that each sees."""

    name: str
    network: str = ""
    side: int = 32
    macros: int = 0
    modes: tuple[str, ...] = ()
    command: str = ""
    techniques: tuple[str, ...] = ()  # as --with takes them
    peers: dict[str, int] = field(default_factory=dict)
    images: int = 64
    rounds: int = 5
    limits: dict[str, float] = field(default_factory=dict)


def read_rows(path: Path = ROWS) -> dict[str, Row]:
    told = tomllib.loads(path.read_text("utf-8"))
    lists = ("modes", "techniques")
    return {
        name: Row(name, **{**about, **{key: tuple(about[key]) for key in lists if key in about}})
        for name, about in told.items()
    }


class Known:
    """Products that were worked out before: what is left of a run are its digital operations."""

    def __init__(self, program: ConductanceProgram, images: NDArray[np.uint8]) -> None:
        self.found: dict[str, NDArray[np.int32]] = {}

        def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
            self.found[step.name] = sums

        run(program, images, IdealMultiply(program), tap=keep, batch=len(images))

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return self.found[step.name][: len(codes)]


def network_of(row: Row) -> tuple[NetworkFile, torch.nn.Module]:
    """A network with random weights, and its float form."""
    shape, rng = (3, row.side, row.side), np.random.default_rng(SEED)
    stored = np.random.default_rng(3).integers(0, 256, (STORED, row.side, row.side, 3), np.uint8)
    if row.network in ("vit", "mobilenet_v3"):
        torch.manual_seed(SEED)
        if row.network == "vit":
            from task_networks import SmallViT

            plain = SmallViT().eval()
        else:
            from torchvision.models import mobilenet_v3_small

            plain = mobilenet_v3_small(num_classes=10).eval()
        rule = Preprocess((0.5,) * 3, (0.25,) * 3)
        graph = capture(plain, torch.zeros(1, *shape), preprocess=rule, classes=tuple("0123456789"))
    else:
        classes, more = (1000, {"stem": 7}) if row.network == "resnet18" else (10, {})
        graph = build(row.network, classes=tuple(map(str, range(classes))), input_shape=shape, rng=rng, **more)
        again = np.random.default_rng(SEED)
        plain = module(row.network, classes=classes, input_shape=shape, rng=again, **more).eval()
    folded = plain if row.network == "vit" else fuse(plain).to(memory_format=torch.channels_last)
    return NetworkFile(graph, 4, 8, stored), folded


def record_of(program: ConductanceProgram, ohm: float) -> CalibrationRecord:
    """A record with every error switched on."""
    record, rng = nominal_record(program.spec, program.macros), np.random.default_rng(2)
    macros = {
        number: replace(
            part,
            gain=1.0 + 0.05 * rng.standard_normal(len(part.gain)),
            offset_codes=rng.uniform(-2.0, 2.0, len(part.gain)),
            conversion_noise_codes=np.full(len(part.gain), 0.3),
            inl_codes=0.5 * rng.standard_normal(part.inl_codes.shape),
        )
        for number, part in record.macros.items()
    }
    noise = ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2))
    return replace(record, macros=macros, read_noise=noise, wire=Wire(ohm, 0.0))


@contextlib.contextmanager
def multiplier(program: ConductanceProgram, mode: str, images: NDArray[np.uint8]) -> Iterator[Multiply]:
    """What multiplies in a mode."""
    if mode == "ideal":
        yield IdealMultiply(program)
    elif mode == "digital":
        yield Known(program, images)
    elif mode == "emulated":
        with hil.open_chip("emulated:lab-128?seed=1", chip=program.spec) as chip:
            program_chip(chip, program, sample=0, watch=Watch())
            yield MeasuredLayers(chip, program, nominal_corrections(program))
    else:
        kind, _, wires = mode.partition("_")
        record, inputs = record_of(program, 1.0 if wires else 0.0), training_inputs(program)
        chips = VirtualChips(
            program, record, Recipe(reads=16), 1, SEED, inputs=inputs, mode="exact" if kind == "single" else kind
        )
        none = mock.patch.object(lookup_engine, "steps_for", return_value=None)
        with none if kind == "single" else contextlib.nullcontext():
            chip = chips.chip(0)
        yield chip


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def network_row(row: Row) -> dict[str, Any]:
    """Times of a whole network in each mode, over a plain forward."""
    torch.set_num_threads(1)
    network, whole = network_of(row)
    program = compile_network(network, load_chip("lab-128", macros=row.macros or None))
    images = np.random.default_rng(3).integers(0, 256, (row.images, row.side, row.side, 3), np.uint8)
    pixels = torch.rand(row.images, 3, row.side, row.side).contiguous(memory_format=torch.channels_last)

    def plain() -> None:
        with torch.inference_mode():
            whole(pixels)

    with contextlib.ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        made: dict[str, float] = {}
        for mode in row.modes:
            began = time.process_time()
            multiply = stack.enter_context(multiplier(program, mode, images))
            made[mode] = round(time.process_time() - began, 2)
            runs[mode] = lambda chosen=multiply: run(program, images, chosen, batch=row.images)
        for work in (plain, *runs.values()):
            work()
        ratios: dict[str, list[float]] = {name: [] for name in runs}
        base: list[float] = []
        for _ in range(row.rounds):
            before = cpu_s(plain)
            spent = {name: cpu_s(work) for name, work in runs.items()}
            base.append((before + cpu_s(plain)) / 2)
            for name, value in spent.items():
                ratios[name].append(value / base[-1])
    found = {name: round(statistics.median(v), 2) for name, v in ratios.items()}
    return {
        "images": row.images,
        "plain_ms_per_image": round(statistics.median(base) * 1e3 / row.images, 3),
        "times_plain": found,
        "made_cpu_s": made,
    }


def technique_row(row: Row) -> dict[str, Any]:
    """CPU time of making a virtual chip with each technique, over that of one without."""
    program = compile_network(network_of(row)[0], load_chip("lab-128", macros=row.macros or None))
    record, inputs = nominal_record(program.spec, program.macros), training_inputs(program)
    usual = DeployOptions().recipe_of(program)
    made = {name: usual.changed([name] if name else [], []) for name in ("", *row.techniques)}
    chips = {
        name: VirtualChips(program, record, recipe, row.rounds + 1, SEED, inputs=inputs)
        for name, recipe in made.items()
    }
    for them in chips.values():
        them.draw(0)
    spent = {
        name: statistics.median(cpu_s(partial(them.draw, n)) for n in range(1, row.rounds + 1))
        for name, them in chips.items()
    }
    return {
        "macros": len(program.macros),
        "made_cpu_s": {name or "as compiled": round(s, 3) for name, s in spent.items()},
        "times_plain": {name: round(spent[name] / spent[""], 2) for name in row.techniques},
    }


def command_row(row: Row) -> dict[str, Any]:
    """CPU time and peak memory of a command; {net} is a file with the row's network."""
    quiet = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    with tempfile.TemporaryDirectory() as folder:
        if "{net}" in row.command:
            save_network(network_of(row)[0], Path(folder) / "net.pt")
        words = shlex.split(row.command.format(net=f"{folder}/net.pt", folder=folder))
        # A child counts its parent's memory from before it became a program of its own: a small shell starts it.
        script = "import os, sys; _, s, u = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, sys.argv[1:]), 0); "
        script += "print(s, u.ru_utime + u.ru_stime, u.ru_maxrss, file=sys.stderr)"
        command = [sys.executable, "-c", script, sys.executable, "-m", *words]
        done = subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    status, seconds, kilobytes = done.stderr.splitlines()[-1].split()
    if int(status):
        raise SystemExit(f"{row.command} ended with status {status}:\n{done.stderr}")
    return {"cpu_s": round(float(seconds), 2), "peak_mb": round(int(kilobytes) * 1024e-6, 1)}


def environment(folder: Path) -> Path:
    """The Python of an environment with the peers, made where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", *PACKAGES, CROSSSIM], check=True)
    return python


def peer_row(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """Each setting of the peers; without a ratio where it takes more than --limit CPU seconds."""
    python, found = given.peer or environment(given.env), dict[str, Any]()
    source = [] if given.crosssim is None else [str(given.crosssim)]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.random.default_rng(3).integers(0, 256, (row.images, row.side, row.side, 3), np.uint8))
        for setting, count in row.peers.items():
            rounds = row.rounds if count >= FAST else 1
            answer = subprocess.run(
                [python, HERE / "peer_forward.py", setting, images, str(count), str(rounds), *source],
                capture_output=True,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (given.limit, given.limit + 5)),
            )
            if answer.returncode > 0:
                raise SystemExit(f"{setting}: {answer.stderr[-2000:]}")
            times = (
                json.loads(answer.stdout.splitlines()[-1]) if answer.returncode == 0 else {"over_cpu_s": given.limit}
            )
            found[setting] = {"images": count, **{name: float(f"{value:.4g}") for name, value in times.items()}}
    return {"peers": found}


def measured(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """The line of a row: what was measured, and which of its limits are missed."""
    found: dict[str, Any] = {"row": row.name}
    if row.peers:
        found |= peer_row(row, given)
    found |= network_row(row) if row.modes else {}
    found |= command_row(row) if row.command else {}
    found |= technique_row(row) if row.techniques else {}
    numbers = {**found, **found.get("times_plain", {})}
    return {**found, "limits": row.limits, "missed": [n for n, limit in row.limits.items() if numbers[n] > limit]}


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("rows", nargs="*", metavar="ROW")
    ask.add_argument("--list", action="store_true", help="print the rows")
    ask.add_argument("--images", type=int, help="instead of the row's")
    ask.add_argument("--rounds", type=int, help="instead of the row's")
    ask.add_argument("--env", type=Path, default=Path("peers"), help="environment of the peers")
    ask.add_argument("--peer", type=Path, help="a Python that has the peers")
    ask.add_argument("--crosssim", type=Path, help="its source, where --peer has not installed it")
    ask.add_argument("--limit", type=int, default=1800, help="CPU seconds of one setting of a peer")
    ask.add_argument("--out", type=Path, default=HERE / "results" / "speed.jsonl")
    given = ask.parse_args()
    rows = read_rows()
    if given.list:
        print("\n".join(map(str, rows.values())))
        return 0
    if unknown := set(given.rows) - set(rows):
        ask.error(f"no row {', '.join(sorted(unknown))}: --list prints them")
    for row in (rows[name] for name in given.rows):
        asked = replace(row, images=given.images or row.images, rounds=given.rounds or row.rounds)
        cache_row(given.out, measured(asked, given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
