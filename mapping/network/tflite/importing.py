"""TFLite to a ``NetworkGraph``: float files, and int8 files with their own scales (``Grid``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mapping.network.file_check import NetworkFileError
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.onnx_import import MissingExtra
from mapping.network.tflite.model import BROKEN, read_model
from mapping.network.tflite.reading import own_preprocess, read
from mapping.operators.node import GraphError


def graph_from_tflite(
    data: bytes,
    path: str | Path,
    *,
    preprocess: Preprocess | None,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
    shapes_only: bool = False,
) -> NetworkGraph:
    """Give the graph of a TFLite file's bytes; ``path`` is for messages.

    Args:
        preprocess: pixels to input; None takes what a quantised input says: pixels are its codes.
        shapes_only: any preprocessing will do.
        classes: names of the logits; none for a network that gives maps or several tensors.

    Raises ``NetworkFileError``, ``UnsupportedOperation``, ``MissingExtra``, or ``ValueError`` without ``preprocess``.
    """
    try:
        import tflite  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading TFLite needs a package more\n  try     pip install 'rram-hil[tflite]'") from error
    model = read_model(data, path)
    try:
        found, image = read(model, None if preprocess is None else len(preprocess.mean))
        chosen = preprocess or own_preprocess(model, image[0])
        if chosen is None and shapes_only:
            chosen = Preprocess((0.0,) * image[0], (1.0,) * image[0])
        if chosen is None:
            raise NetworkFileError(path, "takes floats and does not say how pixels become them", "--mean and --std")
        return found.graph(image, chosen, classes, dict(provenance or {}))
    except NetworkFileError:
        raise
    except (GraphError, *BROKEN) as error:  # options missing or mistyped
        raise NetworkFileError(path, f"is not a valid network: {error!s:.300}") from error
