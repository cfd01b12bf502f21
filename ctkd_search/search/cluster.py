"""The start of Ray on this machine, and the joining of a cluster."""

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

# Seconds between snapshots of the experiment, which are never restored: practically none.
_NEVER = "1000000000"
# Worker processes that start at the same time; one after the other, they would fill a large cluster slowly.
_STARTING_AT_ONCE = "8"
# The directory that was made for Ray because the path of its usual one is too long.
_own_directory: list[Path] = []


def start_ray(address: str | None) -> list[Node]:
    """Starts Ray, or joins a cluster.

    Args:
        address: The cluster's address; None starts Ray on this machine.

    Returns:
        The nodes of the cluster.

    Raises:
        UserError: The cluster cannot be joined.
    """
    # Ray's own tables, reports and loggers are switched off; the observer replaces them.
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_GLOBAL_CHECKPOINT_S=_NEVER,
        TUNE_MAX_PENDING_TRIALS_PG=_STARTING_AT_ONCE,
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    # Ray warns that a later version will change the default of this variable.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # "local": a cluster that happens to run on this machine is joined only where an address asks for it.
    options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    if address:
        _check_reachable(address)
    else:
        here = local_node()
        # Only this machine can connect to it.
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
            raise UserError(
                f"cannot join the Ray cluster at {address} ({reason}); check the address and that the cluster runs"
            ) from None
        raise UserError(
            f"cannot start Ray ({reason}); set RAY_TMPDIR to a writable directory with a short path"
        ) from None
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(found.get("GPU", 0.0), int(found.get("CPU", 0))) for found in resources]


def stop_ray() -> None:
    """Leaves the cluster, or stops the one that was started, and removes the directory that was made for it."""
    ray.shutdown()
    while _own_directory:
        shutil.rmtree(_own_directory.pop(), ignore_errors=True)


def _check_reachable(address: str) -> None:
    """Raises UserError if nothing listens at a cluster's address: Ray itself would wait for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return  # for example "auto", which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot join the Ray cluster at {address} ({reason}); check the address and that the cluster runs"
        ) from None
