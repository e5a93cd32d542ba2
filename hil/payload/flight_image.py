"""The program as it is uplinked: levels, rules and tables without calibration images, compressed, with its digests.

    "HILF" | version 1 byte | SHA-256 of the body 32 | length of the body 4 | body: LZMA of JSON and arrays

The chip's description is not in it: a flight computer knows its chip, and refuses an image for another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import lzma
import math
import struct
from typing import Any

import numpy as np

from cim.chip.file import description_words
from cim.chip.spec import ChipSpec
from cim.json_text import parse_json
from hil.errors import FileError, MismatchError
from mapping.network.file import NO_KEYS
from mapping.operators.step import ProgramRecordError
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import program_digest
from mapping.program.records import from_record, to_record

MAGIC, VERSION = b"HILF", 1
HEAD = struct.Struct(">4sB32sI")
MOST_BODY, MOST_PLAIN = 1 << 26, 1 << 28
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def flight_program(program: ConductanceProgram) -> ConductanceProgram:
    """The program that flies: without calibration images and keys of training images (those are in the digest)."""
    none = np.zeros((0, *program.calibration_images.shape[1:]), np.uint8)
    flying = dataclasses.replace(program, calibration_images=none)
    if not len(program.trained_on) and not len(program.calibration_keys):
        return flying
    flying = dataclasses.replace(
        flying, trained_on=NO_KEYS, calibration_keys=NO_KEYS, held_as=program.held_digest, digest=""
    )
    return dataclasses.replace(flying, digest=program_digest(flying))


def pack_image(program: ConductanceProgram) -> bytes:
    """Bytes of a flight program (``flight_program``)."""
    record, arrays = to_record(program)
    plain = io.BytesIO()
    text = json.dumps(
        {
            "spec_digest": program.spec.digest,
            "digest": program.digest,
            "record": record,
            "arrays": {name: [str(a.dtype.newbyteorder("<").str), list(a.shape)] for name, a in arrays.items()},
            "image_shape": list(program.calibration_images.shape[1:]),
        },
        separators=(",", ":"),
    ).encode()
    plain.write(struct.pack(">I", len(text)) + text)
    for array in arrays.values():
        plain.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    body = lzma.compress(plain.getvalue(), format=lzma.FORMAT_RAW, filters=FILTERS)
    return HEAD.pack(MAGIC, VERSION, hashlib.sha256(body).digest(), len(body)) + body


def load_image(data: bytes, spec: ChipSpec) -> ConductanceProgram:
    """Read what ``pack_image`` wrote, for the chip on board.

    Raises:
        FileError: truncated, damaged, or no image.
        MismatchError: for a chip of another description, or of a newer version.
    """
    body = _body(data)
    try:
        plain = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS).decompress(body, MOST_PLAIN)
        (length,) = struct.unpack_from(">I", plain)
        about: dict[str, Any] = parse_json(plain[4 : 4 + length])
        if about["spec_digest"] != spec.digest:
            raise MismatchError(
                f"the image is for {description_words(str(about['spec_digest']), spec)}, on board is "
                f"{description_words(spec.digest, spec)}",
                hint="compile for the chip on board",
            )
        arrays, at = {}, 4 + length
        for name, (dtype, shape) in about["arrays"].items():
            kind = np.dtype(dtype)
            if kind.kind not in "iu" or any(type(side) is not int or side < 0 for side in shape):
                raise ValueError(f"{name!r:.80} is not a plain array of integers")
            count = math.prod(shape)
            arrays[name] = np.frombuffer(plain, kind, count, at).reshape(shape)
            at += count * kind.itemsize
        none = np.zeros((0, *about["image_shape"]), np.uint8)
        program = from_record(about["record"], arrays, spec, none)
        check_program(program)
    except (ValueError, KeyError, TypeError, struct.error, lzma.LZMAError, ProgramRecordError) as error:
        raise FileError("the flight image is damaged", likely=str(error), hint="send it again") from error
    if program_digest(program) != about["digest"]:
        raise FileError("the flight image holds another program than its digest says", hint="send it again")
    return dataclasses.replace(program, digest=str(about["digest"]))


def _body(data: bytes) -> bytes:
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise FileError(f"{len(data)} bytes are no flight image", hint="pack one from program.h5")
    _, version, digest, length = HEAD.unpack_from(data)
    if version > VERSION:
        raise MismatchError(f"a flight image of version {version}, up to {VERSION} is read", hint="update the software")
    body = data[HEAD.size :]
    if length > MOST_BODY or len(body) != length:
        raise FileError(
            f"the flight image is truncated: {len(body):,} of {length:,} bytes",
            likely="a transfer ended early",
            hint="resume the transfer",
        )
    if hashlib.sha256(body).digest() != digest:
        raise FileError("the flight image is damaged: its checksum does not fit", hint="send it again")
    return body
