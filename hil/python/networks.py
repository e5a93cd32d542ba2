"""Networks from Python: a module, captured and compiled for a chip, with its float graph beside the program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from hil.datasets.demos import network_file
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import channels_of, preprocess_of, with_pixels
from hil.datasets.seen_images import evenly_taken, raw_keys
from hil.deployment.network_source import open_network
from hil.deployment.options import usual_recipe
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.python.progress import progress
from hil.python.samples import HOW, Samples, labelled, samples_of
from hil.watch import Watch
from mapping.bits import ACTIVATION_BITS, WEIGHT_BITS
from mapping.compile import compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.network.capture import capture, evaluating
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import load_program, save_program
from mapping.recipe.recipe import with_recipe
from mapping.scale_choice import KeptAnswers, judged_by_float

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs

Network: TypeAlias = "torch.nn.Module | NetworkFile | str | Path"
CALIBRATION_IMAGES = 512  # of those that were given, evenly taken, go into the network file
AUTO = "auto"


@dataclass(slots=True)
class CompiledNetwork:
    """A network as a chip takes it.

    ``program`` has codes and cells, ``file`` the network that it was made from (None: not at hand), ``kept`` what ideal
    keeps of its answers. ``data`` are the samples that it was deployed with last, which ``hil.simulate`` takes where
    none are named.

    Example:
        >>> program.name, len(program.program.matrices)
        ('Sequential', 2)
    """

    name: str
    program: ConductanceProgram
    file: NetworkFile | None
    kept: KeptAnswers | None = None
    data: Dataset | None = None

    @property
    def graph(self) -> NetworkGraph | None:
        """The float network."""
        return None if self.file is None else self.file.graph

    def save(self, path: str | Path) -> None:
        """Write program.h5, which every command takes.

        Args:
            path: of the file; one that is there is written over.

        Raises:
            OSError: it cannot be written.

        Example:
            >>> program.save("program.h5")
        """
        save_program(self.program, Path(path))

    def __repr__(self) -> str:
        kept = "" if self.kept is None else f"; {self.kept.line}"
        return f"<CompiledNetwork {self.name}: {self.program!r}{kept}>"


def compile(
    network: Network,
    chip: ChipDriver | ChipSpec | str | Path,
    images: Samples | None = None,
    *,
    bits: str = "",
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    classes: Sequence[str] = (),
    having: Sequence[str] = (),
    without: Sequence[str] = (),
    watch: Watch | None = None,
) -> CompiledNetwork:
    """Quantise a network, cut it into tiles of the chip's macros, place them, choose converter ranges.

    Args:
        network: a ``torch.nn.Module`` whose input is one batch, a ``mapping.NetworkFile``, or a file of any kind.
        chip: an open chip, a chip file by name or path, or what it says.
        images: *training* samples for ranges and scales (they never score): pixels uint8 (n, H, W[, C]), or numbers
            (n, …) as the module takes them; with labels if known. A net.pt carries its own.
        bits: of weights and activations, 2 to 8 each; "auto": the fewest of each layer for a loss of half a point;
            none given, "W4A8", or of activations the fewer that the chip drives.
        mean, std: of each channel, or one for all, of pixels in 0…1; images that are pixels need them.
        classes: names of the logits; default: their numbers.
        having, without: techniques, as ``hil compile --with`` and ``--without`` take them.
        watch: hears stages and progress; None: nobody does.

    Returns:
        the program with the float network beside it, for ``hil.deploy``, ``simulate``, ``improve``, ``finetune``.

    Raises:
        hil.UsageError: no images for a module, pixels without mean and std, or bits that are none.
        mapping.CannotMap: it does not fit the chip. mapping.UnsupportedOperation: an operation that no step does.

    Example:
        >>> program = hil.compile(module, chip, train, bits="W4A8")
        >>> program.program.weight_bits, program.graph.input_shape
        (4, (1, 8, 8))
    """
    spec = spec_of(chip)
    recipe, drives = usual_recipe(*having, without=without), spec.macro.inputs.bits
    weights, activations = _widths(bits or f"W{WEIGHT_BITS}A{min(ACTIVATION_BITS, drives)}")
    with progress(watch) as observer, observer.stage("compiling"):
        name, file = given_network(network, images, _channels(mean), _channels(std), tuple(classes), watch=observer)
        file = recipe.before_compiling(file, spec)
        compiled = partial(
            compile_network, file, spec, weight_bits=weights, activation_bits=activations,
            options=recipe.laid_out(LayoutOptions()), progress=observer.step,
        )  # fmt: skip
        if bits == AUTO:
            from mapping.auto_bits import fewest_bits

            program, kept = fewest_bits(file, spec, compiled)
        else:
            program, kept = judged_by_float(file, compiled)
            file = replace(file, weight_bits=weights, activation_bits=activations)
        if kept.much:
            observer.note(kept.line)
    if having or without:
        program = with_recipe(program, recipe)
    return CompiledNetwork(name, program, file, kept)


def is_module(network: object) -> TypeIs[torch.nn.Module]:
    """Whether an object is a torch module; torch is not imported for the check."""
    return callable(getattr(network, "forward", None))


def program_of(network: CompiledNetwork | ConductanceProgram | str | Path | None) -> ConductanceProgram:
    if isinstance(network, CompiledNetwork):
        return network.program
    if isinstance(network, ConductanceProgram):
        return network
    if network is None or Path(network).suffix != ".h5":
        raise UsageError(f"{network} is not compiled for the chip", hint="hil.compile(network, chip, images)")
    return load_program(Path(network))


def spec_of(chip: ChipDriver | ChipSpec | str | Path) -> ChipSpec:
    """The description of an open chip, or of a chip file by name or path.

    Raises:
        UsageError: another object, such as images in place of the chip.
    """
    if isinstance(chip, ChipDriver):
        return chip.spec
    if isinstance(chip, str | Path):
        return load_chip(chip)
    if not isinstance(chip, ChipSpec):
        raise UsageError(f"a {type(chip).__name__} is no chip", hint='"lab-128", a chip file, or hil.open_chip(…)')
    return chip


def given_network(
    network: Network,
    images: Samples | None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    classes: tuple[str, ...] = (),
    *,
    watch: Watch,
) -> tuple[str, NetworkFile]:
    """Name and network file of a module with its training images, or of a file of any kind.

    Raises:
        UsageError: a module without training images, or pixels without mean and std.
    """
    if isinstance(network, str | Path):
        path = network_file(network)
        return path.stem, open_network(path, watch=watch)
    if isinstance(network, NetworkFile):
        return "network", network
    file = _file_of(network, images, mean, std, classes)
    channels, *image = file.graph.input_shape
    if channels == image[0] > image[1] in (1, 3):
        watch.note(
            f"inputs (n, {channels}, {image[0]}, {image[1]}) go in as they are; of images with channels last: "
            "inputs.transpose(0, 3, 1, 2)"
        )
    return type(network).__name__, file


def _channels(value: float | Sequence[float]) -> tuple[float, ...]:
    """Means or deviations by channel; a single number is for all channels."""
    return (float(value),) if isinstance(value, int | float) else tuple(value)


def _widths(bits: str) -> tuple[int, int]:
    """Bits of weights and of activations that a text like "W4A8" names."""
    if bits == AUTO:
        return WEIGHT_BITS, ACTIVATION_BITS
    found = re.fullmatch(r"[Ww]([2-8])[Aa]([2-8])", bits)
    if found is None:
        raise UsageError(f"bits {bits!r}", hint='"W4A8": 2 to 8 bits of weights and of activations; or "auto"')
    return int(found[1]), int(found[2])


def _file_of(
    module: torch.nn.Module,
    images: Samples | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...],
) -> NetworkFile:
    """A module with its training images, as net.pt holds it; the bits are set when it is compiled."""
    if images is None:
        raise UsageError(f"{type(module).__name__} needs training images for its ranges and scales", hint=HOW)
    data = samples_of(images, "train")
    graph = _captured(module, data, mean, std, classes)
    data = with_pixels(data, graph.input_shape, graph.preprocess)
    chosen = evenly_taken(len(data), CALIBRATION_IMAGES)
    known = data.labels[chosen] if graph.classes and labelled(data) and len(data.labels) else None
    return NetworkFile(graph, 4, 8, data.images[chosen], known, calibration_keys=raw_keys(data, chosen))


def _captured(
    module: torch.nn.Module, data: Dataset, mean: tuple[float, ...], std: tuple[float, ...], classes: tuple[str, ...]
) -> NetworkGraph:
    """The graph of a module, traced with an example of the samples."""
    import torch

    if bool(mean) != bool(std):
        raise UsageError("mean and std go together")
    if data.inputs is None:
        height, width, channels = data.images.shape[1:]
        shape: tuple[int, ...] = (channels, height, width)
        if not mean:
            raise UsageError(
                "images are pixels, and nothing says how they become inputs",
                hint="mean=(0.5,), std=(0.25,), of pixels in 0…1, as the module was trained; or give it its own inputs",
            )
    else:
        shape = data.inputs.shape[1:]
    preprocess = (
        Preprocess(mean, std) if mean or data.inputs is None else preprocess_of(data.inputs, channels_of(data.inputs))
    )
    example = torch.zeros(1, *shape)
    numbered = _numbered(module, example)
    return capture(module, example, preprocess=preprocess, classes=classes or numbered)


def _numbered(module: torch.nn.Module, example: torch.Tensor) -> tuple[str, ...]:
    """Numbers as names of the logits of a module that gives (n, classes); empty for other outputs."""
    import torch

    try:
        with torch.no_grad(), evaluating(module):
            found = module(example)
    except Exception as error:  # whatever the module raises
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{type(module).__name__} does not take inputs of shape (n, {', '.join(map(str, example.shape[1:]))})",
            likely=f"axes in another order: {said[:200]}",
            hint=HOW,
        ) from error
    plain = isinstance(found, torch.Tensor) and found.ndim == 2
    return tuple(str(k) for k in range(found.shape[1])) if plain else ()
