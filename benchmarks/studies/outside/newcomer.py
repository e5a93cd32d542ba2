"""A newcomer: the wheel in an environment of its own, an empty folder, and every command of the documents, in order.

    python benchmarks/studies.py newcomer                    # README and every page with commands
    python benchmarks/studies.py newcomer start ci   # pages by their names
    python benchmarks/studies.py newcomer --replaced   # nothing is run: how many commands are not run as they stand

Nothing of the checkout is seen, nothing is put there that no page shows, and commands run as they stand. Only the
address of a port is replaced (``newcomer.toml``: ``instead``), by one that is free here or by an emulated chip. What
cannot be done here says why in the page itself, before its block: ``<!-- not followed: REASON -->``, or of some of its
commands ``<!-- not followed, `hil emulate`: REASON -->``. Blocks of a page that begin with ``# NAME.toml`` are files,
which a reader writes first. What a console block of a page shows must be printed: "…" stands for anything; "^C" is
pressed once the chip is calibrated. A line for each page; exit code 1 if a command failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("hil", "mapping", "cim", "search", "firmware_protocols")
TIMEOUT_S = 1800
PROGRAMS = ("hil ", "python ", "pip ", "head ", "cp ", "mv ", "sed ", "HIL_CELL_LAWS=")
FILES = re.compile(r"^```toml\n# (\S+\.toml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVERS = ("hil emulate", "python board.py", "python examples/bridge.py", "python examples/mlperf_tiny_board.py")
JUDGES = (  # 1 is an answer too
    "hil deploy", "hil show", "hil judge", "hil --key-file chip.key deploy",
    "hil chip calibration", "hil mission check", "hil mission harden",
)  # fmt: skip


def bare_environment(path: Path | None = None) -> dict[str, str]:
    """Variables of this process without those that lead to the checkout; programs of ``path`` are found first."""
    hidden = ("PYTHONPATH", "HIL_DATA", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    kept |= {
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return kept if path is None else {**kept, "PATH": f"{path}:{kept['PATH']}"}


def call(*command: str | Path, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Standard output of a command that knows nothing of the checkout."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# --- the wheel, and an environment that has nothing else of ours -------------------------------


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


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, without a network."""
    source = copy_source(folder / "source")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps")
    call(*pip, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def docker_steps() -> list[str]:
    """The commands that ``examples/ci/Dockerfile`` runs, in order."""
    lines = (ROOT / "examples" / "ci" / "Dockerfile").read_text("utf-8").splitlines()
    return [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]


def install(wheel: Path) -> Path:
    """Python of an empty environment with the wheel in it; what the wheel needs is found in this one's."""
    call(sys.executable, "-m", "venv", "--without-pip", "fresh", cwd=wheel.parent)
    python = wheel.parent / "fresh" / "bin" / "python"
    first, *_ = docker_steps()
    words = first.replace("/wheels", str(wheel.parent)).split()
    assert words[:3] == ["python", "-m", "pip"]
    call(sys.executable, *words[1:3], "--python", python, *words[3:], "--no-deps", cwd=wheel.parent)
    own = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=wheel.parent).strip()
    # One line names a folder: editable installs that lie in it are not followed.
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return python


# --- what a page says --------------------------------------------------------------------------

REASON = re.compile(r"<!-- not followed(?:, `(.+?)`)?: (.+?) -->")
BLOCK = re.compile(
    rf"(?P<whys>(?:^{REASON.pattern.replace('(.+?)', '.+?')}\n+)*)^```(?P<kind>\w*)\n(?P<lines>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page, the lines that are shown below it, its heading, and why it is not followed, if so."""

    command: str
    shown: tuple[str, ...] = ()
    heading: str = ""
    why_not: str = ""


def steps(page: Path) -> Iterator[Step]:
    """Commands of a page, in order: after ``$`` in console blocks, and lines of bare blocks that call a program."""
    text = page.read_text("utf-8")
    for block in BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.*)$", text[: block.start()], re.MULTILINE)
        heading = headings[-1] if headings else ""
        whys = REASON.findall(block["whys"])
        lines = block["lines"].replace("\\\n", " ").splitlines()
        if block["kind"] == "console":
            for number, line in enumerate(lines):
                if line.startswith("$ "):
                    ends = [n for n in range(number + 1, len(lines)) if lines[n].startswith("$ ")]
                    shown = tuple(lines[number + 1 : ends[0] if ends else len(lines)])
                    yield _step(line[2:], shown, heading, whys)
        elif block["kind"] in ("", "sh"):
            yield from (_step(line, (), heading, whys) for line in lines if line.startswith(PROGRAMS))


def _step(line: str, shown: tuple[str, ...], heading: str, whys: list[tuple[str, str]]) -> Step:
    command = _without_comment(line)
    return Step(command, shown, heading, next((why for begin, why in whys if command.startswith(begin)), ""))


def _without_comment(line: str) -> str:
    return re.sub(r"\s{2,}#.*$", "", line).strip()


def shows(said: str, line: str) -> bool:
    """Whether a line of the output is one of a page, in which "…" stands for anything and runs of blanks are one."""
    parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
    wanted = re.compile(" ?.*".join(parts).replace(".* ", ".* ?"))
    return any(wanted.fullmatch(" ".join(have.split())) for have in said.splitlines())


