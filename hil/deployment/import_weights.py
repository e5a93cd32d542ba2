"""Pretrained weights become a net.pt: graph, calibration images from a training split, bit widths."""

from __future__ import annotations

import contextlib
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.datasets.image_set import Dataset, load_dataset
from hil.datasets.input_values import channels_of, image_shape, preprocess_of, with_pixels
from hil.datasets.seen_images import evenly_taken, raw_keys
from hil.datasets.targets import TargetKind
from hil.errors import UsageError
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.bits import LayerBits
from mapping.network.architectures import ARCHITECTURES, build, misfits, shapes_of
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.importers import NoPreprocess, check_source, import_graph, own_bits, parse_architecture
from mapping.network.library_models import LIBRARIES
from mapping.network.task import TaskKind
from mapping.operators.norms import Softmax

if TYPE_CHECKING:
    from torch import Tensor

STORED, STORED_VALUES = 512, 1 << 24  # training images in the network, where they have no more values than this
STORED_LARGE = 128  # otherwise: their maps are so large that half of them are left to judge by


def without_last_softmax(graph: NetworkGraph, watch: Watch) -> NetworkGraph:
    """The graph without a softmax at its end, so that it gives logits: the predicted class is the same, and logits suit
    training and integer codes better."""
    last = graph.nodes[-1]
    if not isinstance(last, Softmax) or not graph.classes or len(graph.nodes) < 2:
        return graph
    nodes = tuple(node for node in graph.nodes if node is not last)
    if nodes[-1].name != last.inputs[0]:
        return graph
    watch.note(f"{last.name}: the softmax at the end is left out; the largest logit is the same class")
    return replace(graph, nodes=nodes)


def input_of(
    training: Dataset, given: Preprocess | None, source: Path
) -> tuple[tuple[int, int, int], Preprocess | None]:
    """(channels, height, width) and preprocessing of a network for these samples; values get their own range."""
    if training.inputs is None:
        height, width, channels = training.images.shape[1:]
        return (channels, height, width), given
    if given is None and source.suffix != ".tflite":
        given = preprocess_of(training.inputs, channels_of(training.inputs))
    return image_shape(training.inputs), given


def for_task(graph: NetworkGraph, named: TaskKind | None, training: Dataset) -> NetworkGraph:
    """The graph with its task: the one that was named, that of the targets, or the one that its outputs suggest.

    Raises:
        UsageError: its outputs are not of that task.
    """
    if not graph.outputs:
        return graph
    suggested = {
        TargetKind.MASKS: TaskKind.SEGMENT,
        TargetKind.BOXES: TaskKind.DETECT,
        TargetKind.STEPS: TaskKind.SEQUENCE,
        TargetKind.VALUES: TaskKind.REGRESS,
        TargetKind.NONE: TaskKind.AUTOENCODE,
    }
    kind = named or suggested.get(training.kind, graph.purpose)
    Task.of(kind, image=graph.input_shape, outputs=graph.outputs, classes=training.classes)
    return replace(graph, task=kind)


