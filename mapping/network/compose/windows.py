"""Pooling with every option, resampling to other sizes, running sums, and windows folded back into maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mapping.network.compose.arithmetic import affine, beside
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import pad, permute, reshape, swap, take
from mapping.network.compose.products import Pair, as_before, as_map, convolution, floats, with_maps
from mapping.network.compose.refusal import fit, need, refuse, within
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand, Value, activation
from mapping.operators.node import Array
from mapping.operators.pools import AvgPool, MaxPool
from mapping.operators.resampling import Resample


def pooled_size(length: int, kernel: int, stride: int, pads: Pair, gap: int, ceil: bool) -> int:
    """Number of windows along one axis; with ``ceil`` also one that hangs over the end but begins inside."""
    within(length + sum(pads))
    room = length + sum(pads) - gap * (kernel - 1) - 1
    need(
        room >= 0 or (ceil and room > -stride),
        f"a window of {kernel} for {length} places",
        "a window no larger than the padded map",
    )
    count = room // stride + 1
    if ceil and room % stride:
        count += 1
        if (count - 1) * stride >= length + pads[0]:
            count -= 1
    return count


def max_pool(
    c: Composer,
    x: Operand,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[Pair],
    dilation: Sequence[int],
    ceil: bool,
) -> Value:
    opened, flat = as_map(c, x)
    if flat:
        kernel, stride, dilation, pads = (1, *kernel), (1, *stride), (1, *dilation), ((0, 0), *pads)
    sizes = opened.shape[2:]
    counts = [
        pooled_size(n, k, s, p, d, ceil) for n, k, s, p, d in zip(sizes, kernel, stride, pads, dilation, strict=True)
    ]
    plain = all(d == 1 and b == a and 2 * b <= k for d, (b, a), k in zip(dilation, pads, kernel, strict=True))
    plain = plain and counts == [
        pooled_size(n, k, s, p, 1, False) for n, k, s, p in zip(sizes, kernel, stride, pads, strict=True)
    ]
    high, wide = kernel

    def layer(node: str) -> str:
        if plain:
            (top, _), (left, _) = pads
            return c.add(MaxPool, [node], kernel=(high, wide), stride=tuple(stride), padding=(top, left))
        for axis in range(2):
            starts = np.arange(counts[axis]) * stride[axis] - pads[axis][0]
            places = starts[:, None] + np.arange(kernel[axis]) * dilation[axis]
            node = c.take(node, _inside(places, sizes[axis]), axis + 1)
        return c.add(MaxPool, [node], kernel=(high, wide), stride=(high, wide))

    return as_before(c, with_maps(c, opened, layer), flat)


def _inside(places: np.ndarray[tuple[int, ...], np.dtype[np.int64]], length: int) -> list[int]:
    """Windows (windows, members) with members outside replaced by one inside: the largest stays the same."""
    good = (places >= 0) & (places < length)
    need(bool(good.any(1).all()), "a window of padding alone", "padding below half of the window")
    first = places[np.arange(len(places)), good.argmax(1)]
    found: list[int] = np.where(good, places, first[:, None]).ravel().tolist()
    return found


def average_pool(
    c: Composer,
    x: Operand,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[Pair],
    ceil: bool,
    count_padding: bool,
    divisor: int | None = None,
) -> Operand:
    """Means of windows. ``count_padding``: padded zeros count; ``divisor`` instead of the number of places."""
    opened, flat = as_map(c, x)
    if flat:
        kernel, stride, pads = (1, *kernel), (1, *stride), ((0, 0), *pads)
    sizes = opened.shape[2:]
    counts = [pooled_size(n, k, s, p, 1, ceil) for n, k, s, p in zip(sizes, kernel, stride, pads, strict=True)]
    usual = [pooled_size(n, k, s, p, 1, False) for n, k, s, p in zip(sizes, kernel, stride, pads, strict=True)]
    plain = counts == usual and (count_padding or divisor is not None or not any(map(any, pads)))
    plain = plain and all(b == a and 2 * b <= k for (b, a), k in zip(pads, kernel, strict=True))
    high, wide = kernel

    def layer(node: str) -> str:
        if plain:
            (top, _), (left, _) = pads
            return c.add(AvgPool, [node], kernel=(high, wide), stride=tuple(stride), padding=(top, left))
        rows, columns = (
            _means(counts[a], kernel[a], stride[a], pads[a], sizes[a], count_padding, divisor is not None)
            for a in range(2)
        )
        return c.add(Resample, [node], rows=rows, columns=columns)

    found: Operand = as_before(c, with_maps(c, opened, layer), flat)
    return found if divisor is None else affine(c, found, high * wide / divisor, 0.0)


def _means(count: int, kernel: int, stride: int, pads: Pair, length: int, padding: bool, whole: bool) -> Array:
    """Weights (count, length) of each window's mean; ``whole``: of a window that counts all its places."""
    weights = np.zeros((count, length), np.float32)
    for place in range(count):
        start = place * stride - pads[0]
        stop = min(start + kernel, length + pads[1])
        first, last = max(start, 0), min(stop, length)
        weights[place, first:last] = 1 / (kernel if whole else stop - start if padding else last - first)
    return weights


