"""Pretrained weights to a ``NetworkGraph``: state dict or safetensors with an architecture, ONNX, exported program.

The file says the weights, the architecture says what to do with them: a name of
``mapping.network.architectures`` with options (``"mobilenet_v2_tiny:width=0.5,depth=3"``), or a library's model.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cim.json_text import parse_json
from mapping.bits import OWN_CODES_BITS
from mapping.errors import MappingUsageError
from mapping.network.file import FORMAT
from mapping.network.file_check import LARGEST_PICKLE, NetworkFileError, check_there, load_plain, read_bytes
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.library_models import library_graph, names_library_model
from mapping.operators.activations import Grid

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

WHOLE_NETWORKS = (".onnx", ".pt2", ".tflite")
"""Files that hold a whole network, but not how pixels become inputs."""


def is_whole(network: str | Path) -> bool:
    """Whether ``network`` names a whole network: one of ``WHOLE_NETWORKS``, or a model of a library by its name."""
    return Path(network).suffix in WHOLE_NETWORKS or names_library_model(str(network))


class NoPreprocess(MappingUsageError, ValueError):
    """A file that holds a whole network but not how pixels become its inputs, which has to be said beside it."""


MOST_ELEMENTS = 2**28
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts bury the state dict."""


def own_bits(graph: NetworkGraph) -> tuple[int, int] | None:
    """Bits of weights and activations of a network that was quantised by its author; None of any other."""
    return (OWN_CODES_BITS, OWN_CODES_BITS) if any(isinstance(node, Grid) for node in graph.nodes) else None


def check_source(network: str | Path) -> None:
    """Refuse a file that is not there, before any work. Raises ``NetworkFileError``."""
    if not names_library_model(str(network)):
        check_there(Path(network))


def import_graph(
    path: str | Path,
    *,
    classes: Sequence[str],
    arch: str | Callable[[Mapping[str, Tensor]], str] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    sample_shape: tuple[int, ...] | None = None,
    preprocess: Preprocess | None = None,
    trust: bool = False,
    shapes_only: bool = False,
) -> NetworkGraph:
    """Give the graph in ``path`` (``.safetensors``, ``.onnx``, ``.tflite``, else a torch file), or of the model of a
    library that it names (``mapping.network.library_models``), which says itself how pixels become inputs.

    ``arch`` says how weights alone become a network, also as ``timm:NAME`` or ``torchvision:NAME``. ``input_shape`` and
    ``preprocess`` default to the architecture's. ``WHOLE_NETWORKS`` need ``preprocess``, unless ``shapes_only`` are
    enough: a graph for its cost. With ``trust`` a torch file **may run code**: legacy pickles, TorchScript, a
    whole module and ``.pt2`` (all three are captured) are then taken too.

    Raises ``NetworkFileError`` (the file, or its weights do not fit), ``ValueError`` (unknown architecture or what is
    missing; ``NoPreprocess`` where that is mean and std), ``UnsupportedOperation``.

    Args:
        path: of the file, or name of a library's model.
        classes: names of the logits.
        arch: architecture of weights alone, or what names it for their state dict.
        input_shape: (channels, height, width).
        sample_shape: of a sample as a module takes it; None: ``input_shape``.
        preprocess: how pixels become inputs.
        trust: the file may run code.
        shapes_only: arrays take no memory.

    Returns:
        the graph.

    Example:
        >>> torch.onnx.export(module, (torch.zeros(1, 1, 8, 8),), "net.onnx", dynamo=False)
        >>> import_graph("net.onnx", classes=["a", "b", "c"], preprocess=Preprocess((0.5,), (0.25,))).input_shape
        (1, 8, 8)
    """
    if names_library_model(str(path)):
        return library_graph(str(path), classes=classes, input_shape=input_shape, trained=not shapes_only)
    import torch

    from mapping.network.capture import capture, capture_exported

    path = Path(path)
    data = read_bytes(path)
    provenance = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(arch, str):
        provenance["arch"] = arch
    if path.suffix == ".onnx":
        from mapping.network.onnx_import import graph_from_onnx

        given = preprocess if shapes_only else _needed(preprocess)
        return graph_from_onnx(data, path, preprocess=given, classes=classes, provenance=provenance)
    if path.suffix == ".tflite":
        from mapping.network.tflite.reading import graph_from_tflite

        return graph_from_tflite(
            data, path, preprocess=preprocess, classes=classes, provenance=provenance, shapes_only=shapes_only
        )
    if path.suffix == ".pt2" and trust:
        given = preprocess if shapes_only else _needed(preprocess)
        provenance |= {"trusted": "true"}
        return capture_exported(_exported(data, path), preprocess=given, classes=classes, provenance=provenance)
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(data, path)
        provenance = {**metadata, **provenance}
    else:
        content = load_plain(data, path, trust=trust)
        provenance |= {"trusted": "true"} if trust else {}
        if isinstance(content, torch.nn.Module) and not isinstance(arch, str):
            example = torch.zeros(2, *(sample_shape or input_shape or ()))
            given = _needed(preprocess)
            if isinstance(content, torch.jit.ScriptModule):
                from mapping.network.onnx_import import graph_from_onnx

                data = _script_as_onnx(content, example, path)
                return graph_from_onnx(data, path, preprocess=given, classes=classes, provenance=provenance)
            return capture(content, example, preprocess=given, classes=classes, provenance=provenance)
        state = state_of(content, path)
    if callable(arch):
        provenance["arch"] = arch = arch(state)
    if arch is None:
        raise ValueError(f"{path} holds weights only: name the architecture: hil import --arch NAME")
    if names_library_model(arch):
        return library_graph(
            arch, classes=classes, input_shape=input_shape, state=state, preprocess=preprocess, file=path,
            provenance=provenance,
        )  # fmt: skip
    from mapping.network.architectures import build

    name, options = parse_architecture(arch)
    try:
        return build(
            name,
            classes=classes,
            input_shape=input_shape,
            preprocess=preprocess,
            state=state,
            provenance=provenance,
            **options,
        )
    except ValueError as error:
        raise NetworkFileError(path, str(error)) from error


