"""Reading of the sections of a space with the strategy of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctkd_search.metrics import ALWAYS, AT_END, METRICS, OBJECTIVES, ON_REQUEST, class_fault
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.distributions import Entry, Number
from ctkd_search.space.document import Document
from ctkd_search.space.parameters import chosen_methods
from ctkd_search.space.sections import (
    COSTS,
    NAMED,
    Budget,
    Confirm,
    Limits,
    Scheduler,
)
from ctkd_search.space.strategy import ACCURACY, Strategy


def read_strategy(
    document: Document,
    budget: Budget,
    entries: Mapping[str, Entry],
    students: Sequence[str],
    classes: int | None,
    scheduler: Scheduler,
) -> Strategy:
    """Reads the other sections of a space with the strategy of the search, noting every problem.

    Args:
        document: The space.
        budget: Its budget.
        entries: Entries of the section search.
        students: The student architectures that trials may have.
        classes: Number of classes; None if that is not known.
        scheduler: Its scheduler.
    """
    _check_rungs(document, scheduler, budget)
    objectives = _objectives(document, students, classes)
    sampler = _named(document, "sampler")
    if sampler.name == "cmaes":
        _check_cmaes(document, entries, objectives)
    return Strategy(
        sampler,
        scheduler,
        _baselines(document),
        _confirm(document, entries),
        objectives,
        document.section("limits", Limits, Limits()),
        _metrics(document, objectives, classes),
    )


def _named(document: Document, key: str) -> Any:
    """Reads a section that is a name, or a mapping with the name and its options."""
    form, options = NAMED[key]
    raw = document.data.get(key)
    if raw is None:
        return form()
    if isinstance(raw, str):
        if raw not in options:
            document.fault((key,), f"must be one of {', '.join(options)}, but got {raw!r}")
            return form()
        return form(raw)
    read: Any = document.validated((key,), raw, form, form())
    if isinstance(raw, dict) and raw.get("name", read.name) != read.name:
        return read  # the name is faulty, so that nobody knows whose options these are
    for option in read.options():
        if option not in options[read.name]:
            owners = " and ".join(name for name, own in options.items() if option in own)
            document.fault((key, option), f"has no effect with {read.name}; it belongs to {owners}")
    return read


def _check_cmaes(document: Document, entries: Mapping[str, Entry], objectives: Sequence[str]) -> None:
    numbers = [name for name, entry in entries.items() if isinstance(entry, Number) and not entry.when]
    if entries and len(numbers) < 2:
        document.fault(
            ("sampler",),
            "cmaes needs at least 2 numbers that are searched in every trial (float or int, without when); the space "
            f"has {len(numbers)}",
        )
    if len(objectives) > 1:
        document.fault(("sampler",), "cmaes follows one objective; use tpe or gp for several")


def read_scheduler(document: Document) -> Scheduler:
    """Reads the scheduler of a space, noting every problem."""
    scheduler: Scheduler = _named(document, "scheduler")
    return scheduler


def _check_rungs(document: Document, scheduler: Scheduler, budget: Budget) -> None:
    rungs = budget.rungs()
    if scheduler.name == "hyperband":
        if len(rungs) < 2:
            document.fault(
                ("scheduler",),
                f"hyperband needs at least 2 rungs, and this budget has {len(rungs)}; raise epochs, or use asha",
            )
        elif (scheduler.brackets or 2) > len(rungs):
            document.fault(
                ("scheduler", "brackets"),
                f"must be at most the {len(rungs)} rungs of this budget, but got {scheduler.brackets}",
            )
    if scheduler.name == "constant" and not rungs:
        fault = (
            "constant needs at least 2 epochs, and this budget has 1; raise epochs, or use none"
            if budget.epochs == 1
            else f"constant needs a budget.grace_period below the epochs {budget.epochs}, but got {budget.grace_period}"
        )
        document.fault(("scheduler",), fault)


def _baselines(document: Document) -> tuple[str, ...]:
    raw = document.data.get("baselines")
    if raw is None:
        return ()
    if not isinstance(raw, list):
        document.fault(("baselines",), f"must be a list of {', '.join(BASELINES)}, but got {raw!r}")
        return ()
    for number, name in enumerate(raw):
        if name not in list(BASELINES):  # a list or a mapping is no key of a dict
            document.fault(("baselines", number), f"must be one of {', '.join(BASELINES)}, but got {name!r}")
        elif name in raw[:number]:
            document.fault(("baselines", number), f"{name} is duplicated; leave one out")
    return tuple(name for name in BASELINES if name in raw)


def _confirm(document: Document, entries: Mapping[str, Entry]) -> Confirm | None:
    if document.data.get("confirm") is None:
        return None
    confirm = document.section("confirm", Confirm, Confirm())
    if confirm.per_method and len(chosen_methods(entries)) == 1:
        document.fault(("confirm", "per_method"), "has no effect, because one method alone is searched; leave it out")
    return confirm


def _objectives(document: Document, students: Sequence[str], classes: int | None) -> tuple[str, ...]:
    raw = document.data.get("objectives")
    known = (*OBJECTIVES, *AT_END, *COSTS)
    if raw is None:
        return (ACCURACY,)
    if not _is_list_of(document, "objectives", raw, known, minimum=1):
        return (ACCURACY,)
    for number, name in enumerate(raw):
        if name in list(OBJECTIVES) and classes and (fault := class_fault(OBJECTIVES[name].name, classes)):
            document.fault(("objectives", number), f"{name} {fault}")
    chosen = [name for name in raw if name in list(OBJECTIVES)]
    if not chosen and all(name in known for name in raw):
        document.fault(("objectives",), f"must have one of {', '.join(OBJECTIVES)} among them, but got {raw!r}")
    costs = [name for name in COSTS if name in raw]
    if costs and len(set(students)) == 1:
        document.fault(
            ("objectives",), f"{costs[0]} is the same in every trial, because every pair has the student {students[0]}"
        )
    return (*(chosen or [ACCURACY]), *(name for name in AT_END if name in raw), *costs)


def _metrics(document: Document, objectives: Sequence[str], classes: int | None) -> tuple[str, ...]:
    raw = document.data.get("metrics")
    asked: list[str] = []
    if raw is not None and _is_list_of(document, "metrics", raw, ON_REQUEST):
        for number, name in enumerate(raw):
            if name in list(METRICS) and classes and (fault := class_fault(name, classes)):
                document.fault(("metrics", number), f"{name} {fault}")
        asked = [name for name in ON_REQUEST if name in raw]
    judged = {OBJECTIVES[name].name for name in objectives if name in OBJECTIVES}
    return tuple(name for name in METRICS if name in {*asked, *judged} and name not in ALWAYS)


def _is_list_of(document: Document, key: str, raw: Any, known: Sequence[str], minimum: int = 0) -> bool:
    """Returns whether a value is a list; notes its unknown and duplicated items."""
    if not isinstance(raw, list) or len(raw) < minimum:
        document.fault((key,), f"must be a list of {', '.join(known)}, but got {raw!r}")
        return False
    for number, name in enumerate(raw):
        if name not in known:
            document.fault((key, number), f"must be one of {', '.join(known)}, but got {name!r}")
        elif name in raw[:number]:
            document.fault((key, number), f"{name} is duplicated; leave one out")
    return True
