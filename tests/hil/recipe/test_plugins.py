"""What packages of others add by their entry points: a technique, a board, a line, a cell law, an operator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cim.cells.laws.registry import tails
from cim.errors import CimUsageError
from hil.cli import run

from ..conftest import CHIP, Small

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the examples were installed into, from copies: building leaves files beside the source."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugins", folder / "source")
    sources = [str(source) for source in sorted((folder / "source").iterdir())]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "here"), *sources], check=True, timeout=300)
    return folder / "here"


def hil(installed: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *([] if installed is None else [str(installed)])]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", "from hil.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=600, check=False)


def test_a_technique_of_another_package_is_listed_with_its_settings(installed: Path, small: Small) -> None:
    listed = json.loads(hil(installed, "help", "techniques", str(small.net), "--json").stdout)["techniques"]
    names = [t["name"] for t in listed]
    assert names.index("rewrite") < names.index("settle") < names.index("tune")  # by rank
    settle = listed[names.index("settle")]
    assert [s["name"] for s in settle["settings"]] == ["share", "wait"]
    assert settle["excludes"] == ["residual"]


def test_it_is_done_to_the_chip_and_to_virtual_chips(
    installed: Path, small: Small, finished_run: Path, tmp_path: Path
) -> None:
    quick = ("--port", CHIP, "--no-causes", "--without", "tune", "--repeat", "1", "--with", "settle=20,wait=10s")
    done = hil(installed, *small.arguments(*quick, "--out", str(tmp_path / "settled")))
    assert done.returncode in (0, 1), done.stderr
    plain, settled = (
        json.loads((run / "report.json").read_text("utf-8"))["cells"]["pulses"]
        for run in (finished_run, tmp_path / "settled")
    )
    assert settled > 1.1 * plain


def test_a_run_with_it_cannot_go_on_without_the_package(installed: Path) -> None:
    refused = hil(None, "deploy", "--emulated", "--with", "settle=5")
    assert refused.returncode == 2
    assert "no technique 'settle'" in refused.stderr
    assert "settings are share, wait" in hil(installed, "deploy", "--emulated", "--with", "settle=5,window=2").stderr


def test_a_board_of_another_package_runs_a_network_in_this_process(
    installed: Path, small: Small, tmp_path: Path
) -> None:
    told = hil(installed, "board", "info", "--port", "acme:bench-3", "--macros", "2")
    assert "serial bench-3" in told.stdout, told.stderr
    run = ("deploy", str(small.net), "--data", str(small.data), "--port", "acme:bench-3", "--macros", "2")
    age = ("--age", "1s")  # without WAIT the host sleeps
    quick = ("--samples", "100", "--repeat", "1", "--no-causes", "--without", "tune", "--out", str(tmp_path / "run"))
    done = hil(installed, *run, *age, *quick)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    accuracy = report["accuracy"]
    assert abs(accuracy["measured"]["mean"] - accuracy["ideal"]) < 0.02  # an exact array


def test_a_line_of_another_package_carries_the_bytes_of_any_address(installed: Path) -> None:
    told = hil(installed, "board", "info", "--port", "paced:9216000,emulated:lab-128?seed=7&macros=1", "--macros", "1")
    assert "NOT SILICON" in told.stdout, told.stderr
    refused = hil(None, "board", "info", "--port", "acme:bench-3")
    assert refused.returncode == 3
    assert "'acme:bench-3' is not an address of a chip" in refused.stderr
    assert "installed packages open acme:, paced:" in hil(installed, "board", "info", "--port", "nobody:1").stderr


LAW = """
import sys
from dataclasses import replace
import numpy as np
from cim.cells.laws.registry import tail_named
from cim.cells.programming_law import law_at
from cim.chip.file import load_chip
from cim.fit.programming import fit_programming
from cim.record.device import draw_posterior
from cim.record.file import load_record, save_record
from cim.record.published import nominal_record

