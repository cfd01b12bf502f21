"""The exclusion of pairs whose student costs more than a space accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ctkd_search.errors import UserError
from ctkd_search.pairs import split_pair
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import COSTS
from ctkd_search.text import digits


def within_limits(space: Space, known: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> Space:
    """Returns the space without the pairs whose student exceeds the limits; each excluded pair is reported.

    Args:
        space: The space.
        known: The costs of each student; those that are not known yet exclude none.
        say: Prints a line.

    Raises:
        UserError: No pair is left.
    """
    limits = space.strategy.limits.given()
    left, excluded = [], []
    for pair in space.pairs():
        student = split_pair(pair).student
        over = [cost for cost, limit in limits.items() if known[student].get(cost, 0.0) > limit]
        if not over:
            left.append(pair)
            continue
        excess = ", ".join(
            f"{digits(known[student][cost])} {COSTS[cost].counted}, more than {digits(limits[cost])}" for cost in over
        )
        excluded.append(f"pair {pair} is left out: {student} has {excess}")
    if not left:
        raise UserError(
            "no pair is within the limits; raise the limits or add a smaller student\n  " + "\n  ".join(excluded)
        )
    for line in excluded:
        say(line)
    return space.with_pairs(left)
