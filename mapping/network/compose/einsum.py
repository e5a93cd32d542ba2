"""Sums of products by letters, of one or two operands, as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import permute, reshape
from mapping.network.compose.places import numbered, picked
from mapping.network.compose.products import product
from mapping.network.compose.refusal import need
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand

_DOTS = "αβγδεζηθ"


def einsum(c: Composer, equation: str, operands: Sequence[Operand]) -> Operand:
    """``"bhid,bhjd->bhij"`` of any number of operands, two at a time; dots stand for the same axes in each."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    need(bool(arrow) and len(terms) == len(operands), f"einsum {equation!r}", "matrix products and permutations")
    dots = max(len(x.shape) - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True))
    for n in range(len(terms)):
        missing = len(operands[n].shape) - len(terms[n].replace("...", "")) if "..." in terms[n] else 0
        terms[n] = terms[n].replace("...", _DOTS[dots - missing : dots] if dots else "")
    result = result.replace("...", _DOTS[:dots])
    good = all(len(t) == len(x.shape) for t, x in zip(terms, operands, strict=True)) and len(set(result)) == len(result)
    need(good and dots <= len(_DOTS), f"einsum {equation!r}", "matrix products and permutations")
    parts = [_once(c, t, x) for t, x in zip(terms, operands, strict=True)]
    while len(parts) > 2:
        kept = set(result).union(*(term for term, _ in parts[2:]))
        both = dict.fromkeys(parts[0][0] + parts[1][0])
        middle = "".join(letter for letter in both if letter in kept)
        parts[:2] = [(middle, _contracted(c, parts[:2], middle))]
    return _contracted(c, parts, result)


def _once(c: Composer, term: str, x: Operand) -> tuple[str, Operand]:
    """An operand with each letter once: the diagonal of those that it has twice."""
    numbers = numbered(x) if len(set(term)) < len(term) else None
    while (twice := next((letter for letter in term if term.count(letter) > 1), "")) and numbers is not None:
        first, second = [axis for axis, letter in enumerate(term) if letter == twice][:2]
        numbers = numbers.diagonal(0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + twice
    return term, x if numbers is None else picked(c, x, numbers)


def _contracted(c: Composer, parts: Sequence[tuple[str, Operand]], result: str) -> Operand:
    """The sum of products of one or two operands, each letter once in each."""
    terms, operands = [term for term, _ in parts], [x for _, x in parts]
    for n, (term, x) in enumerate(zip(terms, operands, strict=True)):
        others = result + "".join(terms[:n] + terms[n + 1 :])
        gone = [axis for axis, letter in enumerate(term) if letter not in others]
        if gone:
            operands = [reduce(c, x, "sum", gone) if m == n else other for m, other in enumerate(operands)]
            terms[n] = "".join(letter for letter in term if letter in others)
    if len(terms) == 1:
        return permute(c, operands[0], [terms[0].index(letter) for letter in result])
    left, right = terms
    sizes = {
        letter: size
        for term, x in zip(terms, operands, strict=True)
        for letter, size in zip(term, x.shape, strict=True)
    }
    batch = [letter for letter in left if letter in right and letter in result]
    summed = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    lead = [sizes[letter] for letter in batch]
    count = [math.prod(sizes[letter] for letter in part) for part in (rows, summed, columns)]
    first = permute(c, operands[0], [left.index(letter) for letter in batch + rows + summed])
    second = permute(c, operands[1], [right.index(letter) for letter in batch + summed + columns])
    first = reshape(c, first, (*lead, count[0], count[1]))
    second = reshape(c, second, (*lead, count[1], count[2]))
    found = reshape(c, product(c, first, second), (*lead, *(sizes[letter] for letter in rows + columns)))
    order = batch + rows + columns
    return permute(c, found, [order.index(letter) for letter in result])
