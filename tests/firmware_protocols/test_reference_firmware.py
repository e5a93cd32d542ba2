"""The C firmware against the frozen vectors, under address and undefined-behaviour checks."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_protocols.codec import decode
from firmware_protocols.errors import MalformedMessage

from .c_header import HEADER, c_header
from .firmware_bench import FirmwareBench

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
GOLDEN = Path(__file__).parent / "golden"
OPERATIONS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "mapping" / "golden" / "digital_ops.json").read_text("utf-8")
)
REQUESTS = (
    "authorise", "challenge", "describe", "drop_authority", "hold_program", "image_begin", "image_chunk",
    "image_commit", "image_status", "image_tile", "journal", "load_layer", "load_layer_reads", "load_plan", "mvm_i16",
    "mvm_i8", "mvm_reads", "mvm_u8", "outputs_off", "program_tile", "pulse", "read_cells", "reset", "run_plan",
    "status", "sweep", "sweep_reads", "wait",
)  # fmt: skip
REPLIES = (
    "cell_readings", "challenged", "description", "done", "error", "hello_reject", "hello_reply", "image_state",
    "image_state_none", "journal_state", "mvm_result_i16", "mvm_result_i32", "mvm_result_raw", "mvm_result_u8",
    "plan_result",    "progress", "status_reply", "tile_programmed",
)  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[FirmwareBench]:
    made = FirmwareBench()
    yield made
    made.close()


def golden(name: str) -> tuple[list[str], bytes]:
    head, _, digits = (GOLDEN / f"{name}.hex").read_text("utf-8").partition("\nbytes\n")
    return head.splitlines(), bytes.fromhex(digits)


def test_the_checked_in_header_is_what_the_python_side_generates() -> None:
    assert HEADER.read_text("utf-8") == c_header()


def test_every_golden_file_is_run_through_c() -> None:
    frames = {path.stem for path in GOLDEN.glob("frame_*.hex")}
    assert {path.stem for path in GOLDEN.glob("*.hex")} == {*REQUESTS, *REPLIES, *frames, "hello"}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_as_its_golden_file_says(bench: FirmwareBench, name: str) -> None:
    lines, data = golden(name)
    assert bench.ask("M", data).decode().splitlines() == lines[2:]


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_has_the_frozen_bytes(bench: FirmwareBench, name: str) -> None:
    assert bench.ask("S", name.encode()) == golden(name)[1]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("frame_*.hex")), ids=lambda path: path.stem)
def test_a_frame_is_read_and_written_as_frozen(bench: FirmwareBench, path: Path) -> None:
    lines, data = golden(path.stem)
    assert bench.ask("F", data).decode().splitlines() == [
        line.rstrip() if "payload" not in line else line for line in lines[1:]
    ]
    fields = dict(line.split(" = ") for line in lines[1:] if not line.endswith("= "))
    sizes = {"flags": 1, "channel": 1, "session": 2, "sequence": 2, "ack": 2, "selective": 4}
    header = b"".join(int(fields[name]).to_bytes(size, "little") for name, size in sizes.items())
    assert bench.ask("E", header + bytes.fromhex(fields.get("payload", ""))) == data


def test_cut_and_longer_requests_are_malformed_or_read_never_worse(bench: FirmwareBench) -> None:
    rng = np.random.default_rng(5)
    seen = set()
    for name in REQUESTS:
        data = golden(name)[1]
        for size in range(len(data)):
            seen.add(bench.ask("M", data[:size]).split(b"\n")[0])
        for _ in range(200):
            damaged = bytearray(data)
            for _ in range(rng.integers(1, 4)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            bench.ask("M", bytes(damaged) + rng.bytes(int(rng.integers(0, 4))))
    assert b"malformed" in seen


@pytest.mark.parametrize(
    ("name", "at", "reads"),
    [("mvm_reads", 10, 257), ("mvm_i8", 10, 2), ("mvm_i16", 10, 2), ("load_layer_reads", 63, 3),
     ("load_layer_reads", 63, 257)],
)  # fmt: skip
def test_reads_that_cannot_be_added_or_divided_are_malformed(
    bench: FirmwareBench, name: str, at: int, reads: int
) -> None:
    data = bytearray(golden(name)[1])
    decode(bytes(data))
    data[at : at + 2] = reads.to_bytes(2, "little")
    with pytest.raises(MalformedMessage, match="reads"):
        decode(bytes(data))
    assert bench.ask("M", bytes(data)) == b"malformed\n"


def test_damaged_requests_never_reach_beyond_their_bytes(bench: FirmwareBench) -> None:
    """20,000 of each; HIL_FUZZ=10000000 makes it as many in all."""
    count = int(os.environ.get("HIL_FUZZ", 20_000 * len(REQUESTS))) // len(REQUESTS)
    well = malformed = 0
    for name in REQUESTS:
        words = bench.ask("Z", golden(name)[1], count * 1e-6).split()
        assert sum(map(int, words)) == count
        well, malformed = well + int(words[0]), malformed + int(words[1])
    assert well > 0.05 * count
    assert malformed > count


def flat_rule(rule: dict[str, Any], channel: int = 0) -> list[int]:
    at = channel % len(rule["multiplier"])
    return [rule["multiplier"][at], rule["shift"][at], rule["low"], rule["high"]]


def test_requantisation_equals_the_golden_vectors(bench: FirmwareBench) -> None:
    for case in OPERATIONS["requantise"]:
        for row, wanted in zip(case["values"], case["expected"], strict=True):
            found = [bench.numbers("requantise", *flat_rule(case["rule"], c), x)[0] for c, x in enumerate(row)]
            assert found == wanted


def test_bias_and_requantisation_equal_the_golden_vectors(bench: FirmwareBench) -> None:
    for case in OPERATIONS["finish"]:
        for row, wanted in zip(case["sums"], case["expected"], strict=True):
            biased = zip(row, case["bias"], strict=True)
            found = [bench.numbers("finish", *flat_rule(case["rule"], c), x, b)[0] for c, (x, b) in enumerate(biased)]
            assert found == wanted


def test_addition_equals_the_golden_vectors(bench: FirmwareBench) -> None:
    for case in OPERATIONS["add"]:
        rules = [*flat_rule(case["rescale"][0]), *flat_rule(case["rescale"][1]), *flat_rule(case["rule"])]
        for first, second, wanted in zip(case["first"], case["second"], case["expected"], strict=True):
            found = [bench.numbers("add", *rules, a, b)[0] for a, b in zip(first, second, strict=True)]
            assert found == wanted


def test_concatenation_rescales_as_the_golden_vectors(bench: FirmwareBench) -> None:
    for case in OPERATIONS["concat"]:
        for image, wanted in enumerate(case["expected"]):
            parts = zip(case["parts"], case["rescale"], strict=True)
            found = [bench.numbers("requantise", *flat_rule(r), x)[0] for part, r in parts for x in part[image]]
            assert found == wanted


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_pooling_equals_the_golden_vectors(bench: FirmwareBench, kind: str) -> None:
    for case in OPERATIONS[kind]:
        rule = flat_rule(case["rule"]) if kind == "avg_pool" else [0, 0, 0, 0]
        for image, wanted in zip(case["codes"], case["expected"], strict=True):
            for plane, pooled in zip(image, wanted, strict=True):
                shape = [len(plane), len(plane[0]), *case["kernel"], *case["stride"], *case["padding"]]
                found = bench.numbers(kind, *rule, *shape, *itertools.chain(*plane))
                assert found == list(itertools.chain(*pooled))


def test_column_corrections_equal_the_python_ones(bench: FirmwareBench) -> None:
    from cim.chip.correction import Correction, apply_correction

    rng = np.random.default_rng(3)
    for _ in range(200):
        total, inputs = int(rng.integers(-(1 << 20), 1 << 20)), int(rng.integers(0, 1 << 15))
        gain, input_gain = int(rng.integers(-(1 << 22), 1 << 22)), int(rng.integers(-(1 << 16), 1 << 16))
        offset, shift = int(rng.integers(-(1 << 40), 1 << 40)), int(rng.integers(12, 30))
        one = Correction(np.array([gain], np.int32), np.array([offset]), np.array([input_gain], np.int32), shift)
        wanted = apply_correction(np.array([total], np.int32), np.array(inputs), one)
        assert bench.numbers("correct", total, inputs, gain, offset, input_gain, shift) == wanted.tolist()


def test_hashes_equal_the_published_vectors(bench: FirmwareBench) -> None:
    """FIPS 180-4's examples, and the first of RFC 4231 (its key filled with zeros, as HMAC itself fills it)."""
    nist = {
        b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    }
    for data, wanted in nist.items():
        assert bench.ask("H", data).hex() == wanted
    key = (b"\x0b" * 20).ljust(32, b"\0")
    wanted = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert bench.ask("I", key + b"Hi There").hex() == wanted


def test_hashes_of_every_length_equal_pythons(bench: FirmwareBench) -> None:
    rng = np.random.default_rng(8)
    for size in (*range(130), 1000):
        data, key = rng.bytes(size), rng.bytes(32)
        assert bench.ask("H", data) == hashlib.sha256(data).digest()
        assert bench.ask("I", key + data) == hmac.digest(key, data, "sha256")
