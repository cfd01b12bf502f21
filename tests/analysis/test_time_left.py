"""The time that is left, against searches on a simulated clock whose end is known."""

import heapq
import io
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.factories import a_trial

from ctkd_search.analysis.stopping import Span
from ctkd_search.analysis.time_left import Later, TimeLeft
from ctkd_search.display.progress import Progress
from ctkd_search.records.store import BASELINE, FINISHED, PAUSED, RUNNING, WAITING

PAIR = "wrn-16-1/resnet8"
EPOCHS, RUNGS, ETA = 12, (1, 3, 9), 3
OWN, PASS = 10.0, 30.0  # a trial that records takes four times as long


def record(number, status, *epochs, method="at", **more):
    values = {"method": method}
    return a_trial(number, status=status, pair=PAIR, values=values, epochs=list(epochs), **more)


class Search:
    """Trials by successive halving on a clock that counts; the first that needs an epoch of the expert records it.

    Args:
        seed: Seed of what the trials reach.
        trials: How many are explored.
        concurrent: How many run at once.
        kept: How many epochs of the expert are kept from before.
        stops: Whether trials are stopped early.
        baselines: How many trials run to the end in any case.
    """

    def __init__(self, seed, trials=24, concurrent=2, kept=0, stops=True, baselines=0):
        self.draw = random.Random(seed)
        self.concurrent, self.stops = concurrent, stops
        self.expected = trials + baselines
        self.records = [record(n, WAITING, kind=BASELINE, baseline="at") for n in range(1, baselines + 1)]
        self.kept = set(range(kept))
        self.going = {}  # epochs of the expert that are being recorded, and when that ends
        self.reached = {rung: {} for rung in RUNGS}
        self.quality = [self.draw.gauss(0, 1) for _ in range(self.expected + 1)]
        self.now = 0.0
        self.told = []

    def run(self, left):
        """Runs it to its end; returns when each estimate was told, what it was, and what was true."""
        estimator = left(self)
        waiting, events = list(self.records), []
        for _ in range(self.concurrent):
            self.begin(waiting, events)
        while events:
            self.now, number, metrics = heapq.heappop(events)
            record = self.records[number - 1]
            record.epochs.append({**metrics, "at": 1000 * self.now})
            self.kept |= {epoch for epoch, end in self.going.items() if end <= self.now}
            if self.goes_on(record):
                self.epoch(record, events)
            else:
                self.begin(waiting, events)
            estimate = estimator.estimate(self.records, self.expected, self.concurrent)
            ended = sum(record.idle and record.explores for record in self.records)
            self.told.append((self.now, ended, estimate))
        return [(ended, estimate, self.now - when) for when, ended, estimate in self.told]

    def begin(self, waiting, events):
        if waiting:
            begun = waiting.pop(0)
        elif (promoted := self.promoted()) is not None:
            begun = promoted
        elif len(self.records) < self.expected:
            begun = record(len(self.records) + 1, WAITING)
            self.records.append(begun)
        else:
            return
        begun.status = RUNNING
        self.epoch(begun, events)

    def epoch(self, record, events):
        """Begins the next epoch, which is recorded, waited for, or there."""
        epoch, start, metrics = len(record.epochs), self.now, {}
        for later in range(epoch, EPOCHS):
            if epoch in self.kept or self.going.get(epoch, start + 1) <= start:
                break
            if later not in self.kept and later not in self.going:
                start += PASS
                self.going[later] = start
                metrics["recording_seconds"] = metrics.get("recording_seconds", 0) + PASS
                metrics["recorded_epochs"] = metrics.get("recorded_epochs", 0) + 1
        ready = self.going.get(epoch, start)
        if ready > start:
            metrics["waiting_seconds"], start = ready - start, ready
        own = OWN * self.draw.uniform(0.9, 1.1)
        end = start + own
        heapq.heappush(events, (end, record.number, {"epoch": epoch + 1, "seconds": end - self.now, **metrics}))

    def goes_on(self, record):
        done = len(record.epochs)
        if done == EPOCHS:
            record.status = FINISHED
        elif self.stops and record.explores and done in RUNGS:
            reached = self.reached[done]
            reached[record.number] = self.quality[record.number] + self.draw.gauss(0, 0.5 / done)
            if not self.is_among_the_best(record):
                record.status = PAUSED
        return record.status == RUNNING

    def is_among_the_best(self, record):
        """Returns True for a trial at a rung that is one of the best third so far, or the best."""
        reached = self.reached[len(record.epochs)]
        better = sum(value > reached[record.number] for value in reached.values())
        return better < max(1, len(reached) // ETA)

    def promoted(self):
        """The paused trial that goes on next."""
        may = [record for record in self.records if record.status == PAUSED and self.is_among_the_best(record)]
        return max(may, key=lambda record: len(record.epochs), default=None)

    def missing(self):
        return Counter({"wrn-16-1": EPOCHS - len(self.kept)})


def estimator(search):
    rungs = RUNGS if search.stops else ()
    return TimeLeft(EPOCHS, rungs, ETA, search.missing, now=lambda: search.now)


def off(estimate, truth):
    """By which factor the upper end of an estimate is wrong."""
    return max(estimate.high / truth, truth / estimate.high)


@pytest.mark.parametrize("concurrent", [1, 2, 4])
@pytest.mark.parametrize("kept", [0, 6, EPOCHS])
def test_where_nothing_is_stopped_the_time_left_is_right_from_the_first_epochs_on(concurrent, kept):
    told = Search(1, concurrent=concurrent, kept=kept, stops=False, baselines=2).run(estimator)
    known = [(estimate, truth) for _, estimate, truth in told if estimate is not None and truth > OWN]
    # From the first epoch on that was recorded.
    first = next(number for number, (_, estimate, _) in enumerate(told) if estimate is not None)
    assert first <= {0: concurrent, 6: 6 * concurrent, EPOCHS: 0}[kept]
    assert all(estimate is not None for _, estimate, _ in told[first:])
    assert max(off(estimate, truth) for estimate, truth in known) < 1.15
    assert all(estimate.low == estimate.high for estimate, _ in known)


@pytest.mark.parametrize("concurrent", [1, 2, 4])
def test_where_trials_are_stopped_early_what_they_record_for_all_is_counted_once(concurrent):
    factors, over = [], []
    for seed in range(25):
        told = Search(seed, concurrent=concurrent, baselines=2).run(estimator)
        whole = told[0][2]
        for ended, estimate, truth in told:
            # At the end it depends on the luck of the last few trials.
            if ended >= 2 and truth > whole / 3:
                factors.append(off(estimate, truth))
                over.append(estimate.high / truth)
    factors.sort()
    assert factors[len(factors) // 2] < 1.35
    assert factors[int(0.8 * len(factors))] < 1.6
    assert factors[int(0.95 * len(factors))] < 2
    assert sum(factor > 2 for factor in over) < 0.03 * len(over)


def test_until_two_trials_have_ended_both_ends_are_told_and_the_truth_is_between_them():
    inside = []
    for seed in range(25):
        for ended, estimate, truth in Search(seed, concurrent=2).run(estimator):
            if ended < 2 and estimate is not None:
                assert estimate.low < estimate.high
                inside.append(estimate.low < truth * 1.1 and truth < estimate.high * 1.1)
    assert sum(inside) > 0.9 * len(inside)


def test_nothing_is_told_before_there_is_anything_to_tell_by():
    left = TimeLeft(EPOCHS, missing=lambda: {"wrn-16-1": 5})
    assert left.estimate([record(1, RUNNING)], 4, 2) is None
    # It waited for another process that records; how long that takes is not known.
    waited = {"epoch": 1, "seconds": 40.0, "waiting_seconds": 30.0}
    assert left.estimate([record(1, RUNNING, waited)], 4, 2) is None
    recorded = {"epoch": 1, "seconds": 70.0, "recording_seconds": 60.0, "recorded_epochs": 2}
    found = left.estimate([record(1, RUNNING, waited), record(2, RUNNING, recorded)], 4, 2)
    # Two trials with eleven epochs to go and two with twelve, on two workers, and five epochs to record.
    assert found.low == found.high == pytest.approx(23 * 10 + 5 * 30 / 2)


def test_each_method_takes_its_own_time_and_baselines_are_trained_to_the_end():
    ten, twenty = {"epoch": 1, "seconds": 10.0}, {"epoch": 1, "seconds": 20.0}
    trials = [record(1, FINISHED, *[ten] * 4), record(2, PAUSED, *[twenty] * 2, method="fitnets")]
    trials += [
        record(3, RUNNING, twenty, method="fitnets", kind=BASELINE, baseline="x"),
        record(4, RUNNING, *[ten] * 2),
    ]
    left = TimeLeft(4).estimate(trials, 4, 1)
    assert left.high == pytest.approx(3 * 20 + 2 * 10)


def test_the_time_left_includes_the_confirmation():
    trials = [record(1, FINISHED, *[{"epoch": 1, "seconds": 10.0}] * EPOCHS)]
    recorded = {"epoch": 1, "seconds": 40.0, "recording_seconds": 30.0, "recorded_epochs": 1}
    trials.append(record(2, FINISHED, *[recorded] * EPOCHS))
    later = Later(trials=3, recordings={"wrn-16-1": EPOCHS}, teachers=100.0)
    left = TimeLeft(EPOCHS, later=lambda: later).estimate(trials, 2, 2)
    assert left.high == pytest.approx(2 * EPOCHS * 10 + EPOCHS * 30 / 2 + 100)
    assert TimeLeft(EPOCHS).estimate(trials, 2, 2) == Span(0, 0)


@pytest.mark.parametrize(
    ("left", "limit", "words"),
    [
        (Span(100, 100), None, "about 1 min 40 s left"),
        (Span(100, 115), None, "about 1 min 55 s left"),
        (Span(100, 400), None, "between 1 min 40 s and 6 min 40 s left"),
        (Span(100, 400), 110.0, "about 1 min 50 s left"),
        (None, 90.0, "at most 1 min 30 s left"),
        (None, None, "0 s so far"),
    ],
)
def test_the_time_left_is_told_as_a_time_a_span_or_an_upper_limit(left, limit, words):
    told = SimpleNamespace(estimate=lambda *_: left)
    progress = Progress(Console(file=io.StringIO()), EPOCHS, str, lambda: limit, told)
    assert progress._summary().endswith(words)


@pytest.mark.parametrize(
    ("past", "waiting", "left"),
    [
        # of six trials whose rung is after two epochs, the best two train ten more
        ([], 0, 6 * 2 + 2 * 10),
        ([], 4, 2 * 2 + 2 * 10),
        ([], 6, 2 * 10),
        ([5], 5, 7 + 10),
        ([12], 5, 10),
        ([12, 12], 4, 0),
    ],
)
def test_where_all_wait_at_one_rung_the_finalists_are_yet_to_come(past, waiting, left):
    done = [{"epoch": number, "seconds": 1.0, "validation_accuracy": 0.5} for number in range(1, 13)]
    trials = [record(0, FINISHED, *done, kind=BASELINE, baseline="at")]
    for number, epochs in enumerate([*past, *[2] * waiting], 1):
        status = PAUSED if epochs == 2 else FINISHED if epochs == 12 else RUNNING
        trials.append(record(number, status, *done[:epochs]))
    estimator = TimeLeft(12, (2,), 3.0, finalists=2)
    assert estimator.estimate(trials, 7, 1) == Span(left, left)
