"""Distribution of the machines' GPUs and cores among trials."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ctkd_search.cores import usable_cores
from ctkd_search.errors import UserError
from ctkd_search.space.baselines import baseline_pairs
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import Resources
from ctkd_search.versions import processor


@dataclass(frozen=True)
class Node:
    """A machine.

    Attributes:
        gpus: Its GPUs.
        cpus: Its CPU cores.
    """

    gpus: float
    cpus: int


@dataclass(frozen=True)
class Share:
    """The resources of one trial.

    Attributes:
        gpus: GPUs, or a fraction of one.
        cpus: CPU cores, and threads.
        concurrent: Trials at once.
        cores: Cores of the largest machine that trials run on, or as many of them as one process may compute on.
    """

    gpus: float
    cpus: int
    concurrent: int
    cores: int = field(default=1, compare=False)

    @property
    def device(self) -> str:
        """Returns the type of the device that a trial computes on."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        """Returns a description of the shares."""
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus > 1)} and " if self.gpus else ""
        threads = f"{self.cpus} CPU thread{'s' * (self.cpus > 1)}"
        return f"{self.concurrent} trial{'s' * (self.concurrent > 1)} at once, each with {gpus}{threads}"


def local_node() -> Node:
    """Returns the resources of this machine that this process may use, for a search that starts Ray here."""
    import torch

    return Node(torch.cuda.device_count(), usable_cores())


def describe(nodes: Sequence[Node]) -> str:
    """Returns a description of the machines; processor and GPU are named as this machine's are."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    text = f"{cpus} CPU core{'s' * (cpus > 1)} ({processor()})"
    if gpus:
        text += f", {gpus:g} GPU{'s' * (gpus > 1)} ({_gpu()})"
    return text if len(nodes) == 1 else f"{text} on {len(nodes)} machines"


def _gpu() -> str:
    """Returns the first GPU's name from the driver, which takes no memory of the GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return "of another machine"


def on_device(resources: Resources, device: str | None) -> Resources:
    """Returns the settings of resources for the device of a command's option.

    Args:
        resources: The settings.
        device: ``cpu``, ``cuda``, or None for any.

    Raises:
        UserError: The two contradict each other, or there is no GPU on this machine.
    """
    if device is None:
        return resources
    given = resources.gpus_per_trial
    if device == "cpu":
        if given or resources.trials_per_gpu is not None:
            raise UserError("--device cpu cannot be combined with GPUs for each trial; leave one of the two out")
        return dataclasses.replace(resources, gpus_per_trial=0.0)
    if given == 0:
        raise UserError("--device cuda cannot be combined with --gpus-per-trial 0; leave one of the two out")
    if resources.address is None:
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda needs a GPU, but torch finds none; leave it out to use the CPU")
    whole = given is None and resources.trials_per_gpu is None
    return dataclasses.replace(resources, gpus_per_trial=1.0) if whole else resources


def thread_limit() -> int | None:
    """Returns the threads of a process by ``OMP_NUM_THREADS``, which torch reads too; None if it is not set."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() and int(threads) else None


