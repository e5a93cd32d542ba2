"""``hil finetune`` on a chip: group after group of layers is written, those behind are trained on what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hil.cli import run as hil_command  # noqa: E402
from hil.deployment.deploy import deploy  # noqa: E402
from hil.driver.open_chip import open_chip  # noqa: E402
from hil.emulator.chip import EmulatedChip  # noqa: E402
from hil.errors import ExitCode, FileError, Interrupted, MismatchError, UsageError  # noqa: E402
from hil.improvement.finetuning import on_chip_begin  # noqa: E402
from hil.improvement.finetuning.on_chip import finetune_on_chip  # noqa: E402
from hil.improvement.finetuning.on_chip_result import OnChipResult  # noqa: E402
from hil.improvement.finetuning.on_virtual_chips import predict_on_chip  # noqa: E402
from hil.improvement.finetuning.settings import FinetuneSettings, OnChipSettings, working_folder  # noqa: E402
from hil.improvement.retune import retune  # noqa: E402
from hil.watch import Watch  # noqa: E402
from mapping.network.file import load_network  # noqa: E402
from mapping.program.file import load_program  # noqa: E402

from ..conftest import CHIP, Small  # noqa: E402
from ..deployment.test_deploy import served  # noqa: E402
from ..fitting import every_answer_fits as every_answer_fits  # noqa: E402
from ..small_net import NAMES, images  # noqa: E402

TRAINING = FinetuneSettings(epochs=2, rate=0.002, batch=32, held_out=64, seed=3, recipe="aims tune=images=32")
SETTINGS = OnChipSettings(groups=2, images=320, training=TRAINING)


class Stopped(Watch):
    """A watcher whose user presses Ctrl-C when a stage begins."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.at = stage

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        if self.at in what:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """640 training images."""
    path = tmp_path_factory.mktemp("data") / "train.npz"
    pixels, labels = images(640, 5)
    np.savez(path, images=pixels, labels=labels, classes=np.array(NAMES))
    return path


@dataclasses.dataclass(frozen=True)
class OnChip:
    chip: EmulatedChip
    address: str
    result: OnChipResult


@pytest.fixture(scope="module")
def done(small: Small, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnChip]:
    folder = tmp_path_factory.mktemp("on_chip")
    with served(folder) as (chip, where):
        result = finetune_on_chip(
            small.net, str(data), folder / "program.h5", where, small.record_file, macros=4, settings=SETTINGS
        )
        yield OnChip(chip, where, result)


def test_layers_are_written_once_and_those_behind_lose_less_on_what_was_measured(done: OnChip) -> None:
    result = done.result
    first, second = result.groups
    assert (first.layers, second.layers) == (("conv",), ("fc",))
    assert first.trained is None
    assert second.trained is not None
    assert second.trained.after < second.trained.before
    program = load_program(result.path)
    assert result.cells == sum(2 * t.levels.size for m in program.matrices for t in m.group.tiles)
    assert result.pulses == done.chip.status().pulses_total
    assert result.chip_time_s > 2 * 3600
    assert result.right > 80
    assert "NOT SILICON" in "\n".join(result.summary("net").lines())
    assert not working_folder(result.path).exists()


def test_deploy_takes_the_program_without_writing_a_cell(done: OnChip, small: Small, tmp_path: Path) -> None:
    pulses = done.chip.status().pulses_total
    arguments = small.arguments("--port", done.address, "--out", str(tmp_path / "run"), "--no-causes")
    arguments[1] = str(done.result.path)
    assert hil_command(arguments) == ExitCode.DONE
    assert done.chip.status().pulses_total == pulses


def test_the_program_is_of_no_other_chip_and_scores_no_image_that_it_learned_from(
    done: OnChip, small: Small, data: Path, tmp_path: Path
) -> None:
    program = load_program(done.result.path)
    assert program.adapted_to == done.result.serial
    assert program.tuned_to is None
    assert done.result.digest == program.digest
    with (
        open_chip(CHIP.replace("seed=3", "seed=4"), macros=4) as driver,
        pytest.raises(MismatchError, match="adapted to chip"),
    ):
        retune(driver, program, small.record)
    with pytest.raises(FileError, match="fine-tuned on"):
        deploy(done.result.path, done.address, data=str(data), calibration=small.record_file, out=tmp_path / "run")


