"""One reading in a process of its own, measured: exit code as the command line gives it, memory, CPU time.

The process is forked from a server that has imported everything and done nothing else: what is counted is the
reading. The server has one thread. A process that is forked while another thread of its parent (of OpenMP, of a
pool, of a test's time limit) holds a lock waits for it without end, since nobody is left to give it back. The
reading is killed when it waits for something that never comes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pickle
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hil.cli.failures import code_of

ROOT = Path(__file__).parents[2]
MOST_BYTES = 500 << 20
MOST_CPU_S = 5.0
KILLED = -1
KILLED_AFTER_S = 60  # of wall time: machines that run tests are busy
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code``: 0 accepted, 70 a bug, −1 killed; ``memory`` peak above the server, bytes."""

    code: int
    text: str
    memory: int
    cpu_s: float

    @property
    def within(self) -> bool:
        return self.memory <= MOST_BYTES and self.cpu_s <= MOST_CPU_S


def read_bounded(form: str, path: Path) -> Outcome:
    """Read the file with the reader of a format (``valid_files.VALID``) and give what came of it."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    pickle.dump((form, path.absolute()), server.stdin)
    server.stdin.flush()
    answer: tuple[int, str, int, float] = pickle.load(server.stdout)
    return Outcome(*answer)


@functools.cache
def _server() -> subprocess.Popen[bytes]:
    """The one server of this process."""
    command = [sys.executable, "-c", f"import {__name__} as bounded; bounded.serve()"]
    server = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.communicate)
    return server


def serve() -> None:
    """Answer requests from standard input, each in a fork; ends with the input."""
    from .valid_files import VALID

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a reader might print is no answer
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads: a fork could take a lock with it"
    while True:
        try:
            form, path = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_in_a_fork(lambda: VALID[form][1](path)), answers)  # noqa: B023 done before the next
        answers.flush()


def _in_a_fork(read: Callable[[], object]) -> tuple[int, str, int, float]:
    receive, send = os.pipe()
    before = _resident()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
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
    return code, text, max(used.ru_maxrss * 1024 - before, 0), used.ru_utime + used.ru_stime


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
