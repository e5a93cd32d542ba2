"""Tasks: outputs and targets become scores, beside torchmetrics and faster-coco-eval as judges, and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.errors import FileError, UsageError
from hil.verdict.metric import ACCURACY
from hil.verdict.tasks import boxes as boxes_of
from hil.verdict.tasks.metrics import MAP, SQUARED_ERROR, tolerance_of
from hil.verdict.tasks.task import Task
from hil.verdict.verdict import Mode, Verdict, judge
from mapping.network.graph import Output
from mapping.network.task import TaskKind, default_task

IMAGE = (1, 8, 8)


def task(kind: str, *shapes: tuple[int, ...], metric: str = "", scale: float = 1.0, **more: Any) -> Task:
    outputs = tuple(Output(f"o{n}", shape) for n, shape in enumerate(shapes))
    return Task.of(TaskKind(kind), metric=metric, image=IMAGE, outputs=outputs, scale=scale, **more)


def test_the_shapes_of_the_outputs_suggest_a_task() -> None:
    assert default_task((3, 64, 64), []) is TaskKind.CLASSIFY
    assert default_task((3, 64, 64), [(5, 64, 64)]) is TaskKind.SEGMENT
    assert default_task((3, 64, 64), [(3, 64, 64)]) is TaskKind.AUTOENCODE
    assert default_task((3, 64, 64), [(7, 8, 8)]) is TaskKind.DETECT
    assert default_task((3, 64, 64), [(30, 4), (30, 2)]) is TaskKind.DETECT
    assert default_task((1, 20, 4), [(20, 5)]) is TaskKind.SEQUENCE
    assert default_task((1, 1, 12), [(2,)]) is TaskKind.REGRESS


def test_logits_of_classes_are_right_where_the_largest_is_the_label() -> None:
    found = Task.of(TaskKind.CLASSIFY, image=IMAGE, classes=("a", "b"))
    right = found.scores(np.array([[[3, 1], [0, 2]], [[1, 2], [0, 2]]]), np.array([0, 1]))
    assert right.tolist() == [[True, True], [False, True]]
    assert found.metric == ACCURACY


def test_overlap_of_pixels_is_that_of_torchmetrics() -> None:
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.segmentation")
    rng = np.random.default_rng(0)
    logits, masks = rng.normal(size=(6, 3 * 64)), rng.integers(0, 3, (6, 8, 8))
    found = task("segment", (3, 8, 8)).scores(logits, masks)
    seen = torch.tensor(logits.reshape(6, 3, 8, 8).argmax(1))
    wanted = metrics.mean_iou(seen, torch.tensor(masks), num_classes=3, input_format="index")
    assert found == pytest.approx(wanted.numpy(), abs=1e-6)


def test_overlap_of_a_set_counts_all_pixels_and_leaves_out_ignored_ones() -> None:
    one_map = task("segment", (1, 8, 8), metric="mean-iou")
    masks = np.zeros((2, 8, 8), np.int64)
    masks[0, :4], masks[1, 0] = 1, 255
    logits = np.where(masks == 1, 5, -5).reshape(2, -1)
    logits[1, :8] = 9  # ignored
    evidence = one_map.scores(logits, masks)
    assert one_map.totals(evidence) == pytest.approx(1.0)
    logits[0, :32] = -5  # class 1 is never seen
    assert one_map.totals(one_map.scores(logits, masks)) == pytest.approx((88 / 120 + 0) / 2)


def test_small_maps_are_repeated_to_the_size_of_the_mask() -> None:
    found = task("segment", (2, 4, 4), metric="pixel-accuracy")
    logits = np.zeros((1, 2, 4, 4))
    logits[0, 1, :2] = 1
    masks = np.zeros((1, 8, 8), np.int64)
    masks[0, :4] = 1
    assert found.scores(logits.reshape(1, -1), masks).tolist() == [1.0]


def test_codes_become_values_by_their_scale_before_errors_are_squared() -> None:
    found = task("regress", (2,), scale=0.5)
    assert found.scores(np.array([[2, 4]], np.int32), np.array([[1.5, 2.0]])).tolist() == [0.125]
    assert found.scores(np.array([[1.0, 2.0]], np.float32), np.array([[1.5, 2.0]])).tolist() == [0.125]


def test_steps_without_a_class_do_not_count() -> None:
    logits = np.eye(3)[None, [0, 1, 2, 0]].reshape(1, -1)
    assert task("sequence", (4, 3)).scores(logits, np.array([[0, 1, -1, 2]])).tolist() == pytest.approx([2 / 3])


def test_the_area_under_the_curve_is_that_of_torchmetrics() -> None:
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(1)
    inputs, again, odd = rng.normal(size=(80, 64)), rng.normal(size=(80, 64)), rng.integers(0, 2, 80)
    again[:9] = again[9:18] = inputs[:9] = inputs[9:18]  # equal scores
    found = task("autoencode", (64,), metric="auc")
    evidence = found.scores(again, np.column_stack([inputs, odd]))
    errors = torch.tensor(((again - inputs) ** 2).mean(1))
    wanted = metrics.binary_auroc(errors / errors.max(), torch.tensor(odd))
    assert float(found.totals(evidence)) == pytest.approx(float(wanted), abs=1e-6)


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic boxes: outputs (count, 12 · 6) of a detector that errs, and targets (count, 4, 5)."""
    rng = np.random.default_rng(seed)
    targets = np.full((count, 4, 5), -1.0)
    boxes, logits = np.zeros((count, 12, 4)), np.full((count, 12, 2), -6.0)
    for k in range(count):
        for n in range(rng.integers(1, 5)):
            corner, size, kind = rng.uniform(0, 40, 2), rng.uniform(8, 20, 2), int(rng.integers(0, 2))
            targets[k, n] = kind, *corner, *(corner + size)
            boxes[k, n] = targets[k, n, 1:] + rng.normal(0, 1.2, 4)
            logits[k, n, kind if rng.random() < 0.9 else 1 - kind] = rng.normal(2, 1)
        for n in range(4, 7):
            corner = rng.uniform(0, 40, 2)
            boxes[k, n] = *corner, *(corner + rng.uniform(8, 20, 2))
            logits[k, n, rng.integers(0, 2)] = rng.normal(-1, 1)
    return np.hstack([boxes.reshape(count, -1), logits.reshape(count, -1)]), targets


