"""Command-line options made from settings classes: each field holds its option's help, limits, unit and group.

    @from_settings
    def finetune(network: Path, training: Given[FinetuneSettings]) -> int:
        settings = training.upon(FinetuneSettings())

is a command whose options are the fields of ``FinetuneSettings`` that have words (``mapping.settings.setting``), in
their order. ``Annotated[Given[DeployOptions], Only("seed", samples=1000)]`` takes these two fields only, and gives
``samples`` another default.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import keyword
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import typer

from hil.cli.options import floats
from hil.errors import UsageError
from hil.report.terminal.completion import BY_FIELD, one_of
from hil.report.terminal.quantities import celsius, duration, seconds
from mapping.settings import option_of, short

if TYPE_CHECKING:
    from hil.deployment.options import NetworkOptions

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
    """Names of the fields that a command has as options; ``defaults``: defaults that differ for this command."""

    def __init__(self, *names: str, **defaults: Any) -> None:
        self.names, self.defaults = (*names, *defaults), defaults


def from_settings(command: Callable[..., int]) -> Callable[..., int]:
    """A command line function whose parameters of settings are replaced by one option for each field."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    made: list[Parameter] = []
    fields: dict[str, list[Field]] = {}
    for parameter in signature.parameters.values():
        kind, only = _settings_of(hints[parameter.name])
        if kind is None:
            made.append(parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY))
            continue
        told = [field for field in dataclasses.fields(kind) if field.metadata]
        if only is not None:
            told = [field for field in told if field.name in only.names]
        usual = {} if only is None else only.defaults
        made += [_option(field, usual.get(field.name, field.default)) for field in told]
        fields[parameter.name] = told

    @functools.wraps(command)
    def asked_for(**given: Any) -> int:
        found: dict[str, Given[Any]] = {}
        for name, told in fields.items():
            values = {field: given.pop(_parameter_name(field)) for field in told}
            found[name] = Given({f.name: _read(f, value) for f, value in values.items() if value is not None})
        return command(**given, **found)

    asked_for.__signature__ = signature.replace(parameters=made)  # type: ignore[attr-defined]
    asked_for.__annotations__ = {parameter.name: parameter.annotation for parameter in made}
    return asked_for


def _settings_of(hint: Any) -> tuple[Any, Only | None]:
    """The settings class of a parameter (None: another parameter) and the choice of its fields (None: all fields)."""
    inner, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(inner) is not Given:
        return None, None
    return get_args(inner)[0], next((part for part in more if isinstance(part, Only)), None)


def _option(field: Field, usual: Any) -> Parameter:
    """The parameter of a command for a field."""
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
    """The declared type of a field, without its None."""
    return str(field.type).partition(" | ")[0]


def _parameter_name(field: Field) -> str:
    name = short(field).replace("-", "_")
    return field.name if keyword.iskeyword(name) else name


def of_text(field: Field, text: str) -> Any:
    """The value of a field from its text, a number in the field's unit.

    Raises:
        UsageError: the field takes a number, and the text is not one.
    """
    kind = TYPES[_type_of(field)]
    try:
        return _read(field, text if field.metadata["unit"] in ("s", "°C") else kind(text))
    except ValueError:
        raise UsageError(f"{short(field)}={text}: not {'a whole' if kind is int else 'a'} number") from None


def _read(field: Field, value: Any) -> Any:
    """The value of a field from that of its option: units are converted, and a switch inverts the field's default."""
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
