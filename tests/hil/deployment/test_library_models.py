"""Networks by their names in a library: weights from its cache, preprocessing that it knows, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hil.cli import run
from hil.errors import ExitCode
from mapping.network.file import load_network
from mapping.network.float_run import float_logits
from mapping.network.task import TaskKind

MEAN, STD = (0.5, 0.25, 0.75), (0.25, 0.5, 0.125)
TINY = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}


def timm_model() -> torch.nn.Module:
    import timm

    torch.manual_seed(3)
    module: torch.nn.Module = timm.create_model("test_resnet", num_classes=10, **TINY)
    return module.eval()


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The libraries' caches as an empty place without a network, but for one repository of the Hub."""
    import huggingface_hub.constants

    hub = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    revision = "a" * 40
    repository = hub / "models--lab--tiny"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    of_images = {"input_size": [3, 32, 32], "mean": MEAN, "std": STD, "num_classes": 10, "classifier": "fc"}
    config = {"architecture": "test_resnet", "num_classes": 10, "model_args": TINY, "pretrained_cfg": of_images}
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in timm_model().state_dict().items()}, snapshot / "model.safetensors")
    return tmp_path


def images(folder: Path) -> Path:
    """Folder of a data set with 160 images for training and 128 for tests, of ten classes."""
    rng = np.random.default_rng(5)
    place = folder / "images"
    place.mkdir()
    for split, count in (("train", 160), ("test", 128)):
        drawn = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(place / f"{split}.npz", images=drawn, labels=np.arange(count) % 10)
    return place


def test_a_network_of_the_hub_is_imported_by_its_name_with_its_weights_and_preprocessing(caches: Path) -> None:
    out = caches / "net.pt"
    assert run(["import", "hf:lab/tiny", "--data", str(images(caches)), "-o", str(out)]) == 0
    network = load_network(out)
    assert network.graph.preprocess.mean == MEAN
    assert network.graph.preprocess.std == STD
    assert network.graph.provenance["model"] == "hf:lab/tiny"
    pixels = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
    scaled = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    with torch.no_grad():
        wanted = timm_model()(scaled).numpy()
    np.testing.assert_allclose(float_logits(network.graph, pixels), wanted, atol=1e-3)


def test_a_network_by_its_name_goes_to_a_verdict_in_one_command(caches: Path) -> None:
    folder = caches / "run"
    given = ["hf:lab/tiny", "--data", str(images(caches)), "--emulated", "--macros", "2", "--repeat", "1"]
    code = run(["deploy", *given, "--samples", "128", "--no-causes", "--without", "tune", "--out", str(folder)])
    assert code in (ExitCode.DONE, ExitCode.OUTSIDE_TOLERANCE)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["network"]["name"] == "tiny"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:lab/none", "not in the library's cache"),
        ("timm:resnet18.a1_in1k", "not in the library's cache"),
        ("timm:resnet18.a9_in1k", "near to it: timm:resnet18.a"),
        ("torchvision:resnet19", "near to it: torchvision:resnet1"),
        ("resnet18", "names an architecture, without weights"),
    ],
)
def test_a_name_without_weights_is_refused_and_says_what_to_do(
    name: str, said: str, caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["deploy", name, "--data", str(images(caches)), "--emulated", "--dry-run"])
    assert code in (ExitCode.BAD_FILE, ExitCode.USAGE)
    text = capsys.readouterr().err
    assert said in text
    assert "try" in text


def test_weights_of_torchvision_come_from_its_cache_and_are_checked_by_their_hash(
    caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = caches / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1().state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
    out = caches / "net.pt"
    assert run(["import", "torchvision:squeezenet1_1", "--data", str(images(caches)), "-o", str(out)]) != 0
    assert "1000" in capsys.readouterr().err  # outputs, for ten classes


def test_the_cost_of_a_network_is_told_by_its_name_without_weights(
    caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["estimate", "torchvision:squeezenet1_1", "--macros", "400", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "torchvision:squeezenet1_1"


def test_a_network_by_its_name_keeps_a_task_other_than_classes(caches: Path) -> None:
    """Ten numbers an image instead of ten classes: nothing makes logits of them."""
    rng, place, out = np.random.default_rng(6), caches / "numbers", caches / "net.pt"
    place.mkdir()
    for split, count in (("train", 160), ("test", 128)):
        drawn = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(place / f"{split}.npz", images=drawn, values=rng.normal(size=(count, 10)).astype(np.float32))
    assert run(["import", "hf:lab/tiny", "--task", "regress", "--data", str(place), "-o", str(out)]) == 0
    graph = load_network(out).graph
    assert graph.classes == ()
    assert graph.purpose is TaskKind.REGRESS
