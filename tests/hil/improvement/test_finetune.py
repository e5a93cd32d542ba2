"""``hil finetune``: a network trained on for its chip, gone on with after a stop, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from hil.cli import run as hil_command  # noqa: E402
from hil.datasets.image_set import load_dataset  # noqa: E402
from hil.deployment.interim_looks import plan_images  # noqa: E402
from hil.deployment.options import DeployOptions, usual_recipe  # noqa: E402
from hil.errors import ExitCode, FileError, Interrupted, UsageError  # noqa: E402
from hil.improvement.finetuning.run import FinetuneResult, finetune  # noqa: E402
from hil.improvement.finetuning.settings import FinetuneSettings, working_folder  # noqa: E402
from hil.prediction.predict import predict  # noqa: E402
from hil.watch import Watch  # noqa: E402
from mapping.compile import compile_network  # noqa: E402
from mapping.network.file import NetworkFile, image_keys, load_network, save_network  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from mapping.network.task import TaskKind  # noqa: E402
from mapping.operators.products import Linear  # noqa: E402
from mapping.program.file import load_program, save_program  # noqa: E402

from ..fitting import every_answer_fits as every_answer_fits  # noqa: E402
from ..small_net import NAMES, images, small_network  # noqa: E402
from ..task_networks import write_task  # noqa: E402

SETTINGS = FinetuneSettings(epochs=2, batch=32, rate=0.004, shift=0, symmetry="none", seed=3)


class Stopped(Watch):
    """A watcher whose user presses Ctrl-C after the first epoch."""

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        if "epoch 2 of 2" in what:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.pt, 640 training images and 300 others."""
    folder = tmp_path_factory.mktemp("finetune")
    save_network(small_network(), folder / "net.pt")
    for name, count, seed in (("train", 640, 5), ("test", 300, 3)):
        pixels, labels = images(count, seed)
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> FinetuneResult:
    return finetune(place / "net.pt", str(place / "train.npz"), place / "tuned.pt", settings=SETTINGS)


def test_a_network_is_tuned_and_written_with_what_was_done(place: Path, tuned: FinetuneResult) -> None:
    file = load_network(tuned.path)
    assert file.digest == tuned.digest
    assert (file.weight_bits, file.activation_bits) == (4, 8)
    said = file.graph.provenance
    assert said["fine-tuned from"] == load_network(place / "net.pt").digest
    assert "2 epochs of 576 images, seed 3" in said["fine-tuned by"]
    assert "train.npz" in said["fine-tuning data"]
    assert "lab-128" in said["fine-tuned for"]
    assert len(said["fine-tuning images"]) == len(said["errors"]) == 64
    assert not working_folder(tuned.path).exists()
    assert tuned.noisy > 60
    np.testing.assert_array_equal(file.calibration_images, small_network().calibration_images)


def test_the_tuned_network_compiles_to_what_training_promised(place: Path, tuned: FinetuneResult) -> None:
    data = load_dataset(place / "test.npz", "test")
    program = compile_network(load_network(tuned.path), load_chip("lab-128"))
    options = DeployOptions(samples=300, virtual_chips=4)
    found = predict(program, data, None, options, Watch(), mode="fast").accuracies.mean()
    assert found == pytest.approx(tuned.noisy / 100, abs=0.1)


def test_another_network_teaches(place: Path, tmp_path: Path) -> None:
    """A student whose classifier was damaged comes nearer to the network that it came from when that one teaches."""
    whole, pixels = small_network(), images(300, seed=8)[0]
    noise = np.random.default_rng(4)
    nodes = [
        dataclasses.replace(n, weight=n.weight + noise.normal(0, 0.1, n.weight.shape).astype(np.float32))
        if isinstance(n, Linear)
        else n
        for n in whole.graph.nodes
    ]
    student = dataclasses.replace(whole, graph=dataclasses.replace(whole.graph, nodes=tuple(nodes)))
    save_network(student, tmp_path / "student.pt")
    wanted, missed = float_logits(whole.graph, pixels), {}
    settings = dataclasses.replace(SETTINGS, strength=0.05)
    for teacher in (None, place / "net.pt"):
        found = finetune(
            tmp_path / "student.pt", str(place / "train.npz"), tmp_path / "out.pt", judges=None,
            settings=dataclasses.replace(settings, teacher=str(teacher or "")),
        )  # fmt: skip
        file = load_network(found.path)
        missed[teacher] = float(((float_logits(file.graph, pixels) - wanted) ** 2).mean())
        assert file.graph.provenance.get("taught by") == (None if teacher is None else whole.digest)
    assert missed[place / "net.pt"] < 0.8 * missed[None]


