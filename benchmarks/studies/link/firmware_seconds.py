"""Where the seconds of a deployment on the C firmware go: processor time of the board (QEMU) and of the host, by stage.

A network of one macro (``tests/firmware_protocols/one_macro_net.py``) is deployed as `hil deploy` does, with a
calibration first, or with the record of a run before. Processor time tells more than the clock on a busy machine; the
rest of the clock's time both ends waited, for each other or for a core. ``--functions`` looks fifty times a second at
which function of the firmware runs. Linux only.

    python benchmarks/studies.py firmware-seconds [--images 100] [--record r.h5 | --keep r.h5] [--functions] [--no-plan]
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from stage_parts import StageParts  # noqa: E402

from cim.chip.file import load_chip  # noqa: E402
from firmware_protocols.messages import Capability  # noqa: E402
from hil.atomic import write_bytes  # noqa: E402
from hil.deployment.deploy import DeployOptions, deploy  # noqa: E402
from hil.driver.checked_chip import OpenChip  # noqa: E402
from hil.server.firmware_build import build, config_header  # noqa: E402
from hil.server.firmware_launch import die_serial, running_firmware  # noqa: E402
from hil.server.firmware_targets import FirmwareTarget  # noqa: E402
from tests.firmware_protocols.one_macro_net import write_files  # noqa: E402
from tests.firmware_protocols.qemu_monitor import QemuMonitor, symbols  # noqa: E402

SPEC, SEED = load_chip("lab-128", macros=1), 3
LOOKS_S = 0.02
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
ASLEEP = "sleep_until"


def board_process() -> int:
    """The process that is the board: a child of this one, started last."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
    return int(children[-1])


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


@contextlib.contextmanager
def looked_at(monitor: Path, seen: Counter[str]) -> Iterator[None]:
    """Count which function of the firmware runs, while the block does."""
    program = build(FirmwareTarget.QEMU, config_header(SPEC, SEED, {}, die_serial(SPEC, SEED)))
    places = sorted((place & ~1, name) for name, place in symbols(program).items() if not name.startswith("$"))
    over = threading.Event()

    def look() -> None:
        with QemuMonitor(monitor) as board:
            while not over.wait(LOOKS_S):
                said = board.execute("human-monitor-command", **{"command-line": "info registers"})
                found = re.search(r"R15=([0-9a-f]+)", said)
                assert found is not None
                at = bisect.bisect_right(places, int(found[1], 16), key=lambda place: place[0])
                seen[places[at - 1][1]] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--record", type=Path, help="of this die: no calibration")
    parser.add_argument("--keep", type=Path, help="where the record goes")
    parser.add_argument("--functions", action="store_true")
    parser.add_argument("--no-plan", action="store_true", help="as if the board had no sequencer")
    asked = parser.parse_args()
    can = vars(OpenChip)["capabilities"].fget
    without = property(lambda chip: can(chip) & ~Capability.PLAN)
    options = DeployOptions(samples=asked.images, repeats=2, virtual_chips=10, tolerance=0.03, causes=False)
    seen = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder, monitor = Path(name), Path(name) / "qmp"
        net, data = write_files(folder, asked.images)
        with (
            running_firmware(FirmwareTarget.QEMU, SPEC, seed=SEED, monitor=monitor) as address,
            looked_at(monitor, seen) if asked.functions else contextlib.nullcontext(),
            mock.patch.object(OpenChip, "capabilities", without) if asked.no_plan else contextlib.nullcontext(),
        ):
            board = board_process()
            watch = StageParts(lambda: (time.monotonic(), cpu_s(board), time.process_time()))
            run = folder / "run"
            deploy(
                net, address, macros=1, data=str(data), calibration=asked.record, out=run, options=options, watch=watch
            )
        if asked.keep is not None:
            write_bytes(asked.keep, (run / "record.h5").read_bytes())
    print(f"{'':<20}{'clock':>8}{'board':>8}{'host':>8}  s")
    for name, parts in sorted(watch.parts.items(), key=lambda part: -part[1][1]):
        print(f"{name:<20}" + "".join(f"{seconds:8.2f}" for seconds in parts))
    print(f"{'all':<20}" + "".join(f"{sum(column):8.2f}" for column in zip(*watch.parts.values(), strict=True)))
    awake = seen.total() - seen[ASLEEP]
    for function, times in seen.most_common(16):
        if function != ASLEEP:
            print(f"{function:<28}{100 * times / awake:6.1f} % of {awake} looks at a board at work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
