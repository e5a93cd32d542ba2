"""What earlier runs measured of this chip: its newest valid record, and which run wrote its program."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path

from cim.errors import CimError
from cim.record.calibration import CalibrationRecord
from cim.record.file import RecordHead, load_head, load_record, save_record
from hil.atomic import output_errors
from hil.calibration.procedure import calibrate, check_record
from hil.deployment.options import RECORD_AGE_S, DeployOptions
from hil.deployment.resumable import FOUND_FILE
from hil.deployment.run_settings import RunSettings
from hil.deployment.targets.wired import holds
from hil.driver.chip_driver import ChipDriver
from hil.errors import DeviceError, HilError
from hil.pages.tables import duration
from hil.report.run_folder import RunFolder
from hil.report.tables import writing_words
from hil.report.work_folder import WorkFolder, load_json
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

RECORD_FILE = "record.h5"
CLOSE_C = 5.0  # a record holds so many degrees around its own temperature
MOST_LOOKED_AT = 200  # run folders, the latest first


def record_for(
    driver: ChipDriver,
    program: ConductanceProgram,
    given: CalibrationRecord | None,
    options: DeployOptions,
    date: datetime.datetime | None,
    keep: Path | None,
    watch: Watch,
) -> CalibrationRecord:
    """The given record, else a new calibration of the macros in use, which overwrites their cells.

    Args:
        date: date of a new record; None: now.
        keep: folder for the record; None: it is not written.

    Raises:
        MismatchError: the record is of another chip, description or firmware, or lacks a macro in use.
    """
    if given is not None:
        watch.found("calibrate", f"nothing: as in the record of {given.date[:16].replace('T', ' ')}")
    elif holds(driver, program, options.age_s):
        watch.note("calibrating overwrites the program that the chip holds; a record of this chip keeps it")
    record = given or calibrate(driver, program.macros, seed=options.seed, age_s=options.age_s, date=date, watch=watch)
    check_record(record, driver, program.macros)
    if keep is not None:
        keep_record(record, keep)
    return record


def record_of_runs(
    folder: RunFolder,
    work: WorkFolder,
    driver: ChipDriver,
    program: ConductanceProgram,
    settings: RunSettings,
    watch: Watch,
) -> CalibrationRecord | None:
    """The newest valid record of this chip among the runs beside ``folder``; None: no record is valid.

    A resumed run keeps the record that it began with.
    """
    temperature_c = chip_temperature_c(driver)
    if work.has(FOUND_FILE):
        return load_record(folder.part / RECORD_FILE) if work.load(FOUND_FILE, load_json) else None
    found = earlier_record(
        folder.final.parent,
        driver,
        program.macros,
        age_s=settings.options.age_s,
        most_age_s=settings.record_age_s,
        temperature_c=temperature_c,
        now=datetime.datetime.fromisoformat(work.begun),
        but=folder.part,
    )
    if found.text:
        watch.note(found.text)
    if found.record is not None:
        keep_record(found.record, folder.part)
    work.keep_json(FOUND_FILE, found.record is not None)
    return found.record


def keep_record(record: CalibrationRecord, folder: Path) -> None:
    with output_errors(folder / RECORD_FILE):
        save_record(record, folder / RECORD_FILE)


@dataclass(frozen=True, slots=True)
class EarlierRecord:
    """A valid record of an earlier run and its path, or None; ``text`` says why it was used or not, or is empty."""

    record: CalibrationRecord | None = None
    path: Path | None = None
    text: str = ""


def with_writer(report: AgreementReport, folder: RunFolder) -> AgreementReport:
    """The report, noting which earlier run beside ``folder`` wrote the program that the chip held, and its result."""
    if report.cells.unreached is not None:  # this run did
        return report
    others = [other for other in folder.final.parent.iterdir() if other.absolute() != folder.part]
    files = [file for other in others if (file := other / "report.json").is_file()]
    latest: AgreementReport | None = None
    for file in sorted(files, key=lambda f: f.stat().st_mtime, reverse=True)[:MOST_LOOKED_AT]:
        try:
            found = AgreementReport.read(file)
        except HilError:
            continue  # of no run that could be told
        same = (found.chip.name, found.chip.serial, found.digests.get("held_program"))
        wrote = bool(found.cells.unreached is not None and found.cells.pulses)
        if same == (report.chip.name, report.chip.serial, report.digests["held_program"]) and wrote:
            latest = found if latest is None or found.created > latest.created else latest
    if latest is None:
        return report
    date = latest.created[:16].replace("T", " ")
    note = f"{latest.run} wrote what the chip held, {date} UTC: {writing_words(latest.cells)}"
    return replace(report, notes=(*report.notes, note))


def chip_temperature_c(driver: ChipDriver) -> float | None:
    """Temperature by the chip's STATUS, °C; None where it has no sensor."""
    try:
        return driver.status().temperature_c
    except DeviceError:
        return None


