"""The fault matrix: runs the tests of each row, F1 to F15, and writes the table of what came out.

A row is a line of the results, with how many tests passed and the seed that a test drew by itself, if one did; rows
that stand there are not run again. Exit code 1 when a test failed or a row ran none.

    python benchmarks/studies.py fault-matrix [--only F12] [--out benchmarks/results/fault_matrix.jsonl]
    python benchmarks/studies.py fault-matrix --write docs/explanation/reliability.md  # the table of what stands there
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

from cached_rows import cache_row, cached_rows

ROOT = Path(__file__).parents[3]
OUT = ROOT / "benchmarks" / "results" / "fault_matrix.jsonl"
BLOCK = re.compile(
    r"(<!-- faults: made by benchmarks/studies/link/fault_matrix.py -->\n).*?(<!-- end of faults -->)", re.DOTALL
)
DRAWN = re.compile(r"with seed (\d+)")
MATRIX = "tests/hil/deployment/test_fault_matrix.py"
LINE = f"{MATRIX}::test_faults_of_the_line_change_no_bit_of_a_run"
SIMULATION = "python -m tests.line_simulation"
LINK, OUTAGES = "tests/firmware_protocols/test_link.py", "tests/hil/driver/test_long_outages.py"
SIZES, RESUME = "tests/firmware_protocols/test_frame_size.py", "tests/hil/deployment/test_resume.py"
PORTS, RECONNECTION = "tests/hil/transports/test_transports.py", "tests/hil/driver/test_reconnection.py"
JOURNAL = "tests/firmware_protocols/test_journal.py"


class MatrixRow(NamedTuple):
    """A kind of fault, what must come out, the tests that show it, and what more is run by a command of its own."""

    fault: str
    comes_out: str
    tests: tuple[str, ...]
    beside: str = ""


ROWS = {
    "F1": MatrixRow(
        "frames lost, 0.1 to 20 %; half of them",
        "the shares above; same bits at 5 %; at 50 % an answer or exit code 4",
        (
            f"{LINE}[F1 5 %]",
            f"{SIZES}::test_a_bad_line_still_carries_its_share",
            f"{LINK}::test_half_of_all_frames_lost_ends_in_an_answer_or_an_error",
        ),
        "benchmarks/studies/link/goodput.py",
    ),
    "F2": MatrixRow(
        "bit errors, 1e-6 to 3e-4",
        "the shares above; same bits at 1e-4; of damaged frames none is taken",
        (f"{LINE}[F2 1e-4]", "tests/firmware_protocols/test_hostile_bytes.py::test_no_single_bit_error_is_accepted"),
        "benchmarks/studies/link/goodput.py, benchmarks/studies/link/fuzz.py",
    ),
    "F3": MatrixRow(
        "bytes lost, stray bytes, bursts",
        "same bits",
        (
            f"{LINE}[F3 2e-5]",
            f"{SIZES}::test_lost_and_stray_bytes_and_a_fifth_of_all_frames_lost_change_no_answer",
        ),
        SIMULATION,
    ),
    "F4": MatrixRow("frames twice, overtaken, late", "same bits, each request once", (f"{LINE}[F4 5 %]",), SIMULATION),
    "F5": MatrixRow(
        "round trips to 0.5 s; to 5 s",
        "at least 85 % of 115,200 baud at 0.5 s; all is answered",
        (f"{LINK}::test_the_line_is_used_well", f"{OUTAGES}::test_a_round_trip_of_seconds_is_not_a_lost_line"),
    ),
    "F6": MatrixRow(
        "chip resets and lost power: at each message, at random instants, in each state of both ends",
        "the rest only is asked again, same bits, no pulse twice",
        (
            f"{MATRIX}::test_f6_a_chip_that_restarts_is_asked_for_the_rest_only",
            f"{MATRIX}::test_f6_power_lost_at_random_instants_changes_no_bit_of_a_run",
            "tests/hil/driver/test_power_loss.py::test_power_lost_at_any_message_changes_no_bit_and_gives_no_pulse_twice",
        ),
        SIMULATION,
    ),
    "F7": MatrixRow(
        "power lost at every byte of an entry of the chip's journal, in C and Python; a torn entry of the host's",
        "the last entry or the one before, never a part",
        (
            f"{JOURNAL}::test_power_lost_at_any_byte_of_an_entry_costs_that_entry_at_most",
            f"{JOURNAL}::test_a_record_is_the_old_or_the_new_one_wherever_the_power_fails",
            f"{JOURNAL}::test_a_record_of_the_firmware_is_the_old_or_the_new_one_wherever_the_power_fails",
            f"{RESUME}::test_an_entry_that_was_not_finished_is_dropped",
        ),
        SIMULATION,
    ),
    "F8": MatrixRow(
        "unplugged or silent for 0.1 to 2.5 s, in virtual time to 110 s; another name of the port; for good",
        "goes on; found by its serial number; exit code 4, and the same command ends with the same bits",
        (
            f"{MATRIX}::test_f8_a_line_that_is_gone_for_a_while_costs_nothing",
            f"{MATRIX}::test_f8_f10_a_line_that_stays_gone_ends_the_run_in_time_and_it_goes_on_later",
            f"{OUTAGES}::test_a_line_that_is_silent_or_gone_for_less_than_patience_costs_only_time",
            f"{RECONNECTION}::test_a_board_under_another_name_is_found_by_its_serial_number",
        ),
    ),
    "F9": MatrixRow(
        "host killed or told to end",
        "the same command ends with the same bits, and no file is half-written",
        (f"{RESUME}::test_a_run_whose_process_is_told_to_end_and_killed_goes_on_to_the_same_bits",),
        "benchmarks/studies/link/resume_anywhere.py",
    ),
    "F10": MatrixRow(
        "a stranger that never stops talking, a chip that falls silent, endless progress",
        "an error in time, no memory",
        (
            f"{PORTS}::test_a_stranger_that_never_stops_talking_is_left_within_the_time",
            f"{PORTS}::test_a_chip_that_falls_silent_is_given_up_within_seconds",
            "tests/firmware_protocols/test_hostile_bytes.py::test_endless_garbage_takes_no_memory",
            "tests/hil/driver/test_reply_checks.py::test_endless_progress_ends_with_a_link_error",
        ),
    ),
    "F11": MatrixRow(
        "echo, another device, another version, another chip",
        "named, with its exit code",
        (
            f"{PORTS}::test_an_echo_is_told",
            f"{PORTS}::test_another_device_is_told_with_its_first_bytes",
            f"{PORTS}::test_a_chip_of_another_protocol_version_is_a_mismatch_with_both_ranges",
            f"{PORTS}::test_a_chip_that_differs_from_its_file_is_a_mismatch_with_both_values",
            f"{RECONNECTION}::test_a_chip_that_was_restarted_or_changed_meanwhile_is_refused",
        ),
        "docs/conformance_matrix.py",
    ),
    "F12": MatrixRow(
        "wrong keys, messages heard and sent again, each bit of a sealed one changed, power lost at each byte kept",
        "all refused; counters and nonces never come twice; the chip locks itself, also across restarts; exit code 9",
        (
            "tests/firmware_protocols/test_authority.py",
            "tests/hil/driver/test_keys.py::test_without_a_key_a_chip_is_only_looked_at",
            "tests/hil/driver/test_keys.py::test_seals_hold_over_a_line_that_loses_and_doubles_frames",
            "tests/hil/driver/test_keys.py::test_the_command_takes_a_key_file_and_ends_with_exit_code_9_without",
        ),
    ),
    "F13": MatrixRow(
        "damaged messages, in C and in Python",
        "two errors and no other",
        ("tests/firmware_protocols/test_hostile_bytes.py",),
        "benchmarks/studies/link/fuzz.py",
    ),
    "F14": MatrixRow(
        "an effect that the record does not know",
        "disagree",
        ("tests/hil/deployment/test_deploy.py::test_an_effect_that_the_record_does_not_know_is_a_disagreement",),
        "benchmarks/studies/verdict/verdict_power.py",
    ),
    "F15": MatrixRow(
        "all of F1 to F4 at once, of a fixed seed and of one drawn for the run",
        "same bits; memory flat",
        (f"{LINE}[F15 all at once]", f"{MATRIX}::test_faults_of_a_seed_of_today_change_no_bit_of_a_run"),
        f"benchmarks/studies/link/soak.py, {SIMULATION}",
    ),
}


def ran(name: str) -> dict[str, Any]:
    """The tests of one row, run."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={found}", "-o", "junit_logging=system-out"]
        subprocess.run([*command, *ROWS[name].tests], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        suite = ElementTree.parse(found).getroot().find("testsuite") if found.exists() else None
    count = {
        key: int(suite.get(key, "0")) if suite is not None else 0 for key in ("tests", "failures", "errors", "skipped")
    }
    said = "" if suite is None else "".join(part.text or "" for part in suite.iter("system-out"))
    drawn = DRAWN.search(said)
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    return {"row": name, "passed": passed, "failed": failed, "seed": int(drawn[1]) if drawn else None}


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["row"]: row for row in cached_rows(path)}


