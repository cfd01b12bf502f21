"""Commands in this process, whose searches share one Ray: it is started once, and torch is imported once."""

import contextlib
import fcntl
import io
import logging
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from ctkd_search import cli
from support.ray_workers import fork_ray_workers

# Processes of trials that the shared Ray runs at once, whatever the machine has.
CPUS = 2
# Where the tests of one run share files; None until they begin.
_shared: Path | None = None


def share_files_in(directory):
    """Says where the tests of one run share files."""
    global _shared
    _shared = directory


def shared_ray():
    """Ray in this process, started when it is first asked for; `stop_ray` ends it."""
    import ray

    if not ray.is_initialized():
        _begin_ray(ray)
    return ray


def ray_with_gpus(gpus):
    """Ray in this process with GPUs that are not there, in place of the one that tests share; `stop_ray` ends it."""
    import ray

    stop_ray()
    _begin_ray(ray, gpus)
    return ray


def _begin_ray(ray, gpus=0):
    fork_ray_workers()
    before = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        num_cpus=CPUS,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=200_000_000,
        logging_level=logging.CRITICAL,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    signal.signal(signal.SIGTERM, before)


def stop_ray():
    """Stops the Ray of this process, if there is one."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
        # What the next one is told is to be as if there had been none.
        os.environ.pop("RAY_AUTH_MODE", None)


def fresh_store(path):
    """Makes an empty MLflow store where there is none: a copy of one that MLflow made, which takes seconds."""
    if path.exists():
        return
    template = _shared / "mlflow.db"
    with open(_shared / "mlflow.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            from mlflow import MlflowClient

            from ctkd_search.tracking.store import quiet_mlflow

            quiet_mlflow()
            made = _shared / "unfinished.db"
            MlflowClient(f"sqlite:///{made}").search_experiments()
            made.rename(template)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, path)


@dataclass(frozen=True)
class Ended:
    """What a command came to: its exit code, what it printed, and its complaints."""

    code: int
    out: str
    err: str

    @property
    def said(self):
        return self.out + self.err


class _Heard(io.StringIO):
    """Keeps what is printed, and lets somebody hear it at once."""

    def __init__(self, heard):
        super().__init__()
        self._heard = heard

    def write(self, text):
        written = super().write(text)
        if self._heard is not None:
            self._heard(self.getvalue())
        return written


def command(*words, directory, environment=None, whole=True, heard=None):
    """Runs a command in a directory.

    Args:
        words: Its words.
        directory: Where.
        environment: Variables that are set meanwhile.
        whole: Whether a search or a final training also registers its student, and writes its report.
        heard: Called with all that has been printed so far, each time that more is.
    """
    if words[0] in ("run", "train"):
        shared_ray()
    out, err = _Heard(heard), io.StringIO()
    with contextlib.ExitStack() as around:
        around.enter_context(contextlib.chdir(directory))
        around.enter_context(mock.patch.dict(os.environ, environment or {}))
        around.enter_context(contextlib.redirect_stdout(out))
        around.enter_context(contextlib.redirect_stderr(err))
        if not whole:
            around.enter_context(_nothing_made_of_the_student())
        try:
            code = cli.main(list(map(str, words)))
        except SystemExit as end:  # argparse's own way out
            code = end.code
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _nothing_made_of_the_student():
    """Leaves out what takes seconds after the last trial: exporting and registering its student, and the report."""
    from ctkd_search.students.registration import Registered

    none = Registered("models:/none/0", "not registered")
    with (
        mock.patch("ctkd_search.search.run._write_up", return_value="no report"),
        mock.patch("ctkd_search.students.registration.register", return_value=none),
        mock.patch("ctkd_search.final.registration.register_final", return_value=none),
    ):
        yield
