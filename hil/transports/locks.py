"""What one program uses at a time: a bench, the address of an instrument. Its owner stands in a file.

Files lie in the user's state folder (``XDG_STATE_HOME``). The system frees a lock when its process ends, however it
ends; the name of an owner that did not leave by itself stays, and is cleared by who finds the outputs off.
"""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import logging
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from hil.errors import OutputError, PortError

try:
    import fcntl
except ImportError:  # Windows: owners are written, and nobody is kept out
    fcntl = None  # type: ignore[assignment]


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """A program that uses something, since when."""

    user: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host}, process {self.pid}, since {self.since}"

    @classmethod
    def this(cls) -> Owner:
        now = datetime.datetime.now().astimezone()
        return cls(getpass.getuser(), socket.gethostname(), os.getpid(), now.isoformat(" ", "seconds"))


def state_folder() -> Path:
    """The folder of this user for what outlives a program."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hil"


class Lock:
    """Something that this process uses, until ``release``. A process may take the same lock twice.

    Attributes:
        left_by: the owner before, where it did not leave by itself; None behind ``clear``.
    """

    def __init__(self, what: str) -> None:
        """Raises ``PortError``: another program uses it; the error names its owner."""
        self.what, self.path = what, state_folder() / "locks" / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error}", hint="XDG_STATE_HOME=FOLDER hil …") from error
        try:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = self._owner()
            self._file.close()
            raise PortError(
                f"{what} is in use by {owner or 'another program'}",
                where=str(self.path),
                likely="two programs would drive the same outputs",
                hint="end that program, and try again",
            ) from None
        before, self._this = self._owner(), Owner.this()
        ours = before is not None and (before.host, before.pid) == (self._this.host, self._this.pid)
        self.left_by = None if ours else before
        self._write(self._this)

    def clear(self, because: str) -> None:
        """Forget the owner before, ``because`` of the state of the outputs that it left."""
        if self.left_by is not None:
            log.warning("note: %s was left by %s; %s", self.what, self.left_by, because)
        self.left_by = None

    def release(self, *, clean: bool = True) -> None:
        """Give it free. ``clean``: the outputs are off; else the owner's name stays for the next."""
        if not self._file.closed:
            self._write(self.left_by or (None if clean else self._this))
            self._file.close()

    def _owner(self) -> Owner | None:
        self._file.seek(0)
        try:
            return Owner(**json.loads(self._file.read(4096)))
        except (ValueError, TypeError):  # empty, or nothing of ours
            return None

    def _write(self, owner: Owner | None) -> None:
        self._file.truncate(0)
        self._file.write("" if owner is None else json.dumps(asdict(owner)) + "\n")
        self._file.flush()
