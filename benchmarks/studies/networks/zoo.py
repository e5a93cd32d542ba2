"""The zoo: common architectures captured, read from ONNX, compiled, and run over the emulated wire.

    python benchmarks/studies.py zoo [--only NAME,NAME] [--steps captured,onnx,wire] [--out rows.jsonl]

Every architecture of ``zoo_networks.py`` has weights drawn from seed 0 and small inputs. One JSON line each:

- ``captured``: the largest difference between the graph's float run and torch, as a part of the largest output;
- ``onnx``: the same between the graph read from an ONNX file (torch's exporter) and onnxruntime;
- ``wire``: whether one image gives the same codes, after every layer and as outputs, on the ideal chip (``lab-128``
  with enough macros, every non-ideality off) through the emulated wire as by exact integers; compiled at 4 bit weights
  and 8 bit activations, in a narrower form where the published one has more than 6 million weights;
- ``weights``, ``nodes`` and ``kinds`` of nodes; ``refused``: by step, what stood in the way.

A step that a network has its result of is passed over, so that a stopped run goes on.
Needs ``pip install 'rram-hil[zoo]'``.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exact_matrix import ideal_answers, large_enough, measured_layers
from torch import nn
from zoo_networks import ZOO, Network

from cim.chip.file import idealised, load_chip
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import open_chip
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import forward
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.onnx_import import graph_from_onnx

OUT = Path(__file__).parents[2] / "results" / "zoo.jsonl"
IMAGES = 2
CHIP = "lab-128"
MOST_WEIGHTS = 6_000_000


def preprocess_of(network: Network) -> Preprocess:
    return Preprocess((0.5,) * network.means, (0.25,) * network.means)


def difference(seen: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.abs(seen - expected).max() / np.abs(expected).max())


def flat(results: Any, count: int) -> np.ndarray[Any, Any]:
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    return torch.cat([leaf.reshape(count, -1) for leaf in leaves], 1).numpy()


def graph_outputs(graph: NetworkGraph, x: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return forward(graph, x.reshape(len(x), *graph.input_shape))[graph.nodes[-1].name].numpy()


def captured(module: nn.Module, network: Network, x: torch.Tensor) -> dict[str, Any]:
    start = time.process_time()
    graph = capture(module, x[:1], preprocess=preprocess_of(network), classes=())
    seconds = time.process_time() - start
    with torch.inference_mode():
        expected = flat(module(x), len(x))
    return {
        "captured": difference(graph_outputs(graph, x), expected),
        "capture_cpu_s": round(seconds, 1),
        "nodes": len(graph.nodes),
        "kinds": dict(collections.Counter(type(node).__name__ for node in graph.nodes)),
        "outputs": [list(output.shape) for output in graph.outputs],
    }


def onnx(module: nn.Module, network: Network, x: torch.Tensor) -> dict[str, Any]:
    """Through a file in memory; onnxruntime judges it."""
    import onnxruntime

    with torch.inference_mode():
        exported = torch.onnx.export(module, (x,), dynamo=True, verbose=False, external_data=False)
    assert exported is not None
    data = exported.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    results = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = np.concatenate([result.reshape(len(x), -1) for result in results], 1)
    graph = graph_from_onnx(data, "zoo.onnx", preprocess=preprocess_of(network), classes=())
    return {"onnx": difference(graph_outputs(graph, x), expected), "onnx_nodes": len(graph.nodes)}


def wire(module: nn.Module, network: Network, x: torch.Tensor) -> dict[str, Any]:
    """Compiled for an ideal chip with enough macros; one image through it."""
    weights = sum(parameter.numel() for parameter in module.parameters())
    if network.small is not None:
        torch.manual_seed(0)
        module = network.small().eval()
        weights = sum(parameter.numel() for parameter in module.parameters())
    if weights > MOST_WEIGHTS:
        return {"wire": None}
    graph = capture(module, x[:1], preprocess=preprocess_of(network), classes=())
    channels, height, width = graph.input_shape
    images = np.random.default_rng(0).integers(0, 256, (8, height, width, channels), dtype=np.uint8)
    file = NetworkFile(graph, 4, 8, images)
    start = time.process_time()
    macros = large_enough(file, CHIP)
    program = compile_network(file, idealised(load_chip(CHIP, macros=macros)))
    compiled = time.process_time()
    ideal = ideal_answers(program, images[:1])
    with open_chip(f"emulated:{CHIP}?ideal=1&macros={macros}", chip=program.spec) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        seen = measured_layers(driver, program, images[:1])
    differs = ideal.difference(seen)
    return {
        "wire": not differs,
        **({"wire_differs": differs} if differs else {}),
        "wire_weights": weights,
        "macros": macros,
        "layers": len(program.matrices),
        "compile_cpu_s": round(compiled - start, 1),
        "wire_cpu_s": round(time.process_time() - compiled, 1),
    }


STEPS = {"captured": captured, "onnx": onnx, "wire": wire}


def measured(name: str, network: Network, before: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    """The line of one network with the results of these steps."""
    torch.manual_seed(0)
    module = network.build().eval()
    x = torch.randn(IMAGES, *network.shape, generator=torch.Generator().manual_seed(1))
    line: dict[str, Any] = {
        "network": name,
        "input": list(network.shape),
        "weights": sum(parameter.numel() for parameter in module.parameters()),
        **before,
    }
    refused = dict(line.pop("refused", {}))
    for step in steps:
        refused.pop(step, None)
        try:
            line |= STEPS[step](module, network, x)
        except Exception as error:  # a refusal is a result
            refused[step] = f"{type(error).__name__}: {error!s:.300}"
    return line | ({"refused": refused} if refused else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ZOO))
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines: dict[str, dict[str, Any]] = {}
    if asked.out.exists():
        lines = {line["network"]: line for line in map(json.loads, asked.out.read_text("utf-8").splitlines())}
    for name in asked.only.split(","):
        there = lines.get(name, {})
        left = [step for step in asked.steps.split(",") if step not in there and step not in there.get("refused", {})]
        if not left:
            continue
        lines[name] = measured(name, ZOO[name], there, left)
        print(json.dumps(lines[name]), flush=True)
        ordered = [lines[known] for known in ZOO if known in lines]
        asked.out.write_text("".join(json.dumps(line) + "\n" for line in ordered), "utf-8")


if __name__ == "__main__":
    main()
