"""A search by command, in a space of seconds: run, stop and go on, and look at it."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.cost.network_cost import estimate  # noqa: E402
from hil.errors import Interrupted  # noqa: E402
from hil.searching.budget import SearchPlan  # noqa: E402
from hil.searching.folder import begin_folder, open_folder  # noqa: E402
from hil.searching.inputs import load_inputs  # noqa: E402
from hil.searching.networks import network_name  # noqa: E402
from hil.searching.run import run_search  # noqa: E402
from hil.watch import Watch  # noqa: E402
from mapping.compile import LayoutOptions, compile_network  # noqa: E402
from mapping.network.capture import capture  # noqa: E402
from mapping.network.file import NetworkFile, load_network, save_network  # noqa: E402
from mapping.network.graph import Preprocess  # noqa: E402
from mapping.workload import program_workload  # noqa: E402
from search.choice.front import Front, read_front  # noqa: E402
from search.space.architecture import read_architecture  # noqa: E402
from search.space.target import ChipTarget  # noqa: E402

from ..cli.test_cli import Cli  # noqa: E402
from ..cli.test_cli import cli as cli  # noqa: E402
from ..encoded import printed  # noqa: E402
from ..finished_search import ANSWERS, Files, change_settings  # noqa: E402
from ..finished_search import files as files  # noqa: E402
from ..finished_search import one_thread as one_thread  # noqa: E402
from ..fitting import every_answer_fits as every_answer_fits  # noqa: E402
from ..search_files import CLASSES, SPACE, images  # noqa: E402

# --- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "train", "show", "explain"])
def test_each_command_explains_itself(cli: Cli, command: str) -> None:
    assert "Usage: hil search" in cli("search", command, "--help")
    assert command in cli("search")


# --- run and show -----------------------------------------------------------------------------


def test_a_search_takes_the_array_of_mnsim_as_its_goal_beside_a_chip_with_its_errors(
    cli: Cli, files: Files, tmp_path: Path
) -> None:
    asked = files.arguments(tmp_path / "run", chip="mnsim-256", costs="mnsim-default")
    found = json.loads(cli(*asked, "--without", "copies", "--json"))
    assert found["costs"] == "mnsim-default"
    assert "errors of cells are those of mnsim-256" in found["costs_of"]
    row = next(row for row in found["networks"] if row["network"])
    network = tmp_path / "run" / row["network"]
    priced = cli.json("estimate", network, "--chip", "mnsim-default")["edp_mj_ms"]
    assert row["edp_mj_ms"] == pytest.approx(priced)
    evaluated = row["evaluated"]
    assert evaluated["latency_ns"] * evaluated["energy_pj"] * 1e-15 == pytest.approx(priced)
    cli(*files.arguments(tmp_path / "none", chip="mnsim-256"), code=2)
    assert "--costs mnsim-default" in cli.err
    cli(*files.arguments(tmp_path / "scale", chip="mnsim-default"), code=2)
    assert "--chip mnsim-256 --costs mnsim-default" in cli.err


def test_costs_are_of_what_deploy_writes_and_say_so(cli: Cli, files: Files, tmp_path: Path) -> None:
    shown = " ".join(cli("search", "show", str(files.run), "--plot", str(tmp_path / "front.html")).split())
    said = "with the copies on idle cells that hil deploy writes"
    assert said in shown
    table = json.loads(cli("search", "show", str(files.run), "--json"))
    assert said in table["costs_of"]
    assert said in (tmp_path / "front.html").read_text("utf-8")
    name = next((files.run / "networks").iterdir()).name
    network, spec = load_network(files.run / "networks" / name / "net.pt"), load_chip("lab-128", macros=64)
    program = compile_network(network, spec, options=LayoutOptions(averaged=True))
    cost = estimate(program_workload(program), spec)
    row = next(row for row in table["networks"] if row["name"] == name)
    found = row["evaluated"]
    assert found["energy_pj"] * found["latency_ns"] * 1e-15 == pytest.approx(cost.edp_mj_ms, rel=1e-12)


def test_a_search_that_was_begun_before_keeps_each_layer_once(files: Files, tmp_path: Path) -> None:
    shutil.copytree(files.run, tmp_path / "old")
    settings = json.loads((tmp_path / "old" / "settings.json").read_text("utf-8"))
    del settings["recipe"]
    (tmp_path / "old" / "settings.json").write_text(json.dumps(settings), "utf-8")
    assert open_folder(tmp_path / "old")[1].recipe == "aims tune"


def test_a_search_leaves_a_front_and_trained_networks(files: Files) -> None:
    front = read_front(files.run / "front.json")
    assert front.simulations == 16
    assert [m.cost.edp_mj_ms for m in front.members] == sorted(m.cost.edp_mj_ms for m in front.members)
    (place,) = (files.run / "networks").iterdir()
    assert load_network(place / "net.pt").graph.classes == CLASSES
    found = json.loads((place / "evaluation.json").read_text("utf-8"))["evaluation"]
    assert (found["chips"], found["images"]) == (2, 20)
    assert not list(files.run.rglob("*.checkpoint"))


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_on_a_cpu_without_instructions_for_it_is_said(
    files: Files, monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    folder, settings = open_folder(files.run)
    watch = Watch()
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {"avx512bf16": has})
    load_inputs(folder, dataclasses.replace(settings, precision="bf16-mixed"), watch)
    assert any("bfloat16" in note for note in watch.notes) is not has


def test_show_prints_the_front_with_predicted_and_simulated_accuracy(cli: Cli, files: Files) -> None:
    out = cli("search", "show", files.run)
    for word in ("predicted", "simulated", "EDP,", "energy,", "macros", "balanced"):
        assert word in out
    table = cli.json("search", "show", files.run)
    trained = [row for row in table["networks"] if row["evaluated"]]
    assert len(trained) == 1
    assert (files.run / trained[0]["network"]).is_file()
    assert table["notes"] == []


def test_show_prices_the_same_networks_on_the_scale_of_mnsim(cli: Cli, files: Files) -> None:
    own = cli.json("search", "show", files.run)
    other = cli.json("search", "show", files.run, "--costs", "mnsim-default")
    assert other["costs"] == "mnsim-default"
    assert [r["name"] for r in own["networks"]] == [r["name"] for r in other["networks"]]
    assert own["networks"][0]["edp_mj_ms"] != other["networks"][0]["edp_mj_ms"]


def test_options_without_a_command_are_those_of_run(cli: Cli, files: Files) -> None:
    cli("search", "--data", files.data, code=2)
    assert "--out" in cli.err


def ranked_again(files: Files, place: Path, **changes: object) -> Front:
    """The front of the same search, its networks ranked again under other settings and none trained."""
    again = shutil.copytree(files.run, place)
    for name in (*ANSWERS, "table.json", *(["candidates.jsonl"] if "mode" in changes else [])):
        (again / name).unlink()
    change_settings(again, networks=0, **changes)
    run_search(*open_folder(again), Watch())
    return read_front(again / "front.json")


def test_caps_hold_for_every_network_of_the_front(files: Files, tmp_path: Path) -> None:
    before = read_front(files.run / "front.json").members
    middle = before[len(before) // 2].cost
    caps = {"max_latency_us": 1.001e-3 * middle.latency_ns, "max_energy_uj": 1.001e-6 * middle.energy_pj}
    found = ranked_again(files, tmp_path / "run", **caps).members
    assert all(m.cost.latency_ns <= 1.001 * middle.latency_ns for m in found)
    assert all(m.cost.energy_pj <= 1.001 * middle.energy_pj for m in found)


def test_networks_too_far_below_the_best_are_left_out(files: Files, tmp_path: Path) -> None:
    before = [m.accuracy_low for m in read_front(files.run / "front.json").members]
    within = 0.5 * (max(before) - min(before))
    after = [m.accuracy_low for m in ranked_again(files, tmp_path / "run", within=within).members]
    assert max(after) - min(after) <= within + 1e-9


def test_the_same_search_by_command_and_on_workers_gives_the_same_front(cli: Cli, files: Files, tmp_path: Path) -> None:
    assert "network" in cli(*files.arguments(tmp_path / "same", workers=2))
    assert "one set of images" in " ".join(cli.err.split())
    for name in ANSWERS:
        assert (tmp_path / "same" / name).read_bytes() == (files.run / name).read_bytes()
    for name in ("stages/stage-2.json", "samples/004.json"):
        ours, theirs = ((root / name).read_text("utf-8") for root in (files.run, tmp_path / "same"))
        assert _untimed(ours) == _untimed(theirs)
    nets = [next((run / "networks").iterdir()) for run in (files.run, tmp_path / "same")]
    assert load_network(nets[0] / "net.pt").digest == load_network(nets[1] / "net.pt").digest


def _untimed(text: str) -> Any:
    data = json.loads(text)
    data.pop("seconds", None)
    return data


def test_the_modes_of_the_paper_give_at_most_three_networks(cli: Cli, files: Files, tmp_path: Path) -> None:
    again = tmp_path / "run"
    front = ranked_again(files, again, mode="paper")
    out = cli("search", "show", again)
    assert any(mode in out for mode in ("accuracy", "balanced", "efficiency"))
    assert all(row["modes"] for row in cli.json("search", "show", again)["networks"])
    assert front.method == "paper"
    assert 1 <= len(front.members) <= 3
    assert cli.json("search", "explain", again)["measure"] == "frequency"


def test_a_given_teacher_is_taken_as_it_is(cli: Cli, files: Files, tmp_path: Path) -> None:
    given = files.run / "teacher.pt"
    asked = files.arguments(tmp_path / "run", networks=0, teacher=given, teacher_epochs=0)
    assert "balanced" in cli(*asked)
    assert (tmp_path / "run" / "teacher.pt").read_bytes() == given.read_bytes()


def test_a_search_has_a_page(cli: Cli, files: Files, tmp_path: Path) -> None:
    place = tmp_path / "front.html"
    assert str(place) in cli("search", "show", files.run, "--plot", place, "--costs", "mnsim-default")
    text = place.read_text("utf-8")
    (row,) = (r for r in cli.json("search", "show", files.run)["networks"] if r["evaluated"])
    assert row["choices"] in text
    assert "mnsim-default" in text
    cli(*files.arguments(files.run))
    assert (files.run / "front.html").is_file()


# --- stop and go on ---------------------------------------------------------------------------


class Stopped(Watch):
    """Presses Ctrl-C in a phase: at a step of it, or at its end."""

    def __init__(self, phase: str, *, at_end: bool) -> None:
        super().__init__()
        self.phase, self.at_end, self.now = phase, at_end, ""

    def begin(self, name: str) -> None:
        self.now = name

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        if self.now == self.phase and not self.at_end:
            raise KeyboardInterrupt

    def end(self, name: str) -> None:
        if name == self.phase and self.at_end:
            raise KeyboardInterrupt


def test_a_search_that_is_stopped_in_every_phase_gives_the_same_front(files: Files, tmp_path: Path) -> None:
    _, settings = open_folder(files.run)
    folder = begin_folder(tmp_path / "run", settings, SPACE)
    stops = [(phase, end) for phase in ("teacher", "stages", "sample networks", "front", "networks") for end in (0, 1)]
    for phase, end in stops:
        with pytest.raises(Interrupted, match="what is done is kept") as error:
            run_search(folder, settings, Stopped(phase, at_end=bool(end)))
        assert "the same command resumes" in str(error.value)
    run_search(folder, settings, Watch())
    for name in ANSWERS:
        assert (tmp_path / "run" / name).read_bytes() == (files.run / name).read_bytes()
    assert (folder.table).read_bytes() == (files.run / "table.json").read_bytes()


def test_ctrl_c_is_exit_10_and_show_says_what_to_do(
    cli: Cli, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hil.searching.run.train_teacher", stop)
    cli(*files.arguments(tmp_path / "code"), "--allow-code", code=10)
    cli(*files.arguments(tmp_path / "run"), code=10)
    assert "the same command resumes; with --restart it begins again" in cli.err
    for command in ("show", "explain"):
        cli("search", command, tmp_path / "run", code=7)
        assert "has no front yet" in cli.err
    cli(*files.arguments(tmp_path / "run", samples=6), code=8)
    assert "was begun with another samples 5, now 6" in cli.err
    monkeypatch.undo()
    cli(*files.arguments(tmp_path / "run", samples=6), "--restart", code=0)


def test_a_finished_search_resumes_to_its_table_at_once(cli: Cli, files: Files) -> None:
    before = {p: p.read_bytes() for p in files.run.rglob("*.json") if p.name != "plan.json"}
    assert "balanced" in cli(*files.arguments(files.run))
    assert before == {p: p.read_bytes() for p in files.run.rglob("*.json") if p.name != "plan.json"}


def test_a_search_is_shown_in_an_encoding_that_lacks_its_signs(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["show", files.run], ["explain", files.run]):
        code, out, err = printed(monkeypatch, "cp1252", "search", *map(str, words))
        assert (code, "Traceback" in err) == (0, False), err
        assert out


# --- networks that are named ------------------------------------------------------------------


def test_a_network_of_the_front_is_trained_by_name_for_the_epochs_that_are_named(
    cli: Cli, files: Files, tmp_path: Path
) -> None:
    run = shutil.copytree(files.run, tmp_path / "run")
    rows = json.loads(cli("search", "show", run, "--json"))["networks"]
    name = next(row["name"] for row in rows if not row["evaluated"])
    again = json.loads(cli("search", "train", run, name[:7], "--epochs", 3, "--json"))
    before, after = ({r["name"] for r in table if r["evaluated"]} for table in (rows, again["networks"]))
    assert after == before | {name}
    trained = load_network(run / "networks" / name / "net.pt").graph.provenance["trained by"]
    assert trained == "hil search, phase C, 3 epochs, seed 1"
    assert json.loads((run / "table.json").read_text("utf-8"))["networks"] == again["networks"]


def test_networks_begin_on_squares_their_teacher_is_asked_once_and_few_images_do_for_samples(
    cli: Cli, files: Files, tmp_path: Path
) -> None:
    asked = files.arguments(tmp_path / "run", crop=6, brief_images=60)
    rows = json.loads(cli(*asked, "--ask-once", "--json"))["networks"]
    assert sum(row["evaluated"] is not None for row in rows) == 1
    kept = json.loads((tmp_path / "run" / "settings.json").read_text("utf-8"))
    assert (kept["crop"], kept["asked_once"]) == (6, True)
    samples = [json.loads(path.read_text("utf-8")) for path in sorted((tmp_path / "run" / "samples").iterdir())]
    whole = [json.loads(path.read_text("utf-8")) for path in sorted((files.run / "samples").iterdir())]
    assert [s["accuracy"] for s in samples] != [s["accuracy"] for s in whole]
    stages = [json.loads((root / "stages/stage-1.json").read_text("utf-8")) for root in (files.run, tmp_path / "run")]
    assert sum(stages[1]["counts"][0]) < sum(stages[0]["counts"][0])
    nets = [next((root / "networks").glob("*/net.pt")) for root in (tmp_path / "run", files.run)]
    told = [load_network(path).graph.provenance["training images"] for path in nets]
    assert told[0] == told[1]


def plain_teacher(path: Path) -> Path:
    """A network of the blocks conv3, conv3, conv3, as others would write it."""

    def block(inputs: int, outputs: int, stride: int = 1) -> list[torch.nn.Module]:
        return [torch.nn.Conv2d(inputs, outputs, 3, stride, 1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]

    ends = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3)]
    plain = torch.nn.Sequential(*block(1, 4), *block(4, 4), *block(4, 8, 2), *block(8, 8), *ends)
    graph = capture(plain.eval(), torch.zeros(1, 1, 8, 8), preprocess=Preprocess((0.0,), (1.0,)), classes=CLASSES)
    save_network(NetworkFile(graph, 4, 8, images(20)[0]), path)
    return path


def test_a_given_teacher_is_trained_further(cli: Cli, files: Files, tmp_path: Path) -> None:
    plain = plain_teacher(tmp_path / "plain.pt")
    given = files.arguments(tmp_path / "run", teacher=plain, teacher_epochs=1)
    cli(*given)
    before, after = (load_network(path).graph for path in (plain, tmp_path / "run" / "teacher.pt"))
    assert after.provenance["trained further by"] == "hil search, 1 epochs, seed 1"
    assert len(after.nodes) < len(before.nodes)  # batch norms are merged


def test_a_network_of_ones_own_choice_is_trained_and_shown_beside_the_front(
    cli: Cli, files: Files, tmp_path: Path
) -> None:
    run = shutil.copytree(files.run, tmp_path / "run")
    rows = json.loads(cli("search", "show", run, "--json"))["networks"]
    (trained,) = (run / "networks").iterdir()
    data = json.loads((trained / "architecture.json").read_text("utf-8"))
    known, mine = {row["name"] for row in rows}, tmp_path / "mine.json"
    for data["operators"][2:] in itertools.product(("conv2", "conv3"), repeat=2):
        mine.write_text(json.dumps(data), "utf-8")
        if (name := network_name(read_architecture(mine))) not in known:
            break
    after = json.loads(cli("search", "train", run, mine, "--epochs", 1, "--json"))
    assert {row["name"] for row in after["networks"]} == known | {name}
    (own,) = [row for row in after["networks"] if row["name"] == name]
    assert own["modes"] == ["own"]
    assert own["evaluated"]["images"] == 20
    assert own["predicted"] > own["predicted_low"] > 0
    assert sorted(row["edp_mj_ms"] for row in after["networks"]) == [row["edp_mj_ms"] for row in after["networks"]]
    shown = [line.split() for line in cli("search", "show", run).splitlines()]
    assert [words[-1] for words in shown if words[:1] == [name] and len(words) > 3] == ["own"]
    assert name in cli("search", "explain", run, name[:7])
    cli("search", "train", run, mine, code=2)
    assert "was trained before" in cli.err
    assert after["knee"] == json.loads(cli("search", "show", files.run, "--json"))["knee"]


def test_a_network_that_the_space_or_the_chip_does_not_hold_is_not_trained(
    cli: Cli, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(files.run, tmp_path / "run")
    data = json.loads((next((run / "networks").iterdir()) / "architecture.json").read_text("utf-8"))
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(data | {"widths": [3.0, 1.0]}), "utf-8")
    cli("search", "train", run, mine, code=6)
    assert f"{mine}: width 1 is 3.0" in cli.err
    cli("search", "train", run, tmp_path / "none.json", code=7)
    assert "none.json" in cli.err
    shutil.rmtree(run / "networks")
    mine.write_text(json.dumps(data), "utf-8")
    monkeypatch.setattr(ChipTarget, "macros", property(lambda self: 3))
    cli("search", "train", run, mine, code=2)
    assert "macros; lab-128 has 3" in cli.err
    assert not (run / "own.json").exists()


def test_a_network_that_was_trained_is_not_trained_over(cli: Cli, files: Files) -> None:
    (place,) = (files.run / "networks").iterdir()
    cli("search", "train", files.run, place.name, code=2)
    assert f"rm -r {place}" in cli.err
    cli("search", "train", files.run, "xyz", code=2)
    assert "'xyz' is none of the search's networks" in cli.err


# --- a teacher of one's own -------------------------------------------------------------------


def test_no_teacher_and_no_epochs_to_train_one_is_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    cli(*files.arguments(tmp_path / "run", teacher_epochs=0), code=2)
    assert "no teacher is given" in cli.err
    assert not (tmp_path / "run").exists()


# --- budget -----------------------------------------------------------------------------------


def test_a_budget_cuts_phases_short_and_says_so(cli: Cli, files: Files, tmp_path: Path) -> None:
    out = cli(*files.arguments(tmp_path / "run", budget="1s", teacher_epochs=40, stage_epochs=40, samples=6))
    assert "cut short by the budget: 4 sample networks of 6" in " ".join(out.split())
    counts = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))["counts"]
    assert counts["teacher epochs"]["made"] < 40
    assert counts["stage epochs"]["made"] < 40
    assert "cut short by the budget" in cli("search", "show", tmp_path / "run")


def test_a_count_once_decided_stays(tmp_path: Path) -> None:
    now = [0.0]
    plan = SearchPlan(tmp_path / "plan.json", 100.0, Watch(), clock=lambda: now[0])
    assert plan.count("sample networks", 32, 4, lambda: 5.0) == 10
    now[0] = 40.0
    plan.save()
    again = SearchPlan(tmp_path / "plan.json", 100.0, Watch(), clock=lambda: now[0])
    assert again.spent_s == 40.0
    assert again.count("sample networks", 32, 4, lambda: 1e9) == 10
    assert again.count("trained networks", 8, 1, lambda: 30.0) == 2
    assert SearchPlan(tmp_path / "none.json", 0.0, Watch()).count("trained networks", 8, 1, lambda: 1e9) == 8


# --- explain and baselines --------------------------------------------------------------------


def test_explain_ranks_every_choice_of_every_place(cli: Cli, files: Files) -> None:
    found = cli.json("search", "explain", files.run)
    for gene in found["genes"]:
        for key in ("task_rank", "hardware_rank", "accuracy_rank"):
            assert sorted(c[key] for c in gene["choices"]) == list(range(1, len(gene["choices"]) + 1))
        assert sum(c["chosen"] for c in gene["choices"]) == 1
    out = cli("search", "explain", files.run, found["network"][:6])
    assert out.split()[:2] == ["network", f"{found['network']}:"]
    assert "operator 2.1" in out
    cli("search", "explain", files.run, "nobody", code=2)
    assert found["network"] in cli.err


def test_a_benchmark_sets_the_front_beside_its_baselines(
    files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks" / "studies" / "search")
    search_compare = importlib.import_module("search_compare")
    folder, settings = open_folder(files.run)
    compared = search_compare.compare_search(folder, settings, Watch())
    found = search_compare.comparison_json(compared)
    names = [row["method"] for row in found["methods"]]
    assert names == ["this search (pareto)", "random", "evolution", "top-k frequency"]
    assert all(0 <= row["hypervolume"] <= 1 for row in found["methods"])
    assert found["methods"][0]["hypervolume"] > 0
    assert found["resnet20"] is None
    out = "\n".join(search_compare.comparison_lines(compared))
    assert "volume" in out
    assert "ResNet-20" in out


# --- in the loop ------------------------------------------------------------------------------


def test_networks_are_deployed_on_a_chip_and_the_front_is_ranked_again(cli: Cli, files: Files, tmp_path: Path) -> None:
    out = cli(
        *files.arguments(tmp_path / "run", networks=2, images=16, teacher=files.run / "teacher.pt"),
        "--in-the-loop", "--emulated",
    )  # fmt: skip
    said = " ".join(out.split())
    assert "emulated (NOT SILICON), lab-128" in said
    assert "chip time 1.000 times the model's" in said
    assert (tmp_path / "run" / "front-1.json").is_file()
    before, after = (read_front(tmp_path / "run" / name) for name in ("front-1.json", "front.json"))
    assert [m.accuracy for m in before.members] != [m.accuracy for m in after.members]
    table = cli.json("search", "show", tmp_path / "run")
    asked = [row for row in table["networks"] if row["measured"]]
    assert asked
    assert all(row["measured"]["chips"] == 1 for row in asked)
    assert all(row["measured"]["latency_ns"] == pytest.approx(row["latency_ns"], rel=1e-6) for row in asked)


def test_a_chip_without_the_loop_is_refused(cli: Cli, files: Files) -> None:
    cli(*files.arguments(files.run), "--emulated", code=2)
    assert "--in-the-loop" in cli.err