def result(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not run"
    text = f"{row['passed']} of {row['passed'] + row['failed']} tests"
    return text if row["seed"] is None else f"{text}, seed drawn: {row['seed']}"


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| | fault | what comes out | seen | shown by |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        files = sorted({test.split("::")[0] for test in row.tests})
        shown = ", ".join(f"`{part}`" for part in (*files, *filter(None, row.beside.split(", "))))
        lines.append(f"| {name} | {row.fault} | {row.comes_out} | {result(found.get(name))} | {shown} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ROWS, help="this row, also where it stands in the results")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--write", type=Path, help="page whose table is written anew; nothing is run")
    asked = parser.parse_args()
    found = rows_of(asked.out)
    if asked.write:
        page = asked.write.read_text("utf-8")
        if not BLOCK.search(page):
            raise SystemExit(f"{asked.write} has no block for the table")
        asked.write.write_text(BLOCK.sub(lambda b: f"{b[1]}\n{table(found)}\n\n{b[2]}", page), "utf-8")
        return 0
    for name in [asked.only] if asked.only else ROWS:
        if name in found and not asked.only:
            continue
        found[name] = ran(name)
        cache_row(asked.out, found[name])
    bad = [name for name, row in found.items() if row["failed"] or not row["passed"]]
    print(json.dumps({"rows": len(found), "bad": bad}))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