@pytest.mark.parametrize("stage", ["macro 1", "epoch 2 of"])
def test_a_stopped_run_goes_on_where_the_chip_still_holds_what_was_written(
    stage: str, done: OnChip, small: Small, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again.h5"
    with served(tmp_path) as (chip, where):
        with pytest.raises(Interrupted, match="whole groups"):
            finetune_on_chip(
                small.net, str(data), out, where, small.record_file, macros=4, settings=SETTINGS, watch=Stopped(stage)
            )
        assert not chip.status().outputs_on
        assert not out.exists()
        again = finetune_on_chip(small.net, str(data), out, where, small.record_file, macros=4, settings=SETTINGS)
    assert again.digest == done.result.digest
    assert not working_folder(out).exists()


def test_a_chip_that_was_started_anew_is_not_gone_on_with(small: Small, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with pytest.raises(Interrupted):
        finetune_on_chip(
            small.net, str(data), out, CHIP, small.record_file, macros=4, settings=SETTINGS, watch=Stopped("epoch 2 of")
        )
    with pytest.raises(MismatchError, match="does not hold what the interrupted fine-tuning left"):
        finetune_on_chip(small.net, str(data), out, CHIP, small.record_file, macros=4, settings=SETTINGS)
    other = dataclasses.replace(SETTINGS, images=200)
    with pytest.raises(MismatchError, match="begun with another"):
        finetune_on_chip(small.net, str(data), out, CHIP, small.record_file, macros=4, settings=other)
    (working_folder(out) / "tensors-1").write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"progress\.json is damaged"):
        finetune_on_chip(small.net, str(data), out, CHIP, small.record_file, macros=4, settings=SETTINGS)


def test_virtual_chips_predict_it_tuned_and_fine_tuned(small: Small, data: Path) -> None:
    found = predict_on_chip(small.net, str(data), 2, small.record_file, macros=4, settings=SETTINGS)
    assert len(found.tuned) == len(found.finetuned) == 2
    assert np.mean(found.finetuned) > 80
    assert "(simulated)" in "\n".join(found.summary("net").lines())


def test_virtual_chips_fine_tune_the_same_on_any_number_of_workers(
    small: Small, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rehearsed on a chip, and judged as deployed."""
    named = [str(small.net), "--data", str(data), "--macros", "4", "--calibration", str(small.record_file)]
    few = ["--epochs", "1", "--held-out", "64", "--seed", "3", "--batch", "32", "--rate", "0.002", "--json"]

    def found(out: str, *more: str) -> dict[str, object]:
        assert hil_command(["finetune", *named, *few, "-o", str(tmp_path / out), *more]) == 0
        return {k: v for k, v in json.loads(capsys.readouterr().out).items() if k not in ("seconds", "path")}

    rehearsed = ("--simulated", "2", "--measure", "128")
    assert found("a.h5", *rehearsed) == found("a.h5", *rehearsed, "--workers", "2")
    trained = ("--strength", "0.6")
    assert found("a.pt", *trained) == found("b.pt", *trained, "--workers", "2")
    assert load_network(tmp_path / "a.pt").digest == load_network(tmp_path / "b.pt").digest
    assert hil_command(["finetune", *named, "-o", str(tmp_path / "c.h5"), "--port", CHIP, "--workers", "2"]) == 2


def test_what_a_fine_tuning_on_a_chip_cannot_be_is_refused(small: Small, data: Path, tmp_path: Path) -> None:
    command = ["finetune", str(small.net), "--data", str(data), "--macros", "4"]
    record = ["--calibration", str(small.record_file)]
    out = ["-o", str(tmp_path / "program.h5")]
    for more in (
        [*out, "--port", CHIP],
        [*out, *record, "--port", CHIP, "--simulated", "2"],
        [*out, *record, "--port", CHIP, "--minutes", "3"],
        [*out, *record, "--port", CHIP, "--crop", "4"],
        ["-o", str(tmp_path / "net.pt"), *record, "--port", CHIP],
    ):
        assert hil_command([*command, *more]) == ExitCode.USAGE
    with pytest.raises(UsageError, match="at least 2 are needed"):
        OnChipSettings(groups=1)
    assert list(tmp_path.iterdir()) == []


def test_images_that_would_not_fit_in_memory_are_refused_with_the_size(
    small: Small, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_chip_begin, "MEMORY_BYTES", 1 << 16)
    with pytest.raises(UsageError, match="up to 128 each, would take"):
        predict_on_chip(small.net, str(data), 1, small.record_file, macros=4, settings=SETTINGS)
