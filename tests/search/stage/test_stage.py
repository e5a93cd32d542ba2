"""Phase A: a frozen teacher, fair paths, ordinary distillation in the limit of one candidate, resumable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.record.published import nominal_record  # noqa: E402
from cim.simulator.training_errors import array_noise  # noqa: E402
from mapping.network.file import load_network, save_network  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from search.errors import SearchError  # noqa: E402
from search.space.file import parse_space  # noqa: E402
from search.space.genes import Space  # noqa: E402
from search.stage.net import fair_paths, listed_paths, marginals  # noqa: E402
from search.stage.rating import StageJob, train_stage  # noqa: E402
from search.stage.scores import read_scores, task_significance  # noqa: E402
from search.stage.task import RATED_PARTS, StageSettings  # noqa: E402
from search.train.checkpoint import ResumeError  # noqa: E402
from search.train.images import Images  # noqa: E402
from search.train.teacher import TeacherError, split_graph  # noqa: E402
from search.train.teacher_training import refine_teacher, train_teacher  # noqa: E402
from search.train.training import EpochRecord, Machine, TrainingSchedule, only_epochs  # noqa: E402

from ..tiny import CLASSES, TEXT, TINY, images  # noqa: E402

LAB = load_chip("lab-128", macros=400)
NOISE = array_noise(LAB.macro, nominal_record(LAB, [0]), 3600.0)
FEW = Images(*images(240))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    schedule = TrainingSchedule(16, batch=24, rate=0.02, shift=0, symmetry="none")
    save_network(train_teacher(TINY, FEW, Images(*images(90, 1)), schedule, classes=CLASSES, growth=4), path)
    return path


def job(teacher: Path, folder: Path, stage: int = 1, **changes: object) -> StageJob:
    schedule = TrainingSchedule(2, batch=32, shift=0, symmetry="none", average=False, seed=3)
    settings = dataclasses.replace(
        StageSettings(schedule, rate_images=32, statistics_batches=1, draws=2),
        **{k: v for k, v in changes.items() if k in StageSettings.__dataclass_fields__},  # type: ignore[arg-type]
    )
    fields = {k: v for k, v in changes.items() if k in StageJob.__dataclass_fields__}
    return dataclasses.replace(StageJob(TINY, stage, settings, teacher, NOISE, folder), **fields)  # type: ignore[arg-type]


def test_the_teacher_learns_and_is_cut_at_the_stages(teacher: Path) -> None:
    network = load_network(teacher)
    staged = split_graph(network.graph, TINY)
    x = torch.rand(5, 1, 8, 8)
    assert staged.channels == (4, 8, 16)
    assert staged.rectified == (True, True, True)
    whole = staged(x)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    given = torch.tensor(pixels.transpose(0, 3, 1, 2)).float() / 255
    torch.testing.assert_close(staged(given), torch.tensor(float_logits(network.graph, pixels)))
    for stage in (0, 1):
        _, after = staged.features(x, stage)
        assert after.shape[2:] == ((8, 8), (4, 4))[stage]
        torch.testing.assert_close(staged.suffix(stage, after), whole)
    assert float(network.graph.provenance["validation accuracy"].split()[0]) > 80


def test_a_teacher_without_maps_of_the_right_size_is_refused(teacher: Path) -> None:
    strided = parse_space(TEXT.replace("layers = 2\nstride = 2", "layers = 2\nstride = 4"), "other.toml")
    with pytest.raises(TeacherError, match=r"single maps of 2 x 2.*8 x 8, 4 x 4"):
        split_graph(load_network(teacher).graph, strided)


def test_a_network_of_others_is_cut_at_the_same_borders() -> None:
    from mapping.network.architectures import build
    from search.space.file import load_space

    space = load_space("cifar10")
    graph = build("cifar_resnet20_a", classes=tuple("0123456789"), rng=np.random.default_rng(0))
    staged = split_graph(graph, space)
    assert staged.channels == (16, 16, 32, 64)
    ends = [part.nodes[-1].name for part in staged.parts]  # type: ignore[union-attr,index]
    assert ends == ["relu", "layer1.2.relu_2", "layer2.2.relu_2", "layer3.2.relu_2", "linear"]


def darker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As another camera sees it: what the teacher was not trained for."""
    return 255 - pixels // 2


