"""What it costs to tell Optuna the truth, and what a search gains over random search, at the same number of epochs.

    python benchmarks/regret.py [--seeds 40] [--epochs 360] [--workers 4] [--grace-periods 1 2 3 4] [--processes 2]

Searches go through the package's own Study, sampler and scheduler, on learning curves recorded beforehand
(`curves.py`), so that Ray and training are not needed: a clock ticks, and at each tick every worker does one epoch,
until the search has spent its epochs. The ranges are searched as ranges; a suggestion's curve is that of the nearest
config of the grid. A config that is suggested twice has the same curve, and costs its epochs again. As every search of
the package does, each begins with the default settings.

The arms, with ASHA of several grace periods, where one trial in three goes on:

    random              random search
    told COMPLETE       TPE, told that every trial was complete, with its last accuracy, as Ray's OptunaSearch does
    told the truth      TPE, told which trials were stopped, and every epoch's accuracy, as this package does

and without early stopping, for comparison: random search and TPE. The students' learning rate drops after epochs 3, 5
and 7 of 9, so that the first rung, at the grace period, is before the first drop for all but the grace period 4.

A seed's regret is the best accuracy at the end of any config of the grid, less that of the config which the search
would choose. Prints the regret in percentage points after a quarter, half and all of the epochs, the standard deviation
at the end, and differences between arms, paired by seed; ± is a 95 % interval. They hold for this table: seeds vary the
search, and not what is searched.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from common import header
from curves import FILE, Table, grid_space, read_table
from ray.tune.result import TRAINING_ITERATION
from ray.tune.utils import flatten_dict

from ctkd_search.analysis.intervals import Estimate, estimate
from ctkd_search.records.store import DIVERGED, FINISHED, RUNNING, STOPPED, TrialRecord, best
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.study import STATES, Study
from ctkd_search.search.trainable import NUMBER
from ctkd_search.space.definition import Space
from ctkd_search.space.strategy import ACCURACY


class ToldComplete(Study):
    """Tells of every trial that it was complete, with its last accuracy, as Ray's OptunaSearch does."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """However it ended."""
        if trial.optuna in self._open and trial.status in STATES:
            self.study.tell(trial.optuna, values=self._objective(trial))
            del self._open[trial.optuna]


@dataclass(frozen=True)
class Arm:
    """A way to search.

    Attributes:
        name: What it is called.
        sampler: Who suggests.
        study: Who tells Optuna.
        grace_period: That of ASHA; None where no trial is stopped early.
    """

    name: str
    sampler: str
    study: type[Study] = Study
    grace_period: int | None = None

    def space(self, seed: int) -> Space:
        """What is searched, and how."""
        budget = {"epochs": grid_space().budget.epochs}
        if self.grace_period is None:
            return grid_space(seed=seed, sampler=self.sampler, scheduler="none", budget=budget)
        budget |= {"grace_period": self.grace_period, "reduction_factor": 3}
        return grid_space(seed=seed, sampler=self.sampler, scheduler="asha", budget=budget)


SHARES = (0.25, 0.5, 1.0)
RANDOM_ALONE, TPE_ALONE = Arm("random, none stopped", "random"), Arm("TPE, none stopped", "tpe")


def with_asha(grace_period: int) -> tuple[Arm, Arm, Arm]:
    """The arms that stop trials early."""
    return (
        Arm("random", "random", Study, grace_period),
        Arm("told COMPLETE", "tpe", ToldComplete, grace_period),
        Arm("told the truth", "tpe", Study, grace_period),
    )


@dataclass(frozen=True)
class Searched:
    """What came of a search.

    Attributes:
        regret: Of the config that it would have chosen, after each epoch spent, in points.
        trials: How many trials it began.
        finished: How many of them came to their end.
    """

    regret: list[float]
    trials: int
    finished: int


Results = dict[Arm, list[Searched]]


class Search:
    """A search on the table, with a clock that ticks.

    Args:
        space: The space.
        study: Whom to ask.
        table: The learning curves.
        workers: Trials at once.
    """

    def __init__(self, space: Space, study: Study, table: Table, workers: int) -> None:
        self._space = space
        self._study = study
        self._table = table
        self._workers = workers
        self._records: dict[int, TrialRecord] = {}
        self._scheduler = GroupedAsha(space, self._records)

    def run(self, epochs: int) -> Searched:
        """Searches until so many epochs are spent."""
        top = self._table.finals()[0]
        regret: list[float] = []
        self._study.begin()
        while len(regret) < epochs:
            while len(self._running()) < self._workers:
                self._start()
            for record in self._running()[: epochs - len(regret)]:
                self._epoch(record)
                chosen = best(list(self._records.values()))
                regret.append(100 * (top - (self._table.final(chosen.values) if chosen else 0.0)))
        finished = sum(record.status == FINISHED for record in self._records.values())
        return Searched(regret, len(self._records), finished)

    def _running(self) -> list[TrialRecord]:
        return [record for record in self._records.values() if record.status == RUNNING]

    def _start(self) -> None:
        number = len(self._records) + 1
        known = [record.optuna for record in self._records.values() if record.optuna is not None]
        asked = self._study.ask(number, known)
        values = self._space.effective(asked.values)
        self._records[number] = TrialRecord(
            number, values, asked.stored, self._space.seed, optuna=asked.number, status=RUNNING
        )

    def _epoch(self, record: TrialRecord) -> None:
        curve = self._table.curve(record.values)
        epoch = len(record.epochs) + 1
        metrics = {"epoch": epoch, ACCURACY: curve[epoch - 1]}
        record.epochs.append(metrics)
        self._study.trial_reported(record)
        if epoch == self._space.budget.epochs:
            record.status = FINISHED
        elif epoch == len(curve):
            record.status = DIVERGED
        else:  # Ray asks its scheduler only about trials that are not done
            result = flatten_dict({TRAINING_ITERATION: epoch, "metrics": metrics})
            decision = self._scheduler.on_trial_result(None, SimpleNamespace(config={NUMBER: record.number}), result)
            record.status = STOPPED if decision == GroupedAsha.STOP else RUNNING
        if record.ended:
            self._study.trial_ended(record)


