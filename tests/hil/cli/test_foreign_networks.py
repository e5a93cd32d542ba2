"""Networks of other programs where a net.pt may stand: ONNX files and exported programs, imported on the way."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hil
from hil.cli import run
from hil.deployment.import_weights import architecture_of
from mapping.network.file import load_network
from tests.mapping.network.lite_files import int8_file
from tests.torch_networks import module as torch_network

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ANSWERS = ["--mean=0.5", "--std=0.25"]
OTHERS = {
    "notes.txt": (b"my network\n", "is text, no network"),
    "keras.pt": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is HDF5, no network of torch"),
    "lite.pt": (b"\x1c\0\0\0TFL3" + bytes(64), "rename it: model.tflite"),
    "weights.pth": (bytes([40, *bytes(7)]) + b"{}" + bytes(64), "weights.pth --data IMAGES"),
    "photo.png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "images go to --data"),
    "train.csv": (b"a,b,class\n1,2,0\n", "is text, no network"),
    "llm.gguf": (b"GGUF" + bytes(64), "is GGUF"),
}


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, 2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def model(tmp_path: Path, module: nn.Module) -> Path:
    """``module`` as an ONNX file, x · sigmoid(x) in two operations as exporters write it."""
    ops = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], strides=[2, 2]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "4.weight", "4.bias"], ["y"], transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 1, 12, 12]), ("y", ["n", 3]))
    ]
    stored = [numpy_helper.from_array(v.detach().numpy(), name) for name, v in module.named_parameters()]
    graph = helper.make_graph(ops, "net", ends[:1], ends[1:], stored)
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve labelled images, and as many of training beside them."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        folder = tmp_path / "data" / part
        for number, name in enumerate("abc"):
            (folder / name).mkdir(parents=True)
            for image in range(4):
                _png(folder / name / f"{image}.png", rng.integers(0, 256, (12, 12), dtype=np.uint8) // (number + 1))
    return tmp_path / "data"


def _png(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    got = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert got == code, out + err
    return out, err


def exported(module: nn.Module, folder: Path) -> Path:
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 12, 12),)), folder / "model.pt2")
    return folder / "model.pt2"


def test_an_onnx_file_compiles_as_its_import_does(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
) -> None:
    from mapping.program.file import load_program

    answer(capsys, "import", model, "--data", data, *ANSWERS, "-o", tmp_path / "net.pt")
    answer(capsys, "compile", tmp_path / "net.pt", "-o", tmp_path / "imported.h5")
    answer(capsys, "compile", model, "--data", data, *ANSWERS, "-o", tmp_path / "direct.h5")
    first, second = (load_program(tmp_path / f"{name}.h5") for name in ("imported", "direct"))
    assert first.network_digest == second.network_digest


def test_an_import_counts_the_images_and_bits_that_it_stored(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path
) -> None:
    """Twelve training images are all there are, whatever was asked for; a file's own codes say its bits."""
    out, _ = answer(capsys, "import", model, "--data", data, *ANSWERS, "-o", tmp_path / "net.pt")
    assert "W4A8, 12 calibration images (all of " in out
    out, _ = answer(capsys, "import", model, "--data", data, *ANSWERS, "--images=5", "-o", tmp_path / "net.pt")
    assert "5 calibration images\n" in out


@pytest.mark.parametrize("name", ["missing.onnx", "missing.pt2", "missing.tflite"])
@pytest.mark.parametrize(
    "command", [["compile"], ["deploy", "--emulated", "--dry-run"], ["estimate"], ["simulate"], ["import"]]
)
def test_a_file_that_is_not_there_is_said_to_be_missing_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, command: list[str], name: str
) -> None:
    more: list[str | Path] = ["--data", data, "-o", tmp_path / "net.pt"] if command == ["import"] else []
    _, err = answer(capsys, *command, tmp_path / name, *more, code=7)
    assert f"{name}: does not exist" in err


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_holds_no_network_of_torch_is_named_for_what_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    content, words = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    _, err = answer(capsys, "deploy", tmp_path / name, "--emulated", code=7)
    assert words in err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["state.pt", "checkpoint.pth", "module.pt", "script.pt"])
