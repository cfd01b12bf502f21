"""What orchestration costs: many trials of near-empty epochs on pretended GPUs.

Runs everything of a search but the training: Ray Tune with as many actors as there are pretended GPUs, Optuna's study
and MLflow's store in a SQLite file, records, early stopping. Prints wall-clock and processor time of the driver for
each reported epoch, in all and in each quarter of the search, its memory as the search goes on, what is on disk in the
end, and where the driver's time goes (a sample of its stack every 20 ms). Needs a quiet machine. No trial begins its
first epoch before all actors have started, which takes few processors so long that trials would end before.

    python benchmarks/orchestration.py
    python benchmarks/orchestration.py --trials 200 --gpus 16 --seconds 1
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
from common import header
from ray import tune

from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord, contenders
from ctkd_search.search.cluster import VARIABLES
from ctkd_search.search.observer import Observer
from ctkd_search.search.record_writer import RecordWriter
from ctkd_search.search.runner import run_trials
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.searcher import OptunaSearcher
from ctkd_search.search.stop_signal import StopSignal
from ctkd_search.search.study import Study
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import read_space
from ctkd_search.tracking.store import Mlflow, store_uri
from ctkd_search.tracking.tracker import Tracker

SPACE = Path(__file__).resolve().parents[1] / "spaces" / "digits.yaml"


# The kind of thread that looks at the others, whose time is not the driver's.
SAMPLING = "sampling"


class NearEmpty(tune.Trainable):
    """A trial whose epochs compute nothing; its workers import neither torch nor this package."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Ray once per actor."""
        self.started, self.actors = Path(config["started"]), config["actors"]
        (self.started / str(os.getpid())).touch()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Ray to begin another trial in the same actor."""
        self.number, self.seconds, self.epoch = new_config["number"], new_config["seconds"], 0
        return True

    def step(self) -> dict[str, Any]:
        """An epoch with the metrics of a real one, which sleeps; the first begins when all actors have started."""
        while len(os.listdir(self.started)) < self.actors:
            time.sleep(0.2)
        time.sleep(self.seconds)
        self.epoch += 1
        accuracy = 1 - 1 / (1 + self.epoch * (1 + self.number % 97))
        names = ("loss", "loss_ce", "loss_step", "loss_attention", "lr", "images_per_second", "train_accuracy")
        metrics = {"epoch": self.epoch, **dict.fromkeys(names, 0.5), "validation_accuracy": accuracy}
        metrics |= {"validation_loss": 0.5, "seconds": 0.0, "at": int(time.time() * 1000)}
        return {
            "training_iteration": self.epoch,
            "metrics": tuple(metrics.items()),
            "diverged": False,
            "done": self.epoch >= 10,
            "notes": [],
        }


class LightOptunaSearcher(OptunaSearcher):
    """Hands out numbers alone, so that the workers need not import what a config is made of."""

    shared: Mapping[str, Any] = {}

    def suggest(self, trial_id: str) -> Any:
        """Called by Ray when there may be room for another trial."""
        suggested = super().suggest(trial_id)
        if not isinstance(suggested, dict):
            return suggested
        return {"number": suggested["number"], **self.shared}


class Sampler(threading.Thread):
    """Looks 50 times a second at what the main thread and MLflow's are doing, and at the driver's memory and time.

    Args:
        records: Every trial by number.
    """

    native: int | None = None

    def __init__(self, records: dict[int, TrialRecord]) -> None:
        super().__init__(daemon=True)
        self._records = records
        self.found: dict[str, collections.Counter[str]] = {
            "driver": collections.Counter(),
            "mlflow": collections.Counter(),
        }
        self.memory: list[float] = []
        # Once a second: the epochs reported so far, and the seconds of processor time that went before.
        self.progress: list[tuple[int, float]] = []
        self.ended = False

    def run(self) -> None:
        """Samples until told to end."""
        Sampler.native = threading.get_native_id()
        names = {threading.main_thread().ident: "driver"}
        count = 0
        while not self.ended:
            for thread in threading.enumerate():
                if thread.name == "mlflow":
                    names[thread.ident] = "mlflow"
            for ident, frame in sys._current_frames().items():
                if ident in names:
                    self.found[names[ident]][_place(frame)] += 1
            if count % 50 == 0:
                self.memory.append(_resident())
                self.progress.append((_epochs(self._records), time.process_time() - time.thread_time()))
            count += 1
            time.sleep(0.02)


def _place(frame: Any) -> str:
    """What a stack is busy with: the package's own innermost function in it, or waiting, or Ray."""
    top = frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else frame.f_code.co_name
    waiting = top in ("wait", "Condition.wait", "sleep") or "wait" in top.lower()
    ray_wait = False
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if "ctkd_search" in path and "benchmarks" not in path and not path.endswith(("observer.py", "runner.py")):
            return f"{Path(path).name}: {name}"
        ray_wait = ray_wait or (path.endswith("actor_manager.py") and name == "next") or name == "wait"
        frame = frame.f_back
    return "waiting for workers or work" if waiting or ray_wait else "Ray Tune"


def _processor_times() -> dict[str, float]:
    """Seconds of processor time of this process so far, by kind of thread; Ray's own are those of C++."""
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    kinds = {threading.main_thread().native_id: "driver", Sampler.native: SAMPLING}
    found: collections.Counter[str] = collections.Counter()
    for thread in psutil.Process().threads():
        name = named.get(thread.id)
        kind = kinds.get(thread.id) or (
            "mlflow" if name == "mlflow" else "other Python threads" if name else "Ray's own"
        )
        found[kind] += thread.user_time + thread.system_time
    return dict(found)


