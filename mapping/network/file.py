"""``net.pt``: a network, its bit widths and its calibration images in one file of plain data and tensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cim.files import new_file
from mapping.bits import BitWidths, LayerBits
from mapping.network.file_check import NetworkFileError, NewerVersionError, how_to_import, load_plain, read_bytes
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.graph_records import from_records, shown, to_records
from mapping.operators.node import Array, GraphError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "cimnet"
VERSION = (1, 4)  # 1.1: bits of single layers; 1.2: the images that it was trained on; 1.3: task; 1.4: calibration_keys
KEYS = ("trained_on", "calibration_keys")  # left out where empty
NO_KEYS: NDArray[np.int64] = np.zeros(0, np.int64)
LARGEST_VALUE = 1e9  # of weights and of pixels after preprocessing: products of larger ones leave float32
MOST_ELEMENTS = 2**28
"""Weights and calibration pixels together."""


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A network ready to compile.

    ``weight_bits`` and ``activation_bits`` are what it was made for, 2 to 8; ``layer_bits``
    what single layers have instead.
    ``trained_on`` are keys (``image_keys``) of images that it was fine-tuned on, which never score, int64 (m,).
    ``calibration_images`` are uint8 (n, height, width, channels) *training* images, n may be 0;
    ``calibration_labels`` int64 (n,) if known. ``calibration_keys`` are keys of the raw values that these images stand
    for, int64 (n,), empty where the samples were images. ``digest`` is the SHA-256 (hex) of the content,
    the same before and after saving.
    """

    graph: NetworkGraph
    weight_bits: int
    activation_bits: int
    calibration_images: NDArray[np.uint8]
    calibration_labels: NDArray[np.int64] | None = None
    layer_bits: Mapping[str, LayerBits] = field(default_factory=dict)
    trained_on: NDArray[np.int64] = field(default_factory=lambda: NO_KEYS)
    calibration_keys: NDArray[np.int64] = field(default_factory=lambda: NO_KEYS)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        channels, height, width = self.graph.input_shape
        images, labels = self.calibration_images, self.calibration_labels
        for name, bits in (("weight", self.weight_bits), ("activation", self.activation_bits)):
            if type(bits) is not int or not 2 <= bits <= 8:
                raise ValueError(f"{name} bits must be 2 to 8, not {shown(bits)}")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, channels):
            raise ValueError(
                f"calibration images {images.dtype} {images.shape} are not uint8 (n, {height}, {width}, {channels})"
            )
        layers = {node.name for node in self.graph.nodes}
        if unknown := [name for name in self.layer_bits if name not in layers]:
            raise ValueError(f"bits for {shown(unknown[0])}, but the graph has no such layer")
        if labels is not None:
            if labels.shape != (len(images),) or labels.dtype != np.int64:
                raise ValueError(f"calibration labels {labels.dtype} {labels.shape} are not int64 ({len(images)},)")
            classes = len(self.graph.classes)
            if labels.size and not 0 <= labels.min() <= labels.max() < classes:
                raise ValueError(f"calibration labels {labels.min()} to {labels.max()}, but {classes} classes")
        for keys in (self.trained_on, self.calibration_keys):
            if keys.dtype != np.int64 or keys.ndim != 1:
                raise ValueError(f"keys of images {keys.dtype} {keys.shape} are not int64 (m,)")
        _, state = to_records(self.graph)
        for name, values in state.items():
            if values.dtype != np.float32 or not np.isfinite(values).all():
                raise GraphError(name.rpartition(".")[0], f"{name!r} must be float32 and finite")
            if values.size and float(np.abs(values).max()) > LARGEST_VALUE:
                raise GraphError(name.rpartition(".")[0], f"{name!r} holds values above {LARGEST_VALUE:g}")
        preprocess = self.graph.preprocess
        if max(map(abs, (*preprocess.mean, *preprocess.std)), default=0.0) > LARGEST_VALUE:
            raise ValueError(
                f"preprocessing by {shown([*preprocess.mean, *preprocess.std])} is beyond {LARGEST_VALUE:g}"
            )
        if min(preprocess.std, default=1.0) < 1 / LARGEST_VALUE:
            raise ValueError(f"preprocessing divides by {min(preprocess.std):g}")
        object.__setattr__(self, "digest", _digest(self))

    def bits_on(self, drives: int) -> BitWidths:
        """Bits on a chip that drives inputs of so many: no layer takes more."""
        own = self.layer_bits.items()
        layers = {name: LayerBits(b.weight, b.activation and min(b.activation, drives)) for name, b in own}
        return BitWidths(self.weight_bits, min(self.activation_bits, drives), layers)

    @property
    def calibration_digest(self) -> str:
        """SHA-256 (hex) of the calibration images."""
        return image_digest(self.calibration_images)


