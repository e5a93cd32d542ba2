"""Networks by their names in a library: ``timm:NAME``, ``torchvision:NAME`` and ``hf:OWNER/NAME``.

The library builds the module, brings its trained weights from its own cache or download, and says how pixels become
inputs. Weights are read as numbers only: safetensors, or torch files with ``weights_only=True``. A repository of the
Hugging Face Hub is read by timm, so it is one that holds a timm model.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapping.errors import MappingUsageError
from mapping.network.architectures import misfits, shapes_of
from mapping.network.file_check import NetworkFileError
from mapping.network.graph import NetworkGraph, Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn


class NoSuchLibraryModel(MappingUsageError):
    """A library that is not installed, or a name that it does not know."""


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A module with its trained weights, what turns pixels into its inputs, and the side in pixels of its training."""

    module: nn.Module
    preprocess: Preprocess
    side: int
    weights: str


def names_library_model(name: str) -> bool:
    """Whether ``name`` has the form LIBRARY:NAME; a path with a colon in it is one where the library is not ours."""
    library, colon, rest = name.partition(":")
    return bool(colon and rest) and library in LIBRARIES


def library_graph(
    name: str,
    *,
    classes: Sequence[str],
    input_shape: tuple[int, int, int] | None = None,
    trained: bool = True,
    state: Mapping[str, Tensor] | None = None,
    preprocess: Preprocess | None = None,
    file: str | Path = "",
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Give the graph of the model that ``name`` names, with the library's weights or those of ``state``.

    Args:
        name: such as ``"timm:resnet18.a1_in1k"``, ``"torchvision:mobilenet_v3_small"``, ``"hf:timm/resnet18.a1_in1k"``.
        classes: names of its logits; () for a model of another task, or for its cost.
        input_shape: (channels, height, width) of the images; None: as it was trained.
        trained: False leaves weights as they are drawn, for what needs shapes only.
        state: weights of one's own, from ``file``; their ``provenance`` goes into the graph.
        preprocess: how pixels become inputs; None: as the library trained it.

    Raises:
        NoSuchLibraryModel: the library is not installed, or has no such name.
        NetworkFileError: the weights are neither in the library's cache nor to be had.
        UnsupportedOperation: the module has an operation without a node (``mapping.network.capture``).
    """
    import torch

    from mapping.network.capture import capture

    library, _, rest = name.partition(":")
    asked = {} if state is None else {"num_classes": len(classes)}
    model = LIBRARIES[library](name, rest, trained and state is None, **asked)
    found = {"model": name, "weights": model.weights, "trained at": f"{model.side} x {model.side} pixels"}
    if state is not None:
        if faults := misfits(shapes_of(model.module.state_dict()), shapes_of(state)):
            raise NetworkFileError(file, f"the weights do not fit {name}: {'; '.join(faults[:6])}")
        model.module.load_state_dict(state, strict=False)
        found = {"model": name, **(provenance or {})}
    used = preprocess or model.preprocess
    shape = input_shape or (len(used.mean), model.side, model.side)
    return capture(model.module, torch.zeros(2, *shape), preprocess=used, classes=classes, provenance=found)


def _of_timm(name: str, rest: str, trained: bool, **asked: Any) -> LibraryModel:
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ImportError as error:
        raise _missing(name, "timm") from error
    if trained and not rest.startswith("hf-hub:") and not timm.models.is_model_pretrained(rest):
        raise _unknown(name, rest, timm.list_pretrained(), "timm.list_pretrained()")
    try:
        module = timm.create_model(rest, pretrained=trained, **asked)
    except Exception as error:  # of huggingface_hub, of the network below it, or of timm itself
        raise _without_weights(name, error, "HF_HOME, or ~/.cache/huggingface") from error
    config: dict[str, Any] = resolve_model_data_config(module)
    of: Any = module.pretrained_cfg
    return LibraryModel(
        module,
        Preprocess(tuple(map(float, config["mean"])), tuple(map(float, config["std"]))),
        int(config["input_size"][-1]),
        str(of.get("hf_hub_id") or of.get("url") or rest) if trained else "as drawn",
    )


def _of_hub(name: str, rest: str, trained: bool, **asked: Any) -> LibraryModel:
    return _of_timm(name, f"hf-hub:{rest}", trained, **asked)


def _of_torchvision(name: str, rest: str, trained: bool, **asked: Any) -> LibraryModel:
    try:
        from torchvision import models
    except ImportError as error:
        raise _missing(name, "torchvision") from error
    if rest not in models.list_models():
        raise _unknown(name, rest, models.list_models(), "torchvision.models.list_models()")
    weights = models.get_model_weights(rest).DEFAULT
    module = models.get_model(rest, weights=None, **asked)
    if trained:
        try:
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except Exception as error:  # of urllib, or of the hash that does not hold
            raise _without_weights(name, error, "TORCH_HOME, or ~/.cache/torch") from error
        module.load_state_dict(state)
    given = weights.transforms()
    if not hasattr(given, "crop_size"):
        raise NoSuchLibraryModel(
            f"{name}: its library does not say how one image becomes its input; import an export of it"
        )
    return LibraryModel(
        module,
        Preprocess(tuple(given.mean), tuple(given.std)),
        int(given.crop_size[0]),
        str(weights.url) if trained else "as drawn",
    )


LIBRARIES: dict[str, Callable[..., LibraryModel]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
    "hf": _of_hub,
}


def _missing(name: str, package: str) -> NoSuchLibraryModel:
    return NoSuchLibraryModel(f"{name} needs the package {package}\n  try     pip install 'rram-hil[models]'")


def _unknown(name: str, rest: str, known: Sequence[str], listed: str) -> NoSuchLibraryModel:
    library = name.partition(":")[0]
    near = difflib.get_close_matches(rest, known)
    some = f"; near to it: {', '.join(f'{library}:{n}' for n in near)}" if near else ""
    return NoSuchLibraryModel(
        f"{name}: {library} has no model of this name{some}\n  try     {listed} in Python names all"
    )


def _without_weights(name: str, error: Exception, cache: str) -> NetworkFileError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return NetworkFileError(
        name,
        f"its weights are not in the library's cache and could not be fetched: {first}",
        hint=f"once where there is a network; or bring the cache of another machine ({cache})",
    )
