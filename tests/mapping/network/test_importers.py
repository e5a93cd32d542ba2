"""Weights of others: state dicts, safetensors, modules and trusted files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mapping.network.file_check import NetworkFileError
from mapping.network.float_run import float_logits, forward
from mapping.network.graph import Preprocess
from mapping.network.importers import NoPreprocess, import_graph, parse_architecture

from ...torch_networks import module

CLASSES = tuple("0123456789")
PLAIN = Preprocess((0.5,), (0.5,))
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)


def weights(seed: int = 0) -> dict[str, Tensor]:
    network = module("lenet5", classes=10, input_shape=(1, 28, 28), rng=np.random.default_rng(seed))
    return {key: value.contiguous() for key, value in network.state_dict().items()}


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path, {"source": "somewhere", "licence": "MIT"})
    else:
        torch.save(content, path)
    return path


def test_every_container_gives_the_same_network(tmp_path: Path) -> None:
    state = weights()
    files = [
        write(tmp_path / "a.safetensors", state),
        write(tmp_path / "b.pt", state),
        write(tmp_path / "c.pth", {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}),
        write(tmp_path / "d.pt", {k: nn.Parameter(v) for k, v in state.items()}),
        write(tmp_path / "e.pt", {k: v.double() for k, v in state.items()}),
    ]
    graphs = [import_graph(file, arch="lenet5", classes=CLASSES) for file in files]
    first, *others = [float_logits(graph, IMAGES) for graph in graphs]
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert graphs[0].provenance["source"] == "somewhere"
    assert len(graphs[1].provenance["sha256"]) == 64
    assert graphs[1].preprocess == PLAIN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc3.bias": None}, "fc3.bias is missing"),
        ({"more": torch.zeros(2)}, "more is left over"),
        ({"fc3.bias": torch.zeros(4)}, r"fc3.bias is \(4,\), not \(10,\)"),
        ({"fc3.bias": torch.full((10,), torch.nan)}, "not finite"),
        ({"fc3.bias": torch.zeros(10, dtype=torch.int64)}, "not floating point"),
        ({"fc3.bias": "text"}, "not a dense tensor"),
        ({"fc3.bias": torch.zeros(1).expand(2**40)}, "more than"),
    ],
)
def test_weights_that_do_not_fit_say_which(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    state = {key: value for key, value in {**weights(), **change}.items() if value is not None}
    with pytest.raises(NetworkFileError, match=words):
        import_graph(write(tmp_path / "w.pt", state), arch="lenet5", classes=CLASSES)


def test_weights_alone_need_an_architecture(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", weights())
    with pytest.raises(ValueError, match="--arch"):
        import_graph(path, classes=CLASSES)
    with pytest.raises(ValueError, match="no architecture 'alexnet'"):
        import_graph(path, arch="alexnet", classes=CLASSES)


def test_architecture_options_are_parsed(tmp_path: Path) -> None:
    assert parse_architecture("vgg8") == ("vgg8", {})
    assert parse_architecture("mobilenet_v2_tiny:width=0.5,depth=1") == (
        "mobilenet_v2_tiny",
        {"width": 0.5, "depth": 1},
    )
    with pytest.raises(ValueError, match="NAME=NUMBER"):
        parse_architecture("vgg8:wide")
    network = module("vgg8", classes=10, input_shape=(3, 32, 32), width=8)
    path = write(tmp_path / "w.pt", network.state_dict())
    assert import_graph(path, arch="vgg8:width=8", classes=CLASSES).classes == CLASSES


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:4],
        lambda data: data[:-8],
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:8] + b"[" + data[9:],
        lambda data: (2**62).to_bytes(8, "little") + data[8:],
        lambda data: data.replace(b"data_offsets", b"data_offsetz"),
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
    ],
)
def test_broken_safetensors_are_a_typed_error(tmp_path: Path, spoil: Any) -> None:
    path = write(tmp_path / "w.safetensors", weights())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(NetworkFileError):
        import_graph(path, arch="lenet5", classes=CLASSES)


def test_files_that_can_run_code_are_taken_only_when_trusted(tmp_path: Path) -> None:
    network = module("lenet5", classes=10, input_shape=(1, 28, 28), rng=np.random.default_rng(0)).eval()
    torch.save(network, tmp_path / "module.pt")
    torch.save(network.state_dict(), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    expected = float_logits(import_graph(write(tmp_path / "w.pt", weights()), arch="lenet5", classes=CLASSES), IMAGES)
    for name in ("module.pt", "legacy.pth"):
        with pytest.raises(NetworkFileError):
            import_graph(tmp_path / name, arch="lenet5", classes=CLASSES)
        graph = import_graph(tmp_path / name, arch="lenet5", classes=CLASSES, trust=True)
        assert graph.provenance["trusted"] == "true"
        np.testing.assert_array_equal(float_logits(graph, IMAGES), expected)
    whole = import_graph(tmp_path / "module.pt", classes=CLASSES, input_shape=(1, 28, 28), preprocess=PLAIN, trust=True)
    np.testing.assert_allclose(float_logits(whole, IMAGES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_torchscript_and_exported_programs_are_taken_when_trusted(tmp_path: Path) -> None:
    network = module("lenet5", classes=10, input_shape=(1, 28, 28), rng=np.random.default_rng(0)).eval()
    x = torch.randn(2, 1, 28, 28)
    torch.jit.save(torch.jit.trace(network, x), str(tmp_path / "script.pt"))
    torch.export.save(torch.export.export(network, (x,)), tmp_path / "net.pt2")
    with pytest.raises(NetworkFileError, match="TorchScript"):
        import_graph(tmp_path / "script.pt", arch="lenet5", classes=CLASSES)
    with pytest.raises(NetworkFileError, match="pt2"):
        import_graph(tmp_path / "net.pt2", classes=CLASSES, preprocess=PLAIN)
    script = import_graph(tmp_path / "script.pt", arch="lenet5", classes=CLASSES, trust=True)
    program = import_graph(tmp_path / "net.pt2", classes=CLASSES, preprocess=PLAIN, trust=True)
    more = {"classes": CLASSES, "input_shape": (1, 28, 28), "trust": True}
    for graph in (script, program, import_graph(tmp_path / "script.pt", preprocess=PLAIN, **more)):
        with torch.no_grad():
            torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], network(x))
    for name in ("net.pt2", "script.pt"):
        with pytest.raises(NoPreprocess, match="mean and std"):
            import_graph(tmp_path / name, **more)
