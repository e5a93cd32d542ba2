"""Public names: each top package says which they are, loads them late, and documents every one."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hil", "mapping", "cim", "search", "firmware_protocols")
SLOW = ("torch", "numba", "scipy", "h5py", "plotly", "typer")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_has_a_docstring_of_its_own(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if name == "__version__":
            continue
        text = value.__doc__ or ""
        assert text, f"{package}.{name} has no docstring"
        assert not text.startswith(f"{name}("), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_shows_the_public_names_and_no_others(package: str) -> None:
    module = importlib.import_module(package)
    homes = set(module._HOMES)
    assert dir(module) == sorted(module.__all__)
    assert set(module.__all__) - {"__version__"} == homes
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_none_of_the_slow_libraries(package: str) -> None:
    code = f"import sys, {package}; print(*[name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("package", PACKAGES)
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
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                assert node.module in (*PACKAGES, "cim.mnsim"), f"{path}: from {node.module} import …"
                public = importlib.import_module(node.module).__all__
                assert {alias.name for alias in node.names} <= set(public), path


def test_no_function_of_a_package_is_hidden_by_a_file_of_its_name_once_that_is_imported() -> None:
    """``import a.b`` sets ``b`` of package ``a``, whatever stood there."""
    for init in ROOT.glob("*/**/__init__.py"):
        if init.relative_to(ROOT).parts[0] not in (*PACKAGES, "tests"):
            continue
        own = {node.name for node in ast.parse(init.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
        files = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert not own & files, init
