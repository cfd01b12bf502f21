"""Simulates searches on the recorded tables, by our own search and by others, and prints their regrets.

    python benchmarks/search_arms.py run digits cifar [--arms 'Syne|own'] [--workers 1 4] [--seeds 100] [--budget 30]
    python benchmarks/search_arms.py show digits cifar [--budgets 10 30 100] [--workers 4]
    python benchmarks/search_arms.py show digits cifar --against ctkd-search --arms 'judged by the loss'
    python benchmarks/search_arms.py list

`run` goes on where it stopped; what it found is in `benchmarks/tables/NAME-searches.json.gz`, with the fingerprint of
the table: searches on another recording of it are not shown. Of a table that is still being recorded, the searches are
on the trainings that it had when they began. Budgets are in full trainings; no arm knows its budget, so that a search
with a larger one begins with every smaller one. With --against, the differences from an arm are shown, paired by seed.
Arms of packages that are not installed (extra `peers`) are left out.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import statistics
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arms import ARMS, RANDOM
from common import header
from simulation import simulate
from surrogate import Surrogate, surrogate_of
from tables import DIRECTORY, PLANS, load, recorded

from ctkd_search.analysis.intervals import estimate
from ctkd_search.errors import UserError
from ctkd_search.files import atomic

SHARES = (0.25, 0.5, 1.0)
INTERVAL = 60.0
# Seeds of an arm that are searched one after the other.
BLOCK = 5
# By arm, workers and seed: the budget in epochs, the changes of the regret, trials, finished trials and seconds.
Found = dict[str, dict[str, dict[str, list[Any]]]]
Work = tuple[str, str, int, int, int]


@functools.cache
def fingerprint(name: str, trainings: int) -> str:
    """A hash of what is recorded of the first trainings of a table."""
    content = load(name, trainings)
    text = json.dumps([content["points"], content["rows"], content["ends"]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(name: str) -> Path:
    return DIRECTORY / f"{name}-searches.json.gz"


def read(name: str) -> tuple[Found, int]:
    """The searches of a table, and the number of its first trainings that they are on.

    Raises:
        UserError: They are of another state of the table.
    """
    if not _path(name).is_file():
        return {}, recorded(name)
    content = json.loads(gzip.decompress(_path(name).read_bytes()))
    if content["table"] != fingerprint(name, content["trainings"]):
        raise UserError(f"{_path(name)} is of another recording of the table {name}; remove it to search anew")
    found: Found = content["searches"]
    return found, content["trainings"]


def write(name: str, found: Found, trainings: int) -> None:
    """Writes the searches of the first trainings of a table in one step."""
    content = {"table": fingerprint(name, trainings), "trainings": trainings, "searches": found}
    text = json.dumps(content, separators=(",", ":")).encode()
    with atomic(_path(name)) as written:
        written.write_bytes(gzip.compress(text, 9, mtime=0))


_surrogates: dict[str, Surrogate] = {}


def begin(trainings: dict[str, int]) -> None:
    """Called once in each process."""
    os.nice(max(0, 19 - os.nice(0)))
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, count in trainings.items():
        _surrogates[name] = surrogate_of(name, count)[1]


def searched(work: Work) -> tuple[Work, list[Any]]:
    """One search."""
    name, arm, workers, seed, budget = work
    started = time.process_time()
    searched = simulate(ARMS[arm].make(name, seed, workers), _surrogates[name], workers, budget)
    seconds = round(time.process_time() - started, 2)
    return work, [budget, searched.changes, searched.trials, searched.finished, seconds]


def run(names: Sequence[str], arms: Sequence[str], options: argparse.Namespace) -> None:
    """Makes the searches that are missing."""
    kept = {name: read(name) for name in names}
    found = {name: searches for name, (searches, _) in kept.items()}
    trainings = {name: count for name, (_, count) in kept.items()}
    todo: list[Work] = []
    # Seeds in the outer loop: whenever it is stopped, every arm has the same seeds.
    for first, name, workers, arm in itertools.product(range(0, options.seeds, BLOCK), names, options.workers, arms):
        budget = options.budget * PLANS[name].read().budget.epochs
        for seed in range(first, min(first + BLOCK, options.seeds)):
            known = found[name].get(arm, {}).get(str(workers), {}).get(str(seed))
            if known is None or known[0] < budget:
                todo.append((name, arm, workers, seed, budget))
    print(f"{len(todo)} searches to do", flush=True)
    started = written = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.processes, begin, (trainings,)) as pool:
        for done, (work, result) in enumerate(pool.imap(searched, todo), 1):
            name, arm, workers, seed, _ = work
            found[name].setdefault(arm, {}).setdefault(str(workers), {})[str(seed)] = result
            over = time.monotonic() > started + 60 * options.minutes
            if over or done == len(todo) or time.monotonic() > written + INTERVAL:
                for each in names:
                    write(each, found[each], trainings[each])
                written = time.monotonic()
                print(f"{done} searches, {written - started:.0f} s", flush=True)
            if over:
                pool.terminate()
                break


class Regrets:
    """The regrets of an arm's searches after each epoch, up to a budget.

    None is below 0: where the surrogate's end of a config is above the best recorded one, nothing recorded tells so.

    Attributes:
        values: One row a search, one column an epoch, in points.
        trials: Mean number of trials begun in the whole search.
        finished: Mean number of those that came to their end.
        seconds: Mean time of the processor for a whole search.
    """

    def __init__(self, searches: Iterable[list[Any]], budget: int) -> None:
        kept = [search for search in searches if search[0] >= budget]
        self.values = np.array([_spelled_out(search[1], budget) for search in kept])
        self.trials, self.finished, self.seconds = (
            statistics.fmean(search[at] * budget / search[0] for search in kept) if kept else 0.0 for at in (2, 3, 4)
        )

    def reached(self, regret: float) -> int | None:
        """Epochs until the mean regret is at most this for good; None if it is not."""
        above = np.flatnonzero(self.values.mean(axis=0) > regret)
        first = int(above[-1]) + 2 if len(above) else 1
        return first if first <= self.values.shape[1] else None

    def median_reached(self, regret: float) -> float | None:
        """The median over searches of the epochs until the regret is at most this; None if half of them never are."""
        below = self.values <= regret
        first = np.where(below.any(axis=1), below.argmax(axis=1) + 1, np.inf)
        median = float(np.median(first))
        return median if np.isfinite(median) else None


def _spelled_out(changes: list[list[float]], budget: int) -> list[float]:
    values, regret, at = [], changes[0][1], 0
    for spent in range(1, budget + 1):
        while at < len(changes) and changes[at][0] <= spent:
            regret = changes[at][1]
            at += 1
        values.append(max(0.0, regret))
    return values


def show(name: str, budgets: Sequence[int], workers: int, pattern: str) -> None:
    """Prints a table for each budget."""
    (found, trainings), epochs = read(name), PLANS[name].read().budget.epochs
    for budget in budgets:
        spent = budget * epochs
        regrets = {arm: Regrets(each.get(str(workers), {}).values(), spent) for arm, each in found.items()}
        regrets = {arm: each for arm, each in regrets.items() if len(each.values) and re.search(pattern, arm)}
        if RANDOM not in regrets:
            continue
        aim = float(regrets[RANDOM].values[:, -1].mean())
        print(
            f"\n## {name}, {trainings} trainings, budget of {budget} full trainings ({spent} epochs), {workers} at once"
        )
        print(
            f"regret in points; epochs until random search's regret at the end ({aim:.2f}) is reached, by the mean and"
        )
        print("in the median search")
        columns = "".join(f"{f'after {round(share * spent)}':>15}" for share in SHARES)
        print(f"{'':56}{columns}{'mean':>7}{'median':>8}{'n':>5}{'trials':>8}{'finished':>10}{'s':>7}")
        for arm, each in sorted(regrets.items(), key=lambda item: item[1].values[:, -1].mean()):
            cells = ""
            for share in SHARES:
                estimated = estimate(each.values[:, round(share * spent) - 1].tolist())
                cells += f"{f'{estimated.mean:.2f} ±{estimated.half_width:.2f}':>15}"
            mean, median = each.reached(aim), each.median_reached(aim)
            reached = f"{mean or '-':>7}{'-' if median is None else round(median):>8}"
            end = f"{len(each.values):>5}{each.trials:>8.0f}{each.finished:>10.0f}{each.seconds:>7.1f}"
            print(f"{arm:56}{cells}{reached}{end}")


def show_against(name: str, budget: int, workers: int, pattern: str, other: str) -> None:
    """Prints by how much the regrets of arms are above those of another one with the same seeds."""
    (found, _), spent = read(name), budget * PLANS[name].read().budget.epochs
    theirs = found[other].get(str(workers), {})
    print(f"\n## {name}, budget of {budget} full trainings, {workers} at once: regret minus that of {other}")
    for arm, each in found.items():
        own = each.get(str(workers), {})
        shared = [seed for seed in own if seed in theirs and min(own[seed][0], theirs[seed][0]) >= spent]
        if arm == other or not shared or not re.search(pattern, arm):
            continue
        gaps = Regrets((own[seed] for seed in shared), spent).values
        gaps = gaps - Regrets((theirs[seed] for seed in shared), spent).values
        cells = ""
        for share in SHARES:
            estimated = estimate(gaps[:, round(share * spent) - 1].tolist())
            cells += f"{f'{estimated.mean:+.2f} ±{estimated.half_width:.2f}':>15}"
        print(f"{arm:72}{cells}{len(shared):>5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["run", "show", "list"])
    parser.add_argument("names", nargs="*", help="tables")
    parser.add_argument("--arms", default="", help="a regular expression that the names of arms match")
    parser.add_argument("--against", choices=list(ARMS), metavar="ARM", help="show differences from this one")
    parser.add_argument("--workers", type=int, nargs="+", default=[4], help="trials at once")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--budget", type=int, default=30, help="of a search, in full trainings")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 30, 100], help="budgets that are shown")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then")
    options = parser.parse_args()
    chosen = [name for name in ARMS if re.search(options.arms, name)]
    if options.command == "list":
        for name in chosen:
            print(f"{ARMS[name].group:10} {name}{'' if ARMS[name].available else f' ({ARMS[name].needs} missing)'}")
        return
    header(f"searches on recorded tables: {' '.join(options.names)}")
    if options.command == "run":
        run(options.names, [name for name in chosen if ARMS[name].available], options)
        return
    for name, workers in itertools.product(options.names, options.workers):
        if options.against is None:
            show(name, options.budgets, workers, options.arms)
            continue
        for budget in options.budgets:
            show_against(name, budget, workers, options.arms, options.against)


if __name__ == "__main__":
    main()
