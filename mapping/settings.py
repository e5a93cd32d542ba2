"""Settings of a frozen dataclass, each defined once: its default, its help, its limits and its unit.

    @dataclass(frozen=True, slots=True)
    class Training:
        epochs: int = setting(12, "passes over all images", low=1, group="Training")
        age_s: float = setting(3600.0, "age after programming", low=0.0, unit="s", group="Chip")

        def __post_init__(self) -> None:
            check_limits(self, UsageError)

Command lines make their options of them (``hil.cli.settings_options``), and refuse what the class refuses.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from typing import Any


def setting(
    default: Any,
    words: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    unit: str = "",
    choices: tuple[str, ...] = (),
    option: str = "",
    form: str = "",
    group: str = "",
    unset: bool = False,
) -> Any:  # as dataclasses.field
    """A setting: a number from ``low`` to ``high`` in ``unit``, one of ``choices``, or a switch.

    Args:
        unit: of numbers: "s", "°C", "bit/s", "%" of a share (which the field holds as a fraction), or none.
        option: its name on a command line; default: that of the field, without its unit.
        form: what is written behind it, where a type does not say it: NAME[=SETTINGS].
        group: title that it stands under in a command's help.
        unset: the default stands for "not set", and is no value that could be asked for; ``words`` say what
            happens then.
    """
    about = {"words": words, "low": low, "high": high, "unit": unit, "choices": choices}
    on_a_command_line = {"option": option, "form": form, "group": group, "unset": unset}
    return dataclasses.field(default=default, metadata={**about, **on_a_command_line})


def short(field: dataclasses.Field[Any]) -> str:
    """The name of a setting on the command line: without its unit."""
    unit = field.metadata["unit"]
    return field.metadata["option"] or (field.name.removesuffix(f"_{unit}") if unit else field.name)


def option_of(field: dataclasses.Field[Any]) -> str:
    """The option of a setting: ``--weight-bits``."""
    return f"--{short(field).replace('_', '-')}"


def as_options(settings: Any, *names: str) -> str:
    """Settings that are not as by default, as a command takes them: " --chip yao-2020 --macros 8".

    Args:
        names: of the fields that are meant; all of them where there are none.
    """
    words: list[str] = []
    for field in dataclasses.fields(settings):
        value, option = getattr(settings, field.name), option_of(field) if field.metadata else ""
        if not option or value == field.default or (names and field.name not in names):
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, tuple) and all(isinstance(each, str) for each in value):
            words += [word for each in value for word in (option, each)]
        else:
            words += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def check_limits(settings: Any, error: type[Exception]) -> None:
    """Refuse a setting that lies beyond its limits or is not one of its choices.

    Raises:
        error: with the name of the setting, its value and what it takes.
    """
    for field in dataclasses.fields(settings):
        about, value = field.metadata, getattr(settings, field.name)
        if not about or (about["unset"] and value == field.default):
            continue
        name, low, high = field.name.replace("_", " "), about["low"], about["high"]
        if about["choices"] and value not in about["choices"]:
            raise error(f"{name} {value!r}, not one of {', '.join(about['choices'])}")
        if isinstance(value, int | float) and not low <= value <= high:
            takes = (
                f"not from {low:g} to {high:g}"
                if high < math.inf
                else f"at least {low:g} {'is' if low == 1 else 'are'} needed"
            )
            raise error(f"{name}: {value:g}, {takes}")
        if isinstance(value, float) and not math.isfinite(value):
            raise error(f"{name}: {value}, not a number of a size")
