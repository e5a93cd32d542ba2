"""TFLite files: float ones answer as the interpreter does, int8 ones keep its codes; what is broken is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import UnsupportedOperation
from mapping.network.file import NetworkFile
from mapping.network.file_check import NetworkFileError
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.importers import import_graph
from mapping.operators.activations import Grid
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from tests.mapping.network.lite_files import LiteBuilder, float_file, int8_file

RNG = np.random.default_rng(0)
TINY = Path(os.environ.get("HIL_DATA", "/nonexistent")) / "models" / "mlperf_tiny"


def interpreted(data: bytes, inputs: NDArray[Any]) -> NDArray[Any]:
    """Answers of the interpreter, one image after the other, flat."""
    from ai_edge_litert.interpreter import Interpreter

    judge = Interpreter(model_content=data)
    judge.allocate_tensors()
    taken, given = judge.get_input_details()[0], judge.get_output_details()[0]
    found = []
    for image in inputs:
        judge.set_tensor(taken["index"], image.reshape(taken["shape"]))
        judge.invoke()
        found.append(judge.get_tensor(given["index"]).ravel().copy())
    return np.stack(found)


def written(data: bytes, folder: Path) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return path


def pixels(graph: NetworkGraph, count: int) -> NDArray[np.uint8]:
    channels, height, width = graph.input_shape
    return RNG.integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def as_codes(images: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Pixels of a quantised input are its codes, the lowest first."""
    return (images.astype(np.int16) - 128).astype(np.int8)


def ideal_codes(graph: NetworkGraph, images: NDArray[np.uint8], folder: Path, macros: int) -> NDArray[np.int32]:
    """Output codes of the compiled network in exact integers, from a program file, as the file counts them."""
    made = compile_network(NetworkFile(graph, 8, 8, images[:16]), load_chip("lab-128", macros=macros))
    save_program(made, folder / "program.h5")
    program = load_program(folder / "program.h5")
    low = next(node for node in reversed(graph.nodes) if isinstance(node, Grid)).low
    return run(program, images, IdealMultiply(program)) - 128 - low


def test_a_float_file_answers_as_the_interpreter(tmp_path: Path) -> None:
    data = float_file(RNG)
    plain = Preprocess((0.5,) * 3, (0.25,) * 3)
    graph = import_graph(written(data, tmp_path), classes=tuple("abcde"), preprocess=plain)
    images = pixels(graph, 8)
    expected = interpreted(data, ((images / 255.0 - 0.5) / 0.25).astype(np.float32))
    assert np.abs(float_logits(graph, images) - expected).max() < 1e-5


def test_an_int8_file_keeps_its_own_codes_through_the_compiled_network(tmp_path: Path) -> None:
    data = int8_file(RNG)
    graph = import_graph(written(data, tmp_path), classes=tuple("abc"))
    images = pixels(graph, 300)
    expected = interpreted(data, as_codes(images))
    assert np.abs(ideal_codes(graph, images, tmp_path, 8) - expected).max() <= 1


def test_pixels_of_an_int8_input_are_its_codes_and_padding_stands_for_zero(tmp_path: Path) -> None:
    graph = import_graph(written(int8_file(RNG), tmp_path), classes=tuple("abc"))
    assert isinstance(graph.nodes[0], Grid)
    assert (graph.nodes[0].low, graph.nodes[0].high) == (-148, 107)
    mean, std = graph.preprocess.mean[0], graph.preprocess.std[0]
    assert (148 / 255 - mean) / std == pytest.approx(0.0, abs=1e-6)


@pytest.mark.skipif(not TINY.is_dir(), reason="needs the networks of MLPerf Tiny: HIL_DATA")
@pytest.mark.parametrize(
    ("name", "macros", "within_one"),
    [("ad_autoencoder", 128, 1.0), ("ic_resnet8", 64, 0.97), ("kws_dscnn", 96, 0.98)],
)
def test_int8_networks_of_mlperf_tiny_answer_as_the_interpreter_within_one_code(
    name: str, macros: int, within_one: float, tmp_path: Path
) -> None:
    data = (TINY / f"{name}_int8.tflite").read_bytes()
    graph = import_graph(TINY / f"{name}_int8.tflite", classes=())
    images = pixels(graph, 200)
    off = np.abs(ideal_codes(graph, images, tmp_path, macros) - interpreted(data, as_codes(images)))
    assert (off.max(1) <= 1).mean() >= within_one


