"""Bytes and meaning on the wire: frames, messages, the link, both roles. Does no I/O.

A board's firmware or a bridge to its SDK implements ``ChipHandlers`` and answers the messages below.
The names here are the public ones of this package; everything else is internal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_protocols.chip import ChipServer
    from firmware_protocols.codec import decode, encode
    from firmware_protocols.connection import LinkLimits
    from firmware_protocols.errors import (
        ChipRestarted,
        LinkFailed,
        LocalProtocolError,
        MalformedMessage,
        ProtocolError,
        RemoteProtocolError,
        UnknownOperation,
        VersionMismatch,
    )
    from firmware_protocols.extensions.authority import chip_key, level_key
    from firmware_protocols.extensions.messages import Level
    from firmware_protocols.handlers import ChipHandlers, Refusal
    from firmware_protocols.host import HostLink
    from firmware_protocols.messages import (
        Capability,
        CellBlock,
        CellReadings,
        Describe,
        Description,
        Done,
        ErrorCode,
        ErrorReply,
        Hello,
        HelloReject,
        HelloReply,
        HoldProgram,
        KernelWindow,
        LayerTile,
        LoadLayer,
        Mvm,
        MvmResult,
        OutputsOff,
        Polarity,
        ProgramTile,
        Progress,
        Pulse,
        ReadCells,
        Reset,
        Returns,
        Status,
        StatusReply,
        Sweep,
        TileAddress,
        TileProgrammed,
        Wait,
    )

__all__ = [
    "Capability",
    "CellBlock",
    "CellReadings",
    "ChipHandlers",
    "ChipRestarted",
    "ChipServer",
    "Describe",
    "Description",
    "Done",
    "ErrorCode",
    "ErrorReply",
    "Hello",
    "HelloReject",
    "HelloReply",
    "HoldProgram",
    "HostLink",
    "KernelWindow",
    "LayerTile",
    "Level",
    "LinkFailed",
    "LinkLimits",
    "LoadLayer",
    "LocalProtocolError",
    "MalformedMessage",
    "Mvm",
    "MvmResult",
    "OutputsOff",
    "Polarity",
    "ProgramTile",
    "Progress",
    "ProtocolError",
    "Pulse",
    "ReadCells",
    "Refusal",
    "RemoteProtocolError",
    "Reset",
    "Returns",
    "Status",
    "StatusReply",
    "Sweep",
    "TileAddress",
    "TileProgrammed",
    "UnknownOperation",
    "VersionMismatch",
    "Wait",
    "chip_key",
    "decode",
    "encode",
    "level_key",
]

_HOMES = {
    "firmware_protocols.chip": ("ChipServer",),
    "firmware_protocols.codec": ("decode", "encode"),
    "firmware_protocols.connection": ("LinkLimits",),
    "firmware_protocols.errors": (
        "ChipRestarted",
        "LinkFailed",
        "LocalProtocolError",
        "MalformedMessage",
        "ProtocolError",
        "RemoteProtocolError",
        "UnknownOperation",
        "VersionMismatch",
    ),
    "firmware_protocols.extensions.authority": ("chip_key", "level_key"),
    "firmware_protocols.extensions.messages": ("Level",),
    "firmware_protocols.handlers": ("ChipHandlers", "Refusal"),
    "firmware_protocols.host": ("HostLink",),
    "firmware_protocols.messages": (
        "Capability",
        "CellBlock",
        "CellReadings",
        "Describe",
        "Description",
        "Done",
        "ErrorCode",
        "ErrorReply",
        "Hello",
        "HelloReject",
        "HelloReply",
        "HoldProgram",
        "KernelWindow",
        "LayerTile",
        "LoadLayer",
        "Mvm",
        "MvmResult",
        "OutputsOff",
        "Polarity",
        "ProgramTile",
        "Progress",
        "Pulse",
        "ReadCells",
        "Reset",
        "Returns",
        "Status",
        "StatusReply",
        "Sweep",
        "TileAddress",
        "TileProgrammed",
        "Wait",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'firmware_protocols' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