def test_a_given_teacher_goes_on_training_on_the_images_of_now(teacher: Path) -> None:
    given, kept = load_network(teacher), Images(*images(90, 1))
    now, later = (Images(darker(some.pixels), some.labels) for some in (FEW, kept))
    schedule = TrainingSchedule(6, batch=24, rate=0.003, shift=0, symmetry="none")
    refined = refine_teacher(given, now, later, schedule)
    before, after = (
        float((float_logits(n.graph, later.pixels).argmax(1) == later.labels).mean()) for n in (given, refined)
    )
    assert after > before + 0.2
    assert f"{100 * after:.2f} % of 90 images" in refined.graph.provenance["validation accuracy"]
    assert refined.graph.provenance["trained by"] == given.graph.provenance["trained by"]
    assert split_graph(refined.graph, TINY).channels == split_graph(given.graph, TINY).channels
    again = refine_teacher(given, now, later, schedule)
    assert again.digest == refined.digest


def test_a_given_teacher_of_other_images_is_not_trained_further(teacher: Path) -> None:
    wide = Images(np.zeros((64, 9, 9, 1), np.uint8), np.zeros(64, np.int64))
    with pytest.raises(TeacherError, match=r"\(1, 9, 9\)"):
        refine_teacher(load_network(teacher), wide, wide, TrainingSchedule(1, batch=16))


def test_paths_are_fair_at_any_time() -> None:
    paths = fair_paths((3, 4, 1), 50, np.random.default_rng(0))
    for steps in range(1, 51):
        for position, count in enumerate((3, 4, 1)):
            counts = np.bincount(paths[:steps, position], minlength=count)
            assert counts.max() - counts.min() <= 1


def test_all_paths_are_rated_or_a_fair_sample() -> None:
    rng = np.random.default_rng(0)
    assert len(np.unique(listed_paths((3, 4), 512, rng), axis=0)) == 12
    assert listed_paths((7, 7, 7, 7), 70, rng).shape == (70, 4)
    table = marginals(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([1.0, 2.0, 3.0, 4.0]), (2, 2))
    assert table == [[1.5, 3.5], [2.0, 3.0]]


