"""Writes ``golden/tensor_ops.json``: steps, their input codes and the codes expected of them, by exact fractions.

Run ``python -m tests.mapping.golden_tensor_ops`` after a change of docs/file-formats.md. Fields are those of
``mapping.operators``; the expected codes come from ``slow_tensor_step``, apart from the code under test.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.operators.activations import TableStep
from mapping.operators.affine import AffineStep
from mapping.operators.integer.requantise import Requantise
from mapping.operators.joins import ProductStep
from mapping.operators.moves import Permute, Reshape, TakeStep
from mapping.operators.norms import NormStep, SoftmaxStep
from mapping.operators.pools import ReduceStep
from mapping.operators.products import MatMulStep
from mapping.operators.resampling import ResampleStep
from mapping.operators.step import Step

from .tensor_networks import slow_tensor_step

FILE = Path(__file__).parent / "golden" / "tensor_ops.json"
LOW, HIGH = -(1 << 15), (1 << 15) - 1
Rng = np.random.Generator


def rule(real: float, low: int = LOW, high: int = HIGH) -> Requantise:
    fraction, exponent = math.frexp(real)
    return Requantise(np.array([int(fraction * (1 << 31))], np.int32), np.array([31 - exponent], np.int32), low, high)


def codes(rng: Rng, *shape: int, low: int = LOW, high: int = HIGH) -> NDArray[np.int16]:
    """Random codes, both ends of their range among them."""
    found = rng.integers(low, high + 1, shape)
    found.reshape(-1)[:2] = low, high
    return found.astype(np.int16)


def ints(rng: Rng, *shape: int, most: int) -> NDArray[np.int32]:
    found = rng.integers(-most, most + 1, shape)
    found.reshape(-1)[:1] = most
    return found.astype(np.int32)


def cases(rng: Rng) -> Iterator[tuple[Step, list[NDArray[np.int16]]]]:
    one: dict[str, Any] = {"name": "step", "inputs": ("a",)}
    two: dict[str, Any] = {"name": "step", "inputs": ("a", "b")}
    yield TableStep(**one, first=-5, table=ints(rng, 11, most=300)), [codes(rng, 3, 4, low=-9, high=9)]
    yield TableStep(**one, first=0, table=ints(rng, 256, most=1 << 20)), [codes(rng, 2, 3, 2, low=0, high=255)]
    wide, narrow = ints(rng, 3, 1, 1, most=1 << 14), ints(rng, 1, 2, 4, most=1 << 30)
    yield AffineStep(**one, weight=wide, offset=narrow, requantise=rule(2.0**-15)), [codes(rng, 3, 2, 4)]
    slopes = {"weight": np.full((1, 1), 1 << 14, np.int32), "below": ints(rng, 1, 5, most=1 << 14)}
    yield (
        AffineStep(**one, **slopes, offset=np.zeros((1, 1), np.int32), requantise=rule(2.0**-17, -128, 127)),
        [codes(rng, 4, 5)],
    )
    yield ProductStep(**two, requantise=rule(2.0**-16)), [codes(rng, 3, 4, 4), codes(rng, 3, 1, 1)]
    yield ProductStep(**two, requantise=rule(0.3, 0, 255)), [codes(rng, 6, low=0, high=50), codes(rng, 2, 6, high=9)]
    yield MatMulStep(**two, shift=3, requantise=rule(2.0**-14)), [codes(rng, 2, 4, 7), codes(rng, 2, 7, 3)]
    yield (
        MatMulStep(**two, shift=0, requantise=rule(2.0**-9, -128, 127)),
        [
            codes(rng, 2, 3, 5, low=-99, high=99),
            codes(rng, 5, 2, low=-99, high=99),
        ],
    )
    for axes, keep in (((1, 2), False), ((0,), True), ((0, 1, 2), False)):
        fields = {"axes": axes, "keep": keep}
        yield ReduceStep(**one, **fields, least=False, shift=2, requantise=rule(0.11)), [codes(rng, 3, 4, 5)]
        yield ReduceStep(**one, **fields, least=keep, shift=0), [codes(rng, 3, 4, 5)]
    yield Reshape(**one, shape=(2, 6)), [codes(rng, 3, 4)]
    yield Permute(**one, order=(2, 0, 1)), [codes(rng, 2, 3, 4)]
    for index in ((2, 2, 0, -1, 3), (1, 2, 3), (0, 2), (3, 1)):
        yield TakeStep(**one, index=np.array(index, np.int32), axis=1, fill=-7), [codes(rng, 2, 4, 3)]
    yield (
        ResampleStep(
            **one, rows=ints(rng, 3, 4, most=4096), columns=ints(rng, 2, 5, most=4096), shift=10, requantise=rule(1e-6)
        ),
        [codes(rng, 2, 4, 5)],
    )
    for axes, centre, spread, fraction, eps in (
        ((1,), True, 20000, 8, (1000, 0)),
        ((0, 1), True, 3, 8, (1, 0)),
        ((1,), False, 300, 6, (1 << 30, 5)),
        ((0,), True, 0, 8, (0, 0)),
    ):
        weight, offset = ints(rng, 1, 6, most=1 << 14), ints(rng, 4, 6, most=1 << 28)
        step = NormStep(
            **one, axes=axes, centre=centre, fraction=fraction, eps=eps[0], eps_shift=eps[1], weight=weight,
            offset=offset, requantise=rule(2.0**-12),
        )  # fmt: skip
        yield step, [codes(rng, 4, 6, low=-spread, high=spread)]
    for axis, spread, scale in ((1, 2000, 0.01), (0, 32767, 0.5), (1, 3, 1.0)):
        table = np.rint(65536 * np.exp(-scale * np.arange(int(12 / scale)))).astype(np.int32)
        yield (
            SoftmaxStep(**one, axis=axis, table=table, requantise=rule(2.0**-16, 0, HIGH)),
            [codes(rng, 3, 5, low=-spread, high=spread)],
        )


def main() -> None:
    listed = []
    for step, inputs in cases(np.random.default_rng(20261127)):
        expected = slow_tensor_step(step, [x.astype(object) for x in inputs])
        fields = {
            f.name: _plain(getattr(step, f.name)) for f in dataclasses.fields(step) if f.name not in ("name", "inputs")
        }
        listed.append({
            "step": type(step).__name__, "fields": fields, "inputs": [x.tolist() for x in inputs],
            "expected": expected.tolist(),
        })  # fmt: skip
    text = json.dumps({"format": "hil.golden.tensor_ops", "version": "1.0", "cases": listed})
    FILE.write_text(text + "\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Requantise):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value.tolist() if isinstance(value, np.ndarray) else value


if __name__ == "__main__":
    main()