class OthersFile(NetworkFileError):
    """A file of torch that is no net.pt: weights, a checkpoint around them, or a whole module."""

    def __init__(self, path: str | Path, content: object) -> None:
        what = "weights" if isinstance(content, dict) else f"a {type(content).__name__} of torch"
        super().__init__(
            path, f"holds {what} and is no net.pt, which holds calibration images too", how_to_import(path)
        )


def load_network(path: str | Path, trust: bool = False) -> NetworkFile:
    """Read a ``net.pt`` after checking it; see ``docs/decisions/0005-safe-files.md``.

    Raises ``NetworkFileError`` (missing, broken, unsafe, not a network) or ``NewerVersionError``.
    With ``trust`` the checks before loading are skipped and **the file may run code**.

    Args:
        path: of a net.pt.
        trust: the file may run code.

    Returns:
        graph, bits, calibration images and provenance.

    Example:
        >>> load_network("net.pt").graph.input_shape
        (1, 8, 8)
    """
    content = load_plain(read_bytes(path), path, trust=trust)
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(kind, str) or kind != FORMAT:
        raise OthersFile(path, content)
    _check_version(content.get("version"), path)
    try:
        return _from_content(content)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        text = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise NetworkFileError(path, f"is not a valid network: {text:.400}") from error


def save_network(network: NetworkFile, path: str | Path) -> None:
    """Write ``net.pt``; the name appears only when the file is whole and reads back as the same network.

    Args:
        network: to write.
        path: of the net.pt.

    Raises:
        OSError: it cannot be written.
        NetworkFileError: ``load_network`` would refuse it, or read another network.

    Example:
        >>> save_network(network, "copy.pt")
        >>> load_network("copy.pt").digest == network.digest
        True
    """
    import torch

    content = _to_content(network)
    with new_file(path) as part:
        with part.open("wb") as file:
            torch.save(content, file)
        try:
            read = load_network(part)
        except NetworkFileError as error:
            raise NetworkFileError(path, f"is not written, for it could not be read again: {error.what}") from error
        if read.digest != network.digest:
            raise NetworkFileError(path, "is not written, for another network would be read from it")


def image_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) over the shape and the pixels of uint8 (n, height, width, channels)."""
    total = hashlib.sha256(json.dumps(images.shape).encode())
    total.update(np.ascontiguousarray(images).data)
    return total.hexdigest()


def image_keys(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What tells images apart, int64 (n,) ascending (``sample_keys``)."""
    return np.sort(sample_keys(images))


def sample_keys(samples: NDArray[Any]) -> NDArray[np.int64]:
    """What tells samples (n, …) apart, int64 (n,): the first 8 bytes of the SHA-256 of each one's pixels or values."""
    digests = [hashlib.sha256(np.ascontiguousarray(sample).data).digest()[:8] for sample in samples]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


def _digest(network: NetworkFile) -> str:
    graph, labels = network.graph, network.calibration_labels
    records, state = to_records(graph)
    mean, std = ([float(v) for v in part] for part in (graph.preprocess.mean, graph.preprocess.std))
    plain: list[Any] = [records, network.weight_bits, network.activation_bits, mean, std]
    plain += [graph.classes, dict(graph.provenance), network.calibration_digest]
    plain += [None if labels is None else labels.tolist(), [(name, state[name].shape) for name in sorted(state)]]
    if network.layer_bits:  # digests of files from before the field stand
        plain.append({name: [b.weight, b.activation] for name, b in network.layer_bits.items()})
    total = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(state):
        total.update(np.ascontiguousarray(state[name]).data)
    for keys in (network.trained_on, network.calibration_keys):
        total.update(np.ascontiguousarray(keys, "<i8").data)
    return total.hexdigest()