def test_the_mean_average_precision_is_that_of_coco() -> None:
    coco = pytest.importorskip("faster_coco_eval")
    outputs, targets = scenes(40, 0)
    found = task("detect", (12, 4), (12, 2))
    ours = float(found.totals(found.scores(outputs, targets)))
    there: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for k, boxes in enumerate(targets):
        for kind, x1, y1, x2, y2 in boxes[boxes[:, 0] >= 0]:
            box = {"image_id": k, "category_id": int(kind), "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
            there.append({**box, "area": (x2 - x1) * (y2 - y1), "id": len(there) + 1})
    for k, boxes in enumerate(found.boxes(outputs)):
        for x1, y1, x2, y2, kind, score in boxes:
            box = {"image_id": k, "category_id": int(kind), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            seen.append(box)
    truth = coco.COCO(
        {"images": [{"id": k} for k in range(40)], "annotations": there, "categories": [{"id": 0}, {"id": 1}]}
    )
    judge_of = coco.COCOeval_faster(truth, truth.loadRes(seen), "bbox")
    judge_of.evaluate()
    judge_of.accumulate()
    judge_of.summarize()
    assert 0.2 < ours < 0.9
    assert ours == pytest.approx(float(judge_of.stats[0]), abs=1e-9)
    loose = task("detect", (12, 4), (12, 2), metric="map50")
    assert float(loose.totals(loose.scores(outputs, targets))) == pytest.approx(float(judge_of.stats[1]), abs=1e-9)


def test_a_grid_gives_the_box_of_a_cell_at_its_place_and_size() -> None:
    grid = np.full((1, 6, 2, 2), -9.0)
    grid[0, :, 1, 0] = (0, 0, np.log(0.5), 0, 9, 0)
    boxes, scores = boxes_of.from_grid(grid, (8, 8))
    found = boxes_of.likeliest(boxes[0], scores[0])
    assert found[0] == pytest.approx((1, 4, 3, 8, 0, 1), abs=1e-3)
    assert len(found) == 1


def test_outputs_that_are_not_of_the_task_are_refused_with_their_shapes() -> None:
    for kind, shape in (("segment", (3, 5, 5)), ("detect", (4, 8, 8)), ("autoencode", (9,)), ("sequence", (3,))):
        with pytest.raises(UsageError, match="the network gives o0"):
            task(kind, shape)
    with pytest.raises(UsageError, match="squared-error, absolute-error"):
        task("regress", (2,), metric="map")


def test_a_metric_without_a_usual_tolerance_asks_for_one() -> None:
    assert tolerance_of(MAP, None) == 0.01
    assert tolerance_of(MAP, 2.0) == 0.02
    with pytest.raises(UsageError, match="unit of its own"):
        tolerance_of(SQUARED_ERROR, None)


def own(folder: Path, text: str) -> str:
    (folder / "score.py").write_text(text, encoding="utf-8")
    return f"{folder / 'score.py'}:score"


def test_a_users_custom_metric_runs_only_where_it_was_allowed(tmp_path: Path) -> None:
    named = own(
        tmp_path, "UNIT = 'm'\nGREATER = False\ndef score(outputs, targets):\n    return abs(outputs - targets)[:, 0]"
    )
    with pytest.raises(UsageError, match="--allow-code"):
        task("regress", (2,), metric=named)
    found = task("regress", (2,), metric=named, allow_code=True)
    assert (found.metric.unit, found.metric.greater, found.metric.share) == ("m", False, False)
    assert found.scores(np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]])).tolist() == [2.0]
    with pytest.raises(FileError, match="ZeroDivisionError"):
        task("regress", (2,), metric=own(tmp_path, "1 / 0"), allow_code=True)


