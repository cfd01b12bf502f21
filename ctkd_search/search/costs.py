"""The costs of a space's students, and the exclusion of pairs beyond its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
import torch

from ctkd_search.data import Splits
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.geometry import Geometry
from ctkd_search.models.cost import costs
from ctkd_search.pairs import split_pair
from ctkd_search.resources import Share
from ctkd_search.search.failures import cause_of
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import COSTS
from ctkd_search.students.int8_objectives import int8_costs
from ctkd_search.text import digits


def measure_costs(space: Space, splits: Splits, share: Share) -> dict[str, dict[str, float]]:
    """Measures the costs of each student of a space, one after the other, with a trial's share of the machine.

    Raises:
        WorkFailed: A student could not be measured.
    """
    found = {}
    for student in dict.fromkeys(split_pair(pair).student for pair in space.pairs()):
        task = ray.remote(_measured).options(num_cpus=share.cpus, num_gpus=share.gpus)
        try:
            int8 = space.strategy.quantises
            found[student] = ray.get(task.remote(student, splits.geometry, share.device, share.cpus, int8))
        except ray.exceptions.RayError as error:
            raise WorkFailed(
                f"the student {student} could not be measured: {cause_of(error)}; correct that, or leave it out of "
                "search.pair"
            ) from None
    return found


def _measured(student: str, geometry: Geometry, device: str, threads: int, int8: bool) -> dict[str, float]:
    torch.set_num_threads(threads)
    found = costs(student, geometry, torch.device(device))
    return {**found, **int8_costs(student, geometry, threads)} if int8 else found


def within_limits(space: Space, known: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> Space:
    """Returns the space without the pairs whose student exceeds the limits; each excluded pair is reported.

    Raises:
        UserError: No pair is left.
    """
    limits = space.strategy.limits.given()
    left, excluded = [], []
    for pair in space.pairs():
        student = split_pair(pair).student
        over = [cost for cost, limit in limits.items() if known[student][cost] > limit]
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
