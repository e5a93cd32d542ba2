"""Operators of one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapping.operators.node import Node
from mapping.operators.step import Step


@dataclass(frozen=True, slots=True)
class NamedOperation:
    """An operation of a network, with its names in each format.

    Args:
        rule: ``rule(composer, call)`` gives the result, or a list of results. The call has its arguments by name
            (``mapping.network.operations.call.Call``).
        aten: names in ATen with spaces between them, which are those of an exported module too; an operation of
            another library has its library before it: ``acme::leaky_sum``. Arguments have the names of its schema.
        onnx: names in ONNX and how each reads: ``Clip(self, min, max)`` names the inputs in order, where an attribute
            of the same name stands in for a missing one, and ``*tensors`` all that are left. Behind a semicolon are
            attributes: ``Elu(self; alpha=1.0)`` with what it is where the file leaves it out, ``dim:axes=0`` where
            ONNX names it otherwise. An operation of another domain has it before its name: ``acme:LeakySum(self)``.
        lite: names in TFLite and their inputs in the same way.
    """

    rule: Callable[..., Any]
    aten: str = ""
    onnx: str = ""
    lite: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Kinds of nodes, the integer steps that they become, and the operations of a network that become such nodes."""

    nodes: tuple[type[Node], ...]
    steps: tuple[type[Step], ...]
    operations: tuple[NamedOperation, ...] = ()