def parse_architecture(text: str) -> tuple[str, dict[str, Any]]:
    """Give ``("mobilenet_v2_tiny", {"width": 0.5})`` for ``"mobilenet_v2_tiny:width=0.5"``."""
    from mapping.network.architectures import ARCHITECTURES

    name, _, tail = text.partition(":")
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME")
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        try:
            options[key.strip()] = float(value) if "." in value else int(value)
        except ValueError:
            raise ValueError(f"architecture option {part!r} is not NAME=NUMBER") from None
    return name, options


def state_of(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The state dict in what a torch file holds, out of a checkpoint or a module and without ``module.`` prefixes."""
    if isinstance(content, dict) and content.get("format") == FORMAT:
        raise NetworkFileError(path, "is a net.pt already: nothing to import", f"hil deploy {path} --emulated")
    if not isinstance(content, dict) and hasattr(content, "state_dict"):
        content = dict(content.state_dict())
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        raise NetworkFileError(path, f"holds a {type(content).__name__}, not a state dict")
    prefix = "module." if all(str(key).startswith("module.") for key in content) else ""
    return _checked({str(key).removeprefix(prefix): value for key, value in content.items()}, path)


def read_safetensors(data: bytes, path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give (tensors, metadata) of a safetensors file's bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    size = int.from_bytes(data[:8], "little")
    if len(data) < 10 or not 2 <= size <= min(len(data) - 8, LARGEST_PICKLE):
        raise NetworkFileError(path, "is cut short or no safetensors file")
    try:
        header = parse_json(data[8 : 8 + size])
        metadata = header.get("__metadata__", {})
        state = load(data)
    except (ValueError, AttributeError, KeyError, RecursionError, SafetensorError) as error:
        raise NetworkFileError(path, f"is not a valid safetensors file: {error!s:.200}") from error
    return _checked(state, path), {str(key)[:256]: str(value)[:4096] for key, value in metadata.items()}


def _checked(state: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Float32 tensors of ``state``; counters are dropped, anything that is not a dense finite tensor is refused."""
    import torch

    checked: dict[str, Tensor] = {}
    elements = 0
    for name, tensor in state.items():
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            raise NetworkFileError(path, f"{name!r:.80} is a {type(tensor).__name__}, not a dense tensor")
        if name.endswith("num_batches_tracked"):
            continue
        elements += tensor.numel()
        if elements > MOST_ELEMENTS:
            raise NetworkFileError(path, f"holds more than {MOST_ELEMENTS} numbers")
        if not tensor.is_floating_point():
            raise NetworkFileError(path, f"{name!r:.80} is {tensor.dtype}, not floating point")
        checked[name] = tensor.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(checked[name]).all()):
            raise NetworkFileError(path, f"{name!r:.80} holds values that are not finite")
    return checked


def _exported(data: bytes, path: Path) -> ExportedProgram:
    import torch

    log = logging.getLogger("torch.export")  # it would print what the error says
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(io.BytesIO(data))
    except Exception as error:  # torch raises many kinds on broken archives
        raise NetworkFileError(path, f"torch.export cannot load it: {error!s:.200}") from error
    finally:
        log.setLevel(level)


def _script_as_onnx(script: Any, example: Tensor, path: Path) -> bytes:
    import torch

    made = io.BytesIO()
    into: Any = made  # the exporter takes it, though its types name paths only
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(script, (example,), into, input_names=["x"], dynamic_axes={"x": {0: "n"}}, dynamo=False)
    except Exception as error:  # torch raises many kinds on what it cannot export
        raise NetworkFileError(path, f"torch.onnx cannot export the script: {error!s:.200}") from error
    return made.getvalue()


def _needed(preprocess: Preprocess | None) -> Preprocess:
    if preprocess is None:
        raise NoPreprocess(
            "such files lack mean and std: give those of its transforms.Normalize, 0 and 1 if trained on pixels of 0…1"
        )
    return preprocess
