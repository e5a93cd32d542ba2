"""Who holds a device: its lock, and the processes that have it open, as far as /proc shows them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def holders(device: str, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Programs other than this one that have ``device`` open, as ``"minicom (pid 4711)"``.

    Those that hold a lock on it come alone, if there are any. Without /proc, or without the
    right to look into it, the answer is empty.
    """
    try:
        node = os.stat(device)
    except OSError:
        return ()
    locked = _lock_holders(proc, f"{os.major(node.st_dev):02x}:{os.minor(node.st_dev):02x}:{node.st_ino}")
    found = []
    for folder in proc.glob("[0-9]*"):
        pid = int(folder.name)
        if pid in locked or (not locked and pid != os.getpid() and _has_open(folder, node)):
            found.append(f"{_name(folder)} (pid {pid})")
    return tuple(sorted(found))


def unlock(handle: int) -> None:
    """Give up the lock of an open file before it is closed.

    Closing alone is not enough: a program that this process is about to start has a copy of the handle until it is
    loaded, and the lock lives as long as the last copy.
    """
    if os.name == "posix":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


def _lock_holders(proc: Path, inode: str) -> set[int]:
    """Process ids with a lock on ``inode`` ("major:minor:number", as /proc/locks writes it)."""
    try:
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return set()
    fields = [line.split() for line in lines if "->" not in line]
    return {int(f[4]) for f in fields if len(f) > 5 and f[5] == inode and int(f[4]) > 0}


def _has_open(folder: Path, node: os.stat_result) -> bool:
    try:
        for entry in (folder / "fd").iterdir():
            try:
                if os.path.samestat(entry.stat(), node):
                    return True
            except OSError:
                continue
    except OSError:
        pass
    return False


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return "a program"
