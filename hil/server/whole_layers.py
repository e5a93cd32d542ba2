"""Loaded layers and whole networks on a board that multiplies by tiles: what ``hil.Board`` need not do by itself."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes, shift_add
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    ErrorCode,
    LayerTile,
    Mvm,
    MvmResult,
    Progress,
    Returns,
)
from firmware_protocols.plans.messages import PlanResult, RunPlan
from hil.emulator import plan_run
from hil.emulator.compute import Drive, Places, Tally
from hil.emulator.layer_kernels import layer_codes
from hil.server.board import Board
from hil.server.request_checks import check_request


def run_layer(board: Board, request: Mvm) -> Generator[Progress | None, None, MvmResult]:
    """Answer a product of a loaded layer by the board's own products of tiles: bits, sums and codes as of any chip.

    Args:
        board: its ``mvm`` answers tiles, with RAW or SUMS as its capabilities say.
        request: a product without a tile.

    Returns:
        Activation codes, after a step for each step of the board's own products.

    Raises:
        Refusal: the layer was not loaded, or the board refuses a tile.

    Example:
        >>> class Acme(Board):
        ...     def mvm(self, request):
        ...         if request.tile is None:
        ...             return run_layer(self, request)
        ...         return super().mvm(request)  # your own product of a tile
    """
    tally = Tally()
    drive = Drive(request.range_code, request.input_bits, request.input_signed)
    places = Places(request.sample, request.vectors_per_sample, request.first_vector)
    found = yield from _multiplied(board, request.layer, request.codes, drive, places, tally)
    return MvmResult(Returns.LAYER, tally.saturated, tally.conversions, found)


def run_plan(board: Board, request: RunPlan) -> Generator[Progress | None, None, PlanResult]:
    """Run the board's plan on images, with its own products of tiles: ``run_plan = hil.run_plan`` in its class.

    Args:
        board: claims PLAN and LAYER; its ``mvm`` answers tiles, with RAW or SUMS as its capabilities say.
        request: images and how often each is to be run.

    Returns:
        Answers of the images, after a step for each step of the plan and of the board's own products.

    Raises:
        Refusal: no plan was loaded, a step does not fit, or the board refuses a tile.

    Example:
        >>> class Acme(Board):
        ...     def run_plan(self, request):  # or, in one line: run_plan = hil.run_plan
        ...         return run_plan(self, request)
    """

    def multiply(
        number: int, codes: NDArray[np.int16], drive: Drive, places: Places, tally: Tally
    ) -> Generator[Progress | None, None, NDArray[np.int32]]:
        return _multiplied(board, number, codes, drive, places, tally)

    if board.plan is None:
        raise Refusal(ErrorCode.OUT_OF_RANGE, "no plan is loaded")
    return (yield from plan_run.run(board.plan, request, multiply))


def _multiplied(
    board: Board, number: int, codes: NDArray[np.int16], drive: Drive, places: Places, tally: Tally
) -> Generator[Progress | None, None, NDArray[np.int32]]:
    """Codes of a loaded layer for vectors (n, inputs)."""
    layer = board.layers.get(number)
    if layer is None:
        raise Refusal(ErrorCode.NO_SUCH_LAYER, "no such layer is loaded", number)
    if codes.shape[1] != layer.inputs:
        raise Refusal(ErrorCode.OUT_OF_RANGE, "inputs of a layer", codes.shape[1], layer.inputs)
    sums = []
    for tile in layer.tiles:
        sums.append((yield from _tile_sums(board, tile, codes, drive, places, tally)))
    return layer_codes(layer, codes, sums)


def _tile_sums(
    board: Board, tile: LayerTile, codes: NDArray[np.int16], drive: Drive, places: Places, tally: Tally
) -> Generator[Progress | None, None, NDArray[np.int32]]:
    """Shift-added sums of one tile, by the board's own ``mvm``."""
    macro, inputs = board.spec.macro, codes[:, tile.first_input : tile.first_input + tile.address.rows]
    returns = Returns.SUMS if Capability.SUMS in board.capabilities else Returns.RAW
    request = Mvm(
        returns, tile.address, 0, drive.range_code, drive.input_bits, drive.input_signed,
        places.sample, places.per_sample, places.first, np.ascontiguousarray(inputs), tile.reads,
    )  # fmt: skip
    check_request(request, board.spec)
    answer = board.mvm(request)
    result = (yield from answer) if isinstance(answer, Generator) else answer
    tally.conversions += result.conversions
    tally.saturated += result.saturated
    if returns is Returns.SUMS:
        return result.values
    return shift_add(result.values, macro, input_planes(macro.inputs, drive.input_bits, drive.input_signed))