def _to_content(network: NetworkFile) -> dict[str, Any]:
    import torch

    records, state = to_records(network.graph)
    quantisation: dict[str, Any] = {
        "weight_bits": network.weight_bits,
        "activation_bits": network.activation_bits,
        "calibration_images": torch.tensor(np.ascontiguousarray(network.calibration_images)),
        "calibration_digest": network.calibration_digest,
    }
    if network.calibration_labels is not None:
        quantisation["calibration_labels"] = torch.tensor(network.calibration_labels)
    for name in KEYS:
        if getattr(network, name).size:
            quantisation[name] = torch.tensor(getattr(network, name))
    if network.layer_bits:
        quantisation["layers"] = {
            name: {"weight_bits": b.weight, "activation_bits": b.activation} for name, b in network.layer_bits.items()
        }
    preprocess = network.graph.preprocess
    return {
        "format": FORMAT,
        "version": f"{VERSION[0]}.{VERSION[1]}",
        "graph": records,
        "state": {name: torch.tensor(np.ascontiguousarray(values)) for name, values in state.items()},
        "quantisation": quantisation,
        "preprocess": {"mean": [float(v) for v in preprocess.mean], "std": [float(v) for v in preprocess.std]},
        "classes": list(network.graph.classes),
        "provenance": dict(network.graph.provenance),
    }


def _check_version(version: object, path: str | Path) -> None:
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    if match is None:
        raise NetworkFileError(path, f"version {shown(version)} is not 'major.minor'")
    if int(match[1]) > VERSION[0]:
        raise NewerVersionError(path, match[0], f"{VERSION[0]}.x")
    if int(match[1]) < 1:
        raise NetworkFileError(path, f"version {match[0]} never was")


def _from_content(content: Mapping[str, Any]) -> NetworkFile:
    """Build the network from loaded plain data; anything amiss raises ValueError, TypeError or KeyError."""
    quantisation = _mapping(content, "quantisation")
    tensors = _mapping(content, "state")
    images, labels = quantisation["calibration_images"], quantisation.get("calibration_labels")
    keys = {name: quantisation[name] for name in KEYS if quantisation.get(name) is not None}
    given = [*tensors.values(), images, *([] if labels is None else [labels]), *keys.values()]
    elements = sum(_elements(tensor) for tensor in given)
    if elements > MOST_ELEMENTS:
        raise ValueError(f"{elements} numbers are more than {MOST_ELEMENTS}")
    state: dict[str, Array] = {}
    for name, tensor in tensors.items():
        state[name] = _array(tensor, np.float32, f"{_text(name, 'name in the state'):.80}")
        if not np.isfinite(state[name]).all():
            raise ValueError(f"{name!r:.80} holds values that are not finite")
    preprocess = _mapping(content, "preprocess")
    graph = from_records(
        _mapping(content, "graph"),
        state,
        preprocess=Preprocess(_numbers(preprocess["mean"], "mean"), _numbers(preprocess["std"], "std")),
        classes=[_text(name, "class name") for name in _list(content["classes"], "classes")],
        provenance={_text(k, "key"): _text(v, "provenance") for k, v in _mapping(content, "provenance").items()},
    )
    network = NetworkFile(
        graph,
        quantisation["weight_bits"],
        quantisation["activation_bits"],
        _array(images, np.uint8, "calibration_images"),
        None if labels is None else _array(labels, np.int64, "calibration_labels"),
        _layer_bits(_mapping(quantisation, "layers")) if "layers" in quantisation else {},
        **{name: _array(tensor, np.int64, name) for name, tensor in keys.items()},
    )
    if _text(quantisation["calibration_digest"], "digest") != network.calibration_digest:
        raise ValueError("the calibration images are not those of the stated digest")
    return network


def _layer_bits(layers: Mapping[str, Any]) -> dict[str, LayerBits]:
    found = {}
    for name in layers:
        bits = _mapping(layers, name)
        found[_text(name, "layer name")] = LayerBits(bits.get("weight_bits"), bits.get("activation_bits"))
    return found


def _elements(tensor: Tensor) -> int:
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"a {type(tensor).__name__} stands where a tensor belongs")
    if tensor.layout != torch.strided or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError(f"a tensor {tuple(tensor.shape)} is not dense and contiguous")
    return tensor.numel()


def _array(tensor: Tensor, dtype: type, name: str) -> NDArray[Any]:
    values: NDArray[Any] = tensor.detach().numpy()
    if values.dtype != dtype:
        raise ValueError(f"{name!r} is {values.dtype}, not {np.dtype(dtype)}")
    return values


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key!r} is a {type(value).__name__}, not a dict")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > 65536:
        raise TypeError(f"{name!r} is not a list, or one of more than 65536 entries")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError(f"a {name} is not a text, or one above 4096 characters")
    return value


def _numbers(value: object, name: str) -> tuple[float, ...]:
    numbers = _list(value, name)
    if not all(type(number) in (int, float) for number in numbers):
        raise TypeError(f"{name!r} holds something that is not a number")
    return tuple(map(float, numbers))
