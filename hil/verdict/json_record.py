"""Frozen dataclasses to plain JSON values and back, driven by their type hints."""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hil.errors import FileError

T = TypeVar("T")


class JsonRecordError(FileError, ValueError):
    """A JSON value does not fit the type; the text names the path to it."""


def encode(value: Any) -> Any:
    """Plain JSON value of a dataclass; numbers that JSON cannot hold (NaN, infinity) are refused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise JsonRecordError(f"{value} has no place in JSON")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise JsonRecordError(f"{type(value).__name__} has no JSON form here")


def decode(kind: type[T], value: Any, path: str = "$") -> T:
    """The dataclass again; unknown keys are skipped (a newer minor version wrote them), missing ones are errors."""
    return typing.cast(T, _decode(kind, value, path))


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _decode(next(a for a in arguments if a is not type(None)), value, path)
    if origin is tuple:
        _expect(isinstance(value, list), "a list", value, path)
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        _expect(len(kinds) == len(value), f"{len(kinds)} items", value, path)
        return tuple(_decode(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), "an object", value, path)
        return {k: _decode(arguments[1], v, f"{path}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        _expect(isinstance(value, dict), "an object", value, path)
        hints = typing.get_type_hints(kind)
        missing = [f.name for f in dataclasses.fields(kind) if f.name not in value and not _has_default(f)]
        _expect(not missing, f"the key {missing[0] if missing else ''!r}", value, path)
        known = [f.name for f in dataclasses.fields(kind) if f.name in value]
        build: Any = kind
        return build(**{name: _decode(hints[name], value[name], f"{path}.{name}") for name in known})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        _expect(value in [member.value for member in kind], f"one of {[m.value for m in kind]}", value, path)
        return kind(value)
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), "a number", value, path)
        _expect(abs(value) <= sys.float_info.max, "a finite number", value, path)  # NaN is never below
        return float(value)
    if kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), "an integer", value, path)
        return value
    _expect(isinstance(value, kind), kind.__name__, value, path)
    return value


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _expect(good: bool, wanted: str, value: Any, path: str) -> None:
    if not good:
        shown = repr(value)
        raise JsonRecordError(f"{path}: expected {wanted}, found {shown if len(shown) <= 60 else shown[:57] + '...'}")