# --- a newcomer --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """What stands for the addresses of a page, and what is left out of any page.

    ``left_out``: beginning of a command -> why.
    """

    path: Path
    instead: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    quick: bool = False  # followed by the tests too

    def why_not(self, step: Step) -> str:
        return step.why_not or next((why for begin, why in self.left_out.items() if step.command.startswith(begin)), "")


@dataclass(slots=True)
class Followed:
    """How far a newcomer came on a page."""

    done: list[Step] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def read_pages() -> dict[str, Page]:
    """Pages by their names."""
    told = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    usual = told["usual"]
    found = {name: ROOT / ("README.md" if name == "README" else f"docs/{name}.md") for name in told["pages"]}
    pages = {}
    for name, path in found.items():
        own = told["pages"][name]
        own["instead"] = {**own.get("instead", {}), **usual["instead"]}  # its own come first
        pages[name] = Page(path, left_out=usual["left_out"], **own)
    return pages


def as_run(step: Step, page: Page, named: dict[str, str]) -> str:
    """The command of a step as it is run: with what stands for addresses."""
    command = step.command
    for written, real in (*named.items(), *page.instead.items()):
        command = command.replace(written, real)
    return command


def replaced(pages: dict[str, Page]) -> str:
    """By page: commands, and those that are run as they stand, with another address, or not at all."""
    lines = ["| page | commands | as they stand | another address | not followed |", "|---|---:|---:|---:|---:|"]
    sums = [0] * 4
    for name, page in pages.items():
        found = list(steps(page.path))
        done = [step for step in found if not page.why_not(step)]
        changed = sum(as_run(step, page, {}) != step.command for step in done)
        counts = [len(found), len(done) - changed, changed, len(found) - len(done)]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join([*lines, f"| all {len(pages)} | {' | '.join(map(str, sums))} |"])


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


def codes_of(step: Step) -> Sequence[int]:
    """Exit codes that a page means: of a run that is interrupted, of an error that it shows, of a verdict."""
    if step.shown[:1] == ("^C",):
        return (10,)
    if "|| echo" in step.command:  # which tells the code
        return (0,)
    if step.shown and step.shown[0].startswith("error:"):
        return range(2, 10)
    return (0, 1) if step.command.startswith(JUDGES) else (0,)


def interrupted(command: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command that is stopped by Ctrl-C once the folder of its run holds a calibration record."""
    with subprocess.Popen(
        f"exec {command}", shell=True, cwd=cwd, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        deadline_s = time.monotonic() + TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline_s:
            if any(cwd.glob("runs/*.unfinished/record.h5")):
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(command, process.returncode, said)


def follow(page: Page, python: Path, folder: Path) -> Followed:
    """Run every command of a page in order, with the installed wheel; it ends at the first that fails."""
    environment = bare_environment(python.parent)
    found, named = Followed(), dict[str, str]()
    for name, text in FILES.findall(page.path.read_text("utf-8")):
        (folder / name).write_text(text, "utf-8")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False, executable="/bin/bash",
        )  # fmt: skip

    with ExitStack() as servers:
        for step in steps(page.path):
            if why := page.why_not(step):
                found.left_out[step.command] = why
                continue
            command = as_run(step, page, named)
            if command.startswith(SERVERS):
                address = servers.enter_context(served(command.removesuffix("&"), folder, environment))
                port = re.search(r"127\.0\.0\.1:[1-9]\d*", step.command)
                if step.shown or port:
                    named[step.shown[0] if step.shown else f"tcp://{port[0]}"] = address
                found.done.append(step)
                continue
            stopped = step.shown[:1] == ("^C",)
            done = interrupted(command, folder, environment) if stopped else run(command)
            missing = [line for line in step.shown if line != "^C" and not shows(done.stdout, line)]
            wrong = done.returncode not in codes_of(step)
            if wrong or missing or "Traceback" in done.stdout:
                found.failed.append(f"$ {command}\nexit code {done.returncode}, not shown: {missing}\n{done.stdout}")
                return found
            found.done.append(step)
    return found


def main() -> int:
    pages = read_pages()
    if sys.argv[1:] == ["--replaced"]:
        print(replaced(pages))
        return 0
    asked = sys.argv[1:] or list(pages)
    if not set(asked) <= set(pages):
        print(f"pages: {', '.join(pages)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
    failed = False
    with tempfile.TemporaryDirectory() as made:
        python = install(build_wheel(Path(made)))
        for name in asked:
            folder = Path(made) / name
            folder.mkdir()
            begun, begun_s = os.times(), time.monotonic()
            found = follow(pages[name], python, folder)
            ended, took_s = os.times(), time.monotonic() - begun_s
            cpu_s = ended.children_user + ended.children_system - begun.children_user - begun.children_system
            counts = f"{len(found.done):3} done {len(found.left_out):3} left out"
            print(f"{name:26} {counts} {took_s:6.0f} s, {cpu_s:.0f} of a processor", flush=True)
            for command, why in found.left_out.items():
                print(f"    not done: {command:.90}  ({why})")
            for text in found.failed:
                print("    FAILED  " + text.replace("\n", "\n        "), flush=True)
            failed |= bool(found.failed)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
