"""Folders of images with masks beside them, and COCO-style boxes in a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.files import open_regular, read_text
from cim.json_text import parse_json
from hil.datasets.arrays import ArrayContent
from hil.datasets.formats import SUFFIXES, decode
from hil.datasets.targets import MOST_BOXES, TargetKind, checked_targets, padded_boxes
from hil.errors import FileError

BOXES_FILE = "annotations.json"
MAX_JSON_BYTES = 64 << 20
MOST_SAMPLES = 1 << 20
LARGEST_CORNER = 1e6  # pixels


def holds_masks(path: Path) -> bool:
    return (path / "images").is_dir() and (path / "masks").is_dir()


def read_masks(path: Path, limit: int | None) -> ArrayContent:
    """``images`` and ``masks`` of a folder: to each image a PNG of the same name whose pixels are class numbers.

    Raises:
        FileError: no image, an image without a mask, sizes that differ, or a mask in colours.
    """
    files = sorted(p for p in (path / "images").iterdir() if p.suffix.lower() in SUFFIXES)[:limit]
    if not files:
        raise FileError("no image", where=str(path / "images"))
    masks = [path / "masks" / f"{file.stem}.png" for file in files]
    if lost := [mask for mask in masks if not mask.is_file()]:
        raise FileError(f"no mask {lost[0].name} for {len(lost)} of {len(files)} images", where=str(path / "masks"))
    pixels = decode([(file.name, file) for file in files], None, path)
    classes = np.empty(pixels.shape[:3], np.uint8)
    for k, mask in enumerate(masks):
        classes[k] = _mask(mask, pixels.shape[1:3], path)
    return ArrayContent(
        pixels,
        None,
        TargetKind.MASKS,
        checked_targets(TargetKind.MASKS, classes, len(pixels), str(path)),
        (),
        str(path),
    )


def _mask(file: Path, size: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with open_regular(file) as opened, Image.open(opened) as image:
            if (image.height, image.width) != size:
                what = f"{file.name} is {image.width} x {image.height} pixels, its image {size[1]} x {size[0]}"
                raise FileError(what, where=str(path))
            if image.mode not in ("L", "P", "1"):
                what = f"{file.name} has colours ({image.mode}), a mask has class numbers"
                raise FileError(what, where=str(path), hint="8-bit PNG, gray or with a palette")
            return np.asarray(image, np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(f"{file.name} cannot be decoded: {error}", where=str(path)) from error


def read_coco(file: Path, limit: int | None) -> ArrayContent:
    """Boxes of a COCO file: ``images`` (id, file_name), ``annotations`` (image_id, category_id, bbox), ``categories``.

    Images lie beside the file, or in a folder ``images`` beside it. Crowds (``iscrowd``) are left out. Classes are
    numbered by the order of their ids.

    Raises:
        FileError: not such a file, an image outside its folder, ids that nothing has, boxes that cannot be.
    """
    where = str(file)
    try:
        content = parse_json(read_text(file, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"not a readable COCO file: {str(error)[:200]}", where=where) from error
    try:
        images, boxes, kinds = (_records(content, name) for name in ("images", "annotations", "categories"))
        numbers = {_whole(kind["id"]): n for n, kind in enumerate(sorted(kinds, key=lambda k: _whole(k["id"])))}
        names = [str(kind["name"])[:200] for kind in sorted(kinds, key=lambda k: _whole(k["id"]))]
        chosen = images[:limit]
        places = {_whole(image["id"]): n for n, image in enumerate(chosen)}
        known = {_whole(image["id"]) for image in images}
        if len(known) != len(images) or len(numbers) != len(kinds):
            raise ValueError("an id is used twice")
        files = [_beside(file, image["file_name"]) for image in chosen]
        rows: list[tuple[int, int, float, float, float, float]] = []
        for box in boxes:
            if _whole(box["image_id"]) not in known or _whole(box["category_id"]) not in numbers:
                raise ValueError(f"an annotation of image {box['image_id']!r:.20} and class {box['category_id']!r:.20}")
            if box.get("iscrowd") or box["image_id"] not in places:
                continue
            x, y, width, height = _four(box["bbox"])
            rows.append((places[box["image_id"]], numbers[box["category_id"]], x, y, x + width, y + height))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"not a COCO file: {type(error).__name__}: {str(error)[:200]}", where=where) from error
    if not files:
        raise FileError("no image", where=where)
    found = np.array(rows, np.float64).reshape(-1, 6)
    found = found[np.argsort(found[:, 0], kind="stable")]
    counts = np.bincount(found[:, 0].astype(np.int64), minlength=len(files))
    if counts.max() > MOST_BOXES:
        raise FileError(f"{counts.max()} boxes in one image, over {MOST_BOXES}", where=where)
    targets = padded_boxes(found[:, 2:], found[:, 1], counts, where)
    pixels = decode([(f.name, f) for f in files], None, file.parent)
    return ArrayContent(pixels, None, TargetKind.BOXES, targets, tuple(names), where)


def _records(content: Any, name: str) -> list[dict[str, Any]]:
    records = content[name]
    if not isinstance(records, list) or len(records) > MOST_SAMPLES or not all(isinstance(r, dict) for r in records):
        raise ValueError(f"{name} is not a list of at most {MOST_SAMPLES} objects")
    return records


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{value!r:.40} is not an id")
    return value


def _four(values: Any) -> tuple[float, float, float, float]:
    if not isinstance(values, list) or len(values) != 4 or not all(type(v) in (int, float) for v in values):
        raise ValueError(f"{values!r:.60} is not a box x, y, width, height")
    if not all(abs(v) <= LARGEST_CORNER for v in values) or min(values[2:]) <= 0:  # whole numbers may be beyond a float
        raise ValueError(f"{values!r:.60} is not a box x, y, width, height")
    x, y, width, height = map(float, values)
    return x, y, width, height


def _beside(file: Path, name: object) -> Path:
    """The image of a name in the folder of ``file`` or in ``images`` beside it, and in no other place."""
    if not isinstance(name, str) or not name or len(name) > 255 or Path(name).name != name or name in (".", ".."):
        raise ValueError(f"{name!r:.60} is not the name of an image beside the file")
    for place in (file.parent / name, file.parent / "images" / name):
        if place.is_file() and not place.is_symlink():
            return place
    raise ValueError(f"there is no image {name!r:.60} beside the file")