@pytest.mark.skipif(not TINY.is_dir(), reason="needs the networks of MLPerf Tiny: HIL_DATA")
@pytest.mark.parametrize(
    ("name", "off"),
    # The third has 8-bit weights, and the interpreter rounds activations on the way.
    [("ic_resnet8", 1e-4), ("vww_mobilenet", 1e-4), ("kws_dscnn", 5e-3), ("ad_autoencoder", 1e-4)],
)
def test_float_networks_of_mlperf_tiny_answer_as_the_interpreter(name: str, off: float) -> None:
    data = (TINY / f"{name}_float.tflite").read_bytes()
    channels = {"ic_resnet8": 3, "vww_mobilenet": 3}.get(name, 1)
    scale = 1 / 255 if name == "ic_resnet8" else 1.0
    plain = Preprocess((0.0,) * channels, (scale,) * channels)
    graph = import_graph(TINY / f"{name}_float.tflite", classes=(), preprocess=plain)
    images = pixels(graph, 4)
    expected = interpreted(data, (images / 255.0 / scale).astype(np.float32))
    assert np.abs(float_logits(graph, images) - expected).max() <= off * np.abs(expected).max()


def test_a_float_file_without_preprocessing_is_refused_with_what_to_say(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match="how pixels become them"):
        import_graph(written(float_file(RNG), tmp_path), classes=tuple("abcde"))


def test_an_operation_without_a_node_is_named_with_its_place(tmp_path: Path) -> None:
    m = LiteBuilder()
    x, y = m.tensor("x", (1, 8), "FLOAT32"), m.tensor("net/top", (1,), "INT64")
    axis = m.tensor("axis", (), "INT32", np.array(1, np.int32))
    m.operation("ARG_MAX", [x, axis], [y], "ArgMaxOptions")
    with pytest.raises(UnsupportedOperation, match=r"ARG_MAX in net\.top: .*\n.*end with the logits"):
        import_graph(written(m.finished([x], [y]), tmp_path), classes=(), preprocess=Preprocess((0.0,), (1.0,)))


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_refused_and_takes_no_memory(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(int8_file(np.random.default_rng(1)))
    if seed % 3 == 0:
        data = data[: int(rng.integers(8, len(data)))]
    else:
        for place in rng.integers(8, len(data), 40 if seed % 3 == 1 else 4):
            data[place] = int(rng.integers(0, 256))
    try:
        graph = import_graph(written(bytes(data), tmp_path), classes=tuple("abc"))
    except (NetworkFileError, UnsupportedOperation):
        return
    assert graph.width == 3  # a change of weights alone


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"TFL9".join([data[:4], data[8:]]), "identifier"),
        (lambda data: data[:4] + b"TFL3", "cut short"),
        (lambda data: b"\xff\xff\xff\x7f" + data[4:], "cut short"),
        (lambda data: b"", "is empty"),
    ],
)
def test_a_file_that_is_none_says_so(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match=words):
        import_graph(written(change(int8_file(RNG)), tmp_path), classes=tuple("abc"))


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    m = LiteBuilder()
    x, y = m.tensor("x", (1, 8), "FLOAT32"), m.tensor("y", (1, 1 << 30), "FLOAT32")
    w = m.tensor("w", (1 << 30, 8), "FLOAT32", np.zeros(8, np.float32))
    m.operation("FULLY_CONNECTED", [x, w], [y], "FullyConnectedOptions")
    with pytest.raises(NetworkFileError, match="shape"):
        import_graph(written(m.finished([x], [y]), tmp_path), classes=(), preprocess=Preprocess((0.0,), (1.0,)))
