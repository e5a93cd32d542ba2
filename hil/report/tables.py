"""The report as tables of words and numbers; Markdown, page and screen show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.pages.tables import Table, duration, number, percent, with_reason, without_empty
from hil.verdict.agreement import AgreementReport, CellSummary, ChipIdentity, interval_words, measured_interval
from hil.verdict.image_cost import ImageCost
from hil.verdict.layers import LayerStatistics
from hil.verdict.tuning import TuneSummary
from hil.verdict.verdict import INTERVAL_HOLDS, PREDICTION_HOLDS, Judgement

MOST_UNREACHED = 0.5  # of the cells
MARKED_Z = 3.0  # a layer whose residual is farther from the virtual chips' is marked
QUESTIONS = {"this_chip": "this chip", "other_chips": "other chips"}

COUNTERS = {
    "acks_sent": "acknowledgements sent",
    "bad_cobs": "frames with broken delimiters",
    "bad_crc": "frames with wrong checksums",
    "bad_length": "frames of wrong length",
    "bad_version": "frames of another protocol version",
    "duplicates": "frames received twice",
    "fast_retransmissions": "retransmissions before a time-out",
    "out_of_window": "frames out of the window",
    "resyncs": "sessions begun again",
    "wrong_session": "frames of another session",
}


HELD = "held by the chip, nothing written"
ADAPTED = "of the layers' multiplications more, by the host"


def doubts(report: AgreementReport) -> tuple[str, ...]:
    """Sentences on facts that weaken a report, whatever its verdict."""
    c = report.cells
    harmed = () if report.tune_harm is None else (report.tune_harm.text,)
    if c.unreached is None or c.unreached <= MOST_UNREACHED * c.total:
        return harmed
    missed = f"{percent(c.unreached / c.total, 0)} of {c.total:,} cells did not reach their window"
    return (*harmed, f"{missed}: the chip was not written, see hil board cells")


def accuracies(report: AgreementReport) -> Table:
    """The path of a network: float, quantised, simulated, chip."""
    j = report.decisive
    m, over = j.metric, measured_interval(j.metric)
    return Table(
        f"{m.title[:1].upper()}{m.title[1:]}",
        ("", m.title, "interval", "what the interval is"),
        (
            ("float", m.value(report.float_accuracy), "", ""),
            ("quantised", m.value(j.ideal.mean), interval_words(j.ideal, m), over),
            (
                "simulated",
                m.value(j.simulated.mean),
                interval_words(j.simulated, m),
                "prediction band of one chip, these images",
            ),
            ("chip", m.value(j.measured.mean), interval_words(j.measured, m), over),
        ),
        f"{image_words(report)}, {j.repeats} repeats on the chip, {j.chips} virtual chips, {age_words(report)}.",
    )


def image_words(report: AgreementReport) -> str:
    """Number and name of the images; an accuracy alone was measured on other images than virtual chips ran."""
    n, data = report.decisive.n, report.data
    if n == data.images:
        return f"{n:,} images of {data.name}"
    return f"measured on {n:,} images elsewhere, simulated on {data.images:,} images of {data.name}"


def tuning(report: AgreementReport, tune: TuneSummary) -> Table:
    """What the tune on stored training images gave, and how its lines lie beside those of the virtual chips."""
    rows = []
    for judged, how in ((report.untuned, "untuned"), (report.tuned_alike, "tuned")):
        if judged is None:
            continue
        m, once = judged.metric, "once" if judged.repeats == 1 else f"{judged.repeats} repeats"
        rows += [
            (f"simulated, {how}", m.value(judged.simulated.mean), f"{judged.n:,} images, {judged.chips} virtual chips"),
            (f"chip, {how}", m.value(judged.measured.mean), f"the same images, {once}"),
            (f"chip − simulated, {how}", m.difference(judged.difference), judged.verdict.value),
        ]
    first, last = tune.layers[0], tune.layers[-1]
    rows += [
        (
            "gains",
            f"{min(t.gain_lowest for t in tune.layers):.2f} … {max(t.gain_highest for t in tune.layers):.2f}",
            "",
        ),
        (
            "error of the first layer",
            f"{percent(first.before)} → {percent(first.after)}",
            "of the variance of its sums",
        ),
        ("error of the last layer", f"{percent(last.before)} → {percent(last.after)}", "of the variance of its sums"),
        ("channels at a limit", f"{tune.channels_limited:,}", f"never varied: {sum(t.still for t in tune.layers):,}"),
    ]
    if tune.rank:
        rows.append(("adapters", f"rank {tune.rank}", f"{percent(tune.adapter_share)} {ADAPTED}"))
    if (found := report.as_calibrated) is not None:
        rows += [("moved since calibration", m.what, m.text) for m in found.moved]
    known = [t for t in tune.layers if t.distance is not None]
    if known:
        far = max(known, key=lambda t: (not t.plausible, t.distance or 0.0))
        words = "within what virtual chips get" if far.plausible else "farther than virtual chips get"
        effect = "" if far.effect is None else f", {percent(far.effect)} of the error expected before the tune"
        rows.append(("farthest lines", far.layer, f"{far.distance:.1f} standard deviations{effect}: {words}"))
    note = f"{tune.images} stored training images; every virtual chip was tuned to its own answers in the same way."
    return Table("Tuning", ("", "", ""), tuple(rows), note)


def questions(report: AgreementReport) -> Table:
    """Both questions side by side, with every number that a verdict rests on."""
    asked = {name: j for name, j in ((k, getattr(report, k)) for k in QUESTIONS) if j is not None}
    rows: list[tuple[str, Callable[[Judgement], str]]] = [
        ("verdict", lambda j: f"{j.verdict.value}: {j.text}"),
        ("tested", lambda j: j.tested or f"for {j.claim}"),
        ("virtual chips", lambda j: f"{j.chips}, {j.mode.value}, {j.simulator_reads} read(s) of each image"),
        ("images, repeats", lambda j: f"{j.n:,} × {j.repeats}"),
        ("interim analysis", lambda j: f"{j.look} of {len(j.looks)} planned ({', '.join(f'{n:,}' for n in j.looks)})"),
        ("tolerance", lambda j: f"± {j.metric.factor * j.tolerance:g} {j.metric.unit}"),
        (f"{_title(asked)} of each repeat", lambda j: ", ".join(j.metric.value(a) for a in j.measured_repeats)),
        ("chip − simulated", lambda j: j.metric.difference(j.difference)),
        ("90 % interval (all analyses)", lambda j: f"{j.metric.span(j.interval90)} ({INTERVAL_HOLDS})"),
        ("95 % interval (all analyses)", lambda j: j.metric.span(j.interval95)),
        (
            "prediction test T, limit",
            lambda j: f"{j.prediction.statistic:.2f}, {j.prediction.limit:.2f} ({PREDICTION_HOLDS})",
        ),
        ("p of T, p of rank", lambda j: f"{j.prediction.p_value:.3f}, {j.prediction.p_rank:.3f}{_rank_note(j)}"),
        (
            "lost from quantised to chip",
            lambda j: f"{j.metric.difference(j.lost.mean)} ({j.metric.span((j.lost.low, j.lost.high))})",
        ),
        ("spread: images", lambda j: _spread(j, j.components.image)),
        ("spread: one read", lambda j: _spread(j, j.components.read)),
        ("spread: chip or read-back", lambda j: _spread(j, j.components.chip)),
        ("discordance chip–simulator", lambda j: _differing(j, "chip_simulator")),
        ("discordance chip–quantised", lambda j: _differing(j, "chip_ideal")),
        ("discordance repeat–repeat", lambda j: _differing(j, "repeat_repeat")),
        ("P(agree) if nothing differs", lambda j: percent(j.power.agree_if_equal)),
        ("smallest gap seen with 95 %", lambda j: j.metric.amount(j.power.smallest_gap)),
        ("images that are enough", _enough),
        ("explained share η", _explained),
        ("distance rank", _distance_rank),
        ("McNemar, descriptive", _mcnemar),
        ("trend over repeats", _trend),
        ("flags", lambda j: "; ".join(j.flags) or "none"),
    ]
    shown = ((label, *(show(j) for j in asked.values())) for label, show in rows)
    return Table(
        "The two questions",
        ("", *(QUESTIONS[name] for name in asked)),
        tuple(row for row in shown if set(row[1:]) != {"—"}),
        f"The verdict of the run is that of {QUESTIONS[next(iter(asked))]}. McNemar, fidelity and trend describe; "
        "they decide nothing.",
    )


def layers(report: AgreementReport) -> Table:
    header = (
        "layer",
        "gain",
        "offset",
        "residual σ",
        "simulated σ",
        "z",
        "SNR dB",
        "R²",
        "rel. rms",
        "η",
        "saturated",
        "worst columns",
    )
    rows = tuple(
        (
            s.layer,
            number(s.gain, 4),
            number(s.offset, 2),
            number(s.residual_sigma, 2),
            number(s.simulated_residual_sigma, 2),
            number(s.z, 1),
            "exact" if s.exact else number(s.snr_db, 1),
            number(s.r2, 4),
            percent(s.relative_rms),
            number(s.explained, 2),
            percent(s.saturated_share, 3),
            ", ".join(f"{c.column} ({c.rms_error:.1f})" for c in s.worst_columns),
        )
        for s in report.layers
    )
    note = (
        "Level sums of sampled images for the exact input codes of each layer: measured = gain · ideal + offset + "
        "residual, unit one level. z: residual σ or whole error, the farther, from the virtual chips' in their "
        "standard deviations. Worst columns: output (rms error)."
    )
    whole = without_empty(Table("Layers", header, rows, note, "residual σ"), "no layer has a value")
    return with_reason(whole, "not defined for this layer, as where it has no error or too few samples")


def worst_layers(report: AgreementReport) -> tuple[str, ...]:
    """Layers that virtual chips do not show: |z| of 3 or more, the largest first; at most three."""
    return tuple(s.layer for s in sorted(_far(report), key=lambda s: -abs(s.z or 0.0))[:3])


def first_layer_off(report: AgreementReport) -> str:
    """The first layer that virtual chips do not show, with its numbers: where to look on the chip."""
    if not (far := _far(report)):
        return f"no layer by itself: each is within {MARKED_Z:g} standard deviations of the virtual chips"
    first, place = far[0], 1 + report.layers.index(far[0])
    later = f"; {len(far) - 1} after it" if far[1:] else ""
    return (
        f"{first.layer}, layer {place} of {len(report.layers)}: z {number(first.z, 1)}, gain {number(first.gain, 3)}, "
        f"residual σ {number(first.residual_sigma, 1)} levels{later}"
    )


def _far(report: AgreementReport) -> list[LayerStatistics]:
    return [s for s in report.layers if s.z is not None and abs(s.z) >= MARKED_Z]


def cells(report: AgreementReport) -> Table:
    c, total, ages = report.cells, max(report.cells.total, 1), report.age_range_s
    mean, sigma, most = (number(x) for x in (c.error_mean_us, c.error_sigma_us, c.error_p99_us))
    saturated = percent(report.saturated_share, 3), percent(report.simulated_saturated_share, 3)
    read_at = f"by the chip's clock {duration(ages[0])} … {duration(ages[1])}"
    if c.unreached is None:
        read_at = "the cells are older"
    rows = (
        ("cells in use", f"{c.total:,}, {percent(c.used_share, 1)} of the {report.chip.macros_used} macros in use"),
        ("programming", writing_words(c)),
        ("stuck, by calibration", f"{c.stuck:,} ({percent(c.stuck / total)})"),
        ("pulses", f"{c.pulses:,} ({c.pulses / total:.1f} a cell)"),
        ("read-back − target", f"mean {mean} µS, σ {sigma} µS, 99 % within {most} µS"),
        ("read-back after the run", "not taken" if report.readback is None else report.readback.text),
        ("saturated conversions", f"{saturated[0]} measured, {saturated[1]} simulated"),
        ("age when read", f"planned {duration(report.age_s)}, {read_at}"),
    )
    return Table("Cells", ("", ""), rows)


def age_words(report: AgreementReport) -> str:
    """When the cells were read: "1 h after programming"; of a program that the chip held it was at least so long."""
    held = report.cells.unreached is None and not report.chip.told_by
    return f"{duration(report.age_s)}{' or more' if held else ''} after programming"


def writing_words(cells: CellSummary) -> str:
    """What writing the cells came to: "220,720 cells   3,111 not reached (1.41 %)   1,860,084 pulses"."""
    if cells.unreached is None:
        return f"{cells.total:,} cells   {HELD}"
    missed = percent(cells.unreached / max(cells.total, 1))
    return f"{cells.total:,} cells   {cells.unreached:,} not reached ({missed})   {cells.pulses:,} pulses"


def link(report: AgreementReport) -> Table:
    """Counters of the link, one a row; counters at zero share one row."""
    shown = [(COUNTERS.get(name, name.replace("_", " ")), value) for name, value in report.link.items()]
    rows = tuple((words, _count(value)) for words, value in shown if value)
    never = ", ".join(words for words, value in shown if not value)
    return Table("Link", ("", ""), (*rows, *((("none of", never),) if never else ())))


def timing(report: AgreementReport) -> Table:
    """Wall time of each part of the run."""
    rows = tuple((name, f"{seconds:,.1f} s") for name, seconds in report.timing_s.items())
    return Table("Time", ("part", "wall time"), rows)


def cost_by_part(cost: ImageCost) -> Table:
    """Energy by part of the chip, the largest first."""
    parts = sorted(cost.by_part.items(), key=lambda item: -item[1])
    rows = tuple((name.replace("_", " "), f"{1e6 * joules:,.3g}") for name, joules in parts)
    return Table("Cost by part", ("part", "energy, µJ"), rows)


def cost_by_layer(cost: ImageCost) -> Table:
    """Energy and latency of the layers, in the order of the network."""
    rows = tuple((one.layer, f"{1e6 * one.energy_j:,.3g}", f"{1e6 * one.latency_s:,.3g}") for one in cost.layers)
    return Table("Cost by layer", ("layer", "energy, µJ", "latency, µs"), rows)


def unit_words(chip: ChipIdentity) -> str:
    """The chip by name; of answers from a file, which say no more, with its serial number where they name one."""
    if chip.told_by:
        return f"{chip.name}, {f'serial {chip.serial}' if chip.serial else 'chip not named'}"
    return f"{chip.name} rev {chip.revision}, serial {chip.serial}, firmware {chip.firmware}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"


def provenance(report: AgreementReport) -> Table:
    chip, net, data = report.chip, report.network, report.data
    temperature = "" if chip.temperature_c is None else f", {chip.temperature_c:.1f} °C"
    size = f"{net.layers} layers, {net.weights:,} weights, W{net.weight_bits}A{net.activation_bits}"
    rows = (
        ("chip", f"{unit_words(chip)}, {chip.kind}{temperature}"),
        *((("answers", chip.told_by),) if chip.told_by else (("address", chip.address),)),
        ("network", f"{net.name}, {size}"),
        ("data", f"{data.name}, {data.split}: {data.images:,} of {data.available:,} images"),
        *((f"digest: {name.replace('_', ' ')}", value) for name, value in report.digests.items()),
        ("digest: image order", data.order_digest),
        *((f"seed: {name}", str(value)) for name, value in report.seeds.items()),
        *report.environment.items(),
        *(("note", text) for text in report.notes),
        ("made", f"{report.created} {report.run}".strip()),
    )
    return Table("Provenance", ("", ""), rows)


def _differing(j: Judgement, pair: str) -> str:
    """Share of images on which right and wrong differ between a pair; a dash where answers are not right or wrong."""
    return "—" if j.discordance is None else percent(getattr(j.discordance, pair))


def _title(asked: Mapping[str, Judgement]) -> str:
    """Name of the metric that was judged."""
    return next((j.metric.title for j in asked.values()), "accuracy")


def _spread(j: Judgement, spread: float | None) -> str:
    """A standard deviation in the metric's unit."""
    return f"{number(spread)} points" if j.metric.share else j.metric.amount(spread or 0.0)


