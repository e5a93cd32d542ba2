"""Words that people read: names, commands and options are of today. Changelogs are history and are not read."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from .sources import DOCUMENTS, FILES, ROOMS, ROOT, commands, nodes, place, prose, strings

# --- names -------------------------------------------------------------------------------------

FOLDERS = (*ROOMS, "docs", "tests", "benchmarks", "examples", ".ci")
SCRIPTS = sorted(p for folder in ("benchmarks", "examples", "tests") for p in (ROOT / folder).rglob("*.py"))
# Names of file formats and methods of records: "hil.space", "hil.fit 1.0".
FORMATS = {
    "hil.answer",
    "hil.architecture",
    "hil.bench",
    "hil.candidates",
    "hil.chip",
    "hil.cost",
    "hil.fit",
    "hil.front",
    "hil.instrument",
    "hil.program",
    "hil.search",
    "hil.space",
    "hil.stage",
    "hil.wirelog",
}
# Files that a user of ours would have, or that a program writes.
INVENTED = {"my_operators.py"}

DOTTED = re.compile(r"(?<![\w./\-])((?:" + "|".join(ROOMS) + r")(?:\.(?!md\b)[A-Za-z_]\w*)+)")
PATH = re.compile(r"(?<![\w./\-])((?:" + "|".join(map(re.escape, FOLDERS)) + r")(?:/[\w.*\-]+)+)")
BARE_FILE = re.compile(r"`([a-z]\w*\.py)`")
IMPORT = re.compile(r"^\s*from ((?:" + "|".join(ROOMS) + r")[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of ours, or an attribute (of an attribute) of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if not hasattr(value, part) and part not in fields:
                return False
            value = getattr(value, part, None)
        return True
    return False


def there(path: str) -> bool:
    path = path.rstrip(".")
    return any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()


def entry_points() -> set[str]:
    """Groups of entry points that pyproject.toml, or that of an example package, names."""
    files = (ROOT / "pyproject.toml", *sorted((ROOT / "examples" / "plugins").glob("*/pyproject.toml")))
    groups = re.compile(r'^\[project\.entry-points\."([\w.]+)"\]', re.MULTILINE)
    return {group for file in files for group in groups.findall(file.read_text("utf-8"))}


def stale_names(text: str) -> Iterator[str]:
    yield from (n for n in set(DOTTED.findall(text)) - FORMATS - entry_points() if not resolves(n))
    yield from (p for p in set(PATH.findall(text)) if "__pycache__" not in p and not there(p))


def test_names_in_documents_are_there_today() -> None:
    known, wrong = {p.name for p in (*FILES, *SCRIPTS)} | INVENTED, {}
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        imported = [f"{m}.{n.strip()}" for m, names in IMPORT.findall(text) for n in names.split(",")]
        bare = [n for n in BARE_FILE.findall(text) if n not in known]
        wrong[place(path)] = sorted([*stale_names(text), *bare, *(n for n in imported if not resolves(n))])
    assert {path: names for path, names in wrong.items() if names} == {}


def test_names_in_docstrings_and_comments_are_there_today() -> None:
    found = {place(p): sorted(stale_names("\n".join(prose(p)))) for p in (*FILES, *SCRIPTS)}
    assert {path: names for path, names in found.items() if names} == {}


# --- commands and options ----------------------------------------------------------------------

SIMULATION = ROOT / "tests" / "line_simulation" / "__main__.py"  # python -m, with options of its own
OTHERS = sorted([*(ROOT / "hil" / "pages" / "templates").glob("*.html"), *(ROOT / "cim" / "chips").glob("*.toml")])
PLACE = "VALUE"  # of an expression within a text
ENDS = r"[`;,()\"'|\n]|\. |: |\bhil\b|(?<= )(?:and|or|then) "  # what a command is followed by in a sentence
OPTION = re.compile(r"(?<![\w\-./])--[a-z][a-z\-]*[a-z]")
SCRIPT = re.compile(r"python (benchmarks/[\w/]+\.py)([^(\n]*)")
COMMAND = re.compile(r"(?<![\w./\-])hil ([a-z][a-z\-]+)")


# Every command by its words -> its options.
TREE = {
    name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    for name, command in commands()
}
ANYWHERE = {option for options in TREE.values() for option in options}
# Files outside of hil/cli whose texts name options without a command -> the commands that print those texts.
SCORES = ("deploy", "simulate", "improve")
PRINTED_BY = {
    "hil/calibration": ("calibrate",),
    "hil/datasets/input_values.py": (*SCORES, "finetune"),
    "hil/datasets/image_set.py": (*SCORES, "import", "compile", "campaign"),
    "hil/deployment/import_weights.py": ("import", "compile", "deploy", "simulate"),
    "hil/deployment/interim_looks.py": ("deploy",),
    "hil/deployment/dry_run.py": ("deploy",),
    "hil/deployment/options.py": SCORES,
    "hil/deployment/resumable.py": ("deploy",),
    "hil/deployment/scoring.py": SCORES,
    "hil/device_fit": ("chip fit",),
    "hil/driver": ("deploy", "calibrate", "board info", "board mvm", "board cells", "tune", "board selftest"),
    "hil/improvement/finetuning": ("finetune",),
    "hil/improvement/improve.py": ("improve",),
    "hil/improvement/context.py": ("improve",),
    "hil/improvement/options.py": ("deploy",),
    "hil/improvement/trials.py": ("improve",),
    "hil/improvement/begin.py": ("improve",),
    "hil/payload/budget.py": ("mission check",),
    "hil/payload/harden.py": ("mission harden",),
    "hil/payload/radiation/faults.py": ("campaign",),
    "hil/payload/subject.py": ("campaign", "mission check"),
    "hil/report/next_steps.py": ("deploy",),
    "hil/report/step_words.py": ("deploy",),
    "hil/prediction/predict.py": (*SCORES[1:], "campaign", "mission check"),
    "hil/report/work_folder.py": ("deploy", "calibrate", "improve", "finetune", "search run", "campaign"),
    "hil/searching/folder.py": ("search run",),
    "hil/searching/pruned_inputs.py": ("search run",),
    "hil/searching/pruned_search.py": ("search run",),
    "hil/searching/pruning.py": ("search prune",),
    "hil/searching/run.py": ("search run",),
    "hil/searching/settings.py": ("search run",),
    "hil/searching/summary.py": ("deploy",),
    "hil/server/firmware_build.py": ("emulate",),
    "hil/simulation/torch_device.py": ("deploy", "simulate"),
    "hil/verdict/baseline.py": ("deploy",),
    "hil/verdict/tasks": SCORES,
    "mapping/layout/lay_out.py": ("compile", "deploy", "simulate"),
    "mapping/tune/residual.py": ("compile", "deploy", "simulate"),
    "mapping/network/tflite/reading.py": ("import", "compile", "deploy", "simulate"),
    "search/space/file.py": ("search run",),
    "search/space/target.py": ("estimate",),
    "search/errors.py": ("search run",),
}
# of Dask, pip, apt, a linker, mypy
ELSE = {"--tls", "--force-reinstall", "--no-install-recommends", "--gc-sections", "--index-url", "--strict", "--draft"}
PROSE = {"reads"}  # hil as the program: "hil reads 1.0"


def texts(path: Path) -> Iterator[str]:
    """Every text of a Python file but its docstrings; an expression within one is VALUE."""
    whole = [node for node in nodes(path) if isinstance(node, ast.JoinedStr)]
    within = {id(part) for node in whole for part in node.values}
    for node in whole:
        yield "".join(str(p.value) if isinstance(p, ast.Constant) else PLACE for p in node.values)
    for said in strings(path):
        if id(said) not in within and not OPTION.fullmatch(str(said.value)):  # one alone is a word of a command line
            yield str(said.value)


def named(text: str) -> Iterator[tuple[str, str, str]]:
    """Every command that a text names, as (its words, what follows within its clause, what follows to the next)."""
    found = list(COMMAND.finditer(text))
    for number, one in enumerate(found):
        until = found[number + 1].start() if number + 1 < len(found) else len(text)
        name, rest = one[1], text[one.end() : until]
        below = re.match(r" ([a-z]+)", rest)
        if below and f"{name} {below[1]}" in TREE:
            name, rest = f"{name} {below[1]}", rest[below.end() :]
        yield name, re.split(ENDS, rest, maxsplit=1)[0], rest


@functools.cache
def scripted() -> set[str]:
    """Options of the scripts of the repository."""
    folders = ("benchmarks", "examples", "docs", "tests/hostile")
    scripts = [SIMULATION, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    return {option for path in scripts for option in OPTION.findall(path.read_text("utf-8"))}


def options_of(name: str) -> set[str]:
    return TREE[name] | (TREE["search run"] if name == "search" else set())


def wrong_commands(text: str) -> Iterator[str]:
    """Commands that are none, and options that a command has not."""
    for name, clause, _ in named(text):
        if name not in TREE:
            yield from () if name in PROSE else (f"hil {name}",)
            continue
        yield from (f"hil {name} {option}" for option in OPTION.findall(clause) if option not in options_of(name))


def wrong_scripts(text: str) -> Iterator[str]:
    """Scripts of the repository that are not there, and options that a script has not."""
    for file, rest in SCRIPT.findall(text):
        path = ROOT / file
        known = set(OPTION.findall(path.read_text("utf-8"))) if path.exists() else set()
        yield from () if path.exists() else (file,)
        yield from (f"{file} {option}" for option in OPTION.findall(rest) if option not in known)


def bare_options(text: str) -> set[str]:
    """Options before the first command of a text, and those after one that are not its own; none of a script's."""
    text = SCRIPT.sub("", text)
    first = COMMAND.search(text)
    found = set(OPTION.findall(text[: first.start()] if first else text))
    for name, _, rest in named(text):
        found |= {o for o in OPTION.findall(rest) if name in TREE and o not in options_of(name)}
    return found - ELSE - TREE[""]


