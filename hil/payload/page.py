"""The page of a mission for reviewers: open assumptions first, budgets, campaign, mitigations, passes, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hil.pages.account import Account, Marked, Plot, Section
from hil.pages.figures import Figure, axis, figure
from hil.pages.shell import page
from hil.pages.tables import Table, number, percent, with_reason
from hil.payload.budget import MissionBudget
from hil.payload.budget_text import budget_summary
from hil.payload.harden import HardenedSet, Hardening
from hil.payload.passes import passes_table
from hil.payload.radiation.page import assumptions, campaign_sections
from hil.payload.requirements import MissionPlan

MOST_FRONT = 25  # rows of the front that are shown


def mission_page(
    plan: MissionPlan,
    budget: MissionBudget,
    campaign: Mapping[str, Any],
    hardening: Hardening,
    passes: Sequence[Mapping[str, Any]],
    files: Sequence[Path],
    notes: Sequence[str] = (),
) -> str:
    """One self-contained page.

    Args:
        campaign: ``campaign.json`` (``hil.payload.radiation.summary``).
        passes: plans of files, as ``hil.payload.passes.passes_table`` takes them.
        files: whose digests are listed.
        notes: that a reviewer must know, beside what is assumed.
    """
    assumed = [
        *notes,
        *(f"{field}: {source}" for field, source in plan.sources.items() if source.startswith("assumed")),
        *campaign["assumed"],
        "every accuracy past 1e5 s after programming: an extrapolation",
        *(f"open limit: {line.text}" for line in budget.open),
    ]
    broken = ", ".join(line.name for line in budget.broken) or "none"
    found = Table(
        "Findings",
        ("question", "answer"),
        (
            ("limits broken", broken),
            ("limits open", ", ".join(line.name for line in budget.open) or "none"),
            ("harmful upsets a day", f"{campaign['harmful_per_day']:.3g} of {campaign['upsets_per_day']:.3g}"),
            ("recommended mitigations", _words(hardening.chosen) if hardening.chosen else "no set meets the mission"),
            ("harmful faults noticed", _noticed(hardening)),
            (
                "false alarms of guards and checksums",
                f"{hardening.alarms.count} of {hardening.alarms.of} fault-free images",
            ),
            ("points lost after a scrub", number(100 * hardening.lost_after_scrub)),
        ),
    )
    energy = Plot("energy", "Energy of one image by share.", _energy_figure(budget))
    broke = tuple(line.name for line in budget.broken)
    return page(
        Account(
            budget_summary(budget),
            (
                Section("Findings", (found,)),
                Section("Budgets", (Marked(_budget_table(budget), rows=broke), energy)),
                *campaign_sections(campaign),
                Section("Mitigations", _mitigations(hardening)),
                Section("Passes", (passes_table(passes),)),
                assumptions(assumed),
                Section("Files", (_files_table(files),)),
            ),
            title=f"{plan.name}: {budget.network} on {budget.chip}",
        )
    )


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _budget_table(budget: MissionBudget) -> Table:
    rows = tuple(
        (
            line.name,
            "—" if line.value is None else f"{line.value:.5g} {line.unit}",
            f"{'≤' if line.at_most else '≥'} {line.limit:.5g} {line.unit}",
            percent(line.margin, 0),
            str(line.status),
            line.source,
        )
        for line in budget.lines
    )
    whole = Table("Budgets", ("line", "value", "limit", "margin", "", "source"), rows)
    return with_reason(whole, "nothing is known of the value, so the limit stays open")


def _energy_figure(budget: MissionBudget) -> Figure:
    shares = budget.image.shares
    bar: Figure = {"type": "bar", "orientation": "h", "x": [1e6 * s.energy_j for s in shares]}
    bar |= {"y": [s.name for s in shares], "marker": {"color": "@simulated"}}
    bar["hovertemplate"] = "%{y}: %{x:.3g} µJ<extra></extra>"
    rows = {"type": "category", "autorange": "reversed"}
    drawn = figure([bar], 100 + 30 * len(shares), x=axis("energy of an image, µJ"), y=rows, left=230)
    return {**drawn, "wide": True}


def _mitigations(hardening: Hardening) -> tuple[Table, ...]:
    front = tuple(
        (
            _words(one) + (" (recommended)" if one == hardening.chosen else ""),
            percent(one.accuracy),
            percent(one.detection.share),
            f"{1e6 * one.price.energy_j:.3g} µJ",
            f"{1e6 * one.price.seconds:.3g} µs",
            f"{one.price.cells:,}",
            f"{one.price.host_bytes:,}",
        )
        for one in hardening.shown[:MOST_FRONT]
    )
    head = ("set", "accuracy at the end, low", "noticed", "energy an image", "time an image", "cells", "host bytes")
    kinds = tuple(
        (kind, f"{share.count} of {share.of}", f"{percent(share.interval[0], 1)} – {percent(share.interval[1], 1)}")
        for kind, share in hardening.by_kind.items()
    )
    prices = tuple(
        (
            str(name),
            f"{1e6 * price.energy_j:.4g} µJ",
            f"{1e6 * price.seconds:.4g} µs",
            f"{price.cells:,}",
            f"{price.host_bytes:,}",
            price.counted,
        )
        for name, price in hardening.prices.items()
    )
    return (
        Table("Front", head, front, "Pareto over accuracy, detection, energy, cells and time."),
        Table("Detection", ("kind", "noticed by the set", "95 % interval"), kinds),
        Table("Prices", ("mitigation", "energy", "time", "cells", "host bytes", "counted"), prices),
    )


def _noticed(hardening: Hardening) -> str:
    shown = hardening.chosen or hardening.best
    low, high = shown.detection.interval
    return f"{percent(shown.detection.share)} ({percent(low)} – {percent(high)}), weighted with upsets a day"


def _words(one: HardenedSet) -> str:
    return ", ".join(sorted(one.mitigations)) or "none"


def _files_table(files: Sequence[Path]) -> Table:
    rows = tuple((path.name, f"{path.stat().st_size:,}", file_digest(path)) for path in files)
    return Table("Files", ("file", "bytes", "SHA-256"), rows)