def test_a_teacher_of_other_classes_is_refused(place: Path, tmp_path: Path) -> None:
    graph = dataclasses.replace(small_network().graph, classes=("e", "f", "g", "h"))
    save_network(dataclasses.replace(small_network(), graph=graph), tmp_path / "other.pt")
    with pytest.raises(UsageError, match="the teacher takes or gives other classes"):
        finetune(
            place / "net.pt", str(place / "train.npz"), tmp_path / "out.pt",
            settings=dataclasses.replace(SETTINGS, teacher=str(tmp_path / "other.pt")),
        )  # fmt: skip


def test_images_that_were_trained_on_never_score(place: Path, tuned: FinetuneResult, tmp_path: Path) -> None:
    train, test = (load_dataset(place / f"{name}.npz", "test") for name in ("train", "test"))
    file = load_network(tuned.path)
    assert set(image_keys(train.images)) <= set(file.trained_on)
    program = compile_network(file, load_chip("lab-128"))
    save_program(program, tmp_path / "program.h5")
    for checked in (program, load_program(tmp_path / "program.h5")):
        with pytest.raises(FileError, match="fine-tuned on"):
            plan_images(train, checked, DeployOptions(samples=100))
        plan_images(test, checked, DeployOptions(samples=100))
    command = ["simulate", str(tuned.path), "--data", str(place / "train.npz"), "--chips", "2", "--mode", "fast"]
    assert hil_command(command) == ExitCode.BAD_FILE


def test_a_stopped_run_goes_on_to_the_same_bits(place: Path, tuned: FinetuneResult, tmp_path: Path) -> None:
    out = tmp_path / "again.pt"
    with pytest.raises(Interrupted, match="what it learned is kept"):
        finetune(place / "net.pt", str(place / "train.npz"), out, settings=SETTINGS, watch=Stopped())
    assert not out.exists()
    assert (working_folder(out) / "training.checkpoint").exists()
    assert stat.S_IMODE(working_folder(out).stat().st_mode) == 0o700
    again = finetune(place / "net.pt", str(place / "train.npz"), out, settings=SETTINGS)
    assert again.digest == tuned.digest


class StoppedWithin(Watch):
    """Ends the training by Ctrl-C in its sixth step."""

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        if what.startswith("steps") and done == 6:
            raise KeyboardInterrupt


def test_a_training_that_is_stopped_within_its_only_epoch_keeps_what_it_learned(place: Path, tmp_path: Path) -> None:
    once = dataclasses.replace(SETTINGS, epochs=1)
    out, watch = tmp_path / "again.pt", Steps()
    with pytest.raises(Interrupted, match="what it learned is kept"):
        finetune(place / "net.pt", str(place / "train.npz"), out, settings=once, watch=StoppedWithin())
    again = finetune(place / "net.pt", str(place / "train.npz"), out, settings=once, watch=watch)
    assert next(done for done, _, what in watch.told if what.startswith("steps")) == 7
    assert load_network(out).digest == again.digest


def test_few_images_and_steps_are_warned_of(tuned: FinetuneResult, place: Path, tmp_path: Path) -> None:
    watch = Watch()
    finetune(place / "net.pt", str(place / "train.npz"), tmp_path / "few.pt", settings=SETTINGS, watch=watch)
    assert any("few to train with" in note for note in watch.notes)
    assert tuned.promise is not None
    assert 100 * tuned.promise.mean == pytest.approx(tuned.deployed or 0.0)
    assert tuned.promise.low < tuned.promise.mean < tuned.promise.high


