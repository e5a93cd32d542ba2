"""Sets of any inputs and targets: arrays, masks and boxes are read, values become steps of a network's input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from hil.datasets.image_set import Dataset, load_dataset
from hil.datasets.input_values import preprocess_of, with_pixels
from hil.datasets.targets import TargetKind
from hil.errors import FileError, UsageError
from mapping.network.graph import Preprocess

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 1)).astype(np.uint8)
INPUTS = np.random.default_rng(1).normal(size=(3, 5, 2)).astype(np.float32)


def read(path: Path, **options: Any) -> Dataset:
    return load_dataset(path, "test", any_kind=True, **options)


def saved(folder: Path, suffix: str, **arrays: Any) -> Path:
    path = folder / f"set{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                if name == "classes":
                    file.attrs["class_names"] = values
                else:
                    file[name] = values
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_arrays_of_any_shape_are_read_with_targets_of_any_kind(tmp_path: Path, suffix: str) -> None:
    values = read(saved(tmp_path, suffix, inputs=INPUTS.astype(np.float64), values=np.arange(6).reshape(3, 2)))
    assert (values.kind, values.truth.dtype, len(values)) == (TargetKind.VALUES, np.float32, 3)
    assert np.array_equal(values.inputs, INPUTS)
    masks = read(saved(tmp_path, suffix, images=IMAGES[..., 0], masks=IMAGES[..., 0] % 4, classes=["a", "b"]))
    assert (masks.kind, masks.classes) == (TargetKind.MASKS, ("a", "b"))
    assert np.array_equal(masks.images, IMAGES)
    steps = read(saved(tmp_path, suffix, inputs=INPUTS, steps=np.array([[0, 1, -1]] * 3)), limit=2)
    assert (len(steps), steps.truth.shape) == (2, (2, 3))
    assert read(saved(tmp_path, suffix, inputs=INPUTS)).kind is TargetKind.NONE
    labels = read(saved(tmp_path, suffix, inputs=INPUTS, labels=np.array([0, 2, 1])))
    assert (labels.labels.tolist(), labels.classes) == ([0, 2, 1], ("0", "1", "2"))


def test_a_table_has_features_and_last_a_class_by_word_or_number(tmp_path: Path) -> None:
    path = tmp_path / "iris.csv"
    path.write_text("sepal,petal,species\n5.1,1.4,setosa\n6.3,6.0,virginica\n4.9,1.5,setosa\n")
    named = read(path, limit=2)
    assert (named.classes, named.labels.tolist()) == (("setosa", "virginica"), [0, 1])
    assert np.allclose(named.inputs, [[5.1, 1.4], [6.3, 6.0]])
    path.write_text("5.1,1.4,2\n6.3,6.0,0\n")
    assert read(path).labels.tolist() == [2, 0]
    for text in ("", "5.1,setosa\n6.3,6.0,setosa\n", "a,b\nc,setosa\n", "nan,1\n", "\0\n", "5.1\n"):
        path.write_text(text)
        with pytest.raises(FileError):
            read(path)


def test_boxes_of_all_samples_stand_one_after_the_other(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 2, 3], [1, 1, 4, 4], [2, 2, 5, 6]])
    path = saved(
        tmp_path, ".npz", images=IMAGES, boxes=boxes, box_classes=np.array([1, 0, 2]), box_counts=np.array([2, 0, 1])
    )
    found = read(path)
    assert found.truth.shape == (3, 2, 5)
    assert found.truth[0, 1].tolist() == [0, 1, 1, 4, 4]
    assert (found.truth[1, :, 0] == -1).all()
    assert found.truth[2, 0].tolist() == [2, 2, 2, 5, 6]


def test_a_folder_of_arrays_by_split_is_a_set(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        np.savez(tmp_path / f"{split}.npz", inputs=INPUTS[:count])
    assert len(load_dataset(tmp_path, "train", any_kind=True)) == 3
    assert len(load_dataset(tmp_path, "test", any_kind=True)) == 2


def test_commands_that_need_classes_refuse_other_targets(tmp_path: Path) -> None:
    path = saved(tmp_path, ".npz", inputs=INPUTS, values=np.zeros((3, 2)))
    with pytest.raises(FileError, match="images with labels are needed"):
        load_dataset(path, "test")


def test_values_become_the_256_steps_between_the_ends_of_their_channel(tmp_path: Path) -> None:
    data = read(saved(tmp_path, ".npz", inputs=np.array([[-2.0, 6.0], [0.0, 2.0]])))
    assert data.inputs is not None
    rule = preprocess_of(data.inputs)
    assert (rule.mean, rule.std) == (pytest.approx((0.25,)), pytest.approx((0.125,)))
    pixels = with_pixels(data, (1, 1, 2), rule).images
    assert pixels[:, 0, :, 0].tolist() == [[0, 255], [64, 128]]
    back = (pixels / 255 - rule.mean[0]) / rule.std[0]
    assert back[1, 0, :, 0] == pytest.approx([0.0, 2.0], abs=8 / 255 / 2 + 1e-6)


def test_channels_of_maps_stand_last_in_the_image(tmp_path: Path) -> None:
    inputs = np.stack([np.zeros((2, 3, 4)), np.ones((2, 3, 4))], 1)
    data = with_pixels(read(saved(tmp_path, ".npz", inputs=inputs)), (2, 3, 4), Preprocess((0.0, 0.0), (1.0, 0.5)))
    assert data.images.shape == (2, 3, 4, 2)
    assert data.images[0, 0, 0].tolist() == [0, 128]


def test_values_of_another_number_than_the_network_takes_are_refused(tmp_path: Path) -> None:
    data = read(saved(tmp_path, ".npz", inputs=INPUTS))
    with pytest.raises(UsageError, match="5 x 2 values, the network takes 12"):
        with_pixels(data, (1, 3, 4), Preprocess((0.0,), (1.0,)))
    with pytest.raises(UsageError, match="does not say how values become codes"):
        with_pixels(data, (1, 5, 2), None)


def picture(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path)


def test_images_with_masks_of_the_same_name_are_read_by_split(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / "test" / "images" / f"{k}.png", IMAGES[k, :, :, 0])
        picture(tmp_path / "test" / "masks" / f"{k}.png", (IMAGES[k, :, :, 0] % 3).astype(np.uint8))
    found = read(tmp_path)
    assert np.array_equal(found.images, IMAGES)
    assert np.array_equal(found.truth, IMAGES[..., 0] % 3)


def coco(folder: Path, **changes: Any) -> Path:
    for k in range(2):
        picture(folder / "images" / f"{k}.png", IMAGES[k, :, :, 0])
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "0.png"}, {"id": 9, "file_name": "1.png"}],
        "categories": [{"id": 5, "name": "ship"}, {"id": 2, "name": "car"}],
        "annotations": [
            {"image_id": 9, "category_id": 5, "bbox": [1, 2, 3, 3]},
            {"image_id": 9, "category_id": 2, "bbox": [0, 0, 8, 6], "iscrowd": 1},
        ],
    }
    (folder / "annotations.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return folder / "annotations.json"


def test_boxes_of_a_coco_file_have_classes_by_the_order_of_their_ids(tmp_path: Path) -> None:
    for found in (read(coco(tmp_path)), read(tmp_path)):
        assert found.classes == ("car", "ship")
        assert found.truth.shape == (2, 1, 5)
        assert (found.truth[0, 0, 0], found.truth[1, 0].tolist()) == (-1, [1, 1, 2, 4, 5])
        assert np.array_equal(found.images, IMAGES[:2])


ARRAYS: dict[str, dict[str, Any]] = {
    "images and inputs": {"images": IMAGES, "inputs": INPUTS},
    "neither": {"values": np.zeros((3, 2))},
    "two kinds of targets": {"inputs": INPUTS, "values": np.zeros((3, 2)), "steps": np.zeros((3, 2), int)},
    "pickled inputs": {"inputs": np.array([{"a": 1}] * 3, dtype=object)},
    "inputs of text": {"inputs": np.array(["a", "b", "c"])},
    "complex inputs": {"inputs": INPUTS.astype(np.complex64)},
    "inputs that are not finite": {"inputs": np.where(INPUTS > 1, np.nan, INPUTS)},
    "inputs beyond float32": {"inputs": np.full((3, 2), 1e300)},
    "records": {"inputs": np.zeros(3, dtype=[("a", "<f4"), ("b", "<f4")])},
    "no sample": {"inputs": np.zeros((0, 4))},
    "fewer targets": {"inputs": INPUTS, "values": np.zeros((2, 2))},
    "values that are not finite": {"inputs": INPUTS, "values": np.full((3, 2), np.inf)},
    "masks of fractions": {"images": IMAGES, "masks": np.zeros((3, 6, 8))},
    "masks below zero": {"images": IMAGES, "masks": np.full((3, 6, 8), -1)},
    "masks of two axes": {"images": IMAGES, "masks": np.zeros((3, 6), int)},
    "steps that nobody knows": {"inputs": INPUTS, "steps": np.full((3, 4), -1)},
    "steps far below zero": {"inputs": INPUTS, "steps": np.full((3, 4), -7)},
    "labels below zero": {"inputs": INPUTS, "labels": np.array([0, -1, 2])},
    "labels beyond all classes": {"inputs": INPUTS, "labels": np.array([0, 1, 1 << 40])},
    "corners in the wrong order": {
        "images": IMAGES, "boxes": np.array([[5, 5, 1, 1]]), "box_classes": np.zeros(1, int),
        "box_counts": np.array([1, 0, 0]),
    },
    "images of fractions": {"images": IMAGES / 255.0, "masks": np.zeros((3, 6, 8), int)},
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("name", ARRAYS)
def test_hostile_arrays_are_refused_as_bad_files(tmp_path: Path, name: str, suffix: str) -> None:
    arrays = ARRAYS[name]
    if suffix == ".h5" and name in ("pickled inputs", "inputs of text"):
        arrays = {"inputs": np.array([b"a", b"b", b"c"])}
    with pytest.raises(FileError):
        read(saved(tmp_path, suffix, **arrays))
