"""A chip description that differs is told in words where it is the same file with other macros."""

from __future__ import annotations

from cim.chip.file import description_words, load_chip


def test_the_same_file_with_other_macros_is_known_by_their_number() -> None:
    here, there = load_chip("lab-128", macros=64), load_chip("lab-128", macros=16)
    assert description_words(there.digest, here) == "lab-128 with 16 macros"
    assert description_words(here.digest, here) == "lab-128 with 64 macros"


def test_another_file_is_said_to_be_one() -> None:
    assert "another file" in description_words("ab" * 32, load_chip("lab-128", macros=64))
