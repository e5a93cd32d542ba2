"""A budget as words for a screen, and as JUnit XML for a CI server."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.mission.budget import Held, MissionBudget

MARKS = {Held.KEPT: "kept", Held.BROKEN: "BROKEN", Held.OPEN: "open"}


def budget_lines(budget: MissionBudget) -> list[str]:
    """The sheet: open lines first, since nothing speaks for them."""
    image = budget.image
    lines = [f"mission        {budget.mission}: {budget.network} on {budget.chip}, program {budget.digest[:12]}"]
    order = sorted(budget.lines, key=lambda line: line.held is not Held.OPEN)
    width = max(len(line.name) for line in order)
    lines.append(f"{'':8} {'line':<{width}}  {'value':>12}  {'limit':>12}  {'margin':>7}  unit    source")
    for line in order:
        value = "—" if line.value is None else f"{line.value:.5g}"
        margin = "—" if line.margin is None else f"{100 * line.margin:+.0f} %"
        limit = f"{'≤' if line.at_most else '≥'} {line.limit:.5g}"
        row = f"{MARKS[line.held]:<8} {line.name:<{width}}  {value:>12}  {limit:>12}  {margin:>7}  {line.unit:<6}"
        lines.append(f"{row}  {line.source}")
    lines += ["", f"one image      {1e3 * image.energy_j:.4g} mJ in {1e3 * image.seconds:.4g} ms"]
    lines += [
        f"  {1e3 * share.energy_j:10.4g} mJ  {share.name}: {share.basis}  ({share.source})" for share in image.shares
    ]
    load = image.load
    lines.append(
        f"host           {load.operations:,} operations, {load.ram_bytes:,} bytes of RAM, {load.flash_bytes:,} of flash"
    )
    lines.append(f"verdict        {len(budget.broken)} of {len(budget.lines)} limits broken, {len(budget.open)} open")
    return lines


def write_budget_junit(path: str | Path, budget: MissionBudget) -> None:
    """One test a limit: broken ones fail, open ones are skipped."""
    write_text(path, budget_junit(budget))


def budget_junit(budget: MissionBudget) -> str:
    suite = xml.Element("testsuite", name="hil mission check")
    for line in budget.lines:
        case = xml.SubElement(suite, "testcase", classname=f"hil.mission.{budget.mission}", name=line.name)
        if line.held is not Held.KEPT:
            kind = "failure" if line.held is Held.BROKEN else "skipped"
            xml.SubElement(case, kind, message=f"{line.text} ({line.source})", type=str(line.held))
    for key, count in (("tests", len(budget.lines)), ("failures", len(budget.broken)), ("skipped", len(budget.open))):
        suite.set(key, str(count))
    suite.set("errors", "0")
    xml.SubElement(suite, "system-out").text = "\n".join(budget_lines(budget))
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"
