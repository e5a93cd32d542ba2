"""A program as plain data and named arrays, and back: every field of every step by its type."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from mapping.network.file import KEYS, NO_KEYS
from mapping.network.graph import Preprocess
from mapping.network.graph_records import outputs_of, task_of
from mapping.operators.registry import step_kinds
from mapping.operators.step import ProgramRecordError, Step
from mapping.program.conductance import (
    Adapter,
    AgainStep,
    Aims,
    ConductanceProgram,
    InputCodes,
    MatrixStep,
    Tile,
)

Arrays = dict[str, NDArray[Any]]

_ON_ARRAYS: dict[str, type[Step]] = {kind.kind: kind for kind in (MatrixStep, AgainStep)}
_INT8 = (*((Tile, name) for name in ("levels", "cells", "signs")), (Adapter, "down"), (Adapter, "up"))
_DTYPES: dict[tuple[type, str], type] = {**dict.fromkeys(_INT8, np.int8), (InputCodes, "table"): np.int16}
"""Types of arrays; others are int32."""
TEXTS = ("adapted_to", "tuned_to", "held_as", "recipe")
"""Fields of a program that are left out where there is nothing to say."""
MAX_STEPS = 1 << 16


def to_record(program: ConductanceProgram) -> tuple[dict[str, Any], Arrays]:
    """Give plain data and arrays; chip file and calibration images are replaced by their digests."""
    arrays: Arrays = {}
    listed = [{"kind": step.kind, **_plain(step, f"steps/{i}", arrays)} for i, step in enumerate(program.steps)]
    arrays |= {name: getattr(program, name) for name in KEYS if getattr(program, name).size}
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
        **({"outputs": _plain(program.outputs, "outputs", arrays)} if program.outputs else {}),
        **({} if program.task is None else {"task": program.task.value}),
        **({} if program.preprocess is None else {"preprocess": _plain(program.preprocess, "preprocess", arrays)}),
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
    built, kinds = [], {**_ON_ARRAYS, **step_kinds()}
    for i, entry in enumerate(listed):
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if kind not in kinds:
            raise ProgramRecordError(f"step {i} is of unknown kind {kind!r:.40} (of a package that is not installed?)")
        built.append(_object(kinds[kind], entry, f"steps/{i}", arrays))
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
        trained_on=_keys(arrays, "trained_on"),
        calibration_keys=_keys(arrays, "calibration_keys"),
        layer_weight_bits={
            str(k): _value(int, v, "layer_weight_bits", arrays) for k, v in record.get("layer_weight_bits", {}).items()
        },
        aims=_object(Aims, record["aims"], "aims", arrays) if "aims" in record else None,
        **{name: _value(str, record[name], name, arrays) for name in TEXTS if name in record},
        outputs=outputs_of(record.get("outputs", [])),
        task=task_of(record.get("task")),
        preprocess=_object(Preprocess, record["preprocess"], "preprocess", arrays) if "preprocess" in record else None,
    )


def _keys(arrays: Arrays, name: str) -> NDArray[np.int64]:
    keys = arrays.get(name, NO_KEYS)
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
    """Whether a field is written: later fields only where they differ from the default, so old digests hold."""
    value = getattr(item, field.name)
    if field.default is None:
        return value is not None
    later = _later(type(item))
    return field.name not in later or value != later[field.name]


def _later(cls: type[Any]) -> Mapping[str, Any]:
    """Fields that 1.0 did not have, and what they were then."""
    found: Mapping[str, Any] = getattr(cls, "later", {})
    return found


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
        elif f.name in _later(cls):
            values[f.name] = _later(cls)[f.name]
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
