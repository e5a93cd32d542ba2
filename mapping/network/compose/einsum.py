"""Sums of products by letters, of one or two operands, as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import permute, reshape
from mapping.network.compose.products import product
from mapping.network.compose.refusal import need
from mapping.network.compose.statistics import reduce
from mapping.network.compose.values import Operand


def einsum(c: Composer, equation: str, operands: Sequence[Operand]) -> Operand:
    """``"bhid,bhjd->bhij"`` of one or two operands, each letter once in each."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    good = bool(arrow) and len(terms) == len(operands) <= 2 and "." not in equation
    good = good and all(len(set(t)) == len(t) == len(x.shape) for t, x in zip(terms, operands, strict=False))
    need(good, f"einsum {equation!r}", "matrix products and permutations")
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