def test_a_stage_gives_a_matrix_and_leaves_the_teacher_alone(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.stage import rating as module

    kept = []
    real = module.split_graph
    monkeypatch.setattr(module, "split_graph", lambda *a: kept.append(real(*a)) or kept[-1])
    one = job(teacher, tmp_path)
    told: list[int] = []
    scores = train_stage(one, FEW, only_epochs(lambda record: told.append(record.epoch)))
    assert told == list(range(one.settings.schedule.epochs + RATED_PARTS))
    assert [len(row) for row in scores.noisy] == [3, 4]  # no skip where the shape changes
    assert np.isfinite([v for row in scores.clean for v in row]).all()
    fresh = real(load_network(teacher).graph, TINY).state_dict()
    assert list(fresh) == list(kept[0].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(fresh.values(), kept[0].state_dict().values(), strict=True))
    assert read_scores(tmp_path / "stage-2.json").key == scores.key
    assert all(max(row) - min(row) <= 1 for row in scores.counts)
    assert scores.noisy != scores.clean


def test_the_same_seed_gives_the_same_answer_and_a_killed_run_goes_on(teacher: Path, tmp_path: Path) -> None:
    whole = train_stage(job(teacher, tmp_path / "whole"), FEW)

    class Killed(Exception):
        pass

    def kill(record: EpochRecord) -> None:
        raise Killed

    cut = job(teacher, tmp_path / "cut")
    with pytest.raises(Killed):
        train_stage(cut, FEW, only_epochs(kill))
    seen: list[int] = []
    again = train_stage(cut, FEW, only_epochs(lambda record: seen.append(record.epoch)))
    assert seen == list(range(1, 2 + RATED_PARTS))
    assert (again.losses, again.clean, again.noisy) == (whole.losses, whole.clean, whole.noisy)
    assert train_stage(cut, FEW, kill) == again  # found, not trained


def test_stages_train_in_mixed_precision(teacher: Path, tmp_path: Path) -> None:
    found = train_stage(job(teacher, tmp_path, machine=Machine(precision="bf16-mixed")), FEW)
    assert np.isfinite(found.losses).all()


def test_a_checkpoint_of_other_settings_is_refused(teacher: Path, tmp_path: Path) -> None:
    first = job(teacher, tmp_path)
    train_stage(first, FEW)
    other = dataclasses.replace(first, settings=dataclasses.replace(first.settings, temperature=3.0))
    with pytest.raises(ResumeError, match="other settings"):
        train_stage(other, FEW)


def single() -> Space:
    text = TEXT.replace('["conv2", "conv3g2", "skip"]', '["conv2"]')
    text = text.replace('["conv2", "conv3", "residual", "skip"]', '["conv3"]')
    for gone in ("conv3g2", "residual", "skip"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(gone))
    return parse_space(text, "single.toml")


def test_one_candidate_a_position_is_ordinary_distillation(teacher: Path, tmp_path: Path) -> None:
    """The losses equal, bit for bit, a plain loop without any path."""
    from search.stage.rating import stage_net
    from search.train.images import moved, on_device
    from search.train.losses import noise_to_signal, soft_divergence
    from search.train.training import epoch_seed, groups

    space = single()
    one = job(teacher, tmp_path, space=space, noise=None)
    losses = train_stage(one, FEW).losses
    settings = one.settings
    schedule = settings.schedule
    staged = split_graph(load_network(teacher).graph, space)
    torch.manual_seed(schedule.seed)
    net = stage_net(one, staged)
    own, _ = FEW.split(settings.held_out, schedule.seed)
    pixels, _ = on_device(own, torch.device("cpu"))
    steps = len(own) // schedule.batch
    torch.manual_seed(schedule.seed)
    optimiser = torch.optim.AdamW(groups(net, schedule.decay), schedule.rate)
    plain, step = [], 0
    for epoch in range(schedule.epochs):
        torch.manual_seed(epoch_seed(schedule.seed, epoch))
        net.train()
        total = torch.zeros(())
        for index in torch.randperm(len(own))[: steps * schedule.batch].split(schedule.batch):
            batch = moved(pixels[index], 0, "none")
            torch.rand(())  # the strength of errors, of which there are none
            before, after = staged.features(batch, 1)
            first, second = net.options(0)[0], net.options(1)[0]
            student = net.leave(second(first(net.enter(before))))
            wanted, logits = staged.suffix(1, after), staged.suffix(1, student)
            loss = noise_to_signal(student, after) + 0.5 * soft_divergence(logits, wanted, 2.0)
            optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = schedule.rate_at(
                step / (steps * schedule.epochs)
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
            optimiser.step()
            total += loss.detach()
            step += 1
        plain.append(float(total) / steps)
    assert losses == tuple(plain)


def test_scores_of_all_stages_are_one_number_a_choice(teacher: Path, tmp_path: Path) -> None:
    first, second = (train_stage(job(teacher, tmp_path, stage=stage), FEW) for stage in (0, 1))
    matrix = task_significance(TINY, [first, second])
    assert [len(v) for v in matrix.values] == list(TINY.choices)
    assert matrix.values[0].tolist() == list(first.noisy[0])
    with pytest.raises(SearchError, match=r"no task significance for 1\.1"):
        task_significance(TINY, [second])


def test_a_job_can_be_sent_to_a_worker(teacher: Path, tmp_path: Path) -> None:
    import pickle

    one = job(teacher, tmp_path)
    again = pickle.loads(pickle.dumps(one))
    assert (again.space.skeleton, again.settings, again.teacher) == (one.space.skeleton, one.settings, one.teacher)


def test_torch_is_imported_by_training_alone() -> None:
    """Spaces, costs and fronts are for every machine; training modules say that they import torch."""
    import subprocess
    import sys

    names = (
        "choice.accuracy",
        "choice.front",
        "choice.pareto",
        "space.genes",
        "space.file",
        "stage.scores",
    )
    code = f"import sys\nfor n in {names}: __import__('search.' + n)\nassert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
