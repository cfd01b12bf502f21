"""The costs of a space's students, measured where its trials run."""

from __future__ import annotations

import ray
import torch

from ctkd_search.data import Splits
from ctkd_search.errors import WorkFailed
from ctkd_search.geometry import Geometry
from ctkd_search.models.cost import costs
from ctkd_search.pairs import split_pair
from ctkd_search.resources import Share
from ctkd_search.search.failures import cause_of
from ctkd_search.search.tasks import ray_task
from ctkd_search.space.definition import Space
from ctkd_search.students.int8_objectives import int8_costs


def measure_costs(space: Space, splits: Splits, share: Share) -> dict[str, dict[str, float]]:
    """Measures the costs of each student of a space, one after the other, with a trial's share of the machine.

    Raises:
        WorkFailed: A student could not be measured.
    """
    found = {}
    for student in dict.fromkeys(split_pair(pair).student for pair in space.pairs()):
        task = ray_task(_measured, share.gpus, share.cpus)
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
