"""ONNX to a ``NetworkGraph``: protobuf parsing only, weights inside the file only.

``mapping.network.onnx_ops`` reads the file, ``mapping.network.operations`` says what becomes of each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mapping.errors import MappingUsageError
from mapping.network.file_check import NetworkFileError
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.graph_records import MOST_NODES
from mapping.network.onnx_ops.reader import OnnxReader
from mapping.network.operations.call import Form, forms
from mapping.network.operations.table import operations
from mapping.operators.node import GraphError

OLDEST_OPSET = 7


@cache
def _forms() -> Mapping[str, Form]:
    return {form.name: form for form in forms(operations(), "onnx")}


class MissingExtra(MappingUsageError):
    """An optional package is not installed; the message names the extra."""


def graph_from_onnx(
    data: bytes,
    path: str | Path,
    *,
    preprocess: Preprocess | None,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Give the graph of an ONNX file's bytes; ``path`` is for messages.

    Without ``preprocess`` the graph is good for its cost only. Without ``classes`` the file's outputs become those of
    the graph. Of a quantised file (QDQ) weights are read at the values that their codes stand for, and codes of
    activations are kept as ``Grid``.

    Raises ``NetworkFileError``, ``UnsupportedOperation`` naming the node, or ``MissingExtra``.
    """
    model = _model(data, path)
    try:
        reader = OnnxReader(model, path, len(preprocess.mean) if preprocess else None)
        found, asked = reader.run(_forms())
        return found.graph(asked.image, asked.preprocess(preprocess), classes, dict(provenance or {}))
    except (
        GraphError,
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
    ) as error:  # options missing or mistyped
        raise NetworkFileError(path, f"is not a valid network: {error!s:.300}") from error


def _model(data: bytes, path: str | Path) -> Any:
    """The parsed file, with calls of the model's own functions replaced by their bodies."""
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
    return model
