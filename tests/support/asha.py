"""Asynchronous successive halving by the book, and learning curves of every kind to try it on."""

from __future__ import annotations

import math
import random

from support.simulation import Outcome

NAN = math.nan


def asked_once(simulation):
    """Return the decisions of the scheduler, each once: a trial that begins again reports its epochs once more."""
    first = {}
    for event in simulation.decisions:
        first.setdefault(event[:2], event)
    return list(first.values())


class Rungs:
    """The accuracies at the rungs of a simulation, and who has been lost, as far as its decisions have been read."""

    def __init__(self, simulation, rungs, factor):
        self._lost_after = list(simulation.lost)
        self._lost = set()
        self._factor = factor
        self.seen = {rung: {} for rung in rungs}

    def read_up_to(self, count):
        """What was lost before so many decisions."""
        while self._lost_after and self._lost_after[0][0] <= count:
            self._lost.add(self._lost_after.pop(0)[1])

    def best(self, rung):
        """The best third (or another part) of all that have reached a rung; one that was lost later is the worst."""
        reached = self.seen[rung].items()
        values = [-math.inf if number in self._lost else accuracy for number, accuracy in reached]
        return sorted(values, reverse=True)[: max(1, len(values) // self._factor)]


def asha(simulation, rungs, factor, only=None):
    """Asynchronous successive halving by the book: who goes on after each decision that was asked for once.

    At a rung a trial goes on if its accuracy is one of the best third (or another part) of all that have reached it.

    Args:
        simulation: What was played.
        rungs: The rungs.
        factor: One in so many goes on.
        only: The numbers of the trials that are compared; all if none are given.
    """
    read, told, goes_on = Rungs(simulation, rungs, factor), set(), []
    for count, (number, epoch, accuracy, _) in enumerate(simulation.decisions):
        read.read_up_to(count)
        if (number, epoch) in told or (only is not None and number not in only):
            continue
        told.add((number, epoch))
        if epoch in read.seen and math.isfinite(accuracy):
            read.seen[epoch][number] = accuracy
            goes_on.append(accuracy in read.best(epoch))
        else:
            goes_on.append(math.isfinite(accuracy))
    return goes_on


def promotions(simulation, rungs, factor):
    """The trials that were promoted, after checking that each was the right one, and that none was passed over.

    Before a new trial begins, the paused trial at the highest rung that is one of the best there goes on, if there is
    one: of several the best, of equals the one with the lower number.
    """
    read, paused, told, promoted = Rungs(simulation, rungs, factor), {}, set(), []
    starts = list(simulation.starts)

    def right_one():
        for rung in reversed(rungs):
            may = [(-read.seen[rung][number], number) for number, at in paused.items() if at == rung]
            if may and -min(may)[0] in read.best(rung):
                return min(may)[1]
        return None

    for count in range(len(simulation.decisions) + 1):
        read.read_up_to(count)
        while starts and starts[0][0] == count:
            _, number, epochs = starts.pop(0)
            if number in paused:
                assert number == right_one()
                promoted.append(number)
                del paused[number]
            elif not epochs and simulation.records[number].explores and all(number != other for other, _ in told):
                assert right_one() is None
        if count == len(simulation.decisions):
            break
        number, epoch, accuracy, goes_on = simulation.decisions[count]
        if (number, epoch) not in told and simulation.records[number].explores:
            told.add((number, epoch))
            if epoch in read.seen and math.isfinite(accuracy):
                read.seen[epoch][number] = accuracy
                if not goes_on:
                    paused[number] = epoch
    assert right_one() is None
    return promoted


def any_outcomes(seed, count, epochs):
    """Learning curves that rise, cross, tie, dip, end in NaN, diverge and fail."""
    draw = random.Random(seed)
    outcomes = []
    for _ in range(count):
        start, end = draw.uniform(0.1, 0.5), draw.uniform(0.3, 0.95)
        curve = [start + (end - start) * epoch / epochs + draw.gauss(0, 0.05) for epoch in range(epochs)]
        curve = [round(value, 1) if draw.random() < 0.3 else value for value in curve]
        if draw.random() < 0.1:
            curve[draw.randrange(epochs - 1)] = NAN
        diverges = draw.random() < 0.15
        length = draw.randint(1, epochs - 1) if diverges else epochs
        fails = draw.randrange(length) if draw.random() < 0.3 else None
        outcomes.append(Outcome(curve[:length], diverges, draw.randint(1, 4), fails, failures=draw.randint(1, 4)))
    return outcomes
