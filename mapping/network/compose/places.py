"""Elements read from and written to stored places: gather, scatter, diagonals, and maps read between their places."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.arithmetic import affine, plus, times
from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import expand, reshape, take
from mapping.network.compose.refusal import need, refuse, within
from mapping.network.compose.values import Constant, Operand, Value, activation, image_shape
from mapping.operators.joins import Concat
from mapping.operators.moves import FILL

Places = NDArray[np.int64]


def numbered(x: Operand) -> Places:
    """Every element of an operand by its place in memory: moves of these numbers are moves of the elements."""
    within(*x.shape)
    return np.arange(int(np.prod(x.shape)), dtype=np.int64).reshape(x.shape)


def picked(c: Composer, x: Operand, source: Places) -> Operand:
    """Elements of ``x`` by their numbers; an image may read its own only."""
    return _joined(c, [x], source)


def written(c: Composer, x: Operand, target: Places, y: Operand, add: bool) -> Operand:
    """``x`` with ``y`` in the places with the numbers ``target``, or added to them."""
    y = expand(c, y, target.shape)
    source, flat, own = numbered(x).copy(), target.ravel(), numbered(y).ravel()
    if not add:
        source.reshape(-1)[flat] = _size(x) + own
        return _joined(c, [x, y], source)
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], flat[order])
    rank = np.empty_like(flat)
    rank[order] = np.arange(len(flat)) - first  # how many before it went to the same place
    for turn in range(int(rank.max(initial=-1)) + 1):
        part = np.full(x.shape, FILL, np.int64)
        part.reshape(-1)[flat[rank == turn]] = own[rank == turn]
        x = plus(c, x, picked(c, y, part))
    return x


def _size(x: Operand) -> int:
    return int(np.prod(x.shape))


def _joined(c: Composer, parts: Sequence[Operand], source: Places) -> Operand:
    """Elements of several operands, picked from all of them in a row by the numbers in ``source``; −1 gives zero."""
    values = [part for part in parts if isinstance(part, Value)]
    stored = np.concatenate([np.zeros(_size(p)) if isinstance(p, Value) else p.ravel() for p in parts])
    shift = np.where(source < 0, 0.0, stored[source])
    if not values:
        return shift.astype(np.result_type(*(part for part in parts if not isinstance(part, Value))))
    image, inside, nodes, begun = [], [], list[str](), 0
    for part in parts:
        if not isinstance(part, Value):
            image.append(np.full(part.size, FILL))
            inside.append(np.full(part.size, FILL))
            continue
        whose, places = _of_one_image(part, c.batch)
        image.append(whose)
        inside.append(places + begun)
        size = _size(part) // c.batch
        nodes.append(c.reshape(part.node, (size,)))
        begun += size
    whose, places = (np.where(source < 0, FILL, np.concatenate(v)[source]) for v in (image, inside))
    axis, outer = _batch_of(whose, values[0], c.batch)
    split = places.reshape(*source.shape[:axis], outer, c.batch, -1, *source.shape[axis + 1 :])
    own = split.take([0], axis + 1)
    need(
        bool((split == own).all()), "each image of a batch reads other places", "the same stored places for every image"
    )
    node = nodes[0] if len(nodes) == 1 else c.add(Concat, nodes)
    node = c.reshape(c.take(node, own.ravel().tolist(), 0), image_shape(source.shape, axis, c.batch))
    return affine(c, Value(node, source.shape, axis, outer), 1.0, shift)


def _of_one_image(x: Value, batch: int) -> tuple[Places, Places]:
    """For each element the image that it belongs to, and its place there."""
    size = x.shape[x.axis]
    rest = size // (x.outer * batch)
    along = np.arange(size)
    line = [1] * len(x.shape)
    line[x.axis] = size
    image = np.broadcast_to(((along // rest) % batch).reshape(line), x.shape)
    node = np.arange(_size(x) // batch).reshape(*x.shape[: x.axis], size // batch, *x.shape[x.axis + 1 :])
    return image.ravel(), node.take(along // (rest * batch) * rest + along % rest, x.axis).ravel()


def _batch_of(image: Places, like: Value, batch: int) -> tuple[int, int]:
    """(axis, outer) of the batch in a result whose elements belong to these images, −1 to any."""
    axes = sorted(range(image.ndim), key=lambda axis: axis != like.axis)
    for axis in axes:
        size = image.shape[axis]
        for outer in range(1, size // batch + 1):
            if size % (outer * batch):
                continue
            line = [1] * image.ndim
            line[axis] = size
            expected = ((np.arange(size) // (size // (outer * batch))) % batch).reshape(line)
            if ((image == expected) | (image < 0)).all():
                return axis, outer
    refuse("it mixes the images of a batch", "places that are the same for every image")


def sampled(c: Composer, x: Operand, grid: Operand, mode: str, padding: str, corners: bool) -> Operand:
    """Maps (n, channels, H, W) read at stored places (n, h, w, 2) of −1 to 1, x before y (``grid_sample``)."""
    if isinstance(grid, Value):
        refuse("a grid that is computed", "a stored grid, or interpolate")
    need(mode in ("bilinear", "nearest"), f"{mode} sampling", "bilinear or nearest")
    x = activation(x)
    need(len(x.shape) == 4 and x.axis == 0, f"sampling of {x.shape}", "maps (n, channels, height, width)")
    need(bool((grid == grid[:1]).all()), "a grid that differs between images", "one stored grid")
    taps = []
    for axis, size in enumerate((x.shape[3], x.shape[2])):
        at = _pixels(grid[0, ..., axis].astype(np.float64), size, padding, corners)
        low = np.rint(at) if mode == "nearest" else np.floor(at)
        part = at - low
        taps.append([(low, 1 - part), (low + 1, part)] if mode == "bilinear" else [(low, np.ones_like(at))])
    flat = reshape(c, x, (*x.shape[:2], -1))
    found: Operand = np.zeros(1)
    for (column, wide), (row, high) in itertools.product(*taps):
        good = (column >= 0) & (column < x.shape[3]) & (row >= 0) & (row < x.shape[2])
        places = row.clip(0, x.shape[2] - 1) * x.shape[3] + column.clip(0, x.shape[3] - 1)
        read = reshape(c, take(c, flat, places.astype(int).ravel().tolist(), 2), (*x.shape[:2], *at.shape))
        found = plus(c, times(c, read, wide * high * good), found)
    return found


def _pixels(at: NDArray[np.float64], size: int, padding: str, corners: bool) -> NDArray[np.float64]:
    """Places −1 to 1 in pixels; places outside the map are brought back by the rule ``padding``."""
    at = (at + 1) / 2 * (size - 1) if corners else ((at + 1) * size - 1) / 2
    if padding == "border":
        return at.clip(0, size - 1)
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
        turned = np.abs(at - low) % (2 * span) if span else np.zeros_like(at)
        return (np.where(turned > span, 2 * span - turned, turned) + low).clip(0, size - 1)
    return at


def gathered(c: Composer, x: Operand, index: Constant, axis: int) -> Operand:
    """``x`` at stored places along one axis, separately for each place of the other axes (``torch.gather``)."""
    axis %= len(x.shape)
    part = numbered(x)[tuple(slice(0, n) if a != axis else slice(None) for a, n in enumerate(index.shape))]
    return picked(c, x, np.take_along_axis(part, _inside(index, x.shape[axis]), axis))


def scattered(c: Composer, x: Operand, index: Constant, y: Operand, axis: int, add: bool) -> Operand:
    """``x`` with ``y`` at stored places along one axis (``torch.scatter``)."""
    axis %= len(x.shape)
    part = numbered(x)[tuple(slice(0, n) if a != axis else slice(None) for a, n in enumerate(index.shape))]
    target = np.take_along_axis(part, _inside(index, x.shape[axis]), axis)
    if len(y.shape) == index.ndim and y.shape != index.shape:
        y = picked(c, y, numbered(y)[tuple(slice(0, n) for n in index.shape)])
    return written(c, x, target, y, add)


def _inside(index: Constant, size: int) -> NDArray[Any]:
    index = np.where(index < 0, index + size, index)
    need(bool(((index >= 0) & (index < size)).all()), f"an index outside of {size} places", "places from 0 on")
    return index