@functools.cache
def table_of(path: Path) -> Table:
    """The table, read once per process."""
    return read_table(path)


def searched(options: argparse.Namespace, work: tuple[Arm, int]) -> Searched:
    """One search: of an arm, with a seed."""
    arm, seed = work
    space = arm.space(seed)
    study = arm.study(space, None, "regret", lambda record: [record.accuracy])
    return Search(space, study, table_of(options.file), options.workers).run(options.epochs)


def shown(estimated: Estimate, sign: str = "") -> str:
    """A mean and its interval."""
    return f"{estimated.mean:{sign}.2f} ±{estimated.half_width:.2f}"


def about(table: Table) -> None:
    """Prints what is in the table."""
    from scipy.stats import spearmanr

    space, finals = table.space, table.finals()
    decile = statistics.quantiles(finals, n=10)
    print(f"{len(finals)} configs; at their end the best has {100 * finals[0]:.2f} %, the 10th {100 * finals[9]:.2f},")
    print(f"  nine in ten at most {100 * decile[8]:.2f}, half of them at most {100 * statistics.median(finals):.2f}")
    paper = table.final(space.effective(space.decode(space.paper_point())))
    print(f"  the default settings {100 * paper:.2f}, a regret of {100 * (finals[0] - paper):.2f}")
    complete = [curve for curve in table.curves.values() if len(curve) == space.budget.epochs]
    print(f"  {len(finals) - len(complete)} diverged")
    ends = [curve[-1] for curve in complete]
    correlations = [
        spearmanr([curve[epoch] for curve in complete], ends).statistic for epoch in range(space.budget.epochs - 1)
    ]
    words = ", ".join(f"{correlation:.2f}" for correlation in correlations)
    print(f"  rank correlation of epochs 1, 2, ... with the end: {words}")


def print_regrets(results: Results, arms: Sequence[Arm], spent: Sequence[int]) -> None:
    """Prints a line for each arm."""
    for arm in arms:
        found = results[arm]
        estimates = [estimate([search.regret[count - 1] for search in found]) for count in spent]
        trials = statistics.fmean(search.trials for search in found)
        finished = statistics.fmean(search.finished for search in found)
        columns = "".join(f"{shown(each):>15}" for each in estimates)
        print(f"{arm.name:42}{columns}{estimates[-1].deviation:>11.2f}{len(found):>5}{trials:>8.0f}{finished:>10.0f}")


def print_differences(results: Results, pairs: Sequence[tuple[Arm, Arm]], spent: Sequence[int]) -> None:
    """Prints a line for each pair of arms."""
    for one, other in pairs:
        both = list(zip(results[one], results[other], strict=True))
        gaps = [estimate([a.regret[count - 1] - b.regret[count - 1] for a, b in both]) for count in spent]
        print(f"{f'  {one.name} - {other.name}':42}" + "".join(f"{shown(gap, '+'):>15}" for gap in gaps))


def report(results: Results, grace_periods: Sequence[int], epochs: int) -> None:
    """Prints a table for each way to stop trials early."""
    spent = [max(1, round(share * epochs)) for share in SHARES]
    after = "".join(f"{f'after {count}':>15}" for count in spent)
    print(f"\n{'regret and differences, points':42}{after}{'deviation':>11}{'n':>5}{'trials':>8}{'finished':>10}")
    print("no early stopping")
    print_regrets(results, (RANDOM_ALONE, TPE_ALONE), spent)
    print_differences(results, [(TPE_ALONE, RANDOM_ALONE)], spent)
    for grace_period in grace_periods:
        random, complete, truth = arms = with_asha(grace_period)
        rungs = " and ".join(map(str, truth.space(0).budget.rungs()))
        print(f"ASHA, rungs after {rungs}")
        print_regrets(results, arms, spent)
        pairs = [(truth, complete), (truth, random), (complete, random), (random, RANDOM_ALONE), (truth, TPE_ALONE)]
        print_differences(results, pairs, spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=360, help="epochs of a search in all")
    parser.add_argument("--workers", type=int, default=4, help="trials at once")
    parser.add_argument("--grace-periods", type=int, nargs="+", default=[1, 2, 3, 4], help="of ASHA")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--file", type=Path, default=FILE, help="the learning curves")
    options = parser.parse_args()
    header(f"regret of {options.seeds} searches, {options.epochs} epochs each, {options.workers} trials at once")
    about(table_of(options.file))
    started = time.monotonic()
    arms = [RANDOM_ALONE, TPE_ALONE, *itertools.chain.from_iterable(map(with_asha, options.grace_periods))]
    work = list(itertools.product(arms, range(options.seeds)))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = pool.map(functools.partial(searched, options), work, chunksize=1)
    results: Results = {arm: [] for arm in arms}
    for (arm, _), search in zip(work, found, strict=True):
        results[arm].append(search)
    report(results, options.grace_periods, options.epochs)
    print(f"\n{len(found)} searches in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
