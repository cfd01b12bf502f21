"""Hours of a published search where it is put together from Ray Tune and Optuna, with live teachers in every trial.

    python benchmarks/plain_ray.py cifar10-deep --directory DIRECTORY --epochs 2

DIRECTORY is that of published_search.py, whose search has ended there; its trials are in `published/NAME-trials.csv`. A
few trials, by default one of each method, are
trained with Ray Tune's `ASHAScheduler` and `OptunaSearch` as users set them up: a function that trains a student beside
its live teachers and reports its accuracy after each epoch, a trial for each core. The expert is the one of the
published search, as both need it. Prints the seconds of an epoch of each method there and in the published search, the
hours that its trials took, and, computed from the seconds of an epoch, the hours of the same epochs with Ray Tune and
Optuna alone, and of as many trials without early stopping.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas
import ray
import torch
from common import header
from published_search import SPACES
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch
from record_tables import prepare_teachers

from ctkd_search.data import Splits, load_train
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import read_space

CPU = torch.device("cpu")
Seconds = dict[str, list[float]]


def read(name: str) -> Space:
    """Returns a published space with live teachers."""
    return read_space(SPACES / f"{name}.yaml", ["teachers.mode=live"])


def draw(trial: Any, *, name: str) -> None:
    """Draws a config; called by Optuna."""
    read(name).suggest(trial)


def train_trial(point: dict[str, Any], *, name: str, directory: Path, epochs: int, splits: Splits) -> None:
    """Trains a student, and reports to Ray after each epoch."""
    torch.set_num_threads(1)
    os.chdir(directory)
    space = read(name)
    config = space.config(space.decode(point))
    trainer = make_trainer(config, splits, TeacherCache(directory / "trials" / "teachers"), CPU)
    for _ in range(epochs):
        begun = time.perf_counter()
        metrics = trainer.run_epoch()
        seconds = time.perf_counter() - begun
        tune.report({"accuracy": metrics["validation_accuracy"], "seconds": seconds, "method": config.method.name})


def plain(name: str, directory: Path, trials: int, epochs: int) -> Seconds:
    """Runs the search of Ray Tune and Optuna; returns the seconds of the epochs of each method."""
    space = read(name)
    splits = load_train(space.dataset)
    prepare_teachers(space, directory / "trials" / "teachers")
    first = [space.paper_point(method) for method in space.methods()]
    aim = {"metric": "accuracy", "mode": "max"}
    searcher = OptunaSearch(functools.partial(draw, name=name), points_to_evaluate=first, seed=space.seed, **aim)
    given = {"name": name, "directory": directory, "epochs": epochs, "splits": splits}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, **given), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(searcher, os.cpu_count() or 1),
            scheduler=ASHAScheduler(max_t=space.budget.epochs, **aim),
            num_samples=trials,
        ),
        run_config=tune.RunConfig(storage_path=str(directory / "plain-ray"), verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit("a trial failed; Ray's output says why")
    found: Seconds = defaultdict(list)
    for result in results:
        for epoch in result.metrics_dataframe.itertuples():
            found[epoch.method].append(epoch.seconds)
    return found


def compare(name: str, trials: pandas.DataFrame, measured: Seconds, epochs: int) -> None:
    """Prints the seconds of an epoch, and the hours of the search."""
    tried = trials[trials["kind"] == "trial"]
    cores = os.cpu_count() or 1
    spent, stopped, whole = 0.0, 0.0, 0.0
    for method, group in tried.groupby("method"):
        own = float(group["own_seconds"].sum() / group["epochs"].sum())
        live = statistics.median(measured[str(method)])
        spent += float(group["own_seconds"].sum())
        stopped += live * int(group["epochs"].sum())
        whole += live * epochs * len(group)
        low, high = min(measured[str(method)]), max(measured[str(method)])
        n = len(measured[str(method)])
        print(f"{method}: {own:.1f} s an epoch in {name}; {live:.1f} ({low:.1f} to {high:.1f}, n = {n}) live", end="")
        print(f", {live / own:.1f} times as long")
    hours = [seconds / cores / 3600 for seconds in (spent, stopped, whole)]
    print(f"{len(tried)} trials, {int(tried['epochs'].sum())} epochs, {cores} at once: {hours[0]:.2f} h in {name}")
    recording = float((trials["seconds"] - trials["own_seconds"]).sum()) / 60
    print(f"there, one of its trainings at a time recorded the expert's outputs: {recording:.0f} minutes, once")
    print(f"the same epochs with Ray Tune and Optuna alone, computed: {hours[1]:.2f} h", end="")
    print(f"; without early stopping {hours[2]:.2f} h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in SPACES.glob("*.yaml")))
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--trials", type=int, help="default: one of each method")
    parser.add_argument("--epochs", type=int, default=2, help="that are trained of each (default: %(default)s)")
    options = parser.parse_args()
    directory = options.directory.resolve()
    os.chdir(directory)
    trials = pandas.read_csv(SPACES / f"{options.name}-trials.csv")
    space = read(options.name)
    header(f"the search {options.name} with Ray Tune and Optuna alone, {options.epochs} epochs of each trial")
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    measured = plain(options.name, directory, options.trials or len(space.methods()), options.epochs)
    ray.shutdown()
    compare(options.name, trials, measured, space.budget.epochs)


if __name__ == "__main__":
    main()