def import_network(
    source: Path,
    *,
    arch: str | None,
    data: str,
    images: int | None = None,
    weight_bits: int,
    activation_bits: int,
    layer_bits: Mapping[str, LayerBits] | None = None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    trust: bool = False,
    task: str = "",
    watch: Watch | None = None,
) -> NetworkFile:
    """Import a state dict, safetensors or ONNX file, or the model of a library, with ``images`` training images of
    ``data`` for calibration.

    For samples of values instead of pixels, the range of each channel sets mean and std, unless they are given
    (``hil.datasets.input_values``). ``task`` "": inferred from data and outputs.

    Args:
        source: path of the weights or of a whole network, or name of a library's model.
        arch: architecture of weights alone; None: a whole network.
        data: name or path of the data set.
        images: number of training images that are stored; None: 512, of large ones 128.
        weight_bits: 2 to 8, of all layers.
        activation_bits: 2 to 8, of all input codes.
        layer_bits: layers with bits of their own.
        mean: of each channel, of pixels 0..1; None: of the architecture.
        std: likewise.
        trust: the file may run code.
        task: classify, segment, detect, regress, autoencode or sequence.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the network with calibration images, as `save_network` writes it.

    Raises:
        UsageError: mean without std, images of another shape than the network takes, or a task that does not fit it.
        mapping.network.file_check.NetworkFileError, hil.errors.FileError: a file is missing, broken or unsafe.

    Example:
        >>> torch.onnx.export(module, (torch.zeros(1, 1, 8, 8),), "net.onnx", dynamo=False)
        >>> numbers = {"images": 100, "weight_bits": 4, "activation_bits": 8, "mean": (0.5,), "std": (0.25,)}
        >>> import_network(Path("net.onnx"), arch=None, data="two.npz", **numbers).graph.input_shape
        (1, 8, 8)
    """
    watch = watch or Watch()
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together")
    check_source(source)
    with watch.stage("importing"):
        training = load_dataset(data, "train", any_kind=True)
        shape, given = input_of(training, Preprocess(mean, std) if mean and std else None, source)
        asked = TaskKind(task) if task in tuple(TaskKind) else None
        if task and asked is None:
            raise UsageError(f"no task {task!r}", hint=f"one of {', '.join(TaskKind)}")
        of_classes = training.kind is TargetKind.CLASSES and asked in (None, TaskKind.CLASSIFY)

        def recognised(state: Mapping[str, Tensor]) -> str:
            found = architecture_of(state, source, training.classes, shape, data)
            watch.note(f"{source.name} has the weights of {found}, by their names and shapes")
            return found

        try:
            graph = import_graph(
                source,
                classes=training.classes if of_classes else (),
                arch=arch or recognised,
                input_shape=shape,
                sample_shape=None if training.inputs is None else training.inputs.shape[1:],
                preprocess=given,
                trust=trust,
            )
        except NoPreprocess as error:
            said = ("hil", "import", str(source), *["--trust-model"] * trust, "--data", data)
            raise UsageError(str(error), hint=f"{shlex.join(said)} --mean 0 --std 1 -o net.pt") from error
        except ValueError as error:  # an unknown architecture, or one that the weights or images do not fit
            raise UsageError(str(error), hint="hil import --help") from error
    graph = for_task(without_last_softmax(graph, watch), asked, training)
    training = with_pixels(training, graph.input_shape, graph.preprocess)
    usual = STORED if training.images[0].size * STORED <= STORED_VALUES else STORED_LARGE
    chosen = evenly_taken(len(training), images or usual)
    named = {node.name for node in graph.nodes}
    if unknown := sorted(set(layer_bits or {}) - named):
        raise UsageError(f"bits for {', '.join(unknown)}, but the network has no such layer")
    weight_bits, activation_bits = own_bits(graph) or (weight_bits, activation_bits)
    images_ = training.images[chosen]
    labels = training.labels[chosen] if graph.classes else None
    keys = raw_keys(training, chosen)
    return NetworkFile(graph, weight_bits, activation_bits, images_, labels, layer_bits or {}, calibration_keys=keys)


def architecture_of(
    state: Mapping[str, Tensor], path: Path, classes: Sequence[str], input_shape: tuple[int, int, int], data: str
) -> str:
    """The architecture that takes ``state`` as it is: of ours, then of torchvision, then of timm.

    Models whose names stand in the name of ``path`` are tried first; modules are built without memory.

    Raises:
        UsageError: no architecture has such weights; ``data`` is for the hint.
    """
    import torch

    for name in (*ARCHITECTURES, "resnet18:stem=7"):
        plain, options = parse_architecture(name)
        try:
            build(plain, classes=classes, input_shape=input_shape, state=state, **options)
        except ValueError:
            continue
        return name
    given = shapes_of(state)
    for library, name in _models(frozenset(key.removesuffix(".weight") for key in given), path.stem):
        try:
            with warnings.catch_warnings(action="ignore"), torch.device("meta"):
                module = LIBRARIES[library](name, name, False, num_classes=len(classes)).module
        except Exception:  # a model that cannot be built so is none that fits
            continue
        if not misfits(shapes_of(module.state_dict()), given):
            return f"{library}:{name}"
    raise UsageError(
        f"{path} holds {len(given)} arrays, first {next(iter(given.items()), '')}, for {len(classes)} classes: that is "
        "no architecture of ours, torchvision or timm",
        likely="your own module: load the weights into it, in Python; mean and std are those of its Normalize",
        hint=f'hil.deploy(module, "{data}", mean=(0,), std=(1,), port="emulated")',
    )


def _models(keys: frozenset[str], stem: str) -> list[tuple[str, str]]:
    """Models of installed libraries, first those whose names occur in ``stem``; timm models only if ``keys`` has their
    first layer and classifier."""

    def in_keys(value: Any) -> bool:
        return bool(keys & set(value if isinstance(value, tuple | list) else (value,)))

    found: list[tuple[str, str]] = []
    with contextlib.suppress(ImportError):
        from torchvision import models

        found += [("torchvision", name) for name in models.list_models(module=models)]
    with contextlib.suppress(ImportError):
        import timm

        known = ((name, timm.get_pretrained_cfg(name)) for name in timm.list_models())
        found += [("timm", name) for name, of in known if of and in_keys(of.first_conv) and in_keys(of.classifier)]
    return sorted(found, key=lambda model: -len(model[1]) if model[1] in stem else 0)
