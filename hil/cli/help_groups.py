"""Titles of the option groups in the help of long commands: title -> parameters, for all commands.

Options made from settings fields (``hil.cli.settings_options``) carry the title of their group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hil.cli.settings_options import as_command

ARGUMENTS, OTHERS = "Arguments", "Other options"
MACHINE, OUTPUT = "Machine", "Run and output"
GROUPS: dict[str, tuple[str, ...]] = {
    "Network": ("arch",),
    "Answers": ("answers", "measured_chip", "looks"),
    "Chip": (
        "chip", "macros", "only", "cell", "network", "costs", "calibration", "recalibrate",
        "record_age", "reconnect_timeout",
    ),
    "Chips": (),
    "Images": ("data", "images"),
    "Task": ("task",),
    "Writing cells": ("age",),
    "Product": ("macro", "rows", "level", "code", "repeat"),
    "Techniques": (),
    "Simulation": ("mode",),
    "Verdict": ("fail_on", "baseline"),
    "Estimate": ("size", "model"),
    "Search": ("space",),
    "Teacher": ("teacher",),
    "Pruned networks of a teacher (--from)": ("from_", "edp"),
    "A chip in the loop": ("in_the_loop",),
    "On the chip": ("simulated",),
    "Faults": ("orbit", "each", "mission"),
    "End of the mission": ("campaign",),
    MACHINE: ("workers",),
    OUTPUT: ("out", "restart", "dry_run", "explain", "plot", "junit", "allow_code", "as_json"),
}  # fmt: skip
GROUP_OF = {name: title for title, names in GROUPS.items() for name in names}
SHORT = 10  # options: so few are one list

FIRST = {  # what -h shows of a command; --help shows all
    "deploy": (
        "--port", "--emulated", "--chip", "--macros", "--data", "--samples", "--calibration", "--age", "--effort",
        "--with", "--out", "--dry-run",
    ),
}  # fmt: skip


class GroupedCommand(TyperCommand):
    """A command whose help sorts its options into titled groups; ``-h`` shows only the most used ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["short"] = "-h" in args and "--help" not in args
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        name, params = ctx.command_path.partition(" ")[2], self.get_params(ctx)
        first = FIRST.get(name) if ctx.meta.get("short") else None
        if sum(param.param_type_name == "option" for param in self.params) <= SHORT:
            super().format_options(ctx, formatter)
            return
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in (ARGUMENTS, *GROUPS)}
        for param in params:
            row, argument = param.get_help_record(ctx), param.param_type_name == "argument"
            if row is not None and (first is None or argument or any(word in first for word in param.opts)):
                own = ARGUMENTS if argument else getattr(param, "rich_help_panel", None)
                rows.setdefault(own or GROUP_OF.get(param.name or "", OTHERS), []).append(row)
        for title in (MACHINE, OUTPUT, OTHERS):
            rows[title] = rows.pop(title, [])
        for title, found in rows.items():
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)
        if first is not None:
            formatter.write_paragraph()
            formatter.write_text(f"The other {len(params) - 1 - len(first)} options: hil {name} --help")


def group(words: str, *commands: Callable[..., Any], cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """A command with subcommands, one for each function, whose name loses a trailing ``_``."""
    found = typer.Typer(cls=cls, help=words, no_args_is_help=True, rich_markup_mode=None)
    found.callback()(lambda: None)  # so that one command alone is below the word, too
    for command in commands:
        found.command(command.__name__.rstrip("_"), cls=GroupedCommand)(as_command(command))
    return found
