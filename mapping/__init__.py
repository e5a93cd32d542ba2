"""Networks as data, quantisation, tiling, placement, and execution of a whole network given something that multiplies.

The names below are the public ones of this package; everything else is internal. Each name is
imported when it is first used, so that ``import mapping`` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mapping.bits import BitWidths, LayerBits, parse_layer_bits
    from mapping.compile import MappingPlan, compile_network, plan
    from mapping.errors import CannotMap, MappingError, NewerVersion, ProgramFileError
    from mapping.layout.lay_out import LayoutOptions
    from mapping.layout.place import Placement
    from mapping.network.architectures import build
    from mapping.network.capture import UnsupportedOperation, capture
    from mapping.network.file import NetworkFile, load_network, save_network
    from mapping.network.file_check import NetworkFileError
    from mapping.network.float_run import float_logits
    from mapping.network.graph import NetworkGraph, Preprocess
    from mapping.network.importers import import_graph
    from mapping.network.nodes import GraphError
    from mapping.network.task import TaskKind
    from mapping.program.conductance import ConductanceProgram, Tile, TileGroup
    from mapping.program.execute import IdealMultiply, Multiply, run
    from mapping.program.explain import explain
    from mapping.program.file import load_program, save_program
    from mapping.workload import network_workload, program_workload

__all__ = [
    "BitWidths",
    "CannotMap",
    "ConductanceProgram",
    "GraphError",
    "IdealMultiply",
    "LayerBits",
    "LayoutOptions",
    "MappingError",
    "MappingPlan",
    "Multiply",
    "NetworkFile",
    "NetworkFileError",
    "NetworkGraph",
    "NewerVersion",
    "Placement",
    "Preprocess",
    "ProgramFileError",
    "TaskKind",
    "Tile",
    "TileGroup",
    "UnsupportedOperation",
    "build",
    "capture",
    "compile_network",
    "explain",
    "float_logits",
    "import_graph",
    "load_network",
    "load_program",
    "network_workload",
    "parse_layer_bits",
    "plan",
    "program_workload",
    "run",
    "save_network",
    "save_program",
]

_HOMES = {
    "mapping.bits": ("BitWidths", "LayerBits", "parse_layer_bits"),
    "mapping.compile": ("MappingPlan", "compile_network", "plan"),
    "mapping.errors": ("CannotMap", "MappingError", "NewerVersion", "ProgramFileError"),
    "mapping.layout.lay_out": ("LayoutOptions",),
    "mapping.layout.place": ("Placement",),
    "mapping.network.architectures": ("build",),
    "mapping.network.capture": ("UnsupportedOperation", "capture"),
    "mapping.network.file": ("NetworkFile", "load_network", "save_network"),
    "mapping.network.file_check": ("NetworkFileError",),
    "mapping.network.float_run": ("float_logits",),
    "mapping.network.graph": ("NetworkGraph", "Preprocess"),
    "mapping.network.nodes": ("GraphError",),
    "mapping.network.importers": ("import_graph",),
    "mapping.network.task": ("TaskKind",),
    "mapping.program.conductance": ("ConductanceProgram", "Tile", "TileGroup"),
    "mapping.program.execute": ("IdealMultiply", "Multiply", "run"),
    "mapping.program.explain": ("explain",),
    "mapping.program.file": ("load_program", "save_program"),
    "mapping.workload": ("network_workload", "program_workload"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mapping' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