def share_out(
    resources: Resources, nodes: Sequence[Node], trials: int | None = None, limit: int | None = None
) -> Share:
    """Decides on the resources of one trial. A trial runs on one machine, which must have all of them.

    By default, a trial gets one GPU if there are any, and else one core; more cores if there are fewer trials than fit.

    Args:
        resources: The settings.
        nodes: The machines.
        trials: Number of trials in all; None for more than fit.
        limit: Most threads of a process, unless the settings have a number of cores; None for no limit.

    Raises:
        UserError: The settings need more resources than there are.
    """
    gpus = max(node.gpus for node in nodes)
    if resources.trials_per_gpu is not None and not gpus:
        raise UserError("resources.trials_per_gpu is given, but no GPU was found; leave it out to use the CPU")
    per_trial = resources.gpus_per_trial
    if isinstance(resources.trials_per_gpu, int):
        per_trial = 1 / resources.trials_per_gpu
    if per_trial is None:
        per_trial = 1.0 if gpus else 0.0
    if per_trial > gpus:
        found = f"{gpus:g}" if gpus else "none"
        raise UserError(
            f"resources.gpus_per_trial is {per_trial:g}, but the GPUs found are {found}; lower it, or set it to 0 for "
            "the CPU"
        )
    able = [node for node in nodes if not per_trial or _room(per_trial, node.gpus)]
    cores = max(node.cpus for node in able)
    if not cores:
        where = " on machines with enough GPUs" if per_trial else ""
        raise UserError(
            f"Ray has no CPU core{where}, of which every trial needs one; wait until a worker has joined the cluster, "
            "or start Ray there with --num-cpus"
        )
    wanted = resources.concurrent_trials
    by_gpu = sum(_room(per_trial, node.gpus) if per_trial else node.cpus for node in able)
    at_once = wanted or (by_gpu if trials is None else min(by_gpu, trials))
    cpus_per_trial = resources.cpus_per_trial
    if cpus_per_trial is None:
        cpus_per_trial = min(cores, limit or cores, max(1, sum(node.cpus for node in able) // at_once))
        # Cores of two machines do not add up.
        fixed = wanted or trials is not None
        while fixed and cpus_per_trial > 1 and _rooms(able, per_trial, cpus_per_trial) < at_once:
            cpus_per_trial -= 1
    if cpus_per_trial > cores:
        raise UserError(f"resources.cpus_per_trial is {cpus_per_trial}, but there are {cores} cores; lower it")
    most = max(1, _rooms(able, per_trial, cpus_per_trial))
    if wanted and wanted > most:
        raise UserError(
            f"resources.concurrent_trials is {wanted}, but at {per_trial:g} GPUs and {cpus_per_trial} cores a trial "
            f"at most {most} can run at once; lower it, or lower the resources of a trial"
        )
    at_once = wanted or (most if trials is None else min(most, trials))
    return Share(per_trial, cpus_per_trial, at_once, min(cores, limit or cores))


def most_at_once(space: Space, explored: int = 0) -> int:
    """Returns the most trials of a search that could run at once, if the machines had room for them.

    These are the searched ones beside the baselines, or those that confirm the winner, whichever are more.

    Args:
        space: The space.
        explored: Number of trials that Optuna has suggested already, which may be more than the budget has now.
    """
    confirm, names = space.strategy.confirm, space.strategy.baselines
    searched = max(space.budget.trials, explored) + len(baseline_pairs(names, space.pairs()))
    # The baselines that are confirmed are those of the winners' pairs.
    repeated = confirm.seeds * (space.confirmations() + len(names)) if confirm else 0
    return max(searched, repeated)


def teacher_gpus(share: Share) -> float:
    """Returns the GPUs of a teacher's training: whole ones, since a part of one has room for a student.

    Args:
        share: Resources of a trial.
    """
    return max(1.0, share.gpus) if share.gpus else 0.0


def teachers_at_once(share: Share) -> int:
    """Returns the number of teachers that are trained at once: where trials share GPUs, one on each of those.

    Args:
        share: Resources of a trial.
    """
    sharing = _room(share.gpus, 1) if 0 < share.gpus < 1 else 1
    return math.ceil(share.concurrent / sharing)


def teacher_threads(share: Share, runs: int) -> int:
    """Returns the CPU threads of a teacher's training, on one machine: while teachers are trained nothing else runs.

    Args:
        share: Resources of a trial.
        runs: Number of teachers that are trained.
    """
    at_once = max(1, min(runs, teachers_at_once(share)))
    return max(share.cpus, min(share.cores, share.cpus * share.concurrent // at_once))


def _rooms(nodes: Sequence[Node], gpus: float, cpus: int) -> int:
    """Returns the number of trials that fit on the machines."""
    return sum(min(_room(gpus, node.gpus) if gpus else node.cpus, node.cpus // cpus) for node in nodes)


def _room(per_trial: float, gpus: float) -> int:
    """Returns the number of trials that fit on the GPUs; a fraction of a GPU is on one GPU."""
    if per_trial >= 1:
        return math.floor(gpus / per_trial)
    # 1e-9: three thirds of a GPU are one GPU, whatever the rounding.
    return int(gpus) * math.floor(1 / per_trial + 1e-9)
