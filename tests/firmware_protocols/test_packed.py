"""Packed bodies: frozen bytes, every body comes back as it was, and what is no code is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.codec import decode, encode
from firmware_protocols.coding.packed import ANSWER_PACKED, PACKED, packed, unpacked
from firmware_protocols.errors import MalformedMessage
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Capability, Mvm, Progress, Returns, TileAddress

from .test_golden import GOLDEN, golden_bytes, text


def product(codes: np.ndarray) -> Mvm:
    return Mvm(Returns.SUMS, TileAddress(0, 0, codes.shape[1], 0, 4), 0, 1, 1, False, 0, 1, 0, codes.astype(np.int16))


BODIES = {
    "one_bit_inputs": lambda rng: rng.integers(0, 2, (16, 24)),
    "nothing_driven": lambda rng: np.zeros((16, 24), int),
    "sums": lambda rng: np.rint(rng.normal(0, 300, (16, 24))),
    "ends_of_the_interval": lambda rng: np.tile([0, 255, 1, 254], (32, 6)),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_packed_body_has_the_frozen_bytes_and_comes_back(name: str) -> None:
    plain = encode(product(BODIES[name](np.random.default_rng(5))), 7, flags=ANSWER_PACKED)
    data, path = packed(plain), GOLDEN / "packed" / f"{name}.hex"
    assert data[1] == PACKED | ANSWER_PACKED
    assert len(data) < len(plain)
    assert bytes(unpacked(data)) == plain
    assert encode(decode(data).message, 7, flags=ANSWER_PACKED) == plain
    expected = text([f"packed = {plain.hex()}"], data)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(expected, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written: read it, then commit it")
    assert path.read_text(encoding="utf-8") == expected
    assert decode(golden_bytes(path)).request_id == 7


def test_what_gets_no_shorter_goes_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(-128, 128, (8, 64))
    for codes in (noise, np.zeros((1, 4), int)):
        plain = encode(product(codes))
        assert packed(plain) is plain


def test_damaged_codes_are_malformed_whatever_they_hold() -> None:
    rng = np.random.default_rng(1)
    data = packed(encode(product(rng.integers(0, 2, (16, 24)))))
    for _ in range(300):
        broken = bytearray(data[: rng.integers(5, len(data) + 1)])
        broken[rng.integers(4, len(broken))] ^= 1 << int(rng.integers(8))
        try:
            decode(bytes(broken))
        except MalformedMessage:
            continue
    with pytest.raises(MalformedMessage, match="at most 100"):
        unpacked(data, most=100)
    with pytest.raises(MalformedMessage, match="no code"):
        unpacked(data + b"\0")


@pytest.mark.parametrize("faults", [{}, {"loss": 0.1, "corrupt": 0.05, "duplicate": 0.1, "reorder": 0.2}], ids=str)
def test_both_roles_pack_where_both_can_and_answer_alike(kit: SimpleNamespace, faults: dict[str, float]) -> None:
    requests = [product(np.random.default_rng(n).integers(0, 2, (40, 64))) for n in range(6)]
    answers, sent = [], []
    for packs, version in ((False, 0x0104), (True, 0x0104), (True, 0x0103)):
        chip = ChipServer(kit.CountingChip(), boot_id=1, versions=(0x0100, version))
        line = kit.Line(HostLink(nonce=1, packs=packs), chip, kit.Faults(**faults), 1)
        line.host.open(line.now_s)
        assert line.run(lambda line=line: line.host.up, 10.0)
        assert (Capability.PACKED in line.host.hello.capabilities) == (version == 0x0104)
        answers.append(answered(line, requests))
        sent.append(line.host.counters.bytes_sent)
    assert answers[0] == answers[1] == answers[2]
    if not faults:
        assert sent[1] < 0.3 * sent[0]
        assert sent[2] == sent[0]


def answered(line: Any, requests: list[Any]) -> list[bytes]:
    wanted, found = [line.host.request(request) for request in requests], {}

    def complete() -> bool:
        for request_id, reply, _ in line.host.poll():
            if not isinstance(reply, Progress):
                found[request_id] = encode(reply)
        return len(found) == len(wanted)

    assert line.run(complete, 300.0)
    return [found[request_id] for request_id in wanted]