rng, spec = np.random.default_rng(0), load_chip("lab-128", macros=1)
record = nominal_record(spec, range(1))
law = replace(record.programming, tail=tail_named("logistic"))
targets = rng.choice(np.array(spec.macro.levels_us), (128, 128)).astype(np.float32)
cells = targets + law_at(law, targets, 1.0).draw(targets.shape, rng)
save_record(replace(record, programming=law), sys.argv[1])
known = load_record(sys.argv[1])
here = law_at(known.programming, targets, 1.0)
print(known.programming.tail.name, float(np.abs(here.cdf(cells - targets).mean() - 0.5)) < 0.01)
seen = cells + 0.5 * rng.standard_normal(cells.shape)
back = draw_posterior(targets, seen.astype(np.float32), 32, known, 0, 1.0, rng)
print(float(np.std(back - seen)) < 0.6, np.isfinite(back).all())
asked = dict(ages_s=[1.0], reads=[10**6], levels_us=known.programming.levels_us, read_noise=record.read_noise)
found = fit_programming(
    targets.ravel(), cells.ravel()[None], np.zeros(cells.size, np.int8), tail=tail_named("logistic"), **asked
)
true = law_at(law, found.levels_us, 1.0)
print(found.tail.name, bool(np.abs(found.scale_us[0] / true.scale_us - 1.0).max() < 0.2))
"""


@pytest.mark.parametrize("by_file", [False, True], ids=["installed", "by its file"])
def test_a_cell_law_of_ones_own_is_fitted_stored_and_drawn_from(installed: Path, tmp_path: Path, by_file: bool) -> None:
    law = ROOT / "examples" / "plugins" / "logistic_cells" / "logistic_cells.py"
    where = {"HIL_CELL_LAWS": f"{law}:LOGISTIC"} if by_file else {"PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}
    record = tmp_path / "record.h5"
    command = [sys.executable, "-c", LAW, str(record)]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **where}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.stdout.split() == ["logistic", "True", "True", "True", "logistic", "True"], done.stderr
    simulated = ("simulate", "--calibration", str(record), "--macros", "1")
    refused = hil(None, *simulated)
    assert refused.returncode == 7
    assert "no cell law 'logistic' is installed or named by HIL_CELL_LAWS" in refused.stderr


def test_a_law_that_cannot_be_taken_is_said_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "import copy\nfrom cim.cells.laws.student import STUDENT\nTWIN = copy.copy(STUDENT)\n"
    (tmp_path / "mine.py").write_text(own + "THREE = 3\n", "utf-8")
    table = tmp_path / "cells.csv"
    table.write_text("cell,target_us,time_s,conductance_us\n" + "".join(f"{n},5,1,5.{n}\n" for n in range(99)), "utf-8")
    wrong = (("THREE", "is not a cell law"), ("FOUR", "has no attribute 'FOUR'"), ("TWIN", "two cell laws are named"))
    for name, words in wrong:
        monkeypatch.setenv("HIL_CELL_LAWS", f"{tmp_path / 'mine.py'}:{name}")
        tails.cache_clear()
        with pytest.raises(CimUsageError, match=words):
            tails()
        assert run(["chip", "fit", str(table)]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    tails.cache_clear()


OPERATOR = """
import json
import sys
from dataclasses import replace
from pathlib import Path
import leaky_sum
import numpy as np
from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.file import load_network, save_network
from mapping.network.float_run import float_logits
from mapping.operators.integer.requantise import Requantise
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program

golden, plain, net, program = map(Path, sys.argv[1:])
for case in json.loads(golden.read_text("utf-8"))["cases"]:
    factors = (np.array([case[name]], np.int32) for name in ("multiplier", "requantise_shift"))
    fields = {name: case[name] for name in ("axis", "decay", "shift")}
    rule = Requantise(*factors, case["low"], case["high"])
    step = leaky_sum.LeakySumStep(name="sum", inputs=("x",), requantise=rule, **fields)
    assert step.run([np.array([case["input"]], np.int16)])[0].tolist() == case["expected"]
