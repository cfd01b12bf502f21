"""Ray: started on this machine, or joined where it runs."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import ray

from ctkd_search.errors import UserError
from ctkd_search.resources import Node, local_node
from ctkd_search.search.short_place import is_too_long, ray_directory, short_directory
from ctkd_search.text import first_line

# No snapshot of the experiment in between: nothing is ever restored from one.
_NEVER = "1000000000"
# Processes of trials that start at the same time; one after the other, a large cluster would be long in filling up.
_STARTING_AT_ONCE = "8"
# The directory that was made for Ray, where its usual one has too long a path.
_own_directory: list[Path] = []


def start_ray(address: str | None) -> list[Node]:
    """Starts Ray, or joins a cluster.

    Args:
        address: The cluster's address; None starts Ray on this machine.

    Returns:
        The machines.

    Raises:
        UserError: The cluster cannot be joined.
    """
    # Ray's own tables, reports and loggers stay away; the observer sees to all of that.
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_GLOBAL_CHECKPOINT_S=_NEVER,
        TUNE_MAX_PENDING_TRIALS_PG=_STARTING_AT_ONCE,
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    # Ray would change it for an unset variable in a later version, and warns until then.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # "local": a cluster that happens to run on this machine is joined only when asked for.
    options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    if address:
        _knock(address)
    else:
        here = local_node()
        # Only this machine can reach it.
        options |= {"_node_ip_address": "127.0.0.1", "num_gpus": here.gpus, "num_cpus": here.cpus}
        if is_too_long(ray_directory()):
            _own_directory.append(short_directory())
            options["_temp_dir"] = str(_own_directory[-1])
    try:
        ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        stop_ray()
        reason = first_line(error)
        if address:
            raise UserError(f"cannot join the Ray cluster at {address} ({reason}); check the address") from None
        raise UserError(
            f"cannot start Ray ({reason}); set RAY_TMPDIR to a short directory that can be written to"
        ) from None
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(found.get("GPU", 0.0), int(found.get("CPU", 0))) for found in resources]


def stop_ray() -> None:
    """Leaves the cluster, or stops what was started, and removes the directory that was made for it."""
    ray.shutdown()
    while _own_directory:
        shutil.rmtree(_own_directory.pop(), ignore_errors=True)


def _knock(address: str) -> None:
    """Raises UserError if nobody listens at a cluster's address: Ray itself would wait for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return  # "auto", say, which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot join the Ray cluster at {address} ({reason}); check the address") from None
