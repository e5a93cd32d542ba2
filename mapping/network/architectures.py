"""Networks by name, as graphs; their arrays have the names of the weights found in the wild."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.named_networks import (
    Sketch,
    WantedArray,
    cifar_resnet_a,
    cifar_resnet_b,
    fmnist_cnn5x5,
    lenet5,
    mobilenet_v2_tiny,
    resnet18,
    vgg8,
)
from mapping.operators.node import Array, Node
from mapping.operators.step import Shape

if TYPE_CHECKING:
    from torch import Tensor

CIFAR = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

ARCHITECTURES: dict[str, Callable[..., str]] = {
    **{f"cifar_resnet{depth}_a": cifar_resnet_a(depth) for depth in (8, 14, 20, 32, 44, 56)},
    **{f"cifar_resnet{depth}_b": cifar_resnet_b(depth) for depth in (8, 14, 20, 32, 44, 56)},
    "resnet18": resnet18,
    "lenet5": lenet5,
    "vgg8": vgg8,
    "mobilenet_v2_tiny": mobilenet_v2_tiny,
    "fmnist_cnn5x5": fmnist_cnn5x5,
}
"""Name -> callable(sketch, classes, **options) that writes the network and gives its last node."""

DEFAULT_INPUTS: dict[str, tuple[tuple[int, int, int], Preprocess]] = {
    "fmnist_cnn5x5": ((1, 28, 28), Preprocess((0.5,), (0.5,))),
    "lenet5": ((1, 28, 28), Preprocess((0.5,), (0.5,))),
}
"""What the published weights expect; every other entry takes (3, 32, 32) with the ``CIFAR`` preprocess."""


def build(
    name: str,
    *,
    classes: Sequence[str],
    input_shape: tuple[int, int, int] | None = None,
    preprocess: Preprocess | None = None,
    state: Mapping[str, Tensor] | None = None,
    rng: np.random.Generator | None = None,
    shapes_only: bool = False,
    provenance: Mapping[str, str] | None = None,
    **options: Any,
) -> NetworkGraph:
    """Give the graph of a named architecture, with weights from ``state`` or drawn from ``rng``.

    ``state`` must hold exactly the architecture's parameters (``num_batches_tracked`` aside);
    ``ValueError`` names those missing, left over or of another shape, and an unknown name or option. ``options`` go to
    the architecture (``width``, ``depth``). With ``shapes_only`` every array repeats one number of its own and takes no
    memory: good for the cost of a network.

    Args:
        name: of a built-in architecture.
        classes: names of the logits.
        input_shape: (channels, height, width); None: the architecture's.
        preprocess: how pixels become inputs; None: the architecture's.
        state: parameters by name, as torch stores them.
        rng: draws the weights where there is no state.
        shapes_only: arrays take no memory.
        provenance: where the weights come from, as plain text by key.
        options: of the architecture.

    Returns:
        the graph, with arrays in float32.

    Raises:
        ValueError: an unknown name or option, or weights that do not fit.

    Example:
        >>> build("lenet5", classes=[str(n) for n in range(10)], rng=np.random.default_rng(0)).input_shape
        (1, 28, 28)
    """
    if (state is not None) + (rng is not None) + shapes_only != 1:
        raise ValueError("give either a state dict, an rng or shapes_only")
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    usual = DEFAULT_INPUTS.get(name, ((3, 32, 32), CIFAR))
    shape = input_shape or usual[0]
    preprocess = preprocess or (
        usual[1] if shape[0] == usual[0][0] else Preprocess((0.5,) * shape[0], (0.5,) * shape[0])
    )

    def nodes(weights: Callable[[WantedArray], Array]) -> tuple[Node, ...]:
        sketch = Sketch(shape, weights)
        try:
            return sketch.nodes(ARCHITECTURES[name](sketch, len(classes), **options))
        except TypeError as error:
            raise ValueError(f"architecture {name!r}: {error}") from error

    wanted: list[WantedArray] = []

    def noted(array: WantedArray) -> Array:
        wanted.append(array)
        return np.broadcast_to(np.float32(len(wanted)), array.shape)  # no two layers are the same

    found = nodes(noted)
    if state is not None:
        arrays = _arrays(name, wanted, state)
        found = nodes(lambda array: arrays[array.key])
    elif rng is not None:
        arrays = _drawn(wanted, int(rng.integers(2**63)))
        found = nodes(lambda array: arrays[array.key])
    return NetworkGraph(shape, found, preprocess, tuple(classes), dict(provenance or {}))


def _arrays(name: str, wanted: Sequence[WantedArray], state: Mapping[str, Tensor]) -> dict[str, Array]:
    """The arrays of ``state``; ``ValueError`` lists what does not fit."""
    given = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    if faults := misfits({array.key: array.shape for array in wanted}, shapes_of(state)):
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise ValueError(f"the weights do not fit architecture {name!r}: {'; '.join(faults[:6])}{more}")
    return {key: np.array(tensor.detach().cpu().numpy(), np.float32) for key, tensor in given.items()}


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shapes by name; counters of batches are left out."""
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def misfits(wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> list[str]:
    """What keeps arrays of the shapes ``given`` from being those ``wanted``."""
    faults = [f"{key} is missing" for key in wanted if key not in given]
    faults += [f"{key} is left over" for key in given if key not in wanted]
    return faults + [f"{k} is {given[k]}, not {wanted[k]}" for k in wanted if k in given and given[k] != wanted[k]]


def _drawn(wanted: Sequence[WantedArray], seed: int) -> dict[str, Array]:
    """First weights as torch's layers have them (uniform within 1 / √fan_in), by torch's generator."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(array: WantedArray) -> Array:
        if not array.fan_in:
            return np.full(array.shape, array.value, np.float32)
        if len(array.shape) > 1:  # written as nn.init.kaiming_uniform_(a=√5) has it, for the same last digits
            bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(array.fan_in))
        else:
            bound = 1 / math.sqrt(array.fan_in)
        values: Array = torch.empty(array.shape).uniform_(-bound, bound, generator=generator).numpy()
        return values

    return {array.key: draw(array) for array in wanted}
