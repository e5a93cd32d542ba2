"""Weights of others become a net.pt: graph, calibration images from a training split, bit widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hil.datasets.image_set import load_dataset
from hil.errors import UsageError
from hil.watch import Watch
from mapping.bits import LayerBits
from mapping.network.digital_nodes import Softmax
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.importers import import_graph, own_bits


def without_last_softmax(graph: NetworkGraph, watch: Watch) -> NetworkGraph:
    """The graph with its logits, where a softmax of them comes last: the order of classes is the same, training and
    codes are better off."""
    last = graph.nodes[-1]
    if not isinstance(last, Softmax) or not graph.classes or len(graph.nodes) < 2:
        return graph
    nodes = tuple(node for node in graph.nodes if node is not last)
    if nodes[-1].name != last.inputs[0]:
        return graph
    watch.note(f"{last.name}: the softmax at the end is left out; the largest logit is the same class")
    return replace(graph, nodes=nodes)


def import_network(
    source: Path,
    *,
    arch: str | None,
    data: str,
    data_dir: Path | None,
    download: bool = False,
    images: int,
    weight_bits: int,
    activation_bits: int,
    layer_bits: Mapping[str, LayerBits] | None = None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    trust: bool = False,
    watch: Watch | None = None,
) -> NetworkFile:
    """Import a state dict, safetensors or ONNX file, with ``images`` training images of ``data`` for calibration.

    Raises:
        UsageError: mean without std, or images of another shape than the network takes.
        mapping.network.file.NetworkFileError, hil.errors.FileError: a file is missing, broken or unsafe.
    """
    watch = watch or Watch()
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together")
    with watch.stage("importing"):
        training = load_dataset(data, "train", data_dir=data_dir, download=download)
        height, width, channels = training.images.shape[1:]
        try:
            graph = import_graph(
                source,
                classes=training.classes,
                arch=arch,
                input_shape=(channels, height, width),
                preprocess=Preprocess(mean, std) if mean and std else None,
                trust=trust,
            )
        except ValueError as error:  # an unknown architecture, or one that the weights or images do not fit
            raise UsageError(str(error), hint="hil import --help; name the architecture with --arch") from error
    graph = without_last_softmax(graph, watch)
    chosen = np.linspace(0, len(training) - 1, min(images, len(training))).astype(np.int64)
    named = {node.name for node in graph.nodes}
    if unknown := sorted(set(layer_bits or {}) - named):
        raise UsageError(f"bits for {', '.join(unknown)}, but the network has no such layer")
    weight_bits, activation_bits = own_bits(graph) or (weight_bits, activation_bits)
    images_, labels = training.images[chosen], training.labels[chosen]
    return NetworkFile(graph, weight_bits, activation_bits, images_, labels, layer_bits or {})
