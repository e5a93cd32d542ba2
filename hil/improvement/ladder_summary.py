"""What a ladder of levers found, at a glance: before and after, what each lever gave and cost, what to do next."""

from __future__ import annotations

from hil.improvement.ladder import Improvement, Rung
from hil.pages.summary import Fact, Headline, NextStep, Scale, ScaleRow, Summary, Tone
from hil.pages.tables import Table, duration, number, points


def ladder_summary(found: Improvement, name: str, steps: tuple[NextStep, ...], page: str = "") -> Summary:
    """Summary of a finished ladder; its steps name the files that it left."""
    tried = [rung for rung in found.rungs if rung.chips]
    first, last = tried[0], [rung for rung in tried if rung.kept][-1]
    gain = last.mean - first.mean
    more = f"from {100 * first.mean:.1f} % to {100 * last.mean:.1f} % on {found.images:,} held-out training images"
    return Summary(
        f"{name} on {found.chips} virtual chips",
        "SIMULATED",
        Headline(Tone.GOOD if gain > 0 else Tone.OPEN, f"{points(gain)} points", more),
        (
            _scale(found, first, last),
            _table(found.rungs),
            *_test(found),
            Fact("One image costs", *_cost(first, last)),
            Fact("Stopped", f"{found.stopped}, after {duration(60 * sum(r.minutes for r in found.rungs))}"),
            Fact("Rests on", f"{found.source}, {duration(found.age_s)} after writing; scored by {found.metric}"),
            *([Fact("page", page)] if page else []),
        ),
        steps,
    )


def _scale(found: Improvement, first: Rung, last: Rung) -> Scale:
    rows = []
    for words, rung in (("as compiled", first), ("at the end", last)):
        ends = (100 * min(rung.chips), 100 * max(rung.chips))
        note = "range of the chips" if rung is first else ""
        rows.append(ScaleRow(words, f"{100 * rung.mean:.1f} %", 100 * rung.mean, *ends, note))
    return Scale(found.metric, "%", tuple(rows))


def _table(rungs: tuple[Rung, ...]) -> Table:
    header = ("lever", "held-out", "gain, points", "", "macros", "to write")
    return Table("Levers", header, tuple(_row(rung) for rung in rungs))


def _row(rung: Rung) -> tuple[str, ...]:
    if rung.skipped:
        return (rung.lever, "", "", f"not tried: {rung.skipped}", "", "")
    gain = f"{points(rung.gain)} ± {100 * rung.gain_se:.2f}"
    kept = "kept" if rung.kept else "let go"
    return (rung.lever, f"{100 * rung.mean:.2f} %", gain, kept, f"{rung.macros}", duration(rung.write_s))


def _test(found: Improvement) -> list[Fact]:
    if found.test is None:
        return []
    aside = f"{found.test_images:,} test images and {found.test.chips} chips that chose nothing"
    return [Fact("Expected", f"{found.test.text}; a perfect chip {100 * found.test_ideal:.1f} %", aside=aside)]


def _cost(first: Rung, last: Rung) -> tuple[str, str]:
    if last.energy_uj is None or first.energy_uj is None:
        return "the chip file has no model of energy and time", ""
    now = f"{number(last.energy_uj)} µJ, {number(last.latency_us, 1)} µs, {last.macros} macros"
    return f"{now} ({number(first.energy_uj)} µJ as compiled)", "estimated"
