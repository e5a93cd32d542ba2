"""A host that reads the cells of a bench without end, to be ended from outside: ``python working_host.py FILE HOW``."""

from __future__ import annotations

import sys
import time

from hil.driver.open_chip import open_chip


def main() -> None:
    path, how = sys.argv[1:]
    with open_chip(f"bench:{path}") as chip:
        print("working", flush=True)
        began_s = time.monotonic()
        while True:
            chip.read_cells(0)
            if how.startswith("exception") and time.monotonic() - began_s > float(how.partition(":")[2]):
                raise RuntimeError("as a script of one's own may")


if __name__ == "__main__":
    main()
