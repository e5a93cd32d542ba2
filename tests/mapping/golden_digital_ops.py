"""Writes ``golden/digital_ops.json``: expected results by exact fractions, apart from the code under test.

Run ``python tests/mapping/golden_digital_ops.py`` after a change of docs/file-formats.md.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "golden" / "digital_ops.json"
LOW, HIGH = -(2**31), 2**31 - 1


def nearest(value: Fraction) -> int:
    """Halves away from zero."""
    size = abs(value) + Fraction(1, 2)
    whole = size.numerator // size.denominator
    return whole if value >= 0 else -whole


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def rescaled(value: int, rule: dict[str, Any], channel: int) -> int:
    i = channel % len(rule["multiplier"])
    real = Fraction(value * rule["multiplier"][i], 2 ** rule["shift"][i])
    return clamp(nearest(real), rule["low"], rule["high"])


def rule(rng: random.Random, channels: int, low: int, high: int, size: float = 1.0) -> dict[str, Any]:
    multipliers, shifts = [], []
    for _ in range(channels):
        real = size * rng.uniform(0.3, 3)
        shift = rng.choice([0, 1, 8, 20, 30, 45, 62])
        multipliers.append(min(max(round(real * 2**shift), 1), HIGH))
        shifts.append(shift)
    return {"multiplier": multipliers, "shift": shifts, "low": low, "high": high}


def windows(plane: list[list[int]], kernel: Any, stride: Any, padding: Any) -> list[list[list[int | None]]]:
    """Values of each window, None where it hangs over the edge."""
    height, width = len(plane), len(plane[0])
    rows = []
    for y in range(-padding[0], height + padding[0] - kernel[0] + 1, stride[0]):
        row = []
        for x in range(-padding[1], width + padding[1] - kernel[1] + 1, stride[1]):
            places = [(y + a, x + b) for a in range(kernel[0]) for b in range(kernel[1])]
            row.append([plane[j][i] if 0 <= j < height and 0 <= i < width else None for j, i in places])
        rows.append(row)
    return rows


def requantise_cases(rng: random.Random) -> list[dict[str, Any]]:
    half = {"multiplier": [1], "shift": [1], "low": -128, "high": 127}
    whole = {"multiplier": [3], "shift": [0], "low": LOW, "high": HIGH}
    extreme = {"multiplier": [HIGH], "shift": [62], "low": LOW, "high": HIGH}
    cases = [
        ([[-5, -3, -1, 0, 1, 3, 5, 300, -300]], half),
        ([[LOW, -1, 0, 1, HIGH]], whole),
        ([[LOW, LOW + 1, -1, 1, HIGH]], extreme),
    ]
    for low, high in ((0, 255), (-128, 127), (0, 15), (LOW, HIGH)):
        values = [[rng.randrange(-(2**20), 2**20) for _ in range(4)] for _ in range(3)]
        cases.append((values, rule(rng, 4, low, high, 2.0 ** -rng.randrange(0, 14))))
    return [
        {"values": v, "rule": r, "expected": [[rescaled(x, r, c) for c, x in enumerate(row)] for row in v]}
        for v, r in cases
    ]


def finish_cases(rng: random.Random) -> list[dict[str, Any]]:
    cases = []
    for low, high in ((0, 255), (-8, 7)):
        sums = [[rng.randrange(-(2**18), 2**18) for _ in range(5)] for _ in range(3)]
        sums.append([HIGH, LOW, HIGH, LOW, 0])
        bias = [rng.randrange(-(2**16), 2**16) for _ in range(5)]
        r = rule(rng, 5, low, high, 2.0**-11)
        expected = [
            [rescaled(clamp(s + b, LOW, HIGH), r, c) for c, (s, b) in enumerate(zip(row, bias, strict=True))]
            for row in sums
        ]
        cases.append({"sums": sums, "bias": bias, "rule": r, "expected": expected})
    return cases


def add_cases(rng: random.Random) -> list[dict[str, Any]]:
    cases = []
    limit = 2**30 - 1
    for low, high in ((0, 255), (-128, 127)):
        rescale = [rule(rng, 1, -limit, limit, 4096.0) for _ in range(2)]
        total = {"multiplier": [1], "shift": [12], "low": low, "high": high}
        first, second = ([[rng.randrange(-128, 256) for _ in range(6)] for _ in range(3)] for _ in range(2))
        expected = [
            [
                rescaled(clamp(rescaled(a, rescale[0], c) + rescaled(b, rescale[1], c), LOW, HIGH), total, c)
                for c, (a, b) in enumerate(zip(*rows, strict=True))
            ]
            for rows in zip(first, second, strict=True)
        ]
        cases.append({"first": first, "second": second, "rescale": rescale, "rule": total, "expected": expected})
    return cases


def adapter_cases(rng: random.Random) -> list[dict[str, Any]]:
    """Two images, five inputs, rank 2, three outputs; the last sums saturate."""
    down, up = ([[rng.randrange(-127, 128) for _ in range(n)] for _ in range(m)] for m, n in ((2, 5), (3, 2)))
    narrow, wide = rule(rng, 2, -32767, 32767, 2.0**-2), rule(rng, 3, -(2**30) + 1, 2**30 - 1, 2.0**-6)
    codes = [[rng.randrange(256) for _ in range(5)] for _ in range(3)]
    sums = [[rng.randrange(-(2**18), 2**18) for _ in range(3)] for _ in range(2)] + [[HIGH, LOW, HIGH]]
    expected = []
    for x, row in zip(codes, sums, strict=True):
        hidden = [rescaled(sum(a * b for a, b in zip(v, x, strict=True)), narrow, r) for r, v in enumerate(down)]
        terms = [rescaled(sum(a * b for a, b in zip(u, hidden, strict=True)), wide, c) for c, u in enumerate(up)]
        expected.append([clamp(s + t, LOW, HIGH) for s, t in zip(row, terms, strict=True)])
    return [
        {"codes": codes, "sums": sums, "down": down, "up": up, "narrow": narrow, "wide": wide, "expected": expected}
    ]


def concat_cases(rng: random.Random) -> list[dict[str, Any]]:
    parts = [[[rng.randrange(-128, 128) for _ in range(n)] for _ in range(2)] for n in (2, 3)]
    rescale = [rule(rng, 1, -128, 127) for _ in parts]
    expected = [[rescaled(x, r, 0) for p, r in zip(parts, rescale, strict=True) for x in p[i]] for i in range(2)]
    return [{"parts": parts, "rescale": rescale, "expected": expected}]


def pool_cases(rng: random.Random, kind: str) -> list[dict[str, Any]]:
    cases = []
    for kernel, stride, padding in (((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 2), (1, 0))):
        codes = [[[[rng.randrange(-128, 128) for _ in range(6)] for _ in range(5)] for _ in range(2)]]
        case: dict[str, Any] = {"codes": codes, "kernel": kernel, "stride": stride, "padding": padding}
        found = [[windows(plane, kernel, stride, padding) for plane in image] for image in codes]
        if kind == "max":
            case["expected"] = [
                [[[max(v for v in w if v is not None) for w in row] for row in plane] for plane in i] for i in found
            ]
        else:
            shift = 30
            case["rule"] = {
                "multiplier": [round(2**shift / (kernel[0] * kernel[1]))], "shift": [shift], "low": -128, "high": 127,
            }  # fmt: skip
            case["expected"] = [
                [
                    [[rescaled(sum(v or 0 for v in w), case["rule"], c) for w in row] for row in plane]
                    for c, plane in enumerate(image)
                ]
                for image in found
            ]
        cases.append(case)
    return cases


def main() -> None:
    rng = random.Random(20240613)
    vectors = {
        "requantise": requantise_cases(rng),
        "finish": finish_cases(rng),
        "add": add_cases(rng),
        "concat": concat_cases(rng),
        "max_pool": pool_cases(rng, "max"),
        "avg_pool": pool_cases(rng, "avg"),
        "adapter": adapter_cases(rng),
    }
    FILE.write_text(json.dumps({"format": "hil.golden.digital_ops", "version": "1.0", **vectors}) + "\n", "utf-8")


if __name__ == "__main__":
    main()
