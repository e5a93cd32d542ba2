"""Bytes and meaning on the wire: frames, messages, the link, both roles. Does no I/O.

A board's firmware or a bridge to its SDK implements ``ChipHandlers`` and answers the messages below.
The names here are the public ones of this package; everything else is internal.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the public names, said once
    from firmware_protocols.chip import ChipServer as ChipServer
    from firmware_protocols.codec import decode as decode, encode as encode
    from firmware_protocols.connection import LinkLimits as LinkLimits
    from firmware_protocols.errors import (
        ChipRestarted as ChipRestarted,
        LinkFailed as LinkFailed,
        LocalProtocolError as LocalProtocolError,
        MalformedMessage as MalformedMessage,
        ProtocolError as ProtocolError,
        RemoteProtocolError as RemoteProtocolError,
        UnknownOperation as UnknownOperation,
        VersionMismatch as VersionMismatch,
    )
    from firmware_protocols.extensions.authority import chip_key as chip_key, level_key as level_key
    from firmware_protocols.extensions.messages import Level as Level
    from firmware_protocols.handlers import ChipHandlers as ChipHandlers, Refusal as Refusal
    from firmware_protocols.host import HostLink as HostLink
    from firmware_protocols.messages import (
        Capability as Capability,
        CellBlock as CellBlock,
        CellReadings as CellReadings,
        Describe as Describe,
        Description as Description,
        Done as Done,
        ErrorCode as ErrorCode,
        ErrorReply as ErrorReply,
        Hello as Hello,
        HelloReject as HelloReject,
        HelloReply as HelloReply,
        HoldProgram as HoldProgram,
        KernelWindow as KernelWindow,
        LayerTile as LayerTile,
        LoadLayer as LoadLayer,
        Mvm as Mvm,
        MvmResult as MvmResult,
        OutputsOff as OutputsOff,
        Polarity as Polarity,
        ProgramTile as ProgramTile,
        Progress as Progress,
        Pulse as Pulse,
        ReadCells as ReadCells,
        Reset as Reset,
        Returns as Returns,
        Status as Status,
        StatusReply as StatusReply,
        Sweep as Sweep,
        TileAddress as TileAddress,
        TileProgrammed as TileProgrammed,
        Wait as Wait,
    )

_HOMES = {
    alias.name: str(node.module)
    for block in ast.parse(Path(__file__).read_bytes()).body
    if isinstance(block, ast.If)
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