network = load_network(plain)
conv, relu, flat, fc = network.graph.nodes
smooth = leaky_sum.LeakySum(name="smooth", inputs=("relu",), axis=1, decay=0.25)
nodes = (conv, relu, smooth, replace(flat, inputs=("smooth",)), fc)
save_network(replace(network, graph=replace(network.graph, nodes=nodes)), net)
network = load_network(net)
made = compile_network(network, load_chip("lab-128"))
save_program(made, program)
known = load_program(program)
assert known.digest == made.digest and [step.kind for step in known.steps].count("leaky_sum") == 1
images = network.calibration_images
ideal, exact = run(known, images, IdealMultiply(known)) * known.logit_scale, float_logits(network.graph, images)
print(float(np.corrcoef(ideal.ravel(), exact.ravel())[0, 1]))
"""


def test_an_operator_of_another_package_is_stored_compiled_counted_and_run_on_a_chip(
    installed: Path, small: Small, tmp_path: Path
) -> None:
    golden = ROOT / "examples" / "plugins" / "leaky_sum" / "golden.json"
    net, program = tmp_path / "net.pt", tmp_path / "program.h5"
    surroundings = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}
    command = [sys.executable, "-c", OPERATOR, *map(str, (golden, small.net, net, program))]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.99
    assert "smooth" in hil(installed, "estimate", str(net), "--chip", "lab-128", "--json").stdout
    quick = ("--samples", "100", "--repeat", "1", "--no-causes", "--without", "tune", "--out", str(tmp_path / "run"))
    done = hil(installed, "deploy", str(net), "--data", str(small.data), "--port", CHIP, "--macros", "4", *quick)
    assert done.returncode in (0, 1), done.stderr
    accuracy = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["accuracy"]
    assert abs(accuracy["measured"]["mean"] - accuracy["ideal"]) < 0.2
    for file in (net, program):
        refused = hil(None, "compile" if file is net else "simulate", str(file))
        assert refused.returncode != 0
        assert "unknown kind 'leaky_sum' (of a package that is not installed?)" in " ".join(refused.stderr.split())


BY_NAME = """
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from mapping.network.capture import capture
from mapping.network.float_run import float_logits
from mapping.network.graph import Preprocess
from mapping.network.onnx_import import graph_from_onnx

@torch.library.custom_op("acme::leaky_sum", mutates_args=())
def leaky_sum(input: torch.Tensor, axis: int, decay: float) -> torch.Tensor:
    sums = [input.select(axis, 0)]
    for part in input.unbind(axis)[1:]:
        sums.append(decay * sums[-1] + part)
    return torch.stack(sums, axis)

@leaky_sum.register_fake
def _(input, axis, decay):
    return torch.empty_like(input)

class Smooth(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 4)
    def forward(self, x):
        return torch.ops.acme.leaky_sum(self.layer(x), -1, 0.25)

module, raw = Smooth().eval(), Preprocess((0.0,), (1.0,))
by_torch = capture(module, torch.zeros(1, 6), preprocess=raw, classes=())
stored = [numpy_helper.from_array(p.detach().numpy(), name) for name, p in module.layer.named_parameters()]
nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["h"], transB=1),
         helper.make_node("LeakySum", ["h"], ["y"], domain="acme", decay=0.25)]
ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, [1, 6]), ("y", 1, [1, 4]))]
model = helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:], stored),
                          opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)])
by_onnx = graph_from_onnx(model.SerializeToString(), "net.onnx", preprocess=raw, classes=())
images = np.random.default_rng(0).integers(0, 255, (4, 1, 6, 1), np.uint8)
for graph in (by_torch, by_onnx):
    assert [node.kind for node in graph.nodes].count("leaky_sum") == 1
    with torch.no_grad():
        expected = module(torch.tensor(images.reshape(4, 6) / 255.0).float())
    np.testing.assert_allclose(float_logits(graph, images).reshape(4, 4), expected, atol=1e-5)
"""


def test_an_operator_of_another_package_comes_from_a_module_of_torch_and_from_onnx(installed: Path) -> None:
    surroundings = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}
    done = subprocess.run(
        [sys.executable, "-c", BY_NAME], capture_output=True, text=True, env=surroundings, check=False
    )
    assert done.returncode == 0, done.stderr
