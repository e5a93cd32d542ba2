"""The cells of one record in three simulators: ours, AIHWKit and CrossSim (``hil chip export``), side by side.

    HIL_DATA=… python benchmarks/studies.py peer-noise --peer PEER-PYTHON --crosssim FOLDER [--chips 10] [--images 200]

PEER-PYTHON has torch 2.10 and aihwkit 1.1.0 (``speed.py`` makes such an environment), FOLDER is CrossSim's
source. ResNet-14 and ResNet-20 (CIFAR-10, lossless images), 4-bit weights as levels of lab-128's cells: every layer's
levels are the weights of the peers' layers, with our scale of each output behind them, so that the same weights stand
on the same conductances. Cells are those of lab-128's models a day after programming, with stuck cells; columns are
ideal and reads without noise in all three, since cells are what is exported. Activations have 8 bits here and are
floats there, which end where our codes end: without that, errors of cells make values that our codes cut off.
One line a network in ``results/peer_noise.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from exact_matrix import large_enough
from numpy.typing import NDArray
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch_networks import ARCHITECTURES

from cim.chip.file import load_chip
from cim.chip.spec import AdcSpec, ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.datasets.image_set import load_dataset
from hil.deployment.import_weights import import_network
from hil.deployment.options import DeployOptions, usual_recipe
from hil.device_fit.noise_export import Peer, noise_model
from hil.prediction.predict import VirtualRow
from hil.simulation.virtual_chip import build_chip
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.quantise.scales import code_limits

ROWS = Path(__file__).parents[2] / "results/peer_noise.jsonl"
NETWORKS, CHIP, DAY_S = ("cifar_resnet14_b", "cifar_resnet20_b"), "lab-128", 86400.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def matrix_of(program: ConductanceProgram, number: int) -> NDArray[np.int64]:
    """Levels of one layer, (inputs, outputs)."""
    group = program.matrices[number].group
    whole = np.zeros((group.inputs, group.outputs), np.int64)
    for tile in group.pieces:
        whole[tile.inputs.start : tile.inputs.stop, tile.outputs.start : tile.outputs.stop] += tile.multiplier * (
            tile.levels.astype(np.int64)
        )
    return whole


def likeness(levels: NDArray[Any], weights: NDArray[Any]) -> float:
    """Mean cosine of the columns."""
    lengths = np.linalg.norm(levels, axis=0) * np.linalg.norm(weights, axis=0)
    return float(((levels * weights).sum(0) / np.maximum(lengths, 1e-12)).mean())


def job_of(name: str, program: ConductanceProgram, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What a peer is given: levels, scales and biases of every layer by its name in the fused module, and pixels."""
    from safetensors.torch import load_file

    module = ARCHITECTURES[name](input_shape=(3, 32, 32), classes=10)
    state = load_file(Path(os.environ["HIL_DATA"]) / "models" / f"{name.replace('cifar_', 'cifar10_')}.safetensors")
    module.load_state_dict(state, strict=False)
    plain = fuse(module.eval())
    layers = [(n, m) for n, m in plain.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    left = list(range(len(program.matrices)))
    ends = ends_of(program)
    found: dict[str, NDArray[Any]] = {"pixels": (images / 255.0 - MEAN) / np.array(STD)}
    for layer, part in layers:
        weights = part.weight.detach().numpy().astype(np.float64)
        flat = weights.reshape(len(weights), -1).T
        fits = [n for n in left if matrix_of(program, n).shape == flat.shape]
        number = max(fits, key=lambda n: likeness(matrix_of(program, n), flat))
        left.remove(number)
        levels = matrix_of(program, number).astype(np.float64)
        assert likeness(levels, flat) > 0.9, f"{layer}: no layer of the program has its weights"
        scale = (levels * flat).sum(0) / np.maximum((levels**2).sum(0), 1e-12)
        found[f"{layer}/levels"] = levels.T.reshape(weights.shape)
        found[f"{layer}/scale"], found[f"{layer}/bias"] = scale, part.bias.detach().numpy()
        step = program.matrices[number]
        found[f"{layer}/ends"] = np.array([ends[step.inputs[0]], ends[step.name]])
    return found


def ends_of(program: ConductanceProgram) -> dict[str, tuple[float, float]]:
    """Least and largest value that the codes of each result hold."""
    low, high = code_limits(program.input.bits, program.input.signed, symmetric=True)
    found = {"input": (low * program.scales["input"], high * program.scales["input"])}
    for step in program.steps:
        rule = getattr(step, "requantise", None)
        one = program.scales[step.name]
        found[step.name] = found[step.inputs[0]] if rule is None else (rule.low * one, rule.high * one)
    return found


def ours(program: ConductanceProgram, record: CalibrationRecord, images: NDArray[np.uint8], chips: int) -> NDArray[Any]:
    """Answers (chips, images) of chips whose columns nobody corrected: a peer has no read-back to correct them by."""
    recipe = usual_recipe(without=["copies", "aims", "tune"])
    options = DeployOptions(virtual_chips=chips, age_s=DAY_S, recipe=recipe)
    row = VirtualRow(program, record, program.macros, (DAY_S,), record.temperature_c, options, "fast", None)
    inputs, found = training_inputs(program), []
    for number in range(chips):
        stuck = row.record_of(number)  # with stuck cells of its own
        such = row._chips(stuck, inputs)
        drawn = replace(such.draw(number), corrections=nominal_corrections(program))
        chip = build_chip(program, stuck, drawn, seed=such.noise_seed, number=number, mode="fast")
        found.append(run(program, images, chip).argmax(1))
    return np.stack(found)


def ideal_columns(spec: ChipSpec) -> ChipSpec:
    """Converters too fine to be seen."""
    wide = AdcSpec(22, (4.0 * spec.macro.rows * spec.macro.levels_us[-1],), spec.macro.adc.shared_by)
    return replace(spec, macro=replace(spec.macro, adc=wide))


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    began = time.process_time()
    weights = Path(os.environ["HIL_DATA"]) / "models" / f"{name.replace('cifar_', 'cifar10_')}.safetensors"
    network = import_network(
        weights, arch=name, data="cifar10", mean=None, std=None, images=64,
        weight_bits=4, activation_bits=8,
    )  # fmt: skip
    spec = ideal_columns(load_chip(CHIP, macros=large_enough(network, CHIP)))
    program = compile_network(network, spec)
    known = nominal_record(spec, program.macros)
    quiet = replace(known.read_noise, variance_us2=0.0 * known.read_noise.variance_us2)
    silent = {m: replace(p, conversion_noise_codes=0.0 * p.conversion_noise_codes) for m, p in known.macros.items()}
    record = replace(known, read_noise=quiet, macros=silent, wire=replace(known.wire, ohm=0.0))
    data = load_dataset("cifar10", "test")
    images, labels = data.images[: given.images], data.labels[: given.images]
    answers = {"ours": ours(program, record, images, given.chips)}
    clean = {"ours": run(program, images, IdealMultiply(program)).argmax(1)}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        np.savez(job, **job_of(name, program, images))
        for peer in Peer:
            text = noise_model(record, spec, peer, DAY_S, module="my_cells", made="peer_noise.py", source=CHIP)
            (Path(folder) / "my_cells.py").write_text(text, "utf-8")
            out = Path(folder) / f"{peer}.npz"
            command = [given.peer, Path(__file__).parent / "peer_noise_forward.py", peer, name, job, out]
            subprocess.run([*command, str(given.chips), given.crosssim], check=True, cwd=folder)
            with np.load(out) as got:
                answers[str(peer)], clean[str(peer)] = got["answers"], got["clean"]
    right = {who: (a == labels).mean(1) for who, a in answers.items()}
    mine = right["ours"]
    row: dict[str, Any] = {
        "network": name, "images": len(labels), "chips": given.chips, "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu_s": round(time.process_time() - began, 1),
    }  # fmt: skip
    for who, shares in right.items():
        error = float(np.sqrt(shares.var(ddof=1) / len(shares) + mine.var(ddof=1) / len(mine)))
        row[who] = {
            "without_errors": round(100 * float((clean[who] == labels).mean()), 2),
            "mean": round(100 * float(shares.mean()), 2),
            "sd_chips": round(100 * float(shares.std(ddof=1)), 2),
            "difference": round(100 * float(shares.mean() - mine.mean()), 2),
            "se": round(100 * error, 2),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True)
    parser.add_argument("--crosssim", required=True)
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    done = {json.loads(line)["network"] for line in ROWS.read_text().splitlines()} if ROWS.exists() else set()
    for name in NETWORKS:
        if name in done:
            continue
        row = measure(name, given)
        with ROWS.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