def adaptive_pool(c: Composer, x: Operand, size: Sequence[int], largest: bool) -> Value:
    """Mean or largest of windows ⌊i · n / out⌋ to ⌈(i + 1) · n / out⌉ along each axis."""
    opened, flat = as_map(c, x)
    out = (1, *size) if flat else tuple(size)
    have = opened.shape[2:]
    windows = [[range(i * n // o, -(-(i + 1) * n // o)) for i in range(o)] for n, o in zip(have, out, strict=True)]
    kernel = tuple(n // o for n, o in zip(have, out, strict=True))
    even = all(n % o == 0 for n, o in zip(have, out, strict=True))

    def layer(node: str) -> str:
        if even:
            return c.add(MaxPool if largest else AvgPool, [node], kernel=kernel, stride=kernel)
        if not largest:
            rows, columns = (_window_means(windows[axis], have[axis]) for axis in range(2))
            return c.add(Resample, [node], rows=rows, columns=columns)
        widest = [max(map(len, w)) for w in windows]
        for axis in range(2):
            index = [w[min(j, len(w) - 1)] for w in windows[axis] for j in range(widest[axis])]
            node = c.take(node, index, axis + 1)
        return c.add(MaxPool, [node], kernel=tuple(widest), stride=tuple(widest))

    return as_before(c, with_maps(c, opened, layer), flat)


def _window_means(windows: Sequence[range], length: int) -> Array:
    weights = np.zeros((len(windows), length), np.float32)
    for place, window in enumerate(windows):
        weights[place, window.start : window.stop] = 1 / len(window)
    return weights


def positions(length: int, count: int, ratio: float, rule: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where each of ``count`` new places lies among the ``length`` old ones; ``ratio``: old places a new one.

    ``rule``: half_pixel, pytorch_half_pixel, align_corners or asymmetric (words of ONNX).
    """
    at = np.arange(count, dtype=np.float64)
    if rule == "align_corners":
        return at * (length - 1) / max(count - 1, 1)
    if rule == "asymmetric":
        return at * ratio
    if rule == "pytorch_half_pixel" and count == 1:
        return at * 0
    if rule in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) * ratio - 0.5
    refuse(f"resampling by {rule!r}", "half_pixel, align_corners or asymmetric")


def nearest(
    c: Composer, x: Operand, axes: Sequence[int], at: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]]
) -> Operand:
    """The old place ⌊position⌋ for each new one along the axes."""
    for axis, places in zip(axes, at, strict=True):
        index = np.floor(places).astype(int).clip(0, x.shape[axis] - 1)
        x = take(c, x, index.tolist(), axis)
    return x


def resampled(
    c: Composer, x: Operand, at: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]], cubic: float | None
) -> Operand:
    """Linear mixes of old places for maps (…, H, W), or cubic ones with that coefficient, edges repeated."""
    return filtered(c, x, [_mix(places, x.shape[n - 2], cubic) for n, places in enumerate(at)])


def resampled_lines(c: Composer, x: Operand, at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Operand:
    """Linear mixes of old places for sequences (…, L)."""
    opened = reshape(c, x, (*x.shape[:-1], 1, x.shape[-1]))
    mixed = resampled(c, opened, [np.zeros(1), at], None)
    return reshape(c, mixed, (*x.shape[:-1], len(at)))


def antialiased(
    length: int, count: int, ratio: float, cubic: bool
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Weights (new, old) of a filter as wide as a new place: linear, or cubic with coefficient −0.5."""
    wide = max(ratio, 1.0)
    at = (np.arange(count)[:, None] + 0.5) * ratio
    reach = (2.0 if cubic else 1.0) * wide
    old = np.arange(length)
    near = (old >= np.floor((at - reach + 0.5).clip(0))) & (old < np.floor((at + reach + 0.5).clip(0, length)))
    distance = np.abs(old + 0.5 - at) / wide
    weights = near * (_cubic(distance, -0.5) if cubic else (1 - distance).clip(0))
    return floats(weights / weights.sum(1, keepdims=True))


def filtered(c: Composer, x: Operand, weights: Sequence[Array]) -> Operand:
    """Maps (…, H, W) as rows · map · columnsᵀ."""
    x = activation(x)
    need(x.axis < len(x.shape) - 2, f"resampling of {x.shape} along the batch", "the batch first")
    node = c.add(Resample, [x.node], rows=weights[0], columns=weights[1])
    return c.value(node, x, (*x.shape[:-2], len(weights[0]), len(weights[1])))


def running_sum(c: Composer, x: Operand, axis: int, *, backwards: bool = False, before: bool = False) -> Operand:
    """Σ of the places up to each one along an axis; ``backwards``: from it on, ``before``: without it."""
    if not isinstance(x, Value):
        need(not (backwards or before), "a running sum of constants from the end", "the sums as a stored tensor")
        return np.cumsum(x, axis)
    length = x.shape[axis]
    turned = swap(c, beside(c, x, [axis]), axis, -1)
    opened = activation(reshape(c, turned, (*turned.shape[:-1], 1, length)))
    steps = np.tril(np.ones((length, length), np.float32), -1 if before else 0)
    node = c.add(Resample, [opened.node], rows=np.ones((1, 1), np.float32), columns=steps.T if backwards else steps)
    return swap(c, reshape(c, c.value(node, opened), turned.shape), axis, -1)


def folded(
    c: Composer, x: Operand, size: Sequence[int], kernel: Sequence[int], step: Sequence[int], around: Sequence[int],
    gap: Sequence[int],
) -> Operand:  # fmt: skip
    """Maps of ``size`` as sums of windows that overlap, which are columns (n, channels · kernel, windows)."""
    places = zip(size, kernel, step, around, gap, strict=True)
    counts = [(n + 2 * p - g * (k - 1) - 1) // s + 1 for n, k, s, p, g in places]
    images, channels = x.shape[0], x.shape[1] // math.prod(kernel)
    opened = reshape(c, x, (images, channels, *kernel, *counts))
    lines = [k * n for k, n in zip(kernel, counts, strict=True)]
    maps = activation(reshape(c, permute(c, opened, (0, 1, 2, 4, 3, 5)), (images, channels, *lines)))
    sums = []
    for n, k, s, p, g, count in zip(size, kernel, step, around, gap, counts, strict=True):
        at = (np.arange(k)[:, None] * g + np.arange(count) * s - p).ravel()
        sums.append((np.arange(n)[:, None] == at).astype(np.float32))
    node = c.add(Resample, [maps.node], rows=sums[0], columns=sums[1])
    return c.value(node, maps, (images, channels, *size))


def _mix(at: np.ndarray[tuple[int], np.dtype[np.float64]], length: int, cubic: float | None) -> Array:
    """Weights (new, old) of linear or cubic interpolation at these positions."""
    at = at if cubic is not None else at.clip(0, length - 1)
    first = np.floor(at).astype(int)
    part = at - first
    weights = np.zeros((len(at), length))
    if cubic is None:
        taps = {0: 1 - part, 1: part}
    else:
        taps = {n: _cubic(np.abs(n - part), cubic) for n in (-1, 0, 1, 2)}
    for n, weight in taps.items():
        np.add.at(weights, (np.arange(len(at)), (first + n).clip(0, length - 1)), weight)
    return floats(weights)


def _cubic(x: np.ndarray[tuple[int], np.dtype[np.float64]], a: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Cubic convolution with coefficient a (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


_BEFORE = "torch.nn.functional.pad before it"


def convolution_of_volumes(
    c: Composer, x: Operand, weight: Array, bias: Array | None, *, stride: Sequence[int],
    pads: Sequence[tuple[int, int]], dilation: Sequence[int], groups: int, name: str = "",
) -> Operand:  # fmt: skip
    """A three-dimensional convolution; ``weight`` (out, in / groups, depth, height, width)."""
    fit(len(x.shape) == 5 == weight.ndim, f"weight {weight.shape} for an input {x.shape}")
    outputs, inputs, deep, *kernel = weight.shape
    if any(pads[0]):
        x = pad(c, x, [(0, 0), (0, 0), pads[0], (0, 0), (0, 0)])
    images, channels = x.shape[:2]
    opened = _windows(c, x, deep, stride[0], dilation[0])  # (n, channels, new depth, deep, height, width)
    places = opened.shape[2]
    frames = permute(c, opened, (0, 2, 1, 3, 4, 5))
    frames = reshape(c, frames, (images * places, channels * deep, *x.shape[3:]))
    found: Operand = convolution(
        c, frames, floats(weight.reshape(outputs, inputs * deep, *kernel)), bias,
        stride=stride[1:], pads=pads[1:], dilation=dilation[1:], groups=groups, name=name,
    )  # fmt: skip
    return _deep(c, found, images)


def pool_of_volumes(
    c: Composer, x: Operand, *, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int],
    dilation: Sequence[int], largest: bool,
) -> Operand:  # fmt: skip
    """Largest or mean of windows; means without padding."""
    need(len(x.shape) == 5, f"volumes {x.shape}", "(n, channels, depth, height, width)")
    need(largest or not any(pads), "means of padded volumes", _BEFORE)
    need(not pads[0], "pooling of volumes that are padded in depth", _BEFORE)
    images = x.shape[0]
    if tuple(kernel[1:]) != (1, 1) or tuple(stride[1:]) != (1, 1):
        frames = reshape(c, permute(c, x, (0, 2, 1, 3, 4)), (images * x.shape[2], x.shape[1], *x.shape[3:]))
        around = [(p, p) for p in pads[1:]]
        if largest:
            frames = max_pool(
                c, frames, kernel=kernel[1:], stride=stride[1:], pads=around, dilation=dilation[1:], ceil=False
            )
        else:
            frames = average_pool(
                c, frames, kernel=kernel[1:], stride=stride[1:], pads=around, ceil=False, count_padding=True
            )
        x = _deep(c, frames, images)
    return reduce(c, _windows(c, x, kernel[0], stride[0], dilation[0]), "max" if largest else "mean", [3])


def _windows(c: Composer, x: Operand, size: int, step: int, gap: int) -> Operand:
    """(n, channels, windows, size, height, width)."""
    count = pooled_size(x.shape[2], size, step, (0, 0), gap, False)
    places = np.arange(count)[:, None] * step + np.arange(size) * gap
    taken = take(c, x, places.ravel().tolist(), 2)
    return reshape(c, taken, (*x.shape[:2], count, size, *x.shape[3:]))


def _deep(c: Composer, frames: Operand, images: int) -> Operand:
    """Frames (n · depth, channels, height, width) as volumes."""
    split = reshape(c, frames, (images, frames.shape[0] // images, *frames.shape[1:]))
    return permute(c, split, (0, 2, 1, 3, 4))