class Steps(Watch):
    """A watcher that keeps the steps it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int, str]] = []

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        self.told.append((done, total, what))


def test_each_step_is_progress(place: Path, tuned: FinetuneResult, tmp_path: Path) -> None:
    watch = Steps()
    finetune(place / "net.pt", str(place / "train.npz"), tmp_path / "out.pt", settings=SETTINGS, watch=watch)
    steps = [told for told in watch.told if told[2].startswith("steps")]
    assert [(done, total) for done, total, _ in steps] == [(n + 1, 36) for n in range(36)]
    assert steps[0][2] == "steps, epoch 1 of 2"
    assert steps[-1][2].startswith("steps, epoch 2 of 2, ")
    assert steps[-1][2].endswith("on chips (simulated)")


def test_a_training_that_loses_accuracy_as_deployed_says_so_and_writes_the_network_of_before(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "wild.pt"
    command = ["finetune", str(place / "net.pt"), "--data", str(place / "train.npz"), "-o", str(out), "--epochs", "1"]
    wild = ["--batch", "32", "--shift", "0", "--symmetry", "none", "--rate", "0.9"]
    assert hil_command([*command, *wild]) == ExitCode.DONE
    said = capsys.readouterr()
    assert load_network(out).digest == load_network(place / "net.pt").digest
    assert "UNCHANGED: the training made it worse as deployed" in " ".join(said.out.split())
    assert "lost accuracy on chips" in said.err
    assert "18 steps at a rate of 0.9" in said.err


def test_accuracies_before_and_after_are_those_of_simulated_deployments(place: Path, tuned: FinetuneResult) -> None:
    """As ``hil simulate`` says it of images that neither network has seen; on those of training within their errors."""
    assert tuned.trained
    assert tuned.deployed_before is not None
    assert tuned.deployed is not None
    assert tuned.judged == 32
    assert f"from {tuned.deployed_before:.1f} % to {tuned.deployed:.1f} % as deployed" in "\n".join(
        tuned.summary("net").lines()
    )
    data, options = load_dataset(place / "test.npz", "test"), DeployOptions(samples=300, virtual_chips=4)
    for path, said in ((place / "net.pt", tuned.deployed_before), (tuned.path, tuned.deployed)):
        program = compile_network(load_network(path), load_chip("lab-128"), options=options.layout)
        found = predict(program, data, None, options, Watch(), mode="fast").accuracies.mean()
        assert said / 100 == pytest.approx(found, abs=0.15)


def test_a_training_is_judged_with_the_techniques_that_a_deployment_will_use(
    place: Path, tuned: FinetuneResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", str(place / "net.pt"), "--data", str(place / "train.npz"), "-o", str(tmp_path / "out.pt")]
    usual = ["--epochs", "2", "--batch", "32", "--shift", "0", "--symmetry", "none", "--rate", "0.004", "--seed", "3"]
    treated = ["--strength", "1", "--without", "copies", "--without", "tune"]
    assert hil_command([*command, *usual, *treated, "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["deployed_before"] < (tuned.deployed_before or 0.0)
    data = load_dataset(place / "test.npz", "test")
    options = DeployOptions(samples=300, virtual_chips=4, recipe=usual_recipe(without=["copies", "tune"]))
    program = compile_network(load_network(place / "net.pt"), load_chip("lab-128"), options=options.layout)
    alone = predict(program, data, None, options, Watch(), mode="fast").accuracies.mean()
    assert found["deployed_before"] / 100 == pytest.approx(alone, abs=0.15)
    assert hil_command([*command, "--with", "prune=50"]) == ExitCode.USAGE
    assert "prune: acts before compiling, and this trains the network as it is" in capsys.readouterr().err


def test_a_run_of_other_settings_is_not_gone_on_with(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    with pytest.raises(Interrupted):
        finetune(place / "net.pt", str(place / "train.npz"), out, settings=SETTINGS, watch=Stopped())
    command = ["finetune", str(place / "net.pt"), "--data", str(place / "train.npz"), "-o", str(out), "--epochs", "1"]
    usual = ["--batch", "32", "--shift", "0", "--symmetry", "none"]
    assert hil_command([*command, *usual]) == ExitCode.MISMATCH
    assert hil_command([*command, *usual, "--restart"]) == ExitCode.DONE
    assert out.exists()


def test_minutes_become_as_many_epochs_as_the_machine_does(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pt"
    command = ["finetune", str(place / "net.pt"), "--data", str(place / "train.npz"), "-o", str(out), "--json"]
    assert hil_command([*command, "--minutes", "0.1", "--batch", "32"]) == ExitCode.DONE
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "hil.answer/1.0"
    assert said["epochs"] >= 1
    assert said["images"] <= 576


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--data", "no-such-set"], ExitCode.BAD_FILE),
        (["--data", "fashion-mnist-bundled"], ExitCode.USAGE),  # test images only
        (["--device", "no-such-device"], ExitCode.USAGE),
        (["--chip", "no-such-chip"], ExitCode.BAD_FILE),
        (["--chip", "mnsim-default"], ExitCode.USAGE),
        (["--epochs", "2", "--minutes", "3"], ExitCode.USAGE),
        (["--symmetry", "sideways"], ExitCode.USAGE),
        (["--crop", "9"], ExitCode.USAGE),
        (["--crop", "6"], ExitCode.USAGE),  # the network reads every place of a map
        (["--batch", "640"], ExitCode.USAGE),
        (["--calibration", "no-such-record.h5"], ExitCode.BAD_FILE),
        (["-o", "no-such-folder/tuned.pt"], ExitCode.CANNOT_WRITE),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(
    place: Path, tmp_path: Path, options: list[str], code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = {"--data": str(place / "train.npz"), "-o": str(tmp_path / "out.pt")}
    usual |= dict(zip(options[::2], options[1::2], strict=True))
    command = ["finetune", str(place / "net.pt"), *(part for pair in usual.items() for part in pair)]
    assert hil_command(command) == code
    assert "error" in capsys.readouterr().err.lower()
    assert not list(tmp_path.iterdir())


def test_training_images_that_are_test_images_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of two splits that share an image."""
    pixels, labels = images(640, 5)
    for split, part in (("train", slice(0, 600)), ("test", slice(599, 640))):
        np.savez(tmp_path / f"cifar10_{split}.npz", images=_colour(pixels[part]), labels=labels[part])
    net = tmp_path / "net.pt"
    save_network(_colour_network(), net)
    command = ["finetune", str(net), "--data", "cifar10", "-o", str(tmp_path / "o.pt")]
    monkeypatch.setenv("HIL_DATA", str(tmp_path))
    assert hil_command([*command, "--batch", "32"]) == ExitCode.BAD_FILE


