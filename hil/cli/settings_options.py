"""Commands made from typed functions: a signature, its settings classes and its ``Args:`` give options and help.

    def ageing(network: Path, *, hours: float = 1.0, of: Annotated[NetworkOptions, Only("chip")], watch: Watch) -> Told:

is a command with an argument and the options ``--hours``, ``--chip`` and ``--json``, whose help is the docstring. A
settings class gives one option for each field made by ``mapping.settings.setting``, in order.
``Only("seed", samples=1000)`` takes these two fields only, and gives ``samples`` another default.
``Given[NetworkOptions]`` holds only the options that were typed. ``watch`` shows progress on stderr. The result is
printed, unless the function prints it and returns an ``int``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.models import ParameterInfo

from hil.cli.options import Json, floats, output_file, print_result, screen
from hil.errors import ExitCode, UsageError
from hil.report.terminal.completion import BY_FIELD, one_of
from hil.report.terminal.quantities import celsius, duration, seconds
from mapping.settings import option_of, short

if TYPE_CHECKING:
    from hil.deployment.options import NetworkOptions
    from hil.report.terminal.answers import Answer

Settings = TypeVar("Settings")
Field = dataclasses.Field[Any]
Parameter = inspect.Parameter
SEVERAL, NUMBERS = "tuple[str, ...]", "tuple[float, ...]"  # an option that may be repeated; numbers with commas
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "Path": Path, SEVERAL: list[str], NUMBERS: str}
MOST = 1e12  # a limit beyond that is one of the machine, and none that a user need read of


class Given(Generic[Settings]):
    """The settings of one class that were given on a command line."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def upon(self, usual: Settings, **more: Any) -> Settings:
        """The settings ``usual``, overridden by the options of the command line and then by ``more``."""
        return dataclasses.replace(usual, **{**self.values, **more})  # type: ignore[type-var]


def of_named_chip(of: Given[NetworkOptions], port: str | None, calibration: Path | None) -> Given[NetworkOptions]:
    """The network options; if the user named no chip, with that of an emulated address, else of a record."""
    from hil.deployment.options import NetworkOptions

    asked = of.upon(NetworkOptions())
    if asked.macros is not None or asked.chip != NetworkOptions().chip:
        return of
    if port and port.startswith("emulated:"):
        from hil.transports import chip_named

        chip, macros = chip_named(port)
        return Given({**of.values, "chip": chip, "macros": macros})
    if calibration is None:
        return of
    from cim.chip.file import chip_names, described, load_chip
    from cim.record.file import load_record

    record = load_record(calibration)
    found = described(record.spec_digest, load_chip(record.chip_name)) if record.chip_name in chip_names() else None
    return of if found is None else Given({**of.values, "chip": record.chip_name, "macros": found.macros})


class Only:
    """Names of the fields that become options of a command; ``defaults`` replace the class's defaults."""

    def __init__(self, *names: str, **defaults: Any) -> None:
        self.names, self.defaults = (*names, *defaults), defaults


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """The result of a command: text for people, one JSON object, and the exit code."""

    words: Sequence[Answer]
    record: dict[str, Any]
    code: int = ExitCode.DONE

    @classmethod
    def of(cls, found: Any) -> Told:
        """Made from a result object: its summary or lines as text, and its JSON."""
        if isinstance(found, Told):
            return found
        return cls([found.summary()] if hasattr(found, "summary") else found.lines(), found.to_json())


def as_command(function: Callable[..., Any]) -> Callable[..., int]:
    """The command of a function: its parameters become arguments and options, and its result is printed."""
    signature, words = inspect.signature(function), _words_of(function)
    prints = signature.return_annotation in (int, "int")
    typed = {name: hint for name, hint in function.__annotations__.items() if name not in ("return", "watch")}
    hints = get_type_hints(SimpleNamespace(__annotations__=typed), function.__globals__, include_extras=True)
    made: list[Parameter] = []
    fields: dict[str, list[Field]] = {}
    kinds: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        kind, only, whole = _settings_of(hints.get(name))
        if name == "watch" and not prints:
            continue
        if kind is None:
            annotation = _plain(parameter, hints[name], words.get(name, ""))
            made.append(parameter.replace(annotation=annotation, kind=Parameter.KEYWORD_ONLY))
            continue
        told = [f for f in dataclasses.fields(kind) if f.metadata and (only is None or f.name in only.names)]
        usual = {} if only is None else only.defaults
        made += [_option(field, usual.get(field.name, field.default)) for field in told]
        fields[name] = told
        if whole:
            kinds[name] = kind
    if not prints:
        made.append(Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=Json))

    @functools.wraps(function)
    def command(**given: Any) -> int:
        found: dict[str, Any] = {}
        for name, told in fields.items():
            values = {field: given.pop(_parameter_name(field)) for field in told}
            found[name] = Given({f.name: _read(f, value) for f, value in values.items() if value is not None})
        found |= {name: found[name].upon(kind()) for name, kind in kinds.items()}
        if prints:
            return int(function(**given, **found))
        as_json = given.pop("as_json")
        with contextlib.ExitStack() as opened:
            if "watch" in signature.parameters:
                found["watch"] = opened.enter_context(screen(quiet=as_json))
            answer = Told.of(function(**given, **found))
        print_result(answer.words, answer.record, as_json)
        return answer.code

    command.__signature__ = signature.replace(parameters=made)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in made}
    command.__doc__ = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[0]
    return command


