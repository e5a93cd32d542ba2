"""Phase C: from an architecture to a net.pt that compiles and runs on simulated chips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.record.published import nominal_record  # noqa: E402
from cim.simulator.training_errors import array_noise  # noqa: E402
from mapping.bits import LayerBits  # noqa: E402
from mapping.compile import compile_network  # noqa: E402
from mapping.network.file import load_network, save_network  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from mapping.program.execute import IdealMultiply, run  # noqa: E402
from search.errors import SearchFileError  # noqa: E402
from search.train.checkpoint import load_checkpoint  # noqa: E402
from search.train.images import Images, Symmetry, moved, symmetric  # noqa: E402
from search.train.retrain import RetrainJob, RetrainSettings, retrain  # noqa: E402
from search.train.teacher import answers, split_graph  # noqa: E402
from search.train.teacher_training import train_teacher  # noqa: E402
from search.train.training import EpochRecord, Machine, TrainingSchedule, only_epochs  # noqa: E402

from ...mapping.hostile.corpus import Hook  # noqa: E402
from ..tiny import CLASSES, TINY, images, tiny_architecture  # noqa: E402

LAB = load_chip("lab-128", macros=400)
NOISE = array_noise(LAB.macro, nominal_record(LAB, [0]), 3600.0)
TRAIN, KEPT = Images(*images(400)), Images(*images(100, 1))


def job(folder: Path, **changes: object) -> RetrainJob:
    schedule = TrainingSchedule(10, batch=40, rate=0.02, shift=0, symmetry="none", seed=2)
    settings = RetrainSettings(schedule, calibration_images=64)
    made = RetrainJob(TINY, tiny_architecture(), settings, None, NOISE, folder, CLASSES, "stripes of a test")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    found = retrain(job(tmp_path_factory.mktemp("net")), TRAIN, KEPT)
    return found.path, found.ideal, found.noisy


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    schedule = TrainingSchedule(6, batch=40, rate=0.02, shift=0, symmetry="none")
    save_network(train_teacher(TINY, TRAIN, KEPT, schedule, classes=CLASSES, growth=4), path)
    return path


def test_a_network_is_trained_written_and_compiled(trained: tuple[Path, float, float]) -> None:
    path, ideal, noisy = trained
    assert ideal > 85
    assert noisy > 75
    file = load_network(path)
    assert (file.weight_bits, file.activation_bits) == (4, 8)
    assert file.layer_bits == {"stem": LayerBits(6, 8), "classifier": LayerBits(6, 8)}
    assert file.graph.provenance["data"] == "stripes of a test"
    assert len(file.calibration_images) == 64
    program = compile_network(file, LAB)
    test = Images(*images(300, 5))
    exact = (float_logits(file.graph, test.pixels).argmax(1) == test.labels).mean()
    integers = (run(program, test.pixels, IdealMultiply(program)).argmax(1) == test.labels).mean()
    assert integers > 0.85
    assert abs(exact - integers) < 0.03


def test_calibration_images_are_training_images(trained: tuple[Path, float, float]) -> None:
    pixels = {p.tobytes() for p in TRAIN.pixels}
    assert {p.tobytes() for p in load_network(trained[0]).calibration_images} <= pixels


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: EpochRecord) -> None:
        if record.epoch == 1:
            raise Killed

    short = dataclasses.replace(
        job(tmp_path).settings, schedule=TrainingSchedule(4, batch=40, rate=0.02, shift=1, symmetry="mirror", seed=2)
    )
    whole = retrain(job(tmp_path / "whole", settings=short), TRAIN, KEPT)
    cut = job(tmp_path / "cut", settings=short)
    with pytest.raises(Killed):
        retrain(cut, TRAIN, KEPT, only_epochs(kill))
    retrain(cut, TRAIN, KEPT)
    assert load_network(cut.path).digest == load_network(whole.path).digest


def test_errors_are_annealed_in() -> None:
    settings = RetrainSettings(TrainingSchedule(1), errors_from=0.4, errors_full=0.8, strength=2.0)
    assert [settings.strength_at(p) for p in (0.0, 0.4, 0.8, 1.0)] == [0.0, 0.0, 2.0, 2.0]
    assert settings.strength_at(0.6) == pytest.approx(1.0)


def test_images_move_by_whole_pixels_and_keep_their_values() -> None:
    torch.manual_seed(0)
    pixels = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(32, 1, 8, 8)
    out = moved(pixels, 2, "mirror")
    assert out.shape == (32, 1, 8, 8)
    assert {round(float(v) * 255) for v in out.unique()} <= set(range(65))
    assert len({tuple(map(tuple, image[0].tolist())) for image in out}) > 10
    assert torch.equal(moved(pixels, 0, "none"), pixels.float() / 255)


@pytest.mark.parametrize(("symmetry", "count"), [("none", 1), ("mirror", 2), ("turn", 8)])
def test_images_are_left_mirrored_or_turned_each_way_equally_often(symmetry: Symmetry, count: int) -> None:
    torch.manual_seed(0)
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(1600, 1, 4, 4)
    found = [tuple(image.flatten().tolist()) for image in (moved(pixels, 0, symmetry) * 255).round()]
    shares = [found.count(one) / len(found) for one in set(found)]
    assert len(shares) == count
    assert max(abs(share - 1 / count) for share in shares) < 0.05
    assert (tuple(pixels[0, 0].flip(1).flatten().tolist()) in found) == (symmetry != "none")


def test_squares_are_cut_out_everywhere_and_whole_images_come_back_later() -> None:
    torch.manual_seed(0)
    pixels = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(800, 1, 8, 8)
    found = (moved(pixels, 2, "none", 6) * 255).round()
    assert found.shape == (800, 1, 6, 6)
    corners = found[:, 0, 0, 0].long()
    assert set(corners.tolist()) == {8 * down + right for down in range(3) for right in range(3)}  # none is black
    assert torch.equal(found[:, 0], corners[:, None, None] + torch.arange(6)[:, None] * 8 + torch.arange(6))
    with pytest.raises(ValueError, match="8 x 8 hold no square of 9"):
        moved(pixels, 0, "none", 9)
    schedule = TrainingSchedule(10, crop=6, crop_until=0.5)
    assert [schedule.crop_at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [6, 6, 0, 0]
    assert TrainingSchedule(10).crop_at(0.0) == 0


@pytest.mark.parametrize(("symmetry", "count"), [("none", 1), ("mirror", 2), ("turn", 8)])
def test_a_teacher_that_is_asked_once_answers_for_all_ways_that_an_image_may_be_turned(
    symmetry: Symmetry, count: int, teacher_file: Path
) -> None:
    pixels = torch.rand(2, 1, 4, 4)
    ways = {tuple(way[0].flatten().tolist()) for way in symmetric(pixels, symmetry)}
    assert len(ways) == len(list(symmetric(pixels, symmetry))) == count
    teacher = split_graph(load_network(teacher_file).graph, TINY)
    found = answers(teacher, KEPT, symmetry, torch.device("cpu"))
    whole = torch.tensor(KEPT.pixels.transpose(0, 3, 1, 2)).float() / 255
    wanted = torch.stack([teacher(way) for way in symmetric(whole, symmetry)]).mean(0)
    torch.testing.assert_close(found, wanted)


def test_a_network_learns_from_squares_and_a_teacher_that_was_asked_once(tmp_path: Path, teacher_file: Path) -> None:
    plain = job(tmp_path).settings
    settings = dataclasses.replace(plain, schedule=dataclasses.replace(plain.schedule, crop=6), asked_once=True)
    found = retrain(job(tmp_path, teacher=teacher_file, settings=settings), TRAIN, KEPT)
    assert found.ideal > 75


def test_half_precision_trains_too(tmp_path: Path) -> None:
    schedule = TrainingSchedule(2, batch=40, rate=0.02, shift=0, symmetry="none")
    settings = dataclasses.replace(job(tmp_path).settings, schedule=schedule)
    found = retrain(job(tmp_path, settings=settings, machine=Machine(precision="bf16-mixed")), TRAIN, KEPT)
    assert all(np.isfinite(r.loss) for r in found.epochs)


def test_a_checkpoint_of_a_stranger_runs_nothing_and_is_refused_as_a_file(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "training.checkpoint"
    torch.save({"key": "k", "model": Hook(marker)}, path)
    with pytest.raises(SearchFileError, match="is not what training left"):
        load_checkpoint(path, "k")
    assert not marker.exists()
    path.write_bytes(b"nothing")
    with pytest.raises(SearchFileError, match="is not what training left"):
        load_checkpoint(path, "k")