def test_images_of_another_shape_are_refused(tmp_path: Path, place: Path) -> None:
    np.savez(tmp_path / "other.npz", images=np.zeros((200, 9, 9, 1), np.uint8), labels=np.arange(200) % 4)
    command = ["finetune", str(place / "net.pt"), "--data", str(tmp_path / "other.npz"), "-o", str(tmp_path / "o.pt")]
    assert hil_command(command) == ExitCode.USAGE


def test_a_network_without_calibration_images_gets_training_images(place: Path, tmp_path: Path) -> None:
    nothing = np.zeros((0, 8, 8, 1), np.uint8)
    bare = dataclasses.replace(small_network(), calibration_images=nothing, calibration_labels=None)
    save_network(bare, tmp_path / "bare.pt")
    found = finetune(tmp_path / "bare.pt", str(place / "train.npz"), tmp_path / "out.pt", settings=SETTINGS)
    assert found.trained
    file = load_network(found.path)
    assert len(file.calibration_images) == 256
    assert set(image_keys(file.calibration_images)) <= set(file.trained_on)


def test_a_network_file_of_the_first_version_can_be_tuned(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "mapping" / "samples" / "net-1.0.pt"
    graph = load_network(old).graph
    channels, height, width = graph.input_shape
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "train.npz",
        images=rng.integers(0, 256, (80, height, width, channels), dtype=np.uint8),
        labels=np.arange(80) % len(graph.classes),
    )
    settings = FinetuneSettings(epochs=1, batch=16)
    found = finetune(old, str(tmp_path / "train.npz"), tmp_path / "tuned.pt", settings=settings)
    assert load_network(found.path).graph.input_shape == graph.input_shape


def _colour(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.tile(pixels, (1, 4, 4, 3)))


def _colour_network() -> NetworkFile:
    from mapping.network.graph import NetworkGraph, Preprocess
    from mapping.operators.moves import Flatten
    from mapping.operators.pools import GlobalAvgPool
    from mapping.operators.products import Linear

    nodes = (
        GlobalAvgPool(name="mean", inputs=("input",)),
        Flatten(name="flat", inputs=("mean",)),
        Linear(name="fc", inputs=("flat",), weight=np.ones((10, 3), np.float32)),
    )
    graph = NetworkGraph((3, 32, 32), nodes, Preprocess((0.5,) * 3, (1.0,) * 3), tuple("0123456789"))
    return NetworkFile(graph, 4, 8, np.zeros((4, 32, 32, 3), np.uint8))


def test_a_network_of_another_task_is_refused_with_what_to_do_instead(tmp_path: Path, place: Path) -> None:
    net, _ = write_task(tmp_path, TaskKind.SEGMENT, 20)
    with pytest.raises(UsageError, match="is to segment") as caught:
        finetune(net, str(place / "train.npz"), tmp_path / "tuned.pt")
    assert "hil improve" in (caught.value.hint or "")
    assert not (tmp_path / "tuned.pt.training").exists()
