"""Options of the long commands in groups, so that help can be read: command -> title -> options by parameter.

Options that are made of settings (``hil.cli.settings_options``) say their group themselves; here stands the order.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

CHIP = ("port", "emulated", "chip", "macros", "baud")
IMAGES = ("data", "data_dir", "download", "mean", "std")
ANSWER = ("as_json",)
OTHERS = "Other options"

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "deploy": {
        "Chip": (*CHIP, "patience"),
        "Images": IMAGES,
        "Calibration record": ("calibration", "recalibrate", "record_age"),
        "Task": (),
        "Writing cells": ("age",),
        "Techniques": ("effort", "having", "without"),
        "Verdict": ("baseline", "fail_on"),
        "Run and output": ("out", "restart", "dry_run", "junit", "trust_model", *ANSWER),
    },
    "calibrate": {
        "Chip": (*CHIP, "only"),
        "Measurement": ("age", "quick", "full", "second_temperature", "seed"),
        "Run and output": ("out", "restart", *ANSWER),
    },
    "import": {
        "Network": ("arch", "task", "images", "mean", "std", "trust_model"),
        "Data": ("data", "data_dir", "download"),
        "Bits": ("weight_bits", "activation_bits", "layers"),
        "Output": ("out",),
    },
    "compile": {
        "Chip": ("chip", "macros"),
        "Bits and weights": ("weight_bits", "activation_bits", "layers", "weight_scales", "weight_form"),
        "Place": (
            "placement",
            "copies_budget",
            "slices",
        ),
        "Techniques": ("effort", "having", "without", "record"),
        "Ranges of imported networks": IMAGES,
        "Output": ("out", "explain", "plot", "trust_model", *ANSWER),
    },
    "estimate": {
        "Network and chip": ("chip", "macros", "weight_bits", "activation_bits", "input_shape", "batch", "no_pipeline"),
        "Techniques": ("effort", "having", "without"),
        "Model and output": ("option", "plot", "trust_model", *ANSWER),
    },
    "simulate": {
        "Chips": ("calibration", "chip", "macros", "chips", "seed"),
        "Images": (*IMAGES, "samples"),
        "Task": ("task", "metric", "allow_code"),
        "Age and treatment": ("age", "temperature", "tune_at", "effort", "having", "without"),
        "Simulation": ("engine", "device", "workers", "scheduler"),
        "Output": ("target_accuracy", "trust_model", *ANSWER),
    },
    "fit": {
        "Cells": ("public", "data", "temperature", "base"),
        "What a file does not say": ("ideal", "age", "read_v", "us_per_level"),
        "Fit and test": ("hold_out", "ages_to", "test_on"),
        "Run and output": ("out", *ANSWER),
    },
    "judge": {
        "Answers": ("answers", "measured_chip", "looks", "age"),
        "Virtual chips": ("calibration", "chip", "macros", "having", "without", "chips", "seed"),
        "Images": (*IMAGES, "samples"),
        "Verdict": ("tolerance", "fail_on", "engine", "device"),
        "Run and output": ("out", "trust_model", *ANSWER),
    },
    "improve": {
        "Chip": (*CHIP, "use_macros", "calibration", "age"),
        "Images": ("data", "data_dir", "download", "images", "test_images"),
        "Task": ("task", "metric", "allow_code"),
        "Aim and time": ("effort", "having", "without", "target", "minutes", "chips", "seed"),
        "Machine": ("workers", "scheduler"),
        "Run and output": ("out", "restart", "trust_model", *ANSWER),
    },
    "finetune": {
        "Chip": ("chip", "macros", "calibration"),
        "On the chip": ("port", "emulated", "baud", "simulated"),
        "Images": ("data", "data_dir", "download"),
        "Training": (),
        "Machine": ("workers", "scheduler"),
        "Run and output": ("out", "restart", *ANSWER),
    },
    "campaign": {
        "Network and chip": ("network", "chip", "macros", "calibration", "effort", "having", "without"),
        "Images": ("data", "data_dir", "download"),
        "Faults": ("orbit", "kinds", "each", "seed"),
        "Years in orbit": ("years", "chips"),
        "Machine": (),
        "Run and output": ("out", "restart", "trust_model", *ANSWER),
    },
    "mission check": {
        "Network and chip": ("network", "chip", "macros", "trust_model"),
        "Simulated accuracy": (
            "data",
            "data_dir",
            "download",
            "calibration",
            "samples",
            "chips",
            "having",
            "without",
            "seed",
        ),
        "Output": ("junit", *ANSWER),
    },
    "mission passes": {
        "Network and chip": ("network", "chip", "macros", "tuned", "trust_model"),
        "Link": (
            "passes",
            "rate",
            "down_rate",
            "ber",
            "delay",
            "bus_delay",
            "lost",
            "reordered",
            "interruptions",
            "seed",
        ),
        "Output": ("dump", "xtce", *ANSWER),
    },
    "mission flight": {
        "Network and chip": ("network", "chip", "macros", "trust_model"),
        "Images": ("data", "data_dir", "download", "images"),
        "Flight": ("orbit", "years", "chips", "virtual_chips", "having", "without", "leave_out", "seed"),
        "Output": ("out", *ANSWER),
    },
    "mvm": {
        "Chip": CHIP,
        "Product": ("macro", "rows", "outputs", "level", "code", "range_code", "repeat"),
        "Output": ANSWER,
    },
    "search run": {
        "Chip": ("chip", "macros", "calibration"),
        "Images": ("data", "data_dir"),
        "Search": ("space",),
        "Techniques": ("effort", "having", "without"),
        "Limits of the front": (),
        "Teacher": ("teacher",),
        "Training": (),
        "Evaluation": (),
        "Machine and time": ("scheduler",),
        "A chip in the loop": ("in_the_loop", "port", "emulated", "rounds", "baud"),
        "Run and output": ("out", "restart", "allow_code", *ANSWER),
    },
}


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in the groups of its name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups = GROUPS.get(ctx.command_path.partition(" ")[2])
        if groups is None:
            super().format_options(ctx, formatter)
            return
        params = self.get_params(ctx)
        titles = {name: title for title, names in groups.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{title: [] for title in groups}, OTHERS: []}
        for param in params:
            row = param.get_help_record(ctx)
            if row is not None:
                title = titles.get(param.name or "") or getattr(param, "rich_help_panel", None) or OTHERS
                rows.setdefault("Arguments" if param.param_type_name == "argument" else title, []).append(row)
        for title, found in rows.items():
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)