def test_the_command_that_a_file_of_torch_is_answered_with_makes_a_net_pt(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: nn.Module,
    data: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """Weights find their architecture by their names and shapes; a module is captured where its file is trusted."""
    monkeypatch.chdir(tmp_path)
    known = torch_network("cifar_resnet8_a", classes=3, input_shape=(1, 12, 12)).state_dict()
    torch.jit.trace(module, torch.zeros(1, 1, 12, 12)).save("script.pt")
    others = {"state.pt": known, "checkpoint.pth": {"epoch": 1, "model": known}, "module.pt": module}
    if name in others:
        torch.save(others[name], name)
    _, err = answer(capsys, "deploy", name, "--emulated", code=7)
    (said,) = re.findall(rf"hil (import {re.escape(name)} .*-o net\.pt)", err)
    said = said.replace("IMAGES", str(data))
    if name in ("module.pt", "script.pt"):
        (said,) = re.findall(r"hil (import .*-o net\.pt)", answer(capsys, *said.split(), code=2)[1])
    answer(capsys, *said.split())
    assert load_network("net.pt").graph.classes == ("a", "b", "c")


def test_weights_that_fit_no_architecture_are_answered_with_a_line_of_python_that_deploys_them(
    capsys: pytest.CaptureFixture[str], module: nn.Module, data: Path, tmp_path: Path
) -> None:
    torch.save(module.state_dict(), tmp_path / "own.pt")
    _, err = answer(capsys, "import", tmp_path / "own.pt", "--data", data, "-o", tmp_path / "net.pt", code=2)
    (said,) = re.findall(r"hil\.deploy\(.*\)", err)
    assert eval(said, {"hil": hil, "module": module}).verdict


@pytest.mark.parametrize("library", ["torchvision:squeezenet1_1", "timm:test_resnet"])
def test_weights_of_a_model_of_a_library_are_recognised(tmp_path: Path, library: str) -> None:
    maker, _, name = library.partition(":")
    made = importlib.import_module("timm" if maker == "timm" else "torchvision.models")
    module = (made.create_model if maker == "timm" else made.get_model)(name, num_classes=3)
    assert architecture_of(module.state_dict(), tmp_path / f"{name}_best.pth", "abc", (3, 32, 32), "") == library


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_an_exported_program_is_taken_only_when_it_is_trusted(
    capsys: pytest.CaptureFixture[str], module: nn.Module, data: Path, tmp_path: Path
) -> None:
    path = exported(module, tmp_path)
    _, err = answer(capsys, "compile", path, "--data", data, *ANSWERS, code=7)
    assert "model.pt2" in err
    out, _ = answer(capsys, "compile", path, "--data", data, *ANSWERS, "--trust-model")
    assert "macros" in out


def test_a_deployment_plans_and_an_estimate_counts_what_an_onnx_file_takes(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path
) -> None:
    out, _ = answer(capsys, "deploy", model, "--emulated", "--dry-run", "--data", data, *ANSWERS)
    assert "pulses" in out
    out, _ = answer(capsys, "estimate", model, "--json")
    assert json.loads(out)["schema"].startswith("hil.answer")


def test_what_a_file_does_not_say_is_asked_for(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    _, err = answer(capsys, "simulate", model, "--mean=0.5", code=2)
    assert "holds no training images" in err
    assert f"hil import {model} --data" in err


def test_a_tflite_file_with_codes_of_its_own_takes_its_own_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(int8_file(np.random.default_rng(0)))
    cells = []
    for more in ([], ["--weight-bits=8"], ["--weight-bits=4"]):
        assert run(["estimate", str(path), "--json", *more]) == 0
        cells.append(json.loads(capsys.readouterr().out)["cells"])
    assert cells[0] == cells[1] > cells[2]
