"""Numbers of the steps of a calibration: sample numbers and random vectors derive from them.

A step's sample numbers depend on its number alone, so that an interrupted calibration goes on with the same
noise, and a stored one can be measured again. A step that is taken several times has a number for each turn.
"""

from __future__ import annotations

from dataclasses import dataclass

STEP_REQUESTS = 1024  # sample numbers set aside for a step


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The numbers of one step: from ``first`` on, one for each of its turns."""

    name: str
    first: int
    turns: int = 1

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.turns)


@dataclass(frozen=True, slots=True)
class NumberTable:
    """Ranges of numbers below ``limit``, none twice.

    Raises:
        ValueError: two ranges share a name or a number, or one leaves the table.
    """

    limit: int
    ranges: tuple[NumberRange, ...]

    def __post_init__(self) -> None:
        owners: dict[int, str] = {}
        for one in self.ranges:
            if one.turns < 1 or one.first < 0 or one.numbers.stop > self.limit:
                raise ValueError(
                    f"{one.name}: numbers {one.first} to {one.numbers.stop - 1}, not in 0 to {self.limit - 1}"
                )
            if one.name in owners.values():
                raise ValueError(f"{one.name} stands twice in the table")
            for number in one.numbers:
                if number in owners:
                    raise ValueError(f"number {number} is of {owners[number]} and of {one.name}")
                owners[number] = one.name

    def number(self, name: str, turn: int = 0) -> int:
        """The number of a turn of a step, from turn 0 on.

        Raises:
            KeyError: no such step. ValueError: it has fewer turns.
        """
        one = {r.name: r for r in self.ranges}[name]
        if not 0 <= turn < one.turns:
            raise ValueError(f"{name} has numbers for {one.turns} turns, turn {turn} was requested")
        return one.numbers[turn]


# Sample numbers: each step has STEP_REQUESTS of the 2^16 of a calibration.
STEPS = NumberTable(
    (1 << 16) // STEP_REQUESTS,
    (
        NumberRange("idle", 1),
        NumberRange("stuck", 2, turns=6),  # a turn is a cycle of SET and RESET
        NumberRange("pattern", 8),
        NumberRange("age", 9, turns=11),
        NumberRange("repeat", 20),
        NumberRange("cells", 21),
        NumberRange("transfer", 24, turns=14),  # a turn is a batch of vectors
        NumberRange("small", 38),
        NumberRange("blocks", 39),
        NumberRange("network", 40),
        NumberRange("steps", 42),
        NumberRange("before heating", 44),
        NumberRange("hot", 45),
        NumberRange("rows", 46),  # of earlier records
        NumberRange("check", 60),  # whether the pattern is still there when a calibration goes on
    ),
)

# Random targets and vectors of each macro.
VECTORS = NumberTable(
    32,
    (
        NumberRange("pattern", 0),
        NumberRange("blocks", 2),
        NumberRange("network", 3),
        NumberRange("small", 4),
        NumberRange("steps", 5),
        NumberRange("transfer", 16, turns=15),
        NumberRange("hot transfer", 31),
    ),
)
