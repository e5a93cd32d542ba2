"""The key that a chip wants proved: from a file or the environment, never from a command's arguments.

``HIL_KEY`` holds 64 hexadecimal digits: the chip's own key, or after a level's name and a colon (``run:…``) the key of
that level, which grants no more than it. ``HIL_KEY_FILE`` names a file with the same. ``hil --key-file FILE`` goes
before both.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cim.files import read_text
from firmware_protocols.extensions.authority import level_key
from firmware_protocols.extensions.messages import Level
from hil.errors import FileError, NotAuthorised, UsageError

KEY, KEY_FILE = "HIL_KEY", "HIL_KEY_FILE"
MOST_BYTES = 4096
_FORM = re.compile(r"(?:(?P<level>[a-z]+):)?(?P<digits>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class HostKey:
    """The chip's own key (``level`` None), or that of one level."""

    secret: bytes = field(repr=False)
    level: Level | None = None

    def of(self, level: Level) -> bytes:
        """The key of a level; raises ``NotAuthorised`` when this one is for another."""
        if self.level is None:
            return level_key(self.secret, level)
        if self.level != level:
            raise NotAuthorised(
                f"the key is for level {self.level.name.lower()}, and {level.name.lower()} is needed",
                hint="ask the chip's owner for a key of that level",
            )
        return self.secret


def parse_key(text: str, where: str) -> HostKey:
    """The key in a text; raises ``UsageError``, which never shows it."""
    found = _FORM.fullmatch(text.strip())
    names = {level.name.lower(): level for level in Level}
    if found is None or (found["level"] and found["level"] not in names):
        raise UsageError(
            f"{where} holds no key: 64 hexadecimal digits are needed",
            likely=f"a level may stand before them, with a colon: {', '.join(names)}",
            hint="python -c 'import secrets; print(secrets.token_hex(32))' makes a new one",
        )
    return HostKey(bytes.fromhex(found["digits"]), names[found["level"]] if found["level"] else None)


def read_key(path: str | Path) -> HostKey:
    """The key in a file that only its owner may read.

    Raises:
        UsageError: the file holds no key, or others may read it. FileError: it cannot be read.
    """
    path = Path(path)
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the key cannot be read: {error}", where=str(path)) from error
    if others_may_read(path):
        raise UsageError(f"others may read the key in {path}", hint=f"chmod 600 {path}")
    return parse_key(text, str(path))


def others_may_read(path: Path) -> bool:
    """Whether a file is open to more than its owner."""
    return os.name == "posix" and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def find_key() -> HostKey | None:
    """The key of the environment; None: there is none. Raises as ``read_key`` does."""
    if text := os.environ.get(KEY):
        return parse_key(text, KEY)
    return read_key(path) if (path := os.environ.get(KEY_FILE)) else None
