"""Every error that a room raises on purpose has an exit code of its own kind; none looks like a bug of ours."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cim
import firmware_protocols
import hil
import mapping
import search
from cim.errors import CimError
from cim.fit.drive import NoDriveFit
from cim.fit.wire import NoWireFit
from firmware_protocols.errors import LinkCounters, LocalProtocolError, ProtocolError
from firmware_protocols.messages import ErrorCode
from hil.cli import run
from hil.cli.failures import EXIT_CODES, code_of
from hil.errors import DeviceError, ExitCode, HilError, NotAuthorised
from mapping.errors import MappingError
from search.errors import SearchError
from tests.line_simulation.line import EndlessCalls

ROOT = Path(__file__).parents[3]
ROOMS = (cim, mapping, search, firmware_protocols, hil)
BASES: dict[type[Exception], str] = {
    CimError: "base of cim: its kinds are raised",
    MappingError: "base of mapping: its kinds are raised",
    ProtocolError: "base of firmware_protocols: its kinds are raised",
    HilError: "base of hil: its kinds are raised",
}
INTERNAL: dict[type[Exception], str] = {
    LocalProtocolError: "this side used the protocol wrongly: the driver checks requests before they are sent",
    EndlessCalls: "an end of a simulated line asks without end: a fault of ours that its simulation finds",
}


def modules() -> Iterator[Any]:
    for room in ROOMS:
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def public_errors() -> list[type[Exception]]:
    return [
        kind
        for module in modules()
        for name, kind in vars(module).items()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and kind.__module__ == module.__name__
        and not name.startswith("_")
    ]


def sample(kind: type[Exception]) -> Exception:
    """An error of a class, made of whatever its constructor needs."""
    if not inspect.isfunction(kind.__init__):  # Python's own
        return kind("x")
    values: dict[str, Any] = {
        "int": 1, "float": 1.0, "ErrorCode": ErrorCode.FAULT, "LinkCounters": LinkCounters(), "bool": True,
        "tuple[int, int]": (256, 256), "tuple[int, ...]": (1,), "tuple[str, ...]": ("x",),
    }  # fmt: skip
    needed = [p for p in list(inspect.signature(kind.__init__).parameters.values())[1:] if p.default is p.empty]
    given = {p.name: values.get(p.annotation, "x") for p in needed}
    placed = [given.pop(p.name) for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    return kind(*placed, **given)


def exit_code(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the command line leaves with when a command meets this error."""

    def broken() -> None:
        raise error

    monkeypatch.setattr("hil.transports.ports.list_ports", broken)
    return run(["board", "ports"])


def test_no_public_error_of_any_room_looks_like_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = public_errors()
    assert len(errors) > 45
    wrong = []
    for kind in errors:
        code = exit_code(sample(kind), monkeypatch)
        err = capsys.readouterr().err
        if kind in INTERNAL or kind in BASES:
            assert code == ExitCode.BUG, kind
        elif code == ExitCode.BUG or "Traceback" in err:
            wrong.append(f"{kind.__module__}.{kind.__name__}")
    assert not wrong, wrong


def test_every_public_error_has_the_base_of_its_room() -> None:
    bases = {"cim": CimError, "mapping": MappingError, "search": SearchError, "hil": HilError}
    bases["firmware_protocols"] = ProtocolError
    for kind in public_errors():
        assert issubclass(kind, bases[kind.__module__.split(".")[0]]), kind


def test_bases_are_never_raised_themselves() -> None:
    names = {kind.__name__ for kind in BASES}
    for room in ROOMS:
        for path in (ROOT / room.__name__).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    assert getattr(node.exc.func, "id", "") not in names, f"{path}:{node.lineno}"


def test_fits_that_do_not_settle_are_5(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (NoWireFit(3.0), NoDriveFit(2)):
        assert exit_code(error, monkeypatch) == ExitCode.DEVICE
        assert str(error) in capsys.readouterr().err


def test_a_chip_that_wants_a_key_is_9(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(NotAuthorised("no key"), monkeypatch) == ExitCode.NOT_AUTHORISED
    assert issubclass(NotAuthorised, DeviceError)


def test_no_kind_hides_a_later_one_in_the_table() -> None:
    for i, (kind, _) in enumerate(EXIT_CODES):
        assert not any(issubclass(kind, earlier) for earlier, _ in EXIT_CODES[:i]), kind


def test_other_exceptions_are_bugs() -> None:
    assert code_of(ValueError("x")) is None
    assert code_of(KeyError("x")) is None
