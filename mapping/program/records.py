"""A program as plain data and named arrays, and back: every field of every step by its type."""

from __future__ import annotations

import itertools
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import grid
from cim.chip.encoding import check_cells
from cim.chip.spec import ChipSpec, MacroSpec
from cim.chip.windows import Window
from mapping.errors import MappingFileError
from mapping.program import conductance as steps
from mapping.program.conductance import (
    Aims,
    ConductanceProgram,
    InputCodes,
    MatrixStep,
    Requantise,
    Step,
    Tile,
    TileGroup,
)
from mapping.program.digital_ops import INT32_HIGH
from mapping.program.exact_product import largest_sum
from mapping.program.shapes import step_shape

Arrays = dict[str, NDArray[Any]]

STEP_KINDS: dict[str, type[Step]] = {
    "matrix": MatrixStep,
    "rescale": steps.RescaleStep,
    "add": steps.AddStep,
    "concat": steps.ConcatStep,
    "max_pool": steps.MaxPoolStep,
    "avg_pool": steps.AvgPoolStep,
    "flatten": steps.FlattenStep,
    "pad_channels": steps.PadChannelsStep,
    "pad_map": steps.PadMapStep,
    "slice": steps.SliceStep,
}
_NAMES = {kind: name for name, kind in STEP_KINDS.items()}
_INT8 = ((Tile, name) for name in ("levels", "cells", "signs"))
_DTYPES: dict[tuple[type, str], type] = {**dict.fromkeys(_INT8, np.int8), (InputCodes, "table"): np.int16}
"""Types of arrays; others are int32."""
_LATER = {(Tile, "copy"): 0, (Tile, "round"): 0, (TileGroup, "groups"): 1}
"""Fields that 1.0 did not have, and what they were then."""
TEXTS = ("adapted_to", "tuned_to", "held_as")
"""Fields of a program that are left out where there is nothing to say."""
MAX_STEPS = 1 << 16


class ProgramRecordError(MappingFileError, ValueError):
    """Plain data that is not a program."""


def to_record(program: ConductanceProgram) -> tuple[dict[str, Any], Arrays]:
    """Give plain data and arrays; chip file and calibration images stand for themselves by digest."""
    arrays: Arrays = {}
    listed = [
        {"kind": _NAMES[type(step)], **_plain(step, f"steps/{i}", arrays)} for i, step in enumerate(program.steps)
    ]
    if program.trained_on.size:
        arrays["trained_on"] = program.trained_on
    return {
        "spec_digest": program.spec.digest,
        "macros": program.spec.macros,
        "input": _plain(program.input, "input", arrays),
        "steps": listed,
        "classes": list(program.classes),
        "weight_bits": program.weight_bits,
        "activation_bits": program.activation_bits,
        "scales": dict(program.scales),
        "calibration_digest": program.calibration_digest,
        "network_digest": program.network_digest,
        **({} if program.spec.macro.even_levels else {"level_values": list(program.spec.macro.values.values)}),
        # Left out where there is nothing to say, so digests of programs from before the field stand.
        **({"layer_weight_bits": dict(program.layer_weight_bits)} if program.layer_weight_bits else {}),
        **{name: getattr(program, name) for name in TEXTS if getattr(program, name) is not None},
        **({} if program.aims is None else {"aims": _plain(program.aims, "aims", arrays)}),
    }, arrays


def from_record(
    record: Mapping[str, Any], arrays: Arrays, spec: ChipSpec, images: NDArray[np.uint8]
) -> ConductanceProgram:
    """The inverse of ``to_record``, with an empty digest; ``ProgramRecordError``, ``ValueError`` or ``KeyError``."""
    if not spec.macro.even_levels and record.get("level_values") != list(spec.macro.values.values):
        raise ProgramRecordError("its levels are not the values of this chip's uneven levels: compile it again")
    listed = record["steps"]
    if not isinstance(listed, list) or len(listed) > MAX_STEPS:
        raise ProgramRecordError(f"steps are not a list of at most {MAX_STEPS}")
    built = []
    for i, entry in enumerate(listed):
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if kind not in STEP_KINDS:
            raise ProgramRecordError(f"step {i} is of unknown kind {kind!r:.40}")
        built.append(_object(STEP_KINDS[kind], entry, f"steps/{i}", arrays))
    return ConductanceProgram(
        spec=spec,
        input=_object(InputCodes, record["input"], "input", arrays),
        steps=tuple(built),
        classes=_value(tuple[str, ...], record["classes"], "classes", arrays),
        weight_bits=_value(int, record["weight_bits"], "weight_bits", arrays),
        activation_bits=_value(int, record["activation_bits"], "activation_bits", arrays),
        scales={str(k): _value(float, v, "scales", arrays) for k, v in record["scales"].items()},
        calibration_images=images,
        calibration_digest=_value(str, record["calibration_digest"], "calibration_digest", arrays),
        network_digest=_value(str, record["network_digest"], "network_digest", arrays),
        digest="",
        trained_on=_keys(arrays),
        layer_weight_bits={
            str(k): _value(int, v, "layer_weight_bits", arrays) for k, v in record.get("layer_weight_bits", {}).items()
        },
        aims=_object(Aims, record["aims"], "aims", arrays) if "aims" in record else None,
        **{name: _value(str, record[name], name, arrays) for name in TEXTS if name in record},
    )


