"""The zoo: common architectures captured, read from ONNX, compiled, and run over the emulated wire.

    python benchmarks/zoo.py [--only NAME,NAME] [--out benchmarks/results/zoo.jsonl] [--again]

Every architecture of ``benchmarks/zoo_networks.py`` has weights drawn from seed 0 and small inputs. One JSON line each:

- ``captured``: the largest difference between the graph's float run and torch, as a part of the largest output;
- ``onnx``: the same between the graph read from an ONNX file (torch's exporter) and onnxruntime;
- ``weights``, ``nodes``, and ``kinds`` of nodes;
- ``refused``: what stood in the way, if anything did.

A network that has its line already is passed over, so that a stopped run goes on; ``--again`` runs it anew.
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
from torch import nn
from zoo_networks import ZOO, Network

from mapping.network.capture import capture
from mapping.network.float_run import forward
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.onnx_import import graph_from_onnx

OUT = Path(__file__).parent / "results" / "zoo.jsonl"
IMAGES = 2


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


def by_onnx(module: nn.Module, network: Network, x: torch.Tensor) -> dict[str, Any]:
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


def measured(name: str, network: Network) -> dict[str, Any]:
    torch.manual_seed(0)
    module = network.build().eval()
    x = torch.randn(IMAGES, *network.shape, generator=torch.Generator().manual_seed(1))
    line: dict[str, Any] = {
        "network": name,
        "input": list(network.shape),
        "weights": sum(parameter.numel() for parameter in module.parameters()),
    }
    for step in (captured, by_onnx):
        try:
            line |= step(module, network, x)
        except Exception as error:  # a refusal is a result
            line["refused"] = f"{step.__name__}: {type(error).__name__}: {error!s:.300}"
            break
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--again", action="store_true")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    lines = {}
    if asked.out.exists():
        lines = {line["network"]: line for line in map(json.loads, asked.out.read_text("utf-8").splitlines())}
    names = asked.only.split(",") if asked.only else list(ZOO)
    for name in names:
        if name in lines and not asked.again:
            continue
        lines[name] = measured(name, ZOO[name])
        print(json.dumps(lines[name]), flush=True)
        ordered = [lines[known] for known in ZOO if known in lines]
        asked.out.write_text("".join(json.dumps(line) + "\n" for line in ordered), "utf-8")


if __name__ == "__main__":
    main()