def _words_of(function: Callable[..., Any]) -> dict[str, str]:
    """Description of each parameter, from ``Args:`` of a docstring."""
    told = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", told, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def _plain(parameter: Parameter, hint: Any, words: str) -> Any:
    """Typer annotation of a parameter, from its type and description; an existing Typer annotation is kept."""
    if get_origin(hint) is Annotated or isinstance(parameter.default, ParameterInfo):
        return hint
    checked = output_file if parameter.name == "out" else None
    if parameter.default is Parameter.empty and parameter.kind is not Parameter.KEYWORD_ONLY:
        return Annotated[hint, typer.Argument(help=words, callback=checked)]
    names = (f"--{parameter.name.replace('_', '-')}", *(["-o"] if checked else []))
    return Annotated[
        hint, typer.Option(*names, help=words, callback=checked, show_default=parameter.default is not None)
    ]


def _settings_of(hint: Any) -> tuple[Any, Only | None, bool]:
    """Settings class of a parameter (None: not a settings class), its chosen fields (None: all), and whether defaults
    fill the options that were not typed."""
    inner, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    only = next((part for part in more if isinstance(part, Only)), None)
    if get_origin(inner) is Given:
        return get_args(inner)[0], only, False
    known = dataclasses.is_dataclass(inner) and any("words" in field.metadata for field in dataclasses.fields(inner))
    return (inner, only, True) if known else (None, None, False)


def _option(field: Field, usual: Any) -> Parameter:
    """The command-line option for a settings field."""
    about = field.metadata
    shown: Any = usual
    hint: Any = TYPES[_type_of(field)]
    more: dict[str, Any] = {"help": about["words"], "rich_help_panel": about["group"] or None}
    if complete := one_of(about["choices"]) if about["choices"] else BY_FIELD.get(field.name):
        more["autocompletion"] = complete
    if about["form"]:
        more["metavar"] = about["form"]
    if hint is bool:
        shown = False
    elif about["unit"] == "s":
        ages = shown if isinstance(shown, tuple) else (shown,)
        hint, shown = str, None if about["unset"] else ",".join(map(duration, ages))
    elif about["unit"] == "°C":
        hint = str
    elif hint in (int, float):
        size = 100.0 if about["unit"] == "%" else 1
        sides = {"min": size * about["low"], "max": size * about["high"]}
        shown = shown if about["unset"] else size * shown
        more |= {
            side: int(limit) if limit == int(limit) else limit for side, limit in sides.items() if abs(limit) < MOST
        }
    elif isinstance(shown, tuple) and hint is str:
        shown = ",".join(f"{number:g}" for number in shown)
    if about["unset"]:
        hint, shown, more["show_default"] = hint | None, None, False
    option = typer.Option(option_of(field), **more)
    name, annotation = _parameter_name(field), Annotated[hint, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=shown, annotation=annotation)


def _type_of(field: Field) -> str:
    """Name of a field's declared type, without ``| None``."""
    return str(field.type).partition(" | ")[0]


def _parameter_name(field: Field) -> str:
    name = short(field).replace("-", "_")
    return field.name if keyword.iskeyword(name) else name


def of_text(field: Field, text: str) -> Any:
    """The value of a field from text, in which a number has the field's unit.

    Raises:
        UsageError: the field takes a number, and the text is not one.
    """
    kind = TYPES[_type_of(field)]
    try:
        return _read(field, text if field.metadata["unit"] in ("s", "°C") else kind(text))
    except ValueError:
        raise UsageError(f"{short(field)}={text}: not {'a whole' if kind is int else 'a'} number") from None


def _read(field: Field, value: Any) -> Any:
    """The value of a field from its option's value: units are converted, and a switch inverts a field's default."""
    kind, unit = _type_of(field), field.metadata["unit"]
    if isinstance(field.default, bool):
        return field.default != value
    if kind == SEVERAL:
        return tuple(value)
    if unit == "s":
        return tuple(map(seconds, value.split(","))) if kind == NUMBERS else seconds(value)
    if unit == "°C":
        return celsius(value)
    if unit == "%":
        return value / 100.0
    if field.name == "chip":
        from cim.chip.file import chip_text

        chip_text(value)  # an unknown name is refused before anything else is loaded
    return floats(value) if kind == NUMBERS else value
