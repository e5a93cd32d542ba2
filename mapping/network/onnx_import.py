"""ONNX to a ``NetworkGraph``: protobuf parsing only, weights inside the file only.

``mapping.network.onnx_reader`` reads the file, ``mapping.network.onnx_rules`` says which operation becomes which node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mapping.errors import MappingUsageError
from mapping.network.file_check import NetworkFileError
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.graph_records import MOST_NODES
from mapping.network.nodes import GraphError
from mapping.network.onnx_reader import OnnxReader
from mapping.network.onnx_rules import RULES

OLDEST_OPSET = 7


class MissingExtra(MappingUsageError):
    """An optional package is not installed; the message names the extra."""


def graph_from_onnx(
    data: bytes,
    path: str | Path,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Give the graph of an ONNX file's bytes; ``path`` is for messages.

    Raises ``NetworkFileError``, ``UnsupportedOperation`` naming the node, or ``MissingExtra``.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("reading ONNX needs a package more\n  try     pip install 'rram-hil[onnx]'") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise NetworkFileError(path, f"is cut short or no ONNX file: {error!s:.120}") from error
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if versions and max(versions) < OLDEST_OPSET:
        raise NetworkFileError(path, f"has opset {max(versions)}, older than {OLDEST_OPSET}")
    if len(model.graph.node) > MOST_NODES:
        raise NetworkFileError(path, f"holds {len(model.graph.node)} nodes, more than {MOST_NODES}")
    if not model.graph.node:
        raise NetworkFileError(path, "is not an ONNX file, or an empty graph")
    try:
        nodes, shape = OnnxReader(model.graph, path).run(RULES)
        return NetworkGraph(shape, nodes, preprocess, tuple(classes), dict(provenance or {}))
    except (GraphError, LookupError, TypeError, ValueError, OverflowError) as error:  # options missing or mistyped
        raise NetworkFileError(path, f"is not a valid network: {error!s:.300}") from error
