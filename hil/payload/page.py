"""The page of a mission for reviewers: budgets, campaign, mitigations, open assumptions, digests of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hil.pages.account import Account, Marked, Section
from hil.pages.shell import page
from hil.pages.tables import Table, labelled, with_reason
from hil.payload.budget import MissionBudget
from hil.payload.harden import Hardening
from hil.payload.radiation.campaign import file_digest
from hil.payload.radiation.report import assumptions, campaign_sections
from hil.payload.requirements import MissionPlan


def mission_page(
    plan: MissionPlan,
    budget: MissionBudget,
    campaign: Mapping[str, Any],
    hardening: Hardening,
    files: Sequence[Path],
    notes: Sequence[str] = (),
) -> str:
    """One self-contained page.

    Args:
        campaign: ``campaign.json`` (``hil.payload.radiation.report``).
        files: files whose digests are listed.
        notes: notes for the reviewer, beside the assumptions.
    """
    assumed = [
        *notes,
        *(f"{field}: {source}" for field, source in plan.sources.items() if source.startswith("assumed")),
        *campaign["assumed"],
        "every accuracy past 1e5 s after programming: an extrapolation",
        *(f"open limit: {line.name}: {line.source}" for line in budget.open),
    ]
    (low, high), mitigations = campaign["harmful_per_day_interval"], hardening.summary()
    assert mitigations.headline is not None
    found = labelled(
        "Findings",
        ("limits broken", ", ".join(line.name for line in budget.broken) or "none"),
        ("limits open", ", ".join(line.name for line in budget.open) or "none"),
        ("harmful upsets a day", f"{low:.3g} … {high:.3g} of {campaign['upsets_per_day']:.3g}"),
        ("recommended mitigations", mitigations.headline.text),
        *((fact.name, fact.text) for fact in mitigations.facts),
    )
    limits = with_reason(budget.limits_table(), "nothing is known of the value, so the limit stays open")
    listed = tuple((path.name, f"{path.stat().st_size:,}", file_digest(path)) for path in files)
    return page(
        Account(
            budget.summary(),
            (
                Section("Findings", (found,)),
                Section("Budgets", (Marked(limits, rows=tuple(line.name for line in budget.broken)),)),
                *campaign_sections(campaign),
                Section("Mitigations", tuple(part for part in mitigations.parts if isinstance(part, Table))),
                assumptions(assumed),
                Section("Files", (Table("Files", ("file", "bytes", "SHA-256"), listed),)),
            ),
            title=f"{plan.mission.name}: {budget.network} on {budget.chip}",
        )
    )
