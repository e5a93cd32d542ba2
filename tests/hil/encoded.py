"""A whole command in this process, its output in an encoding of the test's choice."""

from __future__ import annotations

import io
import signal
import sys

import pytest

from hil.cli import main
from hil.driver.deferred_interrupts import ASKS_TO_END


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``hil`` with these words, as where ``PYTHONIOENCODING`` says ``encoding``."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    handlers = {number: signal.getsignal(number) for number in ASKS_TO_END}
    with monkeypatch.context() as patch:
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", ["hil", *words])
        patch.setattr("hil.cli.leave", sys.exit)  # threads of other tests are none of this command's
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    texts = []
    for stream in streams:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode("utf-8" if encoding == "ascii" else encoding))  # as click has it
    return int(ended.value.code or 0), *texts  # type: ignore[return-value]
