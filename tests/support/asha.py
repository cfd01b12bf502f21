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


def asha(events, rungs, factor):
    """Asynchronous successive halving by the book: of (number, epoch, accuracy, ...) in their order, who goes on.

    At a rung a trial goes on if its accuracy is one of the best third (or another part) of all that have reached it.
    """
    seen = {rung: [] for rung in rungs}
    goes_on = []
    for _, epoch, accuracy, _ in events:
        if epoch in seen and math.isfinite(accuracy):
            seen[epoch].append(accuracy)
            best = sorted(seen[epoch], reverse=True)[: max(1, len(seen[epoch]) // factor)]
            goes_on.append(accuracy in best)
        else:
            goes_on.append(math.isfinite(accuracy))
    return goes_on


def promotions(simulation, rungs, factor):
    """The trials that were promoted, after checking that each was the right one, and that none was passed over.

    Before a new trial begins, the paused trial at the highest rung that is one of the best there goes on, if there is
    one: of several the best, of equals the one with the lower number.
    """
    seen, paused, told, promoted = {rung: {} for rung in rungs}, {}, set(), []
    starts = list(simulation.starts)

    def right_one():
        for rung in reversed(rungs):
            best = sorted(seen[rung].values(), reverse=True)[: max(1, len(seen[rung]) // factor)]
            may = [(-seen[rung][number], number) for number, at in paused.items() if at == rung]
            if may and -min(may)[0] in best:
                return min(may)[1]
        return None

    for count in range(len(simulation.decisions) + 1):
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
            if epoch in seen and math.isfinite(accuracy):
                seen[epoch][number] = accuracy
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
