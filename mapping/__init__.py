"""Networks as data, quantisation, tiling, placement, and execution of a whole network given something that multiplies.

The names below are the public ones of this package; everything else is internal. Each name is
imported when it is first used, so that ``import mapping`` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cim.public_names import imported, public_names

if TYPE_CHECKING:  # the public names, said once
    from mapping.bits import BitWidths as BitWidths, LayerBits as LayerBits, parse_layer_bits as parse_layer_bits
    from mapping.compile import MappingPlan as MappingPlan, compile_network as compile_network, plan as plan
    from mapping.errors import (
        CannotMap as CannotMap,
        MappingError as MappingError,
        NewerVersion as NewerVersion,
        ProgramFileError as ProgramFileError,
    )
    from mapping.layout.lay_out import LayoutOptions as LayoutOptions
    from mapping.layout.place import Placement as Placement
    from mapping.network.architectures import build as build
    from mapping.network.capture import UnsupportedOperation as UnsupportedOperation, capture as capture
    from mapping.network.file import (
        NetworkFile as NetworkFile,
        load_network as load_network,
        save_network as save_network,
    )
    from mapping.network.file_check import NetworkFileError as NetworkFileError
    from mapping.network.float_run import float_logits as float_logits
    from mapping.network.graph import NetworkGraph as NetworkGraph, Preprocess as Preprocess
    from mapping.network.importers import import_graph as import_graph
    from mapping.operators.node import GraphError as GraphError
    from mapping.network.task import TaskKind as TaskKind
    from mapping.program.conductance import (
        ConductanceProgram as ConductanceProgram,
        Tile as Tile,
        TileGroup as TileGroup,
    )
    from mapping.program.execute import IdealMultiply as IdealMultiply, Multiply as Multiply, run as run
    from mapping.program.explain import explain as explain
    from mapping.program.file import load_program as load_program, save_program as save_program
    from mapping.workload import network_workload as network_workload, program_workload as program_workload

_HOMES = public_names(__file__)
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
