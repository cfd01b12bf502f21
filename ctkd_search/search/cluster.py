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
from ctkd_search.search.ray_directory import is_too_long, ray_directory, short_directory
from ctkd_search.text import first_line

# Seconds between snapshots of the experiment, which are never restored: practically none.
_NEVER = "1000000000"
# Trials that may wait for a worker process at the same time: as many as there are. Where more trials end within a
# moment than may wait, Ray ends the processes of the others, which the next trials could have taken over.
_WAITING_AT_ONCE = "100000"
# Ray's own tables, reports and loggers are switched off; the observer replaces them.
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": _NEVER,
    "TUNE_MAX_PENDING_TRIALS_PG": _WAITING_AT_ONCE,
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# What the user has set counts.
DEFAULTS = {
    # Ray warns that a later version will change the default of this variable.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # PyTorch asks Linux for huge pages. A batch of large pictures takes tens of megabytes, which Linux hands out and
    # clears page by page: for longer than the pixels take to be normalised, if pages have 4 kB. No number changes.
    "THP_MEM_ALLOC_ENABLE": "1",
}
# Ray sets this one where it starts a cluster, whose processes prove who they are. Left behind, it would ask the same of
# the processes of the next cluster that is joined, and their results would never arrive.
_AUTHENTICATION = "RAY_AUTH_MODE"


class Cluster:
    """Ray as a search uses it.

    If this process has called ``ray.init`` before, as in a notebook, the search uses that Ray with the CPUs and GPUs
    that it has, and leaves it running: the next search starts without the seconds that Ray takes to start. Otherwise
    Ray is started on this machine, or the cluster at the address is joined, and it is stopped or left at the end.

    Args:
        address: The cluster's address; None for the Ray of this process, or one that is started on this machine.

    Raises:
        UserError: Ray cannot be started, the cluster cannot be joined, or this process is connected to another one.
    """

    def __init__(self, address: str | None) -> None:
        self._environment = {name: os.environ.get(name) for name in (*VARIABLES, *DEFAULTS, _AUTHENTICATION)}
        os.environ.update(VARIABLES)
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        # The directory that was made for Ray because the path of its usual one is too long.
        self.directory: Path | None = None
        self._own = not ray.is_initialized()
        try:
            if self._own:
                self._connect(address)
            elif address:
                _check_connected_to(address)
        except BaseException:
            self._restore_environment()
            raise
        self._levels = {name: logging.getLogger(name).level for name in ("ray", "ray.tune")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.nodes = [Node(found.get("GPU", 0.0), int(found.get("CPU", 0))) for found in resources]

    def _connect(self, address: str | None) -> None:
        # "local": a cluster that happens to run on this machine is joined only where an address asks for it.
        options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        if address:
            _check_reachable(address)
        else:
            here = local_node()
            # Only this machine can connect to it.
            options |= {"_node_ip_address": "127.0.0.1", "num_gpus": here.gpus, "num_cpus": here.cpus}
            if is_too_long(ray_directory()):
                self.directory = short_directory()
                options["_temp_dir"] = str(self.directory)
        try:
            ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **options)
        except KeyboardInterrupt:
            self._disconnect()
            raise
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            self._disconnect()
            reason = first_line(error)
            if address:
                raise UserError(
                    f"cannot join the Ray cluster at {address} ({reason}); check the address and that the cluster runs"
                ) from None
            raise UserError(
                f"cannot start Ray ({reason}); set RAY_TMPDIR to a writable directory with a short path"
            ) from None

    def leave(self) -> None:
        """Leaves the cluster, or stops the one that was started; the Ray that this process had before keeps running."""
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        if self._own:
            self._disconnect()
        self._restore_environment()

    def _restore_environment(self) -> None:
        """Gives back the variables as they were: the user's own code may use Tune in this process too."""
        changed = self._own and os.environ.get(_AUTHENTICATION) != self._environment[_AUTHENTICATION]
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if changed:
            # Ray has read it, and has no public way to read it again.
            from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

            Config.initialize("")
            AuthenticationTokenLoader.instance().reset_cache()

    def _disconnect(self) -> None:
        ray.shutdown()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)


def _check_connected_to(address: str) -> None:
    """Raises UserError if this process is connected to another cluster than the one at an address."""
    connected = ray.get_runtime_context().gcs_address
    if address not in (connected, "auto"):
        raise UserError(
            f"cannot join the Ray cluster at {address}: this process is connected to the one at {connected}; leave the "
            f"address out to use that one, or call ray.shutdown() first"
        )


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
