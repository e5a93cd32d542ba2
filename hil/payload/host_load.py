"""Load of a network on the host processor beside the chip: operations, link, stored bytes."""

from __future__ import annotations

import json
import lzma
import math
from dataclasses import dataclass, replace

import numpy as np

from cim.cost.events import executor_of, host_bits
from cim.cost.workload import Executor, LayerWork, WorkKind
from hil.payload.requirements import HostFigures
from mapping.network.file import NO_KEYS
from mapping.operators.integer.requantise import Requantise
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.records import to_record
from mapping.workload import program_workload

CORRECTION, BIAS, REQUANTISE, ADD = 3, 1, 4, 11
SUM_BITS = 32  # of a level sum between chip and host
CORRECTION_BYTES = 4 + 8 + 4  # gain, offset and input gain of a column (``cim.chip.correction``)
RULE_BYTES, BIAS_BYTES = 4 + 1, 4  # multiplier and shift; bias
PACKED = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 15, "lc": 3, "lp": 0}


@dataclass(frozen=True, slots=True)
class HostLoad:
    """One image on the host; ``program_bytes``: levels, corrections, rules and input table."""

    operations: int
    link_bits: int
    program_bytes: int
    packed_bytes: int  # what is uplinked
    host_s: float
    link_s: float


def host_load(program: ConductanceProgram, host: HostFigures) -> HostLoad:
    """Count one image of a program on a host.

    Where chip logic does the digital operations it runs the whole plan, input table included: the line carries images
    and outputs, and the host does what no operation of the chip does.
    """
    workload = program_workload(program)
    if host.digital_on_host:
        operations = math.prod(workload.input_shape) + sum(map(operations_of, workload.layers))
        link_bits = sum(_link_bits(layer) for layer in workload.layers if layer.tiles is not None)
    else:
        beyond = [w for w in workload.layers if executor_of(w, program.spec.cost) is Executor.HOST]
        operations = sum(map(operations_of, beyond))
        link_bits = workload.input_data_bits + workload.output_data_bits
        link_bits += sum(host_bits(layer) for layer in beyond)
    operations += len(program.classes)  # the argmax
    corrections = CORRECTION_BYTES * sum(len(t.outputs) for m in program.matrices for t in m.group.tiles)
    return HostLoad(
        operations=operations,
        link_bits=link_bits,
        program_bytes=program_image_bytes(program) + corrections,
        packed_bytes=packed_bytes(program),
        host_s=operations / host.operations_per_s,
        link_s=link_bits / host.link_bit_per_s,
    )


def packed_bytes(program: ConductanceProgram) -> int:
    """Bytes of a program for upload: description, levels, rules and tables, compressed (LZMA).

    Calibration images, keys of training images and the chip's description stay on the ground.
    """
    record, arrays = to_record(replace(program, trained_on=NO_KEYS, calibration_keys=NO_KEYS))
    plain = json.dumps(record, separators=(",", ":")).encode()
    plain += b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return len(lzma.compress(plain, format=lzma.FORMAT_RAW, filters=[PACKED]))


def operations_of(layer: LayerWork) -> int:
    """Integer operations of one layer and image."""
    outputs = math.prod(layer.out_shape)
    match layer.kind:
        case WorkKind.CONV | WorkKind.LINEAR:
            answers = 1 if layer.tiles is None else int(layer.tiles.outputs.sum()) / layer.tiles.copies
            tiles = answers / layer.out_shape[0]
            return round(outputs * (CORRECTION * tiles + (tiles - 1) + BIAS + REQUANTISE))
        case WorkKind.ADD:
            return outputs * ADD
        case WorkKind.MAX_POOL:
            return outputs * math.prod(layer.kernel)
        case WorkKind.AVG_POOL:
            return outputs * (math.prod(layer.kernel) + REQUANTISE)
        case WorkKind.CONCAT | WorkKind.CLAMP:
            return outputs * REQUANTISE
        case WorkKind.MOVE:
            return 0
    return layer.operations + outputs * (0 if layer.kind is WorkKind.TABLE else REQUANTISE)


def program_image_bytes(program: ConductanceProgram) -> int:
    """Bytes of levels, rules, biases and input table, packed as a flight computer would hold them."""
    total = program.input.table.size * 2
    for step in program.steps:
        rules = [step.requantise] if hasattr(step, "requantise") else []
        rules += list(getattr(step, "rescale", ()))
        total += sum(RULE_BYTES * len(rule.multiplier) for rule in rules if isinstance(rule, Requantise))
        if isinstance(step, MatrixStep):
            bits = program.weight_bits_of(step.name)
            total += BIAS_BYTES * len(step.bias)
            if step.adapter is not None:
                total += step.adapter.down.size + step.adapter.up.size
                total += RULE_BYTES * (len(step.adapter.narrow.multiplier) + len(step.adapter.wide.multiplier))
            total += math.ceil(sum(t.levels.size for t in step.group.matrix_tiles) * bits / 8)
    return int(total)


def _link_bits(layer: LayerWork) -> int:
    assert layer.tiles is not None
    answers = int(layer.tiles.outputs.sum()) // layer.tiles.copies
    return math.prod(layer.in_shape) * layer.input_bits + answers * layer.positions * SUM_BITS