def earlier_record(
    runs: Path,
    driver: ChipDriver,
    macros: tuple[int, ...],
    *,
    age_s: float,
    most_age_s: float = RECORD_AGE_S,
    temperature_c: float | None = None,
    now: datetime.datetime,
    but: Path | None = None,
) -> EarlierRecord:
    """The newest record of the chip behind ``driver`` in the folders below ``runs``.

    It must be of the same chip, description and firmware, hold the macros in use, reach to the planned age, be at
    most ``most_age_s`` old, and have been measured within 5 °C of ``temperature_c`` (None: not asked).

    Args:
        age_s: chip time between programming and reading.
        but: a folder that is passed over: the run's own.
    """
    refused = ""
    for head, path in _records_of(runs, driver, but):
        old_s = (now - datetime.datetime.fromisoformat(head.date)).total_seconds()
        if not 0 <= old_s <= most_age_s:
            why = f"is {duration(old_s)} old, {duration(most_age_s)} are the limit" if old_s > 0 else "is of the future"
        else:
            try:
                record = load_record(path)
            except CimError as error:
                why = f"cannot be read: {error}"
            else:
                why = _unfit(record, macros, age_s, temperature_c)
                if not why:
                    text = f"calibration record {path}, {duration(old_s)} old (hil deploy --recalibrate: a new one)"
                    return EarlierRecord(record, path, text)
        refused = refused or f"the record {path} is not taken: it {why}"
    return EarlierRecord(text=refused)


def _records_of(runs: Path, driver: ChipDriver, but: Path | None) -> list[tuple[RecordHead, Path]]:
    """Records of this chip, newest first; of one date the first folder's."""
    if not runs.is_dir():
        return []
    about = driver.description
    wanted = (about.name, about.serial, about.firmware, about.kind, driver.spec.digest)
    folders = [folder for folder in runs.iterdir() if folder.absolute() != but]
    files = [path for folder in folders if (path := folder / RECORD_FILE).is_file()]
    found = []
    for path in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)[:MOST_LOOKED_AT]:
        try:
            head = load_head(path)
            measured = datetime.datetime.fromisoformat(head.date)
        except (CimError, ValueError):
            continue  # of no chip that could be told
        if measured.tzinfo and (head.chip_name, head.serial, head.firmware, head.kind, head.spec_digest) == wanted:
            found.append((measured, head, path))
    found.sort(key=lambda one: (-one[0].timestamp(), str(one[2])))
    return [(head, path) for _, head, path in found]


def _unfit(record: CalibrationRecord, macros: tuple[int, ...], age_s: float, temperature_c: float | None) -> str:
    """The reason why a record of this chip is not valid for this run; empty when it is valid."""
    missing = [m for m in macros if m not in record.macros]
    if missing:
        return f"lacks macro {missing[0]}" + (f" and {len(missing) - 1} others in use" if missing[1:] else "")
    if record.age_s < age_s:
        return f"reaches to an age of {duration(record.age_s)}, cells are read at {duration(age_s)}"
    if temperature_c is not None and abs(record.temperature_c - temperature_c) > CLOSE_C:
        return f"was measured at {record.temperature_c:.1f} °C, the chip has {temperature_c:.1f} °C"
    return ""
