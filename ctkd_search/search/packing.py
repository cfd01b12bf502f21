"""The number of trials that share a GPU, from the measured memory of one trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.distill.asked import Asked
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.step import StepPool
from ctkd_search.distill.trainer import evaluate
from ctkd_search.errors import WorkFailed
from ctkd_search.resources import Node, Share, share_out, thread_limit
from ctkd_search.search.failures import cause_of
from ctkd_search.search.tasks import ray_task
from ctkd_search.space.sections import Resources

# Memory that a process takes of a GPU in addition to torch's own: the CUDA context and the libraries' kernels.
_CONTEXT_BYTES = 600_000_000
# The usable share of a GPU's memory: workspaces of convolutions vary in size.
_USABLE = 0.85
_MOST = 16


def trials_that_fit(need: int, total: int, nodes: Sequence[Node]) -> int:
    """Returns the number of trials that share a GPU.

    Args:
        need: Measured bytes of a trial, its CUDA context included.
        total: Bytes of the GPU.
        nodes: The machines; every trial keeps a core busy of the machine that its GPU is in.

    Returns:
        At least 1, at most 16.
    """
    cores = min(node.cpus // math.ceil(node.gpus) for node in nodes if node.gpus)
    return max(1, min(math.floor(total * _USABLE / need), cores, _MOST))


def pack(
    share: Share,
    configs: list[TrialConfig],
    splits_ref: Any,
    teachers: Path,
    asked: Asked,
    resources: Resources,
    nodes: Sequence[Node],
    trials: int | None,
) -> Share:
    """Packs small students onto each GPU, after measuring the largest of them on one.

    Args:
        share: The present share of a trial: a whole GPU.
        configs: A config of each pair.
        splits_ref: The images in Ray's object store.
        teachers: Directory of the teacher cache.
        asked: The outputs of each expert that all trials request: what is recorded here is kept for them.
        resources: The settings.
        nodes: The machines.
        trials: Number of trials in all; None for more than fit.

    Raises:
        WorkFailed: Not even one trial runs on a GPU.
    """
    task = ray_task(_measure, 1, share.cpus)
    try:
        need, total = ray.get(task.remote(configs, splits_ref, str(teachers), asked))
    except ray.exceptions.RayError as error:
        raise WorkFailed(
            f"a trial could not be measured on a GPU: {cause_of(error)}; set resources.trials_per_gpu to a number"
        ) from None
    return _sharing(trials_that_fit(need, total, nodes), resources, nodes, trials)


def looser(share: Share, resources: Resources, nodes: Sequence[Node]) -> Share:
    """Returns a share with one trial less on each GPU, and no more trials at once than before.

    Args:
        share: The present share of a trial: a part of a GPU.
        resources: The settings.
        nodes: The machines.
    """
    return _sharing(max(1, round(1 / share.gpus) - 1), resources, nodes, share.concurrent)


def _sharing(fitting: int, resources: Resources, nodes: Sequence[Node], trials: int | None) -> Share:
    """Returns the share of a trial where some number of trials share each GPU."""
    packed = dataclasses.replace(resources, trials_per_gpu=fitting, gpus_per_trial=None, concurrent_trials=None)
    return share_out(packed, nodes, trials, thread_limit())


def _measure(configs: list[TrialConfig], splits: Splits, teachers: str, asked: Asked) -> tuple[int, int]:
    """Returns the bytes that the largest of some trials takes of a GPU, and the bytes of the GPU."""
    device, steps = torch.device("cuda"), StepPool()
    for config in configs:
        trainer = make_trainer(config, splits, TeacherCache(Path(teachers)), device, steps=steps, asked=asked)
        for _, lesson in zip(range(3), trainer.teachers.lessons(0), strict=False):
            trainer.step(lesson)
        if len(splits.validation):
            evaluate(trainer.student, splits.validation, trainer.normalise, device)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_reserved() + _CONTEXT_BYTES, torch.cuda.get_device_properties(0).total_memory