def _rank_note(j: Judgement) -> str:
    return "" if j.chips >= 39 else " (the rank cannot reject below 39 virtual chips)"


def _explained(j: Judgement) -> str:
    f = j.fidelity
    if f is None or f.explained is None:
        return "—"
    if f.explained_virtual_mean is None or f.explained_virtual_sd is None:
        return f"{f.explained:.2f}"
    return f"{f.explained:.2f} (a virtual chip: {f.explained_virtual_mean:.2f} ± {f.explained_virtual_sd:.2f})"


def _enough(j: Judgement) -> str:
    return "none up to 100,000" if j.power.images_enough is None else f"{j.power.images_enough:,}"


def _distance_rank(j: Judgement) -> str:
    f = j.fidelity
    return "—" if f is None else f"{f.distance_rank} of {j.chips + 1} (p {f.distance_p:.3f})"


def _mcnemar(j: Judgement) -> str:
    t = j.mcnemar
    if t is None:
        return "—"
    return f"only the chip right {t.chip_only}, only the simulator {t.simulator_only}, p {t.p_value:.3f}"


def _trend(j: Judgement) -> str:
    if j.trend is None:
        return "—"
    return f"{j.metric.difference(j.trend.per_repeat)} a repeat (p {j.trend.p_value:.3f})"