def _epochs(records: dict[int, TrialRecord]) -> int:
    return sum(len(record.epochs) for record in list(records.values()))


def _quarters(progress: list[tuple[int, float]]) -> list[float]:
    """Milliseconds of processor time for each epoch in each quarter of the epochs."""
    bounds = [progress[-1][0] * part / 4 for part in range(5)]
    marks = [next(mark for mark in progress if mark[0] >= bound) for bound in bounds]
    return [1000 * (late[1] - early[1]) / max(1, late[0] - early[0]) for early, late in itertools.pairwise(marks)]


def _resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _size(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def run(trials: int, gpus: int, seconds: float, directory: Path) -> None:
    """Runs the search and prints what it cost."""
    overrides = [f"budget.trials={trials}", "budget.epochs=10", "scheduler=none", "confirm=null", "baselines=null"]
    text = SPACE.read_text(encoding="utf-8").replace("  grace_period", "  # grace_period")
    path = directory / "space.yaml"
    path.write_text(text.replace("  reduction_factor", "  # reduction_factor"), encoding="utf-8")
    space = read_space(path, overrides)
    folder = SearchFolder(directory / "trials", "many")
    tracker = _tracker(space, folder)
    records: dict[int, TrialRecord] = {}
    study = Study(space, folder.study, "many", lambda trial: [trial.accuracy])
    stop_signal = StopSignal(None)
    writer = RecordWriter(folder, records, lambda found: contenders(found)[:1], tracker.run_id)
    scheduler = GroupedAsha(space, records)
    observer = Observer(10, 0, folder.states, [writer, study, tracker], records, stop_signal, scheduler=scheduler)
    searcher = LightOptunaSearcher(space, folder, study, records, gpus, trials, _fail, scheduler)
    (directory / "started").mkdir()
    searcher.shared = {"seconds": seconds, "actors": gpus, "started": str(directory / "started")}
    sampler = Sampler(records)
    sampler.start()
    started, busy, before = time.perf_counter(), time.process_time(), _processor_times()
    trainable = tune.with_resources(NearEmpty, {"cpu": 1, "gpu": 1})
    run_trials(trainable, searcher, scheduler, observer, stop_signal)
    ended = time.perf_counter()
    delivered = tracker.flush(600)
    flushed = time.perf_counter()
    worked = time.process_time() - busy
    kinds = _processor_times()
    sampler.ended = True
    epochs = _epochs(records)
    print(f"{len(records)} trials, {epochs} epochs, {gpus} pretended GPUs, delivered to MLflow: {delivered}")
    print(f"{len(list((directory / 'started').iterdir()))} actors were started")
    print(f"wall-clock per reported epoch: {1000 * (ended - started) / epochs:.1f} ms ({ended - started:.0f} s in all)")
    print(f"MLflow was up to date {flushed - ended:.1f} s after the last trial")
    spent = {kind: 1000 * (each - before[kind]) / epochs for kind, each in kinds.items()}
    sampling = spent.pop(SAMPLING)
    print(f"processor time of the driver per reported epoch: {1000 * worked / epochs - sampling:.1f} ms")
    print("  by quarter of the epochs: " + ", ".join(f"{each:.1f}" for each in _quarters(sampler.progress)) + " ms")
    parts = sorted(spent.items(), key=lambda pair: -pair[1])
    print(
        "  of which "
        + ", ".join(f"{kind} {each:.1f} ms" for kind, each in parts)
        + f"; sampling took {sampling:.1f} ms"
    )
    quarter = max(1, len(sampler.memory) // 4)
    marks = ", ".join(f"{value:.0f}" for value in sampler.memory[::quarter])
    print(f"memory of the driver, four times on the way: {marks} MB; at the end {_resident():.0f} MB")
    print(
        f"on disk: {_size(directory):.1f} MB, of which MLflow {_size_of(directory, 'mlflow.db'):.1f} MB, "
        f"Optuna {_size_of(directory, 'study.log'):.1f} MB, records {_size(folder.path / 'records'):.1f} MB"
    )
    for thread, counts in sampler.found.items():
        total = sum(counts.values())
        print(f"where the time of the thread {thread!r} went ({total} samples):")
        for place, count in counts.most_common(10):
            print(f"  {100 * count / max(1, total):5.1f} %  {place}")
    tracker.close()


def _size_of(directory: Path, name: str) -> float:
    return sum(path.stat().st_size for path in directory.rglob(f"{name}*")) / 1e6


def _tracker(space: Space, folder: SearchFolder) -> Tracker:
    root = folder.root
    folder.path.mkdir(parents=True)
    mlflow = Mlflow(store_uri(None, root), "many", root / "artifacts")
    tracker = Tracker(mlflow, lambda trial: str(trial.number), lambda trial: "ctkd", print)
    search = SearchRecord("many", "0", {}, "", "", {}, "", [], "")
    tracker.begin(search, {}, [])
    return tracker


def _fail(error: Exception) -> None:
    raise error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="that an epoch takes (default: %(default)s)")
    options = parser.parse_args()
    header(f"{options.trials} trials of 10 epochs of {options.seconds:g} s on {options.gpus} pretended GPUs")
    os.environ.update(VARIABLES)
    ray.init(
        address="local",
        num_gpus=options.gpus,
        num_cpus=options.gpus,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level="CRITICAL",
        # So many processes begin slowly on few cores; Ray would take them for dead.
        _system_config={"worker_register_timeout_seconds": 900},
    )
    with tempfile.TemporaryDirectory() as directory:
        run(options.trials, options.gpus, options.seconds, Path(directory))
    ray.shutdown()


if __name__ == "__main__":
    main()
