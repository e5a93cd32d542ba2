"""Options made of settings classes: words, limits, unit and group stand in the fields of the class and nowhere else.

    @from_settings
    def finetune(network: Path, training: Given[FinetuneSettings]) -> int:
        settings = training.upon(FinetuneSettings())

is a command whose options are the fields of ``FinetuneSettings`` that have words (``mapping.settings.setting``), in
their order. ``Annotated[Given[DeployOptions], Only("seed", "device")]`` takes these fields only.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import typer

from hil.cli.options import duration, seconds
from mapping.settings import short

Settings = TypeVar("Settings")
Field = dataclasses.Field[Any]
Parameter = inspect.Parameter
TYPES = {"int": int, "float": float, "str": str, "bool": bool}  # of fields that have words, None or not
MOST = 1e12  # a limit beyond that is one of the machine, and none that a user need read of


class Given(Generic[Settings]):
    """What of a settings class was asked for on a command line."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def upon(self, usual: Settings, **more: Any) -> Settings:
        """The usual settings with what was asked for, and with ``more``."""
        return dataclasses.replace(usual, **{**self.values, **more})  # type: ignore[type-var]


class Only:
    """The fields that a command asks for."""

    def __init__(self, *names: str) -> None:
        self.names = names


def from_settings(command: Callable[..., int]) -> Callable[..., int]:
    """The command with an option for each field in place of its settings."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    made: list[Parameter] = []
    fields: dict[str, list[Field]] = {}
    for parameter in signature.parameters.values():
        kind, names = _settings_of(hints[parameter.name])
        if kind is None:
            made.append(parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY))
            continue
        told = [field for field in dataclasses.fields(kind) if field.metadata and field.name in (names or field.name)]
        made += [_option(field) for field in told]
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


def _settings_of(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """The settings class of a parameter (None: it has none), and the fields that are asked for (none: all)."""
    inner, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(inner) is not Given:
        return None, ()
    return get_args(inner)[0], next((part.names for part in more if isinstance(part, Only)), ())


def _option(field: Field) -> Parameter:
    """The parameter of a command for a field."""
    about = field.metadata
    shown: Any = field.default
    hint: Any = TYPES[str(field.type).partition(" | ")[0]]
    more: dict[str, Any] = {"help": about["words"], "rich_help_panel": about["group"] or None}
    if hint is bool:
        shown = False
    elif about["unit"] == "s":
        hint, shown = str, None if about["asked"] else duration(shown)
    elif hint in (int, float):
        sides = {"min": about["low"], "max": about["high"]}
        more |= {
            side: int(limit) if limit == int(limit) else limit for side, limit in sides.items() if abs(limit) < MOST
        }
    if about["asked"]:
        hint, shown, more["show_default"] = hint | None, None, False
    option = typer.Option(f"--{short(field).replace('_', '-')}", **more)
    name, annotation = _parameter_name(field), Annotated[hint, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=shown, annotation=annotation)


def _parameter_name(field: Field) -> str:
    return short(field).replace("-", "_")


def _read(field: Field, value: Any) -> Any:
    """The value of a field from that of its option; a switch turns the usual round."""
    if isinstance(field.default, bool):
        return field.default != value
    return seconds(value) if field.metadata["unit"] == "s" else value
