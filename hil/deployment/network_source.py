"""Networks from files of any kind, and their programs: a net.pt as it is; ONNX, TFLite, exported programs imported."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from hil.datasets.demos import data_of, network_file
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.options import USUAL_RECIPE, NetworkOptions
from hil.errors import UsageError
from hil.watch import Watch
from mapping.bits import ACTIVATION_BITS, WEIGHT_BITS
from mapping.network.architectures import ARCHITECTURES
from mapping.network.file import NetworkFile, OthersFile, load_network
from mapping.network.file_check import how_to_import
from mapping.network.importers import check_source, is_whole

if TYPE_CHECKING:
    from mapping.network.graph import NetworkGraph
    from mapping.program.conductance import ConductanceProgram
    from mapping.quantise.weight_scales import ScaleRule
    from mapping.recipe.recipe import Recipe

BUNDLED_DATA = "fashion-mnist-bundled"
BUNDLED_NETWORK = network_file("demo:fashion_mnist")
SMALLER = tuple(network_file(f"demo:{name}") for name in ("digits", "yin_yang", "yin_yang_8"))
"""Bundled networks, from large to small, for chips that do not hold ``BUNDLED_NETWORK``."""
NAMED = "timm:NAME, torchvision:NAME or hf:OWNER/NAME"


def names_architecture(network: str | Path) -> bool:
    """Whether ``network`` names an architecture of ours (``mapping.network.architectures``) and no file."""
    return str(network).partition(":")[0] in ARCHITECTURES and not Path(network).exists()


def open_network(
    path: Path, asked: NetworkOptions | None = None, *, task: str = "", watch: Watch | None = None
) -> NetworkFile:
    """Give the network of ``path``; a whole one of another kind, or one that a library knows by its name
    (``timm:resnet18.a1_in1k``), gets the usual bits (``mapping.bits``), or those of its own codes.

    Raises:
        UsageError: a file of another kind without data or preprocessing.
        mapping.errors.MappingError: the file is missing, broken, unsafe, or its network cannot be mapped.
    """
    asked = asked or NetworkOptions()
    if not is_whole(path):
        if names_architecture(path):
            raise UsageError(
                f"{path} names an architecture, without weights",
                hint=f"hil import WEIGHTS --arch {path} -o net.pt; or a trained network by its name: {NAMED}",
            )
        try:
            return load_network(path, trust=asked.trust)
        except OthersFile:
            if asked.data is None:
                raise
    check_source(path)
    if asked.data is None:
        raise UsageError(f"{path} holds no training images", hint=how_to_import(path))
    from hil.deployment.import_weights import import_network  # late: it knows tasks and their statistics

    return import_network(
        path,
        arch=None,
        data=asked.data,
        weight_bits=WEIGHT_BITS,
        activation_bits=ACTIVATION_BITS,
        mean=asked.mean,
        std=asked.std,
        trust=asked.trust,
        task=task,
        watch=watch,
    )


def images_asked(asked: NetworkOptions, *, any_kind: bool = True) -> Dataset:
    """The test images that were named, else the bundled ones; ``any_kind``: labels may be other than classes."""
    return load_dataset(asked.data or BUNDLED_DATA, "test", any_kind=any_kind)


def bundled_on(
    network: Path | None, asked: NetworkOptions, recipe: Recipe, watch: Watch
) -> tuple[Path | None, NetworkOptions]:
    """Network and data of a command. If the user named neither: the largest bundled network that the chip holds under
    the recipe (perhaps in rounds), with its own test samples.

    None means ``BUNDLED_NETWORK``; where no network fits, the smallest is returned and refused later.
    """
    if network is None and asked.data is None:
        spec = load_chip(asked.chip, macros=asked.macros)
        network = next((n for n in (BUNDLED_NETWORK, *SMALLER) if fits(load_network(n), spec, recipe)), SMALLER[-1])
        if network == BUNDLED_NETWORK:
            network = None
        else:
            watch.note(f"{spec.name} does not hold the larger bundled networks: {network.stem} on {data_of(network)}")
    network = network and network_file(network)
    if network and asked.data is None and (data := data_of(network)):
        asked = replace(asked, data=data)
    return network, asked


def check_room(file: NetworkFile, spec: ChipSpec, recipe: Recipe) -> None:
    """Raise ``CannotMap`` if the chip has no room for the network under the recipe; the network is not compiled."""
    from mapping.layout.lay_out import LayoutOptions
    from mapping.workload import placed, unplaced_workload

    bits = file.bits_on(spec.macro.inputs.bits)
    work = unplaced_workload(file.graph, weight_bits=bits.weight, activation_bits=bits.activation)
    placed(work, spec, recipe.laid_out(LayoutOptions()))


def fits(file: NetworkFile, spec: ChipSpec, recipe: Recipe) -> bool:
    from mapping.errors import CannotMap

    try:
        check_room(file, spec, recipe)
    except CannotMap:
        return False
    return True


def program_of(
    network: str | Path | None,
    asked: NetworkOptions,
    watch: Watch,
    *,
    scales: ScaleRule | None = None,
    recipe: Recipe | None = None,
    task: str = "",
) -> tuple[ConductanceProgram, NetworkGraph | None]:
    """The compiled program of a network file, and its float graph (None for a program file).

    ``scales``: None: the usual rule, unless another loses less accuracy (``mapping.scale_choice``), which is noted.
    ``recipe``: techniques; None: the usual ones, with copies of layers on spare cells. ``task`` is for ONNX
    files and exported programs, which are imported on the way.
    """
    from mapping.compile import compile_network  # late: help reads the names above
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.file import load_program
    from mapping.scale_choice import judged_by_float

    network, asked = bundled_on(Path(network) if network else None, asked, recipe or USUAL_RECIPE, watch)
    path = network or BUNDLED_NETWORK
    if path.suffix == ".h5":
        program = load_program(path)
        if recipe is not None:
            recipe.check_compiled(program, path.name)
        return program, None
    file = open_network(path, asked, task=task, watch=watch)
    spec = load_chip(asked.chip, macros=asked.macros)
    layout = LayoutOptions(averaged=True)
    if recipe is not None:
        file, layout = recipe.before_compiling(file, spec), recipe.laid_out(LayoutOptions())
    compiled = partial(compile_network, file, spec, options=layout, progress=watch.step)
    program, kept = judged_by_float(file, compiled, scales)
    if program.activation_bits < file.activation_bits:
        watch.note(f"activations of {program.activation_bits} bits: {spec.name} drives no more")
    if kept.much:
        watch.note(kept.line)
    return program, file.graph
