"""The session of a search: owns Ray, MLflow and the signal handlers while it runs.

In a thread other than the main one there are no signal handlers: such a search ends by itself, or with the process.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from ctkd_search.config import TrialConfig
from ctkd_search.distill.engine import Precision
from ctkd_search.leases.lease import Lease
from ctkd_search.records.store import TrialRecord
from ctkd_search.records.trial_configs import config_of, label_of
from ctkd_search.resources import Share, describe, share_out, thread_limit
from ctkd_search.search.cluster import Cluster
from ctkd_search.search.precision import automatic_precision, with_precision
from ctkd_search.search.stop_signal import StopReason, StopSignal
from ctkd_search.space.definition import Space
from ctkd_search.tracking.store import Mlflow, store_uri
from ctkd_search.tracking.tracker import Tracker

_SAME_KEYSTROKE_SECONDS = 2.0


class Session:
    """Starts Ray, opens MLflow and handles signals; a context manager that closes them at the end.

    Args:
        space: The space.
        trials_dir: Directory of all searches.
        say: Prints a line.
        lease: The lease by which this process owns the search; the trials end when it is lost.
        trials: Number of trials in all; None for more than run at once.
        configs: Returns the config of a trial from the space and the trial's record.
        stop: Set when a callback asks for the end of the trials; None where none can.
        precision: What ``precision: auto`` came to when the work began; None if it begins now.

    Raises:
        UserError: MLflow or the Ray cluster cannot be reached, or the machine lacks the requested resources.
        WorkFailed: No GPU of the cluster could be asked for its precision.
    """

    share: Share

    def __init__(
        self,
        space: Space,
        trials_dir: Path,
        say: Callable[[str], None],
        lease: Lease,
        trials: int | None = None,
        configs: Callable[[Space, TrialRecord], TrialConfig] = config_of,
        stop: threading.Event | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.space = space
        self.trials_dir = trials_dir.resolve()
        self.say = say
        self.trials = trials
        self.precision = precision
        self._configs = configs
        self.stop_signal = StopSignal(space.budget.seconds(), stop)
        lease.when_lost(lambda: self.stop_signal.set(StopReason.TAKEN_OVER))
        self._interrupted_at: float | None = None
        self.tuning = False
        uri = store_uri(space.tracking.uri, trials_dir)
        mlflow = Mlflow(uri, space.tracking.experiment or space.name, trials_dir / "artifacts")
        self.tracker = Tracker(
            mlflow,
            lambda trial: label_of(self.space, trial),
            lambda trial: self.config_of(trial).method.name,
            say,
        )

    def __enter__(self) -> Session:
        """Starts Ray, joins a cluster, or uses the Ray that this process is connected to."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_handlers_restored())
            self._cluster = Cluster(self.space.resources.address)
            stack.callback(self._cluster.leave)
            self.nodes = self._cluster.nodes
            self.hardware = describe(self.nodes)
            self.share = share_out(self.space.resources, self.nodes, self.trials, thread_limit())
            # Work that goes on elsewhere keeps its precision: its results are compared with each other.
            self.precision = self.precision or automatic_precision(self.space, self.share)
            self.space = with_precision(self.space, self.precision)
            # After ray.init, which sets a handler of SIGTERM itself.
            if _in_main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, self._stop)
            self._stack = stack.pop_all()
        return self

    def config_of(self, trial: TrialRecord) -> TrialConfig:
        """Returns the config of a trial."""
        return self._configs(self.space, trial)

    def __exit__(self, *exception: object) -> None:
        """Leaves Ray and restores the signal handlers."""
        with self._stack:
            self.tracker.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: the first one stops the trials; a second one, or one outside the trials, ends at once."""
        if not self.tuning:
            raise KeyboardInterrupt
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
            # Not said here: the signal may have come in the middle of a print, inside of which Python refuses another.
            self.stop_signal.set(StopReason.INTERRUPTED)
        # One keystroke may arrive twice, from the terminal and from a parent process.
        elif now - self._interrupted_at > _SAME_KEYSTROKE_SECONDS:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    """Returns whether this is the thread that Python calls signal handlers in, and that alone may set them."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handlers_restored() -> Iterator[None]:
    """Restores the process's signal handlers after the block: its own, those of Ray and that of Tune replace them."""
    replaced = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if _in_main_thread() else ()
    before = {number: signal.getsignal(number) for number in replaced}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None is one that was not set from Python
                signal.signal(number, handler)
