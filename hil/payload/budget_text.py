"""A budget as words for a screen, and as JUnit XML for a CI server."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.pages.summary import Bar, Bars, Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.payload.budget import BudgetStatus, MissionBudget

MARKS = {BudgetStatus.KEPT: "kept", BudgetStatus.BROKEN: "BROKEN", BudgetStatus.OPEN: "open"}


def budget_summary(budget: MissionBudget, steps: tuple[NextStep, ...] = ()) -> Summary:
    """The sheet: broken limits first, then open ones, since nothing speaks for them; what one image takes."""
    broken, still_open = len(budget.broken), len(budget.open)
    tone = Tone.BAD if broken else Tone.OPEN if still_open else Tone.GOOD
    word = "BROKEN" if broken else "OPEN" if still_open else "KEPT"
    text = f"{broken} of {len(budget.lines)} limits broken, {still_open} open"
    image, load = budget.image, budget.image.load
    return Summary(
        f"{budget.mission}: {budget.network} on {budget.chip}",
        f"program {budget.digest[:12]}",
        Headline(tone, word, text),
        (
            limits_table(budget),
            Fact("One image costs", f"{1e3 * image.energy_j:.4g} mJ, {1e3 * image.seconds:.4g} ms", aside="estimated"),
            Bars(
                "Energy of one image",
                tuple(
                    Bar(share.name, f"{1e3 * share.energy_j:.3g} mJ", share.energy_j, f"{share.basis}")
                    for share in sorted(image.shares, key=lambda share: -share.energy_j)
                ),
            ),
            Fact(
                "Host",
                f"{load.operations:,} operations, {load.ram_bytes:,} bytes of RAM, {load.flash_bytes:,} of flash",
            ),
        ),
        steps,
    )


def limits_table(budget: MissionBudget) -> Table:
    """Every limit beside what is known: broken, open, kept."""
    rank = {BudgetStatus.BROKEN: 0, BudgetStatus.OPEN: 1, BudgetStatus.KEPT: 2}
    rows = []
    for line in sorted(budget.lines, key=lambda line: rank[line.status]):
        value = "—" if line.value is None else f"{line.value:.5g} {line.unit}"
        margin = "—" if line.margin is None else f"{100 * line.margin:+.0f} %"
        limit = f"{'≤' if line.at_most else '≥'} {line.limit:.5g}"
        rows.append((line.name, MARKS[line.status], value, limit, margin, line.source))
    return Table("Limits", ("limit", "", "value", "required", "margin", "source"), tuple(rows))


def write_budget_junit(path: str | Path, budget: MissionBudget) -> None:
    """One test a limit: broken ones fail, open ones are skipped."""
    write_text(path, budget_junit(budget))


def budget_junit(budget: MissionBudget) -> str:
    suite = xml.Element("testsuite", name="hil mission check")
    for line in budget.lines:
        case = xml.SubElement(suite, "testcase", classname=f"hil.mission.{budget.mission}", name=line.name)
        if line.status is not BudgetStatus.KEPT:
            kind = "failure" if line.status is BudgetStatus.BROKEN else "skipped"
            xml.SubElement(case, kind, message=f"{line.text} ({line.source})", type=str(line.status))
    for key, count in (("tests", len(budget.lines)), ("failures", len(budget.broken)), ("skipped", len(budget.open))):
        suite.set(key, str(count))
    suite.set("errors", "0")
    xml.SubElement(suite, "system-out").text = "\n".join(budget_summary(budget).lines())
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"