def _keys(arrays: Arrays) -> NDArray[np.int64]:
    keys = arrays.get("trained_on", np.zeros(0, np.int64))
    if keys.dtype != np.int64 or keys.ndim != 1:
        raise ProgramRecordError(f"keys of training images are {keys.dtype} {keys.shape}, not int64 (m,)")
    return keys


def _plain(item: Any, path: str, arrays: Arrays) -> Any:
    if isinstance(item, np.ndarray):
        arrays[path] = item
        return None
    if isinstance(item, range):
        return [item.start, item.stop]
    if isinstance(item, tuple):
        return [_plain(part, f"{path}/{i}", arrays) for i, part in enumerate(item)]
    if is_dataclass(item):
        return {
            f.name: _plain(getattr(item, f.name), f"{path}/{f.name}", arrays) for f in fields(item) if _said(item, f)
        }
    return item


def _said(item: Any, field: Field[Any]) -> bool:
    """Whether a field is written: those of later versions only if they say something, so old digests stand."""
    value = getattr(item, field.name)
    if field.default is None:
        return value is not None
    return (type(item), field.name) not in _LATER or value != _LATER[type(item), field.name]


def _object(cls: type[Any], record: Any, path: str, arrays: Arrays) -> Any:
    if not isinstance(record, dict):
        raise ProgramRecordError(f"{path} is a {type(record).__name__}, not a {cls.__name__}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for f in fields(cls):
        here = f"{path}/{f.name}"
        if f.default is None and here not in arrays and f.name not in record:
            values[f.name] = None
        elif _is_array(hints[f.name]):
            if here not in arrays or arrays[here].dtype != _DTYPES.get((cls, f.name), np.int32):
                raise ProgramRecordError(f"array {here} is missing or of another type")
            values[f.name] = arrays[here]
        elif f.name in record:
            values[f.name] = _value(hints[f.name], record[f.name], here, arrays)
        elif (cls, f.name) in _LATER:
            values[f.name] = _LATER[cls, f.name]
        else:
            raise ProgramRecordError(f"{path} has no {f.name!r}")
    return cls(**values)


def _is_array(hint: Any) -> bool:
    """Whether a field holds an array, or an array or None."""
    return np.ndarray in (typing.get_origin(part) for part in (hint, *typing.get_args(hint)))


def _value(hint: Any, value: Any, path: str, arrays: Arrays) -> Any:
    """``value`` as the type that a field asks for."""
    if isinstance(hint, types.UnionType):  # Window | None
        return None if value is None else _value(typing.get_args(hint)[0], value, path, arrays)
    if is_dataclass(hint):
        return _object(typing.cast("type[Any]", hint), value, path, arrays)
    if hint is range and isinstance(value, list) and len(value) == 2:
        start, stop = (_value(int, v, path, arrays) for v in value)
        if 0 <= start < stop:
            return range(start, stop)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        parts = typing.get_args(hint)
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(kinds) == len(value):
            return tuple(
                _value(kind, v, f"{path}/{i}", arrays) for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
            )
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in (int, bool, str) and type(value) is hint and (hint is not int or -(1 << 31) <= value < 1 << 31):
        return value
    raise ProgramRecordError(f"{path} is {value!r:.60}, not {getattr(hint, '__name__', hint)}")


def check_program(program: ConductanceProgram) -> None:
    """Raise ``ProgramRecordError`` unless shapes, places and ranges of all steps fit each other and the chip."""
    shapes: dict[str, tuple[int, ...]] = {"input": program.input.shape}
    if program.input.table.shape != (program.input.shape[0], 256):
        raise ProgramRecordError(f"input table {program.input.table.shape} is not ({program.input.shape[0]}, 256)")
    if not program.steps:
        raise ProgramRecordError("it has no steps")
    _check_rounds(program)
    _check_aims(program)
    for step in program.steps:
        if step.name in shapes or any(name not in shapes for name in step.inputs):
            raise ProgramRecordError(f"step {step.name!r:.80} has a name used twice, or reads a later step")
        shapes[step.name] = _output_shape(step, [shapes[name] for name in step.inputs], program)
    bits, layers = program.layer_weight_bits, {m.name for m in program.matrices}
    if not bits.keys() <= layers or not all(2 <= b <= 8 for b in bits.values()):
        raise ProgramRecordError(f"weight bits of layers {dict(bits)!r:.80} are not 2 to 8 of its layers")
    if shapes[program.steps[-1].name] != (len(program.classes),):
        raise ProgramRecordError(
            f"logits {shapes[program.steps[-1].name]} are not one a class ({len(program.classes)})"
        )


def _check_rounds(program: ConductanceProgram) -> None:
    """Rounds count from 0 without a gap, in the order of the steps, and no two tiles share cells in one round."""
    now = -1
    taken: dict[int, list[tuple[range, range]]] = {}
    for step in program.matrices:
        for tile in step.group.tiles:
            _need(tile.copy >= 0, step, f"has a copy {tile.copy}")
            in_order = max(now, 0) <= tile.round <= now + 1
            _need(in_order, step, f"is in round {tile.round} after {f'round {now}' if now >= 0 else 'none'}")
            now = tile.round
            rows, outputs = tile.levels.shape
            here = (range(tile.row0, tile.row0 + rows), range(tile.output0, tile.output0 + outputs))
            others = taken.setdefault(program.slot(tile), [])
            free = not any(_meet(here[0], r) and _meet(here[1], o) for r, o in others)
            _need(free, step, f"has a tile on cells of another tile of macro {tile.macro}")
            others.append(here)


def highest_aim_us(spec: MacroSpec) -> float:
    """The highest target that cells are written to: one write-verify window above the highest level."""
    return spec.levels_us[-1] + spec.tolerance_us


def _check_aims(program: ConductanceProgram) -> None:
    """One target a level, ascending, inside the window of the cells; a digest where cells are held under another."""
    aims, levels = program.aims, program.spec.macro.levels_us
    if program.held_as is not None and not re.fullmatch(r"[0-9a-f]{64}", program.held_as):
        raise ProgramRecordError(f"held_as is {program.held_as!r:.80}, no SHA-256 digest")
    if aims is None:
        return
    rising = all(a < b for a, b in itertools.pairwise(aims.targets_us))
    inside = all(levels[0] <= t <= highest_aim_us(program.spec.macro) + 1e-3 for t in aims.targets_us)
    if len(aims.targets_us) != len(levels) or not rising or not inside or aims.age_s < 0:
        raise ProgramRecordError(f"its aims {aims.targets_us!r:.120} are not {len(levels)} rising targets of its cells")


def _meet(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _output_shape(step: Step, inputs: list[tuple[int, ...]], program: ConductanceProgram) -> tuple[int, ...]:
    """The step's shape (``step_shape``), once its inputs and its own fields were checked."""
    first = inputs[0] if inputs else ()
    match step:
        case MatrixStep():
            _check_matrix(step, first, program)
        case steps.RescaleStep():
            _check_rule(step, step.requantise, first)
        case steps.AddStep():
            _need(len(inputs) == 2 and inputs[0] == inputs[1], step, f"adds {inputs}")
            for rule in (*step.rescale, step.requantise):
                _check_rule(step, rule, first)
        case steps.ConcatStep():
            _need(len(inputs) == len(step.rescale) >= 1 and len({s[1:] for s in inputs}) == 1, step, f"joins {inputs}")
            for rule, shape in zip(step.rescale, inputs, strict=True):
                _check_rule(step, rule, shape)
        case steps.MaxPoolStep() | steps.AvgPoolStep():
            _need(len(first) == 3, step, f"pools {first}")
            _need(min(step.kernel + step.stride) >= 1 and min(step.padding) >= 0, step, "has a window below one")
            if isinstance(step, steps.AvgPoolStep):
                _check_rule(step, step.requantise, first)
        case steps.FlattenStep():
            pass
        case steps.PadChannelsStep():
            _need(len(first) == 3 and 0 <= min(step.before, step.after) <= 1 << 20, step, f"pads {first}")
        case steps.PadMapStep():
            sides = (step.top, step.left, step.bottom, step.right)
            _need(len(first) == 3 and 0 <= min(sides) <= max(sides) <= 1 << 10, step, f"pads {first} by {sides}")
        case steps.SliceStep():
            stop = min(step.stop, first[0]) if first else 0
            _need(len(first) == 3 and 0 <= step.start < stop and min(step.step) >= 1, step, f"slices {first}")
        case _:
            raise ProgramRecordError(f"{step.name}: unknown step")
    _need(len(inputs) >= 1, step, "has no input")
    return step_shape(step, inputs)


def _check_matrix(step: MatrixStep, first: tuple[int, ...], program: ConductanceProgram) -> None:
    group, macro = step.group, program.spec.macro
    window = group.window
    if window is None:
        _need(first == (group.inputs,), step, f"takes {group.inputs} inputs, not {first}")
    else:
        fits = first == (window.channels, window.height, window.width) and group.inputs == window.rows
        _need(fits, step, f"its window does not fit {first}")
    _need(step.bias.shape == (group.outputs,), step, f"has {step.bias.shape} biases for {group.outputs} outputs")
    _need(0 <= group.range_code < len(macro.adc.full_scales_us), step, f"has no ADC range {group.range_code}")
    _need(2 <= group.input_bits <= macro.inputs.bits, step, f"has {group.input_bits}-bit inputs")
    _check_rule(step, step.requantise, (group.outputs,))
    _check_order(step, step.input_order, first[0], "inputs")
    _check_order(step, step.output_order, group.outputs, "outputs")
    _need(bool(group.tiles), step, "has no tiles")
    for tile in group.tiles:
        rows, outputs = tile.levels.shape
        _need((rows, outputs) == (len(tile.inputs), len(tile.outputs)), step, "has a tile whose levels do not fit it")
        inside = tile.inputs.stop <= group.inputs and tile.outputs.stop <= group.outputs
        _need(inside, step, "has a tile outside its matrix")
        on_chip = (
            0 <= tile.macro < program.spec.macros
            and 0 <= tile.row0 <= len(macro.word_lines) - rows
            and 0 <= tile.output0 <= macro.outputs - outputs
            and rows <= macro.logical_rows
        )
        _need(on_chip, step, f"has a tile outside macro {tile.macro}")
        _need(
            bool(np.isin(tile.levels, macro.weight_values).all()),
            step,
            "has a level beyond the cells, or none of theirs",
        )
        _need(1 <= tile.multiplier < 1 << 16, step, f"has a slice of weight {tile.multiplier}")
        if tile.cells is not None:
            check_cells(tile.cells, macro, tile.levels.shape)
        if tile.signs is not None:
            signed = tile.signs.shape == (outputs,) and bool((np.abs(tile.signs) == 1).all()) and macro.paired
            _need(signed, step, "has signs of columns that are not −1 or 1, or no pairs")
    _need(largest_sum(group) <= INT32_HIGH, step, "has sums beyond 32 bits")
    _check_copies(step, window)


def _check_copies(step: MatrixStep, window: Window | None) -> None:
    """Copies hold the same matrix, all in one round, and there is a block of the output map for each."""
    tiles, copies = step.group.tiles, step.group.copies
    if copies == 1:
        return
    rows, width = (1, 1) if window is None else (window.out_height, window.out_width)
    _need(copies <= rows * width, step, f"has {copies} copies for an output map of {rows} x {width}")
    grid(rows, width, copies)
    _need(len({t.round for t in tiles}) == 1, step, "has copies in different rounds")
    first = step.group.matrix_tiles
    for number in range(copies):
        own = tiles[number * len(first) : (number + 1) * len(first)]
        same = len(tiles) == copies * len(first) and all(
            (a.copy, a.inputs, a.outputs, a.multiplier) == (number, b.inputs, b.outputs, b.multiplier)
            and np.array_equal(a.levels, b.levels)
            for a, b in zip(own, first, strict=True)
        )
        _need(same, step, f"has another matrix in copy {number} than in copy 0")


def _check_order(step: Step, order: NDArray[np.int32] | None, size: int, what: str) -> None:
    if order is not None:
        whole = np.array_equal(np.sort(order), np.arange(size))
        _need(whole, step, f"has an order of {what} that is not a permutation")


def _check_rule(step: Step, rule: Requantise, shape: tuple[int, ...]) -> None:
    channels = rule.multiplier.shape
    _need(channels == rule.shift.shape and channels in ((1,), shape[:1]), step, f"has {channels} factors for {shape}")
    _need(0 <= int(rule.shift.min()) <= int(rule.shift.max()) <= 62, step, "shifts by less than 0 or more than 62")
    _need(int(rule.multiplier.min()) >= 0 and rule.low <= rule.high, step, "has an impossible rescaling")


def _need(good: bool, step: Step, text: str) -> None:
    if not good:
        raise ProgramRecordError(f"step {step.name!r:.80} {text}")
