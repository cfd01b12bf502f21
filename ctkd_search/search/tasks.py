"""Ray's tasks on GPUs and cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray


def ray_task(function: Callable[..., Any], gpus: float, cpus: int, **options: Any) -> Any:
    """Returns a function as a task of Ray's, whose process ends with it if it has GPUs.

    A process that has computed on a GPU keeps some of its memory, and cannot change to another GPU; one without is used
    again, which saves the imports.

    Args:
        function: The function.
        gpus: GPUs of the task, or a fraction of one; 0 for none.
        cpus: Its CPU cores.
        options: Further options of Ray's.
    """
    # Ray itself does so only where the decorator has the GPUs, not where they are among the options.
    remote = ray.remote(max_calls=1) if gpus else ray.remote
    return remote(function).options(num_gpus=gpus, num_cpus=cpus, **options)
