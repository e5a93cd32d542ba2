"""One reading in a process of its own, measured: exit code as the command line gives it, memory, CPU time.

The process is forked from this one, in which everything is imported: what is counted is the
reading. It is killed when it waits for something that never comes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from hil.cli.exit_codes import code_of

MOST_BYTES = 500 << 20
MOST_CPU_S = 5.0
KILLED = -1
KILLED_AFTER_S = 60  # of wall time: machines that run tests are busy


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code``: 0 accepted, 70 a bug, −1 killed; ``memory`` peak above this process, bytes."""

    code: int
    text: str
    memory: int
    cpu_s: float

    @property
    def within(self) -> bool:
        return self.memory <= MOST_BYTES and self.cpu_s <= MOST_CPU_S


def read_bounded(read: Callable[[], object]) -> Outcome:
    """Run ``read`` and give what came of it.

    A reading that was killed is made once more: the process may have been forked while another thread held a lock,
    which nobody gives back then. One that truly waits is killed again.
    """
    outcome = _in_a_fork(read)
    return outcome if outcome.code != KILLED else _in_a_fork(read)


def _in_a_fork(read: Callable[[], object]) -> Outcome:
    receive, send = os.pipe()
    before = _resident()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the handler of a test's time limit waits for the same lock
            signal.alarm(KILLED_AFTER_S)
            resource.setrlimit(resource.RLIMIT_AS, (_virtual() + 8 * MOST_BYTES,) * 2)
            with os.fdopen(send, "wb") as pipe:
                pickle.dump(_outcome(read), pipe)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    _, _, used = os.wait4(child, 0)
    code, text = pickle.loads(answer) if answer else (KILLED, "killed: it waited, or died")
    memory = max(used.ru_maxrss * 1024 - before, 0)
    return Outcome(code, text, memory, used.ru_utime + used.ru_stime)


def _outcome(read: Callable[[], object]) -> tuple[int, str]:
    try:
        read()
    except Exception as error:
        code = code_of(error)
        if code is None:
            return 70, "".join(traceback.format_exception(error))[-3000:]
        return int(code), str(error)
    return 0, ""


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def _resident() -> int:
    return _status("VmRSS")


def _virtual() -> int:
    return _status("VmSize")
