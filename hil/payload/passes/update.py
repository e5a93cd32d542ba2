"""An update of gains and biases alone: what a re-tuned chip needs, in a few bytes a channel.

    "HILU" | version 1 byte | counter 4 | digest of the program it is for 32 | digest after it 32 | length 4 | body

The body holds a gain in steps of 2^−12 (16 bits) and an offset in level sums (32 bits, as differences) of every output
channel, compressed. What is applied are these rounded numbers, by the same code on both sides
(``mapping.tune.channel_affine.folded``), so both have the same program bit by bit.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError, MismatchError, NotAuthorised
from hil.payload.passes.flight_image import FILTERS
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.file import program_digest
from mapping.tune.channel_affine import ChannelFit, folded
from mapping.tune.fit_limits import GAINS

MAGIC, VERSION = b"HILU", 1
HEAD = struct.Struct(">4sBI32s32sI")
GAIN_STEP = 2.0**-12
MOST_BODY = 1 << 22


def pack_update(before: ConductanceProgram, after: ConductanceProgram, counter: int) -> bytes:
    """The update that takes ``before`` to (nearly) the gains and biases of ``after``.

    Args:
        counter: above that of every update before it.

    Raises:
        MismatchError: the two are not the same network on the same cells.
    """
    if before.held_digest != after.held_digest or [s.name for s in before.steps] != [s.name for s in after.steps]:
        raise MismatchError(
            f"program {after.digest[:12]}… is not {before.digest[:12]}… with other gains and biases",
            hint="tune the program that is on board: hil tune",
        )
    if any(step.adapter is not None for step in after.matrices):
        raise MismatchError(
            f"program {after.digest[:12]}… has adapters, and an update carries gains and biases alone",
            hint="hil tune without --adapters, or send the whole program",
        )
    lines = [_line(old, new) for old, new in zip(before.matrices, after.matrices, strict=True)]
    gains = np.concatenate([gain for gain, _ in lines])
    offsets = np.concatenate([offset for _, offset in lines])
    plain = _planes(gains.astype("<u2"), 2) + _planes(offsets.astype("<i4"), 4)
    body = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=FILTERS)
    made = _applied(before, gains, offsets)
    digests = bytes.fromhex(before.digest), bytes.fromhex(made.digest)
    head = HEAD.pack(MAGIC, VERSION, counter, *digests, len(body))
    return head + body + hashlib.sha256(head + body).digest()[:8]


def apply_update(before: ConductanceProgram, data: bytes, counter: int) -> tuple[ConductanceProgram, int]:
    """The program after an update, and the counter that it carries.

    Args:
        counter: of the last update that was applied.

    Raises:
        FileError: truncated or damaged.
        MismatchError: for another program than ``before``, or of a newer version.
        NotAuthorised: an expired counter: this or a later update was applied before.
    """
    if len(data) < HEAD.size + 8 or data[:4] != MAGIC:
        raise FileError(f"{len(data)} bytes are no update", hint="resume the transfer")
    _, version, number, base, result, length = HEAD.unpack_from(data)
    if version > VERSION:
        raise MismatchError(f"an update of version {version}, up to {VERSION} is read", hint="update the software")
    if length > MOST_BODY or len(data) != HEAD.size + length + 8:
        raise FileError(f"the update is truncated: {len(data)} of {HEAD.size + length + 8} bytes", hint="resume it")
    if hashlib.sha256(data[:-8]).digest()[:8] != data[-8:]:
        raise FileError("the update is damaged: its checksum does not fit", hint="send it again")
    if number <= counter:
        raise NotAuthorised(
            f"the update has counter {number}, {counter} was applied before",
            likely="it was sent twice, or is an old one",
            hint="pack it with a higher counter",
        )
    if base.hex() != before.digest:
        raise MismatchError(
            f"the update is for program {base.hex()[:12]}…, on board is {before.digest[:12]}…",
            hint="pack it for the program on board",
        )
    channels = sum(step.group.outputs for step in before.matrices)
    try:
        plain = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS).decompress(data[HEAD.size : -8], 6 * channels)
    except lzma.LZMAError as error:
        raise FileError("the update is damaged", likely=str(error), hint="send it again") from error
    if len(plain) != 6 * channels:
        raise FileError(f"the update holds {len(plain)} bytes for {channels} channels", hint="send it again")
    gains = _joined(plain[: 2 * channels], "<u2")
    made = _applied(before, gains, _joined(plain[2 * channels :], "<i4"))
    if made.digest != result.hex():
        raise FileError("the program after the update is not the one that its digest names", hint="send it again")
    return made, number


def _line(old: MatrixStep, new: MatrixStep) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gain steps and offsets of one layer: with a the ratio of factors, b = a β' − β (``folded`` the other way)."""
    factors = [np.broadcast_to(s.requantise.multiplier / np.exp2(s.requantise.shift), s.bias.shape) for s in (old, new)]
    steps = np.rint(np.clip(factors[1] / np.maximum(factors[0], 1e-30), *GAINS) / GAIN_STEP).astype(np.int64)
    limit = np.iinfo(np.int32)
    offset = np.rint(np.clip(steps * GAIN_STEP * new.bias - old.bias, limit.min, limit.max)).astype(np.int64)
    return steps, offset


def _applied(
    before: ConductanceProgram, gains: NDArray[np.integer], offsets: NDArray[np.integer]
) -> ConductanceProgram:
    steps: list[Step] = []
    at = 0
    for step in before.steps:
        if isinstance(step, MatrixStep):
            part = slice(at, at + step.group.outputs)
            at += step.group.outputs
            gain = np.clip(gains[part] * GAIN_STEP, *GAINS)
            step = folded(step, ChannelFit(step.name, gain, offsets[part].astype(np.float64), 0.0, 0.0, 0, 0))
        steps.append(step)
    made = replace(before, steps=tuple(steps), digest="", held_as=before.held_digest)
    return replace(made, digest=program_digest(made))


def _planes(values: NDArray[np.integer], size: int) -> bytes:
    """Bytes of equal weight side by side, which compress better."""
    return np.ascontiguousarray(values.view(np.uint8).reshape(-1, size).T).tobytes()


def _joined(data: bytes, dtype: str) -> NDArray[np.int64]:
    size = np.dtype(dtype).itemsize
    planes = np.frombuffer(data, np.uint8).reshape(size, -1)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1).astype(np.int64)
