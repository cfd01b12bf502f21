"""The processes of a Ray that tests begin: forked from one that has imported torch and Ray already."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.ray_worker import ADDRESS

_HERE = Path(__file__).parent
# A process may work for any job.
_NO_JOB = "ffffffff"


def fork_ray_workers():
    """Has the processes forked that a Ray begins which this process starts from now on; returns who forks them."""
    if ADDRESS not in os.environ:
        _begin_zygote()
    assert all(zygote.poll() is None for zygote in _zygotes), "the process that forks Ray's has ended"
    from ray._private import ray_constants
    from ray._private.node import Node

    # Joined to the directory of Ray's own script, of which an absolute path leaves nothing.
    ray_constants.SETUP_WORKER_FILENAME = str(_HERE / "ray_worker.py")
    # Nor does any test look at what Ray would show of itself, which takes seconds to start.
    Node.start_monitor = Node.start_log_monitor = Node.start_api_server = _start_nothing
    return os.environ[ADDRESS]


def program_environment():
    """The environment of a program that the tests begin: their own, as if they had started no Ray.

    One that they have started says in it how its processes prove who they are. A program that imports Ray meanwhile
    would ask the same of those of any other.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    # Modules of the tests are found as in this process.
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _start_nothing(node, **options):
    """Takes the place of the start of a process."""


def _begin_zygote():
    directory = Path(tempfile.mkdtemp(prefix="ray-zygote-"))
    environment = program_environment()
    # Read when Ray's library is imported. The zygote itself watches the raylets.
    environment |= {"RAY_JOB_ID": _NO_JOB, "RAY_RAYLET_PID": str(os.getpid())}
    # It ends with this process, which holds the other end of its standard input.
    zygote = subprocess.Popen(
        [sys.executable, str(_HERE / "ray_zygote.py"), str(directory)], stdin=subprocess.PIPE, env=environment
    )
    (directory / "zygote").write_text(str(zygote.pid))
    while not (directory / "socket").exists():
        assert zygote.poll() is None, "the process that forks Ray's has ended"
        time.sleep(0.05)
    os.environ[ADDRESS] = str(directory / "socket")
    # Referred to from here as long as this process lives.
    _zygotes.append(zygote)


_zygotes: list[subprocess.Popen] = []


def parent_of(process, parent):
    """The raylet that a process is of if it has been forked for one; for any other, its own parent."""
    if ADDRESS in os.environ:
        directory = Path(os.environ[ADDRESS]).parent
        # An id is used again after its process has ended, by a process of somebody else.
        with contextlib.suppress(OSError, ValueError):  # just being forked, or none of them
            if parent == int((directory / "zygote").read_text()):
                return int((directory / str(process)).read_text())
    return parent
