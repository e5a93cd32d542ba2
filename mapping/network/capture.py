"""Turn a torch module into a ``NetworkGraph`` by exporting it in this process.

``torch.export`` gives the ATen operations of one forward pass; each becomes nodes or moves of an earlier one
(``mapping.network.operations`` has a rule for each, ``mapping.network.compose`` the nodes behind them). The graph is
then run beside the module, so a wrong translation raises here and not on the chip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mapping.network.compose.arithmetic import STEEP
from mapping.network.compose.inputs import Asked
from mapping.network.compose.refusal import UnsupportedOperation
from mapping.network.float_run import forward
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Grid, Unary
from mapping.operators.node import Node

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

__all__ = ["UnsupportedOperation", "capture", "capture_exported", "evaluating"]

BATCH = 2
"""Images in the exported pass: with more than one, mixing of images shows in the shapes."""
TOLERANCE = 1e-4
"""Largest difference between module and graph, as a part of the largest output."""
STEPPED_TOLERANCE = 0.02
"""The same of mean squares, where steps (codes, rounding, comparisons) turn float rounding into whole steps."""
_STEPS = ("floor", "round", "ceil", "truncate", "sign", "is_zero", "threshold", "remainder", "truncated_remainder")


def capture(
    module: torch.nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Give the graph of ``module``, run in evaluation mode.

    Raises ``UnsupportedOperation`` naming the operation, the submodule and what to write instead. The module's mode
    is left as it was.

    Args:
        module: takes one float tensor (n, channels, height, width), (n, channels, length), (n, time, features) or
            (n, features), or several that differ in their channels only.
        example: one preprocessed batch of it, or of each; only shapes count. Token ids (n, length) as int64: the graph
            takes them one-hot, (1, length, tokens) with a mean of 0 and a deviation of 1, its embedding a linear layer.
        preprocess: how pixels become that tensor. Of (n, channels, length) there is a mean for each channel, of
            (n, time, features) there is one.
        classes: names of the logits (n, classes). Empty for a network that gives maps or several tensors (a tuple, a
            dict …): they become the ``outputs`` of the graph.
        provenance: where the weights come from, as plain text by key.

    Returns:
        the graph, its arrays in float32.

    Example:
        >>> pixels = Preprocess((0.5,), (0.25,))
        >>> capture(module, torch.zeros(1, 1, 8, 8), preprocess=pixels, classes=["a", "b", "c"]).input_shape
        (1, 8, 8)
    """
    import torch

    given = [example] if isinstance(example, torch.Tensor) else list(example)
    if isinstance(example, Mapping) or not all(isinstance(x, torch.Tensor) for x in given):
        kinds = ", ".join(
            sorted({type(x).__name__ for x in (given if not isinstance(example, Mapping) else [example])})
        )
        raise UnsupportedOperation(
            "input", type(module).__name__, f"it takes tensors one by one, not {kinds}",
            "a module around it, whose forward takes tensors and makes the dict, numbers as its attributes",
        )  # fmt: skip
    shapes = [tuple(x.shape[1:]) for x in given]
    zeros = tuple(_zeros(x) for x in given)
    if not given or min(len(shape) for shape in shapes) < 1:
        raise ValueError(f"example {[tuple(x.shape) for x in given]} is not (n, channels, height, width)")
    try:
        with torch.no_grad(), evaluating(module), _observed(module):
            program = torch.export.export(module, zeros)
    except Exception as error:  # torch.export has no base class for "this module cannot be traced"
        raise _not_exported(module, zeros, error) from error
    return capture_exported(program, preprocess=preprocess, classes=classes, provenance=provenance)


def _zeros(x: torch.Tensor) -> torch.Tensor:
    """An example without values: token ids stay whole numbers, all else is float32."""
    import torch

    kept = x.dtype if x.dtype in (torch.int32, torch.int64) else torch.float32
    return torch.zeros(BATCH, *x.shape[1:], dtype=kept)


def _not_exported(module: torch.nn.Module, zeros: tuple[torch.Tensor, ...], error: Exception) -> UnsupportedOperation:
    """Why ``torch.export`` refused, and what to do: a module may refuse its example by itself."""
    import torch

    hint = "tensors in, tensors out, no control flow by values; torch.export.export(module, example) says more"
    if "data-dependent" in str(error):
        hint = "torch.where for an if on values, stored places for a mask as index: sizes that no value decides"
    try:
        with torch.no_grad():
            module(*zeros)
    except Exception as own:  # whatever the module raises
        given = ", ".join(f"{tuple(x.shape[1:])} {str(x.dtype).removeprefix('torch.')}" for x in zeros)
        error, hint = own, f"an example of a shape and type that the module takes: {given} of one image it does not"
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnsupportedOperation("torch.export", type(module).__name__, text[:300], hint)


