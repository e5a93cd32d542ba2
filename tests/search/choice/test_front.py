from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.choice.front import Front, Member, front_of, non_dominated, read_front, write_front
from search.errors import NewerFile, SearchFileError
from search.space.candidate import CandidateCost
from search.space.file import parse_space

from ..small_spaces import SMALL

SPACE = parse_space(SMALL, "small.toml")


def member(number: int, accuracy: float, edp_mj_ms: float, macros: int = 5) -> Member:
    network = SPACE.decode(SPACE.every()[number])
    return Member(network, CandidateCost(1e6, edp_mj_ms * 1e9, macros, 10), accuracy + 1, accuracy)


def front(*members: Member) -> Front:
    return front_of(members, target="chip", method="test", seed=1, simulations=len(members))


THREE = (member(0, 90.0, 4.0), member(1, 85.0, 1.0), member(2, 60.0, 0.25))


def test_a_network_that_another_beats_in_everything_is_not_on_the_front() -> None:
    assert front(*THREE, member(3, 84.0, 1.5)).members == front(*THREE).members


def test_fewer_macros_are_a_reason_to_stay() -> None:
    assert len(front(*THREE, member(3, 84.0, 1.5, macros=2)).members) == 4


def test_what_does_not_fit_is_never_reported() -> None:
    assert front(member(3, 99.0, 0.1, macros=11), *THREE).members == front(*THREE).members


def test_ends_and_knee_of_a_front() -> None:
    found = front(*THREE)
    assert found.most_accurate == THREE[0]
    assert found.most_efficient == THREE[2]
    assert found.knee == THREE[1]


def test_a_shortlist_holds_the_ends_and_the_knee_and_then_what_adds_most() -> None:
    crowd = [member(10 + i, 86 + 0.01 * i, 1.1 + 0.001 * i) for i in range(20)]
    far = member(40, 75.0, 0.5)
    short = front(*THREE, *crowd, far).shortlist(4)
    assert set(THREE) <= set(short) or far in short
    assert {THREE[0], THREE[2], far} <= set(short)
    assert len(front(*THREE).shortlist(8)) == 3


table = st.lists(st.tuples(*(st.integers(0, 5),) * 2), min_size=1, max_size=30)


@given(table, st.booleans())
def test_the_front_is_every_row_that_no_other_beats(rows: list[tuple[int, int]], third: bool) -> None:
    points = np.array([(*row, sum(row) % 3) if third else row for row in rows], float)
    beaten = [any((q <= p).all() and (q < p).any() for q in points) for p in points]
    assert non_dominated(points).tolist() == [i for i, b in enumerate(beaten) if not b]


def test_a_front_file_reads_back_and_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    found = front(*THREE)
    write_front(tmp_path / "a.json", found)
    write_front(tmp_path / "b.json", front(*reversed(THREE)))
    assert read_front(tmp_path / "a.json") == found
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_wrong_front_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    write_front(path, front(*THREE))
    good = json.loads(path.read_text())
    for wrong, text in (
        (good | {"format": "x"}, "format"),
        (good | {"members": [{}]}, "is not a front"),
        (good | {"members": 3}, "is not a front"),
        ([], "format"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(SearchFileError, match=text):
            read_front(path)
    path.write_text(json.dumps(good | {"version": "2.0"}))
    with pytest.raises(NewerFile):
        read_front(path)


def test_a_large_front_keeps_its_ends() -> None:
    many = [member(i, 50 + i * 0.4, 1.1**i) for i in range(100)]
    found = front(*many)
    assert len(found.members) == 64
    assert {many[0], many[99]} <= set(found.members)
    assert replace(found, seed=2) != found