def takers(path: Path) -> list[set[str]]:
    """Options of each command that may print a text of the file; of one alone in hil/cli, as others share texts."""
    if place(path).startswith("hil/cli/"):
        leaves = [(name, command) for name, command in commands() if not hasattr(command, "commands")]
        own = [n for n, c in leaves if Path(inspect.unwrap(c.callback).__code__.co_filename) == path]
        return [set().union(*(TREE[name] for name in own))] if own else [ANYWHERE]
    return [TREE[name] for begin, names in PRINTED_BY.items() if place(path).startswith(begin) for name in names]


def test_hints_and_notes_name_commands_that_are_there_with_options_that_they_have() -> None:
    wrong = {}
    for path in FILES:
        said = list(texts(path))
        found = {error for text in said for error in (*wrong_commands(text), *wrong_scripts(text))}
        bare = {o for text in said for o in bare_options(text)} - {"--help"}
        known = takers(path) if bare else []
        found |= {f"{o}, without a command" for o in bare if not known or not all(o in options for options in known)}
        if found:
            wrong[place(path)] = sorted(found)
    assert wrong == {}


def test_comments_and_docstrings_name_commands_and_options_that_are_there() -> None:
    wrong = {place(p): sorted({e for t in prose(p) for e in wrong_commands(t)}) for p in FILES}
    assert {path: errors for path, errors in wrong.items() if errors} == {}


def test_documents_name_commands_and_options_that_are_there() -> None:
    """An option by itself is one of some command, or of a script of the repository."""
    wrong = {}
    for path in (*DOCUMENTS, *OTHERS):
        text = path.read_text("utf-8").replace("\\\n", " ")
        alone = set(OPTION.findall(text)) - ANYWHERE - ELSE - scripted() if path.suffix == ".md" else set()
        if found := set(wrong_commands(text)) | alone:
            wrong[place(path)] = sorted(found)
    assert wrong == {}


def helps() -> Iterator[tuple[str, str]]:
    """Names, help and metavars of all commands and options."""
    for name, command in commands():
        yield name, f"{name.rpartition(' ')[2]} {command.help or ''}"
        for parameter in command.params:
            words = " ".join((*parameter.opts, *parameter.secondary_opts)).replace("-", " ")
            yield f"{name} {parameter.name}", f"{words} {getattr(parameter, 'help', None) or ''}"


def test_the_help_names_options_that_are_there() -> None:
    assert [error for _, text in helps() for error in wrong_commands(text)] == []
    assert {option for _, text in helps() for option in OPTION.findall(text)} - ANYWHERE == set()
