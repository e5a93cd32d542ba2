"""Public names and docstrings: which they are, that they load late, and that each is understood without its code.

Public is what the packages of the five rooms and ``cim.mnsim`` name in ``__all__``; a public function says every
argument, what comes back, what is raised, and has one example.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from .hil.python.test_reference import METHODS
from .scripts import loaded
from .sources import ROOMS, ROOT

SLOW = ("torch", "numba", "scipy", "h5py", "plotly", "typer")
SAMPLE = loaded(ROOT / "docs" / "docstring_sample.py")
PUBLIC = tuple(room for room in ROOMS if room != "search")  # which is internal: hil.search and hil.prune are its doors
DOORS = (*PUBLIC, "cim.mnsim")
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example):$", re.MULTILINE)
FUNCTIONS = {
    f"{door}.{name}": value
    for door in DOORS
    for name in importlib.import_module(door).__all__
    if inspect.isfunction(value := getattr(importlib.import_module(door), name))
} | METHODS


def sections(function: Callable[..., Any]) -> dict[str, str]:
    """Sections of a docstring by their titles; what stands before the first is "" of them."""
    parts = SECTION.split(inspect.getdoc(function) or "")
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def lacking(function: Callable[..., Any]) -> list[str]:
    """What a docstring does not say."""
    said, signature = sections(function), inspect.signature(function)
    lines = re.findall(r"^ {4}([\w, *]+):", said.get("Args", ""), re.MULTILINE)
    named = {name.strip(" *") for line in lines for name in line.split(",")}
    named |= {"self", "watch"} if "self" in signature.parameters else set()  # which every method takes
    found = [f"argument {name}" for name in signature.parameters if name not in named]
    found += [f"{name} is no argument" for name in named - {*signature.parameters, "self", "watch"}]
    if signature.return_annotation not in (None, "None") and not said.keys() & {"Returns", "Yields"}:
        found.append("what comes back")
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree)) and "Raises" not in "".join(
        f"{title} {text}" for title, text in said.items()
    ):
        found.append("what is raised")
    code = "\n".join(re.findall(r"^ {4}(?:>>>|\.\.\.) ?(.*)$", said.get("Example", ""), re.MULTILINE))
    made = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    threads = [given.value for call in made for given in call.keywords if given.arg == "target"]
    calls = {ast.unparse(called).split(".")[-1] for called in (*(call.func for call in made), *threads)}
    if function.__name__ not in calls:
        found.append("an example that calls it")
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_names_every_argument_what_comes_back_what_is_raised_and_an_example(name: str) -> None:
    assert lacking(FUNCTIONS[name]) == []


def test_what_a_docstring_lacks_is_found() -> None:
    def half(first: int, second: int) -> int:
        """One of two.

        Args:
            first: a number.
            third: another.

        Example:
            >>> 1 + 1
        """
        raise ValueError(first + second)

    wanted = [
        "argument second",
        "third is no argument",
        "what comes back",
        "what is raised",
        "an example that calls it",
    ]
    assert lacking(half) == wanted


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_resolves_and_has_a_docstring_of_its_own(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if name == "__version__":
            continue
        text = value.__doc__ or ""
        assert text, f"{package}.{name} has no docstring"
        assert not text.startswith(f"{name}("), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PUBLIC)
def test_dir_shows_the_public_names_and_no_others(package: str) -> None:
    module = importlib.import_module(package)
    homes = set(module._HOMES)
    assert dir(module) == sorted(module.__all__)
    assert set(module.__all__) - {"__version__"} == homes
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", PUBLIC)
def test_importing_a_package_loads_none_of_the_slow_libraries(package: str) -> None:
    code = f"import sys, {package}; print(*[name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("package", ROOMS)
def test_type_hints_are_offered_to_users(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package() -> None:
    """Which is that of pyproject.toml, as ``test_wheel.py`` sees: a checkout says the one of its last installation."""
    import hil

    assert hil.__version__ == version("rram-hil")


def test_python_in_documents_and_notebooks_takes_public_names_only() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    sources = {page: re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL) for page in pages}
    sources |= {path: [path.read_text("utf-8")] for path in (ROOT / "examples" / "notebooks").glob("*.py")}
    for path, blocks in sources.items():
        for node in (n for block in blocks for n in ast.walk(ast.parse(block))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
                assert node.module in DOORS, f"{path}: from {node.module} import …"
                public = importlib.import_module(node.module).__all__
                assert {alias.name for alias in node.names} <= set(public), path


def test_no_function_of_a_package_is_hidden_by_a_file_of_its_name_once_that_is_imported() -> None:
    """``import a.b`` sets ``b`` of package ``a``, whatever stood there."""
    for init in ROOT.glob("*/**/__init__.py"):
        if init.relative_to(ROOT).parts[0] not in (*ROOMS, "tests"):
            continue
        own = {node.name for node in ast.parse(init.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
        files = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert not own & files, init


def test_no_docstring_leaves_its_noun_to_the_name() -> None:
    """ "Of the chips" is the answer to a question that only the code asks."""
    assert [name for name, _, text in SAMPLE.docstrings() if text.startswith("Of ")] == []
