"""Fixed parts of frames and messages, field by field: the one description that Python and C follow.

Python packs and unpacks with ``layout(name)``; ``tests/firmware_protocols/c_header.py`` writes the same
fields as C structures. Little-endian, no alignment; arrays and texts follow as docs/file-formats.md says.

>>> layout("hello").format
'<HHHBxI'
"""

from __future__ import annotations

import struct

PAD = "pad"
TYPES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "f64": "d", PAD: "x"}

Fields = tuple[tuple[str, str], ...]
"""(name, type) of each field in order; the type ``pad`` is one byte that is 0 and not checked."""

_PAD_1: Fields = (("", PAD),)
_RAMP: Fields = tuple(
    (f"{way}_{what}_mv", "u16") for way in ("set", "reset") for what in ("start", "step", "stop")
)  # fmt: skip

LAYOUTS: dict[str, Fields] = {
    "frame": (
        ("version_flags", "u8"), ("channel", "u8"), ("session", "u16"), ("sequence", "u16"), ("ack", "u16"),
        ("selective", "u32"),
    ),
    "message": (("op", "u8"), ("flags", "u8"), ("request_id", "u16")),
    "chip_time": (("chip_time_ns", "u64"),),
    "hello": (
        ("version_min", "u16"), ("version_max", "u16"), ("max_payload", "u16"), ("window", "u8"), *_PAD_1,
        ("nonce", "u32"),
    ),
    "wait": (("duration_ns", "u64"),),
    "cells": (("macro", "u16"), ("row0", "u16"), ("rows", "u16"), ("column0", "u16"), ("columns", "u16")),
    "tile": (("macro", "u16"), ("row0", "u16"), ("rows", "u16"), ("output0", "u16"), ("outputs", "u16")),
    "program": (
        ("unit_ns", "u32"), ("tolerance", "u16"), ("max_pulses", "u16"), ("verify_reads", "u16"), *_RAMP,
        ("pulse_width_ns", "u32"), ("sample", "u64"),
    ),
    "pulse": (("polarity", "u8"), *_PAD_1, ("pad", "u16"), ("width_ns", "u32"), ("sample", "u64")),
    "read_cells": (("unit_ns", "u32"), ("reads", "u16"), *_PAD_1, *_PAD_1, ("sample", "u64")),
    "compute": (
        ("returns", "u8"), ("flags", "u8"), ("range_code", "u8"), ("input_bits", "u8"), ("layer", "u16"),
        ("reads", "u16"), ("sample", "u64"),
    ),
    "mvm": (("vectors_per_sample", "u32"), ("first_vector", "u32"), ("vectors", "u32"), ("rows", "u32")),
    "sweep": (
        ("row_skip", "u32"), ("images", "u32"), ("channels", "u32"), ("height", "u16"), ("width", "u16"),
        *((f"{what}_{way}", "u16") for what in ("kernel", "stride", "padding", "dilation") for way in ("y", "x")),
    ),
    "load_layer": (
        ("layer", "u16"), ("tiles", "u16"), ("inputs", "u32"), ("outputs", "u32"), ("low", "i32"), ("high", "i32"),
    ),
    "layer_tile": (
        ("first_input", "u32"), ("first_output", "u32"), ("multiplier", "i32"), ("shift", "u8"), *_PAD_1,
        ("reads", "u16"),
    ),
    "load_plan": (("total", "u32"), ("offset", "u32"), ("count", "u32")),
    "run_plan": (
        ("passes", "u32"), ("sample", "u64"), ("pass_step", "u64"), ("images", "u32"), ("height", "u32"),
        ("width", "u32"), ("channels", "u32"),
    ),
    "plan_result": (("passes", "u32"), ("images", "u32"), ("codes", "u32"), ("steps", "u32")),
    "hello_reply": (
        ("version", "u16"), ("max_payload", "u16"), ("boot_id", "u32"), ("max_message", "u32"),
        ("capabilities", "u32"), ("reset_cause", "u8"), ("window", "u8"),
    ),
    "hello_reject": (("version_min", "u16"), ("version_max", "u16")),
    "description": (("macros", "u16"), ("rows", "u16"), ("columns", "u16")),
    "readings": (("unit_ns", "u32"), ("rows", "u16"), ("columns", "u16")),
    "mvm_result": (
        ("returns", "u8"), ("axes", "u8"), *_PAD_1, *_PAD_1, ("saturated", "u32"), ("conversions", "u32"),
    ),
    "length": (("length", "u32"),),
    "status": (
        ("temperature_c", "f64"), ("outputs_on", "u8"), *_PAD_1, *_PAD_1, *_PAD_1, ("programmed_cells", "u32"),
        ("pulses_total", "u32"),
    ),
    "progress": (("done", "u32"), ("total", "u32"), ("failed", "u32")),
    "error": (("code", "u16"), ("value", "f64"), ("limit", "f64")),
    "image_state": (("size", "u32"), ("room", "u32"), ("complete", "u8"), *_PAD_1, *_PAD_1, *_PAD_1),
    "journal_state": (("depth", "u16"), ("count", "u16")),
    "journal_entry": (("nonce", "u32"), ("request_id", "u16"), ("op", "u8"), *_PAD_1),
    "challenged": (("counter", "u64"), ("level", "u8"), ("tries", "u8"), *_PAD_1, *_PAD_1),
    "authorise": (("level", "u8"), *_PAD_1, *_PAD_1, *_PAD_1),
    "option": (("kind", "u8"), ("size", "u16")),
    "slot": (("sequence", "u32"), ("size", "u32"), ("check", "u32")),
    "authority_record": (("counter", "u64"), ("challenges", "u64"), ("failures", "u32")),
}  # fmt: skip


def layout(name: str) -> struct.Struct:
    """How the fields called ``name`` are packed."""
    return struct.Struct("<" + "".join(TYPES[kind] for _, kind in LAYOUTS[name]))
