"""Asynchronous successive halving by the book, and learning curves of every kind to try it on."""

from __future__ import annotations

import math
import random

from support.simulation import Outcome

NAN = math.nan


def percentile(values, share):
    """The value below which a share of some values lies, by linear interpolation."""
    values = sorted(values)
    position = share * (len(values) - 1)
    below = math.floor(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


def asked_once(simulation):
    """Return the decisions of the scheduler, each once: a trial that begins again reports its epochs once more."""
    first = {}
    for event in simulation.decisions:
        first.setdefault(event[:2], event)
    return list(first.values())


def asha(events, rungs, factor):
    """Asynchronous successive halving by the book: of (number, epoch, accuracy, ...) in their order, who goes on."""
    seen = {rung: [] for rung in rungs}
    goes_on = []
    for _, epoch, accuracy, _ in events:
        others = seen.get(epoch, [])
        top = math.isfinite(accuracy) and (not others or accuracy >= percentile(others, 1 - 1 / factor))
        goes_on.append(top if epoch in seen else math.isfinite(accuracy))
        if math.isfinite(accuracy):
            others.append(accuracy)
    return goes_on


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
