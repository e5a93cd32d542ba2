"""Capabilities that each request needs."""

from __future__ import annotations

from typing import Any

from firmware_protocols.extensions import messages as later
from firmware_protocols.messages import (
    Capability,
    HoldProgram,
    LoadLayer,
    Mvm,
    ProgramTile,
    Pulse,
    Request,
    Reset,
    Returns,
    Sweep,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, RunPlan

_NEEDS: dict[type, Capability] = {
    ProgramTile: Capability.PROGRAM_TILE,
    Pulse: Capability.PULSE,
    Sweep: Capability.SWEEP,
    LoadLayer: Capability.LAYER,
    LoadPlan: Capability.PLAN | Capability.LAYER,
    RunPlan: Capability.PLAN | Capability.LAYER,
    HoldProgram: Capability.HELD_PROGRAM,
    Wait: Capability.WAIT,
    Reset: Capability.RESET,
    later.AskJournal: Capability.JOURNAL,
    later.ImageTile: Capability.IMAGES | Capability.PROGRAM_TILE,
    **dict.fromkeys((later.ImageBegin, later.ImageChunk, later.ImageStatus, later.ImageCommit), Capability.IMAGES),
    **dict.fromkeys((later.Challenge, later.Authorise, later.DropAuthority), Capability.AUTHORITY),
}
_RETURNS = {Returns.RAW: Capability.RAW, Returns.SUMS: Capability.SUMS, Returns.LAYER: Capability.LAYER}


def capabilities_for(request: Request[Any]) -> Capability:
    """Capabilities that a chip needs for a request."""
    needs = _NEEDS.get(type(request), Capability(0))
    if isinstance(request, Mvm | Sweep):
        needs |= _RETURNS[request.returns]
    if _reads(request) > 1:
        needs |= Capability.REPEATED_READS
    return needs


def _reads(request: Request[Any]) -> int:
    """Most reads of one product."""
    if isinstance(request, LoadLayer):
        return max((tile.reads for tile in request.tiles), default=1)
    return request.reads if isinstance(request, Mvm | Sweep) else 1
