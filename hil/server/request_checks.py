"""What a chip of some description refuses, for boards whose own SDK does not look: each refusal with its numbers.

``hil.server.board.Board`` lets all of it look at every request.
"""

from __future__ import annotations

from typing import Any

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import LoadLayer, Mvm, ProgramTile, Pulse, ReadCells, Request, Returns, Sweep
from hil.emulator import checks


def check_request(request: Request[Any], spec: ChipSpec) -> None:
    """Raises ``Refusal`` (OUT_OF_RANGE, LIMIT) for what a chip of this description must not do."""
    match request:
        case Pulse():
            checks.cells(request.cells, spec, request.millivolts.shape)
            checks.pulse_limits(request, spec.limits)
        case ProgramTile():
            checks.cells(request.cells, spec, request.targets.shape)
            checks.write_limits(request, spec.limits)
        case ReadCells():
            checks.cells(request.cells, spec)
            checks.at_least_one(request.reads, "reads")
            checks.at_least_one(request.unit_ns, "unit")
        case Mvm() | Sweep():
            if request.returns is not Returns.LAYER or request.tile is not None:
                checks.tile(request.tile, spec)
            checks.drive(request.codes, request, spec)
        case LoadLayer():
            for tile in request.tiles:
                checks.tile(tile.address, spec)
