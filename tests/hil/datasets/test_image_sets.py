"""Image sets: what is read is what was written, and a broken file is named with its fault."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from hil.cli import run
from hil.datasets import formats as data_files
from hil.datasets import image_set as data
from hil.errors import FileError, UsageError

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


def idx(array: np.ndarray, count: int | None = None) -> bytes:
    shape = (len(array) if count is None else count, *array.shape[1:])
    return struct.pack(">BBBB" + "I" * len(shape), 0, 0, 8, len(shape), *shape) + array.tobytes()


def write_idx(folder: Path, images: bytes, labels: bytes, end: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if end else bytes
    (folder / f"t10k-images-idx3-ubyte{end}").write_bytes(pack(images))
    (folder / f"t10k-labels-idx1-ubyte{end}").write_bytes(pack(labels))
    return folder


@pytest.fixture(autouse=True)
def _no_other_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HIL_DATA", raising=False)
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "no-debian-package")
    monkeypatch.setattr(data, "CACHE", tmp_path / "nothing-fetched")


# --- by name ----------------------------------------------------------------------------------


def test_bundled_set_is_2000_images_of_ten_classes() -> None:
    found = data.load_dataset("fashion-mnist-bundled")
    assert found.images.shape == (2000, 28, 28, 1)
    assert found.labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert found.classes[9] == "Ankle boot"
    with pytest.raises(UsageError):
        data.load_dataset("fashion-mnist-bundled", "train")


def test_bundled_images_are_the_first_of_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    try:
        whole = data.load_dataset("fashion-mnist", limit=2000)
    except FileError:
        pytest.skip("Fashion-MNIST is not installed (apt-get install dataset-fashion-mnist)")
    bundled = data.load_dataset("fashion-mnist-bundled")
    assert bundled.digest == whole.digest


def test_known_set_is_found_by_environment_then_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, place in enumerate(("environment", "package")):
        write_idx(tmp_path / place / "fashion-mnist", idx(IMAGES + np.uint8(number)), idx(LABELS), ".gz")
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "package")
    assert "package" in data.load_dataset("fashion-mnist").source
    monkeypatch.setenv("HIL_DATA", str(tmp_path / "environment"))
    found = data.load_dataset("fashion-mnist", limit=4)
    assert "environment" in found.source
    assert (found.images[..., 0] == IMAGES[:4]).all()
    assert found.labels.tolist() == LABELS[:4].tolist()
    assert found.classes[0] == "T-shirt/top"


def test_missing_set_names_all_ways_to_have_it() -> None:
    with pytest.raises(FileError) as caught:
        data.load_dataset("fashion-mnist")
    for way in ("hil doctor --download fashion-mnist", "HIL_DATA", "dataset-fashion-mnist", "torchvision"):
        assert way in str(caught.value)


def test_download_without_torchvision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(FileError, match="torchvision is not installed") as caught:
        data.fetch_dataset("fashion-mnist")
    assert "rram-hil[data]" in str(caught.value)


def test_downloaded_cifar_is_kept_without_its_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    def cifar10(root: Path, train: bool, download: bool) -> types.SimpleNamespace:
        assert (root, download) == (tmp_path, True)
        return types.SimpleNamespace(data=pixels, targets=[3, 8, 8])

    fake = types.SimpleNamespace(datasets=types.SimpleNamespace(CIFAR10=cifar10))
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    monkeypatch.setattr(data, "CACHE", tmp_path)
    assert run(["doctor", "--download", "cifar10"]) == 0
    assert (data.load_dataset("cifar10").images == pixels).all()


def test_failed_download_is_a_file_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("File not found or corrupted.")

    fake = types.SimpleNamespace(datasets=types.SimpleNamespace(FashionMNIST=refuse))
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    with pytest.raises(FileError, match="corrupted"):
        data.fetch_dataset("fashion-mnist")


def test_a_folder_of_other_images_is_not_taken_for_a_known_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    (tmp_path / "test" / "cats").mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(tmp_path / "test" / "cats" / "0.png")
    with pytest.raises(FileError, match="not on this machine"):
        data.load_dataset("fashion-mnist")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FileError, match="cifar10"):
        data.load_dataset("imagenet")
    with pytest.raises(UsageError, match="validation"):
        data.load_dataset("fashion-mnist", "validation")
    with pytest.raises(UsageError):
        data.load_dataset("fashion-mnist-bundled", limit=0)


def test_a_set_of_the_wrong_size_is_not_taken_for_the_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    write_idx(tmp_path, idx(np.ascontiguousarray(IMAGES[:, :27])), idx(LABELS))
    with pytest.raises(FileError, match="27 x 28 x 1"):
        data.load_dataset("fashion-mnist")


def test_digest_follows_pixels_labels_and_order(tmp_path: Path) -> None:
    def digest(images: np.ndarray, labels: np.ndarray) -> str:
        np.savez(tmp_path / "set.npz", images=images, labels=labels)
        return data.load_dataset(tmp_path / "set.npz").digest

    changed = IMAGES.copy()
    changed[0, 0, 0] ^= 1
    digests = {
        digest(IMAGES, LABELS),
        digest(changed, LABELS),
        digest(IMAGES[::-1], LABELS),
        digest(IMAGES, LABELS % 9),
    }
    assert len(digests) == 4
    assert digest(IMAGES, LABELS) in digests


# --- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_folder_and_idx_file_give_the_same(tmp_path: Path, end: str) -> None:
    write_idx(tmp_path, idx(IMAGES), idx(LABELS), end)
    folder = data.load_dataset(tmp_path)
    file = data.load_dataset(tmp_path / f"t10k-labels-idx1-ubyte{end}")
    assert folder.digest == file.digest
    assert (folder.images[..., 0] == IMAGES).all()


def test_cifar_batches_are_read_in_order_with_colour_planes_last(tmp_path: Path) -> None:
    planes = RNG.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    records = np.concatenate([np.arange(5, dtype=np.uint8)[:, None], planes.reshape(5, -1)], axis=1)
    (tmp_path / "data_batch_1.bin").write_bytes(records[:3].tobytes())
    (tmp_path / "data_batch_2.bin").write_bytes(records[3:].tobytes())
    found = data.load_dataset(tmp_path, "train", limit=4)
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert (found.images == planes[:4].transpose(0, 2, 3, 1)).all()
    assert found.classes[3] == "cat"


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def write_h5(path: Path, lossless: int = 0, **changes: object) -> Path:
    """The published layout: ``jpeg`` with encoded bytes, optionally the first images bit-exact."""
    smooth = np.add.outer(np.arange(32), np.arange(32))[None, :, :, None] * np.ones((4, 1, 1, 3))
    images = (smooth + np.arange(4)[:, None, None, None] * 20).astype(np.uint8)
    encoded = [jpeg(image) for image in images]
    parts = {
        "bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "labels": np.arange(4),
    } | changes
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = list(data_files.CIFAR_CLASSES)
        file.attrs["image_shape"] = [32, 32, 3]
        for name, value in parts.items():
            file[f"jpeg/{name}"] = value
        if lossless:
            file["lossless/images"], file["lossless/labels"] = images[:lossless], np.arange(lossless)
    return path


def test_hdf5_gives_exact_images_where_there_are_any_and_jpeg_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    write_h5(tmp_path / "cifar10_test.h5", lossless=2)
    exact = data.load_dataset("cifar10")
    decoded = data.load_dataset("cifar10-jpeg")
    assert (len(exact), len(decoded)) == (2, 4)
    assert exact.source.endswith(":lossless")
    assert decoded.source.endswith(":jpeg")
    assert np.abs(exact.images.astype(int) - decoded.images[:2]).max() <= 8
    assert len(data.load_dataset("cifar10-jpeg", limit=3)) == 3


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"labels": np.arange(3)}, "4 images but 3 labels"),
        ({"labels": np.array([0, 1, 2, 10])}, "label 10 with 10 classes"),
        ({"labels": np.array([0, 1, 2, -1])}, "label -1"),
        ({"labels": np.array([0.5, 1, 2, 3])}, "labels"),
        ({"offsets": np.array([0, 10, 5, 20, 30])}, "offsets"),
        ({"offsets": np.array([0, 10, 20, 30, 2**40])}, "offsets"),
        ({"offsets": np.array([0, 10, 20, 30, 40])}, "image 0 cannot be decoded"),
        ({"bytes": np.zeros(100, np.float32)}, "bytes"),
    ],
)
def test_broken_hdf5_is_named_with_its_fault(tmp_path: Path, changes: dict[str, object], fault: str) -> None:
    path = write_h5(tmp_path / "set.h5", **changes)
    with pytest.raises(FileError, match=fault) as caught:
        data.load_dataset(path)
    assert "set.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"images": IMAGES}, "labels"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "float32"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "6 samples but 5 labels"),
        ({"images": IMAGES[0], "labels": LABELS}, "images"),
        ({"images": IMAGES, "labels": np.array([None] * 6)}, "object"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"])}, "label 9 with 2 classes"),
    ],
)
def test_broken_npz_is_named_with_its_fault(tmp_path: Path, arrays: dict[str, np.ndarray], fault: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(FileError, match=fault) as caught:
        data.load_dataset(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)


def test_image_folder_spreads_the_first_images_over_the_classes(tmp_path: Path) -> None:
    for label, name in enumerate(("ants", "bees")):
        (tmp_path / "test" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(IMAGES[label * 3 + number]).save(tmp_path / "test" / name / f"{number}.png")
    found = data.load_dataset(tmp_path, limit=4)
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert (found.images[..., 0] == IMAGES[[0, 3, 1, 4]]).all()
    assert found.classes == ("ants", "bees")
    Image.fromarray(IMAGES[0, :20]).save(tmp_path / "test" / "bees" / "1.png")
    with pytest.raises(FileError, match=r"bees/1\.png is 28 x 20"):
        data.load_dataset(tmp_path)


def test_eurosat_folder_is_split_by_file_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    for name in ("Forest", "River"):
        (tmp_path / "eurosat/2750" / name).mkdir(parents=True)
        for number in range(1, 11):
            pixels = np.full((64, 64, 3), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "eurosat/2750" / name / f"{name}_{number}.png")
    test = data.load_dataset("eurosat")
    train = data.load_dataset("eurosat", "train")
    assert sorted(set(test.images[:, 0, 0, 0].tolist())) == [5, 10]
    assert (len(test), len(train)) == (4, 16)


@pytest.mark.parametrize(
    ("images", "labels", "fault"),
    [
        (b"", idx(LABELS), "not an IDX file"),
        (b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], idx(LABELS), "not an IDX file"),
        (idx(IMAGES)[:-1], idx(LABELS), "the file ends after"),
        (idx(IMAGES) + b"x", idx(LABELS), "more data"),
        (idx(IMAGES, count=2**31), idx(LABELS), "GiB"),
        (idx(IMAGES), idx(LABELS[:5]), "6 images but 5 labels"),
        (idx(IMAGES[:0]), idx(LABELS[:0]), "no image"),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_broken_idx_is_named_with_its_fault(tmp_path: Path, images: bytes, labels: bytes, fault: str, end: str) -> None:
    write_idx(tmp_path, images, labels, end)
    with pytest.raises(FileError, match=fault) as caught:
        data.load_dataset(tmp_path)
    assert "t10k-" in str(caught.value)


def test_cut_gzip_and_stray_bytes_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path, idx(IMAGES), idx(LABELS), ".gz")
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-400])
    with pytest.raises(FileError, match="gzip"):
        data.load_dataset(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073 + 5))
    images.unlink()
    with pytest.raises(FileError, match="3078 bytes"):
        data.load_dataset(tmp_path)
    (tmp_path / "notes.txt").write_text("no images")
    for path in (tmp_path / "notes.txt", Path("/dev/null")):
        with pytest.raises(FileError):
            data.load_dataset(path)
