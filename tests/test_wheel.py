"""The wheel alone: built offline, installed into an empty environment, it deploys on an emulated chip."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hil", "mapping", "cim", "search", "firmware_protocols")


def bare_environment(path: Path | None = None) -> dict[str, str]:
    """Variables of this process without those that lead to the checkout; programs of ``path`` are found first."""
    hidden = ("PYTHONPATH", "HIL_DATA", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    kept |= {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return kept if path is None else {**kept, "PATH": f"{path}:{kept['PATH']}"}


def call(*command: str | Path, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Standard output of a command that knows nothing of the checkout."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def console_blocks(page: Path) -> list[list[tuple[str, list[str]]]]:
    """Commands of each console block of a page, each with the lines that are shown below it."""
    blocks = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        blocks.append(commands)
    return blocks


def shows(said: str, line: str) -> bool:
    """Whether a line of the output is one of a page, in which "…" stands for anything and runs of blanks are one."""
    parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
    wanted = re.compile(" ?.*".join(parts).replace(".* ", ".* ?"))
    return any(wanted.fullmatch(" ".join(have.split())) for have in said.splitlines())


@contextmanager
def served(command: str, cwd: Path, environment: dict[str, str]) -> Iterator[str]:
    """A command that goes on until Ctrl-C; gives the line that it prints first."""
    process = subprocess.Popen(
        command, shell=True, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def docker_steps() -> list[str]:
    """The commands that ``examples/ci/Dockerfile`` runs, in order."""
    lines = (ROOT / "examples" / "ci" / "Dockerfile").read_text("utf-8").splitlines()
    return [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]


def copy_source(source: Path) -> Path:
    """What a wheel is built from, so that the checkout gets no build folder; without what building brings."""
    for package in PACKAGES:
        left = shutil.ignore_patterns("__pycache__", "*.js.gz", "plotly.LICENSE.txt", "tables.LICENSE.txt")
        shutil.copytree(ROOT / package, source / package, ignore=left)
    shutil.copytree(ROOT / "examples", source / "examples", ignore=shutil.ignore_patterns("searches", "__pycache__"))
    network = "examples/searches/eurosat/networks/bedf875d/net.pt"
    for name in ("pyproject.toml", "README.md", "LICENSE", "setup.py", "docs/nomenclature.md", network):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the source, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_source(folder / "source")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps")
    call(*pip, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """An empty environment with the wheel in it; what the wheel needs is found in the environment of the tests."""
    call(sys.executable, "-m", "venv", "--without-pip", "fresh", cwd=wheel.parent)
    fresh = wheel.parent / "fresh"
    python = fresh / "bin" / "python"
    install, *_ = docker_steps()
    words = install.replace("/wheels", str(wheel.parent)).split()
    assert words[:3] == ["python", "-m", "pip"]
    call(sys.executable, *words[1:3], "--python", python, *words[3:], "--no-deps", cwd=wheel.parent)
    own = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=wheel.parent).strip()
    # One line names a folder: editable installs that lie in it are not followed.
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return python


def test_the_wheel_holds_every_file_of_the_packages_that_is_no_bytecode(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".c", ".h")
    }
    assert not tracked - held
    for name in (
        "cim/chips/lab-128.toml",
        "search/spaces/fashion-mnist.toml",
        "hil/pages/page.css",
        "hil/pages/nomenclature.md",
        "hil/pages/templates/report.html",
        "hil/datasets/bundled/fashion_mnist.pt",
        "hil/emulator/levy_tech_c.npz",
        "hil/emulator/levy_tech_b.npz",
        "hil/pages/example_files/orbit/mission.toml",
        "hil/py.typed",
    ):
        assert name in held, sorted(held)
    assert any(name.startswith("hil/pages/") and name.endswith(".js") for name in held)
    assert not [name for name in held if name.startswith(("tests/", "docs/", "benchmarks/", "examples/"))]


def test_the_metadata_of_the_wheel_is_complete_and_its_long_description_renders(wheel: Path) -> None:
    said = call(sys.executable, "-m", "twine", "check", "--strict", wheel, cwd=wheel.parent)
    assert "PASSED" in said


def test_the_installed_wheel_deploys_on_an_emulated_chip_outside_the_checkout(python: Path, tmp_path: Path) -> None:
    where = call(python, "-c", "import hil; print(hil.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parent.parent)
    script = python.parent / "hil"
    words = ("deploy", "--emulated", "--samples", "100", "--repeat", "2", "--no-causes", "--json")
    report = json.loads(call(script, *words, cwd=tmp_path, codes=(0, 1)))
    assert report["backend"] == "emulated"
    assert (
        report["environment"]["rram-hil"]
        == call(python, "-c", "import hil; print(hil.__version__)", cwd=tmp_path).strip()
    )
    page = (tmp_path / "runs" / "0001" / "report.html").read_text("utf-8")
    assert "NOT SILICON" in page


@pytest.mark.timeout(3000)  # five deployments, kernels compiled anew
def test_the_installed_wheel_begins_the_firmware_of_a_board_that_builds(python: Path, tmp_path: Path) -> None:
    call(python.with_name("hil"), "firmware", "new", "my_board", cwd=tmp_path)
    sources = sorted((tmp_path / "my_board").glob("[ckp]*/*.c"))
    files = [*(path for path in sources if path.name != "bytes.c"), tmp_path / "my_board" / "boards" / "my_board.c"]
    call("gcc", "-std=c99", "-I", "my_board", "-I", "my_board/core", *files, "-o", "firmware", cwd=tmp_path)


def test_the_tutorial_is_followed_to_the_letter_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    """Every command of its console blocks, in order, with the installed wheel; its fixed output is what is printed."""
    environment, named = bare_environment(python.parent), {}
    with ExitStack() as servers:
        for block in console_blocks(ROOT / "docs" / "tutorial.md"):
            for command, shown in block:
                for written, real in named.items():
                    command = command.replace(written, real)
                if command.startswith("hil emulate"):
                    named[shown[0]] = servers.enter_context(served(command, tmp_path, environment))
                    continue
                done = subprocess.run(
                    command,
                    shell=True,
                    cwd=tmp_path,
                    env=environment,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=800,
                    check=False,
                )
                judged = command.startswith(("hil deploy", "hil show"))  # 1 is an answer too: a verdict may stay open
                assert done.returncode in ((0, 1) if judged else (0,)), f"{command}\n{done.stdout}"
                missing = [line for line in shown if not shows(done.stdout, line)]
                assert not missing, f"{command}\n{missing}\n{done.stdout}"
    assert named
    assert len(list((tmp_path / "runs").glob("0*"))) == 5


def test_the_steps_of_the_docker_file_work_in_an_empty_environment(python: Path, tmp_path: Path) -> None:
    _, *checks = docker_steps()
    assert checks
    for step in checks:
        said = call("bash", "-e", "-c", step.replace("hil ", f"{python.parent}/hil "), cwd=tmp_path)
        assert "lab-128" in said


def test_a_wheel_brings_the_scripts_of_its_pages_with_their_licences_and_needs_no_plotly(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel)
    for name, says in (("plotly", "plotly.js v"), ("tables", "DataTables")):
        script = gzip.decompress(held.read(f"hil/pages/{name}.js.gz")).decode()
        assert says in script
        assert "MIT License" in held.read(f"hil/pages/{name}.LICENSE.txt").decode()
    (about,) = (held.read(name).decode() for name in held.namelist() if name.endswith(".dist-info/METADATA"))
    needed = [line for line in about.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not [line for line in needed if "plotly" in line or "itables" in line]


def test_a_build_without_the_packages_of_the_scripts_ends_with_what_is_missing(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    command = [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('hil/pages/scripts.py')['write']('')"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1
    assert "plotly is not installed" in done.stderr