def capture_exported(
    program: ExportedProgram,
    *,
    preprocess: Preprocess | None,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """As ``capture``, for a module that was exported before, with a fixed batch or a symbolic one.

    Without ``preprocess`` the graph is good for its cost only.
    """
    program = _of_fixed_size(program)
    with _other_weights(program) as blank:
        if blank:  # what lies before weights of zero shows in no output
            _compared(program, preprocess, classes, provenance)
    return _compared(program, preprocess, classes, provenance)


@contextlib.contextmanager
def _other_weights(program: ExportedProgram) -> Iterator[bool]:
    """Weights that are all zero, as those of a head that nobody trained, with other values; whether there are any."""
    import torch

    weights = [t for name, t in program.state_dict.items() if name.endswith("weight") and t.is_floating_point()]
    blank = [weight for weight in weights if weight.numel() and not bool(weight.any())]
    rng = torch.Generator().manual_seed(1)
    try:
        with torch.no_grad():
            for weight in blank:
                weight.copy_(torch.randn(weight.shape, generator=rng) / max(1, weight[0].numel()) ** 0.5)
        yield bool(blank)
    finally:
        with torch.no_grad():
            for weight in blank:
                weight.zero_()


def _compared(
    program: ExportedProgram,
    preprocess: Preprocess | None,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None,
) -> NetworkGraph:
    """The graph of a program, run beside it on noise."""
    import torch

    from mapping.network.aten.translation import Translation, plain

    translated = Translation(plain(program), len(preprocess.mean) if preprocess else None).run()
    asked = translated.asked
    graph = translated.found.graph(asked.image, asked.preprocess(preprocess), classes, dict(provenance or {}))
    with torch.no_grad():
        x = torch.randn(asked.batch, *asked.image, generator=torch.Generator().manual_seed(0))
        if asked.tokens:
            x = torch.nn.functional.one_hot(x.argmax(-1), asked.tokens).float()
        expected = _flat(program.module()(*asked.tensors(x)), asked)
        seen = forward(graph, x)[graph.nodes[-1].name]
        apart = expected - seen
        worst, scale = float(apart.abs().max()), float(expected.abs().max())
        close = worst <= TOLERANCE * max(scale, 1e-3)
        if not close and any(map(_steps, graph.nodes)):
            close = float(apart.square().mean().sqrt()) <= STEPPED_TOLERANCE * float(expected.square().mean().sqrt())
    if not close:
        raise UnsupportedOperation(
            "torch.export",
            "",
            f"the captured graph differs from the module by {worst:.3g} at outputs up to {scale:.3g}",
            "module.double() if values are large; else report it, please, with the module",
        )
    return graph


def _steps(node: Node) -> bool:
    if isinstance(node, Unary):
        return node.function in _STEPS or (node.function == "hard_sigmoid" and node.alpha == STEEP)
    return isinstance(node, Grid)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode; each of its parts has the mode of before afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextlib.contextmanager
def _observed(module: torch.nn.Module) -> Iterator[None]:
    """Modules that observe ranges for a quantisation do no more than what they have found: a grid, or nothing."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase, ObserverBase

    def as_found(part: Any) -> Any:
        if not isinstance(part, FakeQuantizeBase) or not bool(part.fake_quant_enabled[0]):
            return lambda x: x
        module: Any = part
        ends = module.quant_min, module.quant_max
        if module.is_per_channel:
            given = module.scale, module.zero_point, module.ch_axis
            return lambda x: torch.fake_quantize_per_channel_affine(x, *given, *ends)
        scale, zero = float(module.scale), int(module.zero_point)
        return lambda x: torch.fake_quantize_per_tensor_affine(x, scale, zero, *ends)

    changed = [part for part in module.modules() if isinstance(part, FakeQuantizeBase | ObserverBase)]
    for part in changed:
        part.forward = as_found(part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in changed:
            del part.forward


def _of_fixed_size(program: ExportedProgram) -> ExportedProgram:
    """The program with a batch of ``BATCH`` where its sizes are open."""
    import torch

    users = set(program.graph_signature.user_inputs)
    values = [fx.meta.get("val") for fx in program.graph.nodes if fx.op == "placeholder" and fx.name in users]
    shapes = [getattr(value, "shape", ()) for value in values]
    if all(isinstance(size, int) for shape in shapes for size in shape):
        return program
    if any(not isinstance(size, int) for shape in shapes for size in shape[1:]):
        raise UnsupportedOperation("input", "", f"{list(shapes)} has open sizes beyond the batch", "fixed sizes")
    with torch.no_grad():
        return torch.export.export(program.module(), tuple(_zeros(value) for value in values))


def _flat(results: Any, asked: Asked) -> torch.Tensor:
    """All tensors of a result as (n, elements)."""
    import torch

    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    return torch.cat([leaf.reshape(asked.batch, -1) for leaf in leaves], 1)