def test_a_users_custom_metric_of_the_set_is_drawn_with_the_samples(tmp_path: Path) -> None:
    text = "SET = True\ndef score(outputs, targets):\n    return float((outputs[:, 0] > targets[:, 0]).mean())"
    found = task("regress", (2,), metric=own(tmp_path, text), allow_code=True)
    evidence = found.scores(np.array([[1.0, 0], [4.0, 0]]), np.array([[2.0, 0], [3.0, 0]]))
    assert found.totals(evidence) == pytest.approx(0.5)
    assert found.set_score is not None
    assert found.set_score(evidence, np.array([[0.0, 2.0]])).tolist() == [1.0]


def errors_of(rng: np.random.Generator, count: int, rows: int, lift: float = 0.0) -> np.ndarray:
    """Squared errors of rows of chips on the same samples, each chip a little other."""
    base = np.random.default_rng(5).gamma(2.0, 0.01, count)
    return np.asarray(base + lift + rng.normal(0, 2e-3, (rows, count)) + rng.normal(0, 1e-4, (rows, 1)))


@pytest.mark.parametrize(("lift", "word"), [(0.0, Verdict.AGREE), (0.006, Verdict.DISAGREE)])
def test_errors_in_a_unit_of_their_own_are_judged_in_it(lift: float, word: Verdict) -> None:
    rng = np.random.default_rng(1)
    measured, simulated = errors_of(rng, 800, 3, lift), errors_of(rng, 800, 20)
    found = judge(measured, simulated, simulated[0], mode=Mode.CONDITIONED, tolerance=0.002, metric=SQUARED_ERROR)
    assert found.verdict is word
    assert "squared units" in found.text
    assert found.mcnemar is None
    assert found.discordance is None


def test_a_metric_of_the_set_is_judged_by_draws_of_the_samples() -> None:
    found = task("detect", (12, 4), (12, 2), metric="map50")
    outputs, targets = scenes(320, 2)
    rng = np.random.default_rng(3)

    def noisy(rows: int, spoilt: float) -> np.ndarray:
        every = np.repeat(outputs[None], rows, axis=0)
        every[:, :, 48:] += rng.normal(0, 0.1, (rows, 320, 24))
        every[:, rng.random(320) < spoilt, 48:] = -6.0
        return np.asarray(found.scores(every, targets))

    simulated, ideal = noisy(10, 0.0), found.scores(outputs, targets)
    good = judge(
        noisy(2, 0.0), simulated, ideal, mode=Mode.CONDITIONED, tolerance=0.02, metric=found.metric,
        set_score=found.set_score,
    )  # fmt: skip
    bad = judge(
        noisy(2, 0.2), simulated, ideal, mode=Mode.CONDITIONED, tolerance=0.02, metric=found.metric,
        set_score=found.set_score,
    )  # fmt: skip
    assert good.verdict is Verdict.AGREE
    assert bad.verdict is Verdict.DISAGREE
    assert bad.loss.mean < -0.05
    assert 0 < good.measured.low < good.measured.mean < good.measured.high < 1
