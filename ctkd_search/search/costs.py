"""What the students of a space cost, and which pairs cost too much."""

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
from ctkd_search.text import digits

_UNITS = {"params": "parameters", "multiply_adds": "multiply-adds", "latency_ms": "ms for an image"}


def measure_costs(space: Space, splits: Splits, share: Share) -> dict[str, dict[str, float]]:
    """What each student of a space costs, measured one after the other with what a trial gets of the machine.

    Raises:
        WorkFailed: A student could not be measured.
    """
    found = {}
    for student in dict.fromkeys(split_pair(pair).student for pair in space.pairs()):
        task = ray.remote(_measured).options(num_cpus=share.cpus, num_gpus=share.gpus)
        try:
            found[student] = ray.get(task.remote(student, splits.geometry, share.device, share.cpus))
        except ray.exceptions.RayError as error:
            raise WorkFailed(
                f"the student {student} could not be measured: {cause_of(error)}; mend that, or leave it out of "
                "search.pair"
            ) from None
    return found


def _measured(student: str, geometry: Geometry, device: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    return costs(student, geometry, torch.device(device))


def within_limits(space: Space, known: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> Space:
    """The space without the pairs whose student costs more than the limits allow; each is said.

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
        what = ", ".join(
            f"{digits(known[student][cost])} {_UNITS[cost]}, more than {digits(limits[cost])}" for cost in over
        )
        excluded.append(f"pair {pair} is left out: {student} has {what}")
    if not left:
        raise UserError("no pair is within the limits; raise them or add a smaller student\n  " + "\n  ".join(excluded))
    for line in excluded:
        say(line)
    return space.with_pairs(left)
