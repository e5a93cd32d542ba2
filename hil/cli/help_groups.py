"""Options of the long commands in groups, so that help can be read: command -> title -> options by parameter.

Options that are made of settings (``hil.cli.settings_options``) say their group themselves; here stands the order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

LINE = ("port", "emulated")
OTHERS = "Other options"

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "deploy": {
        "Chip": (*LINE, "reconnect_timeout"),
        "Images": (),
        "Calibration record": ("calibration", "recalibrate", "record_age"),
        "Task": (),
        "Writing cells": ("age",),
        "Techniques": (),
        "Verdict": ("baseline", "fail_on"),
        "Run and output": ("out", "restart", "dry_run", "junit", "as_json"),
    },
    "calibrate": {
        "Chip": (*LINE, "chip", "macros", "only"),
        "Measurement": (),
        "Run and output": ("out", "restart", "as_json"),
    },
    "board pulse": {
        "Chip": (*LINE, "chip", "macros", "cell"),
        "Experiment": (),
        "Run and output": ("out", "as_json"),
    },
    "import": {
        "Network": ("arch", "task"),
        "Images": ("data", "images"),
        "Bits and weights": (),
        "Run and output": ("out",),
    },
    "compile": {
        "Chip": (),
        "Images": (),
        "Bits and weights": (),
        "Place": (),
        "Techniques": (),
        "Run and output": ("out", "explain", "plot", "as_json"),
    },
    "estimate": {
        "Chip": (),
        "Bits and weights": (),
        "Techniques": (),
        "Estimate": (),
        "Run and output": ("plot", "as_json"),
    },
    "search prune": {
        "Chip": ("costs",),
        "Limits": (),
        "Images": ("data",),
        "Techniques": (),
        "Run and output": ("out", "as_json"),
    },
    "simulate": {
        "Chip": ("calibration",),
        "Chips": (),
        "Images": (),
        "Task": (),
        "Age": (),
        "Techniques": (),
        "Simulation": ("mode", "workers", "scheduler"),
        "Run and output": ("as_json",),
    },
    "judge": {
        "Answers": ("answers", "measured_chip", "looks", "age"),
        "Chip": ("calibration",),
        "Chips": (),
        "Images": (),
        "Techniques": (),
        "Verdict": ("fail_on",),
        "Run and output": ("out", "as_json"),
    },
    "improve": {
        "Chip": (*LINE, "calibration"),
        "Images": ("data",),
        "Task": (),
        "Techniques": (),
        "Aim and time": (),
        "Machine": ("workers", "scheduler"),
        "Run and output": ("out", "restart", "as_json"),
    },
    "finetune": {
        "Chip": ("calibration",),
        "On the chip": (*LINE, "simulated"),
        "Images": ("data",),
        "Training": (),
        "Techniques": (),
        "Machine": ("workers", "scheduler"),
        "Run and output": ("out", "restart", "as_json"),
    },
    "campaign": {
        "Chip": ("network", "calibration"),
        "Images": (),
        "Techniques": (),
        "Faults": ("orbit", "each", "seed"),
        "Years in orbit": ("years", "chips"),
        "Machine": (),
        "Run and output": ("out", "restart", "as_json"),
    },
    "mission check": {
        "Chip": ("network", "calibration"),
        "Images": (),
        "Chips": (),
        "Techniques": (),
        "End of the mission": ("campaign",),
        "Run and output": ("junit", "as_json"),
    },
    "mission flight": {
        "Chip": ("network",),
        "Images": (),
        "Techniques": (),
        "Flight": ("orbit",),
        "Years in orbit": ("years",),
        "Run and output": ("out", "as_json"),
    },
    "board mvm": {
        "Chip": (*LINE, "chip", "macros"),
        "Product": ("macro", "rows", "outputs", "level", "code", "range_code", "repeat"),
        "Run and output": ("as_json",),
    },
    "search run": {
        "Chip": ("calibration",),
        "Images": ("data",),
        "Search": ("space",),
        "Techniques": (),
        "Limits of the front": (),
        "Pruned networks of a teacher (--from)": ("from_", "costs"),
        "Teacher": ("teacher",),
        "Training": (),
        "Evaluation": (),
        "Machine and time": ("scheduler",),
        "A chip in the loop": (*LINE, "in_the_loop", "rounds"),
        "Run and output": ("out", "restart", "allow_code", "as_json"),
    },
}

FIRST = {  # what -h shows of a command; --help shows all
    "deploy": (
        "--port", "--emulated", "--chip", "--macros", "--data", "--samples", "--calibration", "--age", "--effort",
        "--with", "--out", "--dry-run",
    ),
}  # fmt: skip


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in the groups of its name, and after -h the first ones only."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["short"] = "-h" in args and "--help" not in args
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        name = ctx.command_path.partition(" ")[2]
        groups, first = GROUPS.get(name), FIRST.get(name) if ctx.meta.get("short") else None
        if groups is None:
            super().format_options(ctx, formatter)
            return
        params = self.get_params(ctx)
        titles = {name: title for title, names in groups.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{title: [] for title in groups}, OTHERS: []}
        for param in params:
            row = param.get_help_record(ctx)
            shown = first is None or param.param_type_name == "argument" or any(word in first for word in param.opts)
            if row is not None and shown:
                title = titles.get(param.name or "") or getattr(param, "rich_help_panel", None) or OTHERS
                rows.setdefault("Arguments" if param.param_type_name == "argument" else title, []).append(row)
        for title, found in rows.items():
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)
        if first is not None:
            formatter.write_paragraph()
            formatter.write_text(f"The other {len(params) - 1 - len(first)} options: hil {name} --help")


def group(words: str, *commands: Callable[..., int]) -> typer.Typer:
    """Commands below one word; a name that Python keeps for itself ends in an underscore."""
    found = typer.Typer(help=words, no_args_is_help=True, rich_markup_mode=None)
    found.callback()(lambda: None)  # so that one command alone is below the word, too
    for command in commands:
        found.command(command.__name__.rstrip("_"), cls=GroupedCommand)(command)
    return found
