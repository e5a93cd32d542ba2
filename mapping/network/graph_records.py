"""A graph as plain records and named arrays: what ``net.pt`` holds.

A record is one dict per node: ``{"kind": "conv", "name": "conv1", "inputs": ["input"],
"stride": [1, 1], ...}``. Arrays lie beside the records under torch's own names
(``conv1.weight``, ``bn1.running_mean``). Options left out have the defaults of the nodes (``mapping.operators``).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from mapping.network.graph import NetworkGraph, Output, Preprocess, node_shapes
from mapping.network.task import TaskKind
from mapping.operators.node import MOST_AXES, Array, GraphError, Node
from mapping.operators.registry import node_kinds

MOST_NODES = 4096
MOST_OUTPUTS = 64


def to_records(graph: NetworkGraph) -> tuple[dict[str, Any], dict[str, Array]]:
    """Give (``{"input_shape", "nodes", "shapes"}`` of plain data, arrays by torch-style name)."""
    state: dict[str, Array] = {}
    records = []
    for node in graph.nodes:
        record: dict[str, Any] = {"kind": node.kind, "name": node.name, "inputs": list(node.inputs)}
        for field in fields(node):
            value = getattr(node, field.name)
            if field.name in node.arrays:
                if value is not None:
                    state[f"{node.name}.{node.arrays[field.name]}"] = value
            elif field.name not in ("name", "inputs") and (field.name, value) not in node.later.items():
                plain: Any = np.array(value).tolist() if value is not None else None  # no numpy scalars
                record[field.name] = float(plain) if field.type == "float" else plain
        records.append(record)
    shapes = {name: list(shape) for name, shape in node_shapes(graph).items()}
    outputs = {"outputs": [{"name": o.name, "shape": list(o.shape)} for o in graph.outputs]} if graph.outputs else {}
    said = {} if graph.task is None else {"task": graph.task.value}
    return {"input_shape": list(graph.input_shape), "nodes": records, "shapes": shapes, **outputs, **said}, state


def from_records(
    graph: object,
    state: Mapping[str, Array],
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
) -> NetworkGraph:
    """Build the graph from plain data of unknown origin; the inverse of ``to_records``.

    Every field's type is checked, shapes are derived again and, where ``graph`` states
    ``"shapes"``, compared. Raises ``GraphError``.
    """
    if not isinstance(graph, Mapping) or not isinstance(graph.get("nodes"), list):
        raise GraphError("", 'a graph is a dict with "input_shape" and a list of "nodes"')
    records = graph["nodes"]
    if len(records) > MOST_NODES:
        raise GraphError("", f"{len(records)} nodes are more than {MOST_NODES}")
    shape = _typed("", "input_shape", graph.get("input_shape"), tuple[int, int, int])
    nodes = tuple(_node(record, state) for record in records)
    outputs = outputs_of(graph.get("outputs", []))
    task = task_of(graph.get("task"))
    built = NetworkGraph(shape, nodes, preprocess, tuple(classes), dict(provenance or {}), outputs, task)
    stated = graph.get("shapes")
    if stated is not None and _lists(stated) != {name: list(shape) for name, shape in node_shapes(built).items()}:
        raise GraphError("", "the stated shapes are not those that the nodes give")
    return built


def shown(value: object) -> str:
    """A short text for a value of unknown origin; containers, whose text may be endless, by type only."""
    if isinstance(value, str | float | bool | None) or (isinstance(value, int) and abs(value) < 2**63):
        return f"{value!r:.80}"
    return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


def _node(record: object, state: Mapping[str, Array]) -> Node:
    if not isinstance(record, Mapping):
        raise GraphError("", f"a node record is a {type(record).__name__}, not a dict")
    name, kind = record.get("name"), record.get("kind")
    if not isinstance(name, str) or len(name) > 256:
        raise GraphError("", f"a node of kind {shown(kind)} has no name, or one above 256 characters")
    if not isinstance(kind, str) or kind not in node_kinds():
        raise GraphError(
            name,
            f"unknown kind {shown(kind)} (of a package that is not installed?); known are {', '.join(node_kinds())}",
        )
    cls = node_kinds()[kind]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in fields(cls):
        required = field.default is MISSING
        if field.name in cls.arrays:
            if (key := f"{name}.{cls.arrays[field.name]}") in state:
                values[field.name] = np.ascontiguousarray(state[key], dtype=np.float32)
            elif required:
                raise GraphError(name, f"the state has no {key!r}")
        elif field.name in record:
            values[field.name] = _typed(name, field.name, record[field.name], hints[field.name])
        elif required:
            raise GraphError(name, f"{kind} needs {field.name!r}")
    return cls(**values)


def task_of(name: object) -> TaskKind | None:
    """A task from plain data of unknown origin, None where there is none; raises ``GraphError``."""
    if name is None:
        return None
    if not isinstance(name, str) or name not in tuple(TaskKind):
        raise GraphError("", f"unknown task {shown(name)}; known are {', '.join(TaskKind)}")
    return TaskKind(name)


def outputs_of(records: object) -> tuple[Output, ...]:
    """Outputs from plain data of unknown origin; raises ``GraphError``."""
    if not isinstance(records, list) or len(records) > MOST_OUTPUTS:
        raise GraphError("", f"outputs are not a list of at most {MOST_OUTPUTS}")
    found = []
    for record in records:
        name = record.get("name") if isinstance(record, Mapping) else None
        if not isinstance(name, str) or not 0 < len(name) <= 256 or not name.isprintable():
            raise GraphError("", f"an output has no name that can be printed: {shown(name)}")
        shape = _typed(name, "shape", record.get("shape"), tuple[int, ...])
        if not 1 <= len(shape) <= MOST_AXES or min(shape) < 1:
            raise GraphError("", f"output {name!r} has the shape {shape}")
        found.append(Output(name, shape))
    return tuple(found)


def _lists(shapes: object) -> object:
    """``shapes`` if it is a dict of lists of integers, else None; nothing else is safe to compare."""
    good = isinstance(shapes, Mapping) and all(
        isinstance(v, list) and all(type(i) is int for i in v) for v in shapes.values()
    )
    return shapes if good else None


def _typed(node: str, field: str, value: object, hint: Any) -> Any:
    """Give ``value`` as the type that the node class asks for, or raise ``GraphError``."""
    if isinstance(hint, types.UnionType):  # int | None
        return None if value is None else _typed(node, field, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if isinstance(value, list | tuple):
            if parts[-1] is Ellipsis:
                return tuple(_typed(node, field, part, parts[0]) for part in value)
            if len(value) == len(parts):
                return tuple(_typed(node, field, part, kind) for part, kind in zip(value, parts, strict=True))
    elif isinstance(value, str):
        if hint is str:
            return value
    elif isinstance(value, bool):
        if hint is bool:
            return value
    elif isinstance(value, int | float):
        if hint is float and np.isfinite(value):
            return float(value)
        if hint is int and isinstance(value, int) and abs(value) < 2**31:
            return value
    raise GraphError(node, f"{field!r} must be {hint if typing.get_args(hint) else hint.__name__}, not {shown(value)}")
