"""How a search explores, what it stops early, what it compares with, and how it chooses its winner."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ctkd_search.config import Count, Positive, Range
from ctkd_search.metrics import ACCURACY as _ACCURACY
from ctkd_search.metrics import ALWAYS, METRICS, OBJECTIVES, ON_REQUEST, Metric, class_fault
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.distributions import Entry, Number
from ctkd_search.space.document import Document
from ctkd_search.space.parameters import chosen_methods

if TYPE_CHECKING:
    from ctkd_search.space.definition import Budget

ACCURACY = _ACCURACY.key
# What a student costs: by the key of `limits` that bounds it.
COSTS = {"params": "max_params", "multiply_adds": "max_multiply_adds", "latency_ms": "max_latency_ms"}


@dataclass(frozen=True)
class Sampler:
    """Who suggests the trials. Options that are not given are Optuna's own defaults.

    Attributes:
        name: ``tpe``, ``gp`` (Gaussian processes), ``cmaes`` (CMA-ES), ``qmc`` (a quasi-random sequence) or ``random``.
        startup_trials: Random trials before ``tpe`` or ``gp`` begins to model.
        candidates: Points among which ``tpe`` chooses.
        sigma: Standard deviation with which ``cmaes`` begins, as a share of each range.
        population: Trials in a generation of ``cmaes``; below 4 its step sizes divide by zero.
        sequence: Which sequence ``qmc`` follows.
        scramble: Whether the sequence of ``qmc`` is scrambled by the seed.
    """

    name: Literal["tpe", "gp", "cmaes", "qmc", "random"] = "tpe"
    startup_trials: Count | None = None
    candidates: Count | None = None
    sigma: Annotated[float, Range(0, 1, open_low=True)] | None = None
    population: Annotated[int, Range(4)] | None = None
    sequence: Literal["sobol", "halton"] | None = None
    scramble: bool | None = None

    def options(self) -> dict[str, Any]:
        """The options that were given."""
        return _given(self)


SAMPLER_OPTIONS = {
    "tpe": ("startup_trials", "candidates"),
    "gp": ("startup_trials",),
    "cmaes": ("sigma", "population"),
    "qmc": ("sequence", "scramble"),
    "random": (),
}


@dataclass(frozen=True)
class Scheduler:
    """What stops trials early.

    Attributes:
        name: ``asha``, ``hyperband`` (asynchronous Hyperband: several ASHA ladders, of which the later ones judge
            later) or ``none``.
        brackets: Ladders of ``hyperband``; left out, as many as the budget has rungs.
    """

    name: Literal["asha", "hyperband", "none"] = "asha"
    brackets: Annotated[int, Range(2)] | None = None

    def options(self) -> dict[str, Any]:
        """The options that were given."""
        return _given(self)


SCHEDULER_OPTIONS: dict[str, tuple[str, ...]] = {"asha": (), "hyperband": ("brackets",), "none": ()}


@dataclass(frozen=True)
class Confirm:
    """How the winner is confirmed: the best configs, and the baselines of their pairs, once more with other seeds.

    Attributes:
        best: How many configs.
        seeds: How many fresh seeds each gets: another stream, other teachers, other initial weights.
        per_method: Whether that many of each method are confirmed, where several are searched.
    """

    best: Count = 3
    seeds: Annotated[int, Range(2)] = 3
    per_method: bool = False


@dataclass(frozen=True)
class Limits:
    """What a student may cost. A pair whose student costs more is left out before anything is trained.

    Attributes:
        max_params: Parameters of the student.
        max_multiply_adds: Multiply-adds of the student for one image.
        max_latency_ms: Milliseconds that the student takes for one image, measured where the trials run.
    """

    max_params: Count | None = None
    max_multiply_adds: Count | None = None
    max_latency_ms: Positive | None = None

    def given(self) -> dict[str, float]:
        """The limits that were given, by what they limit."""
        return {cost: getattr(self, key) for cost, key in COSTS.items() if getattr(self, key) is not None}


@dataclass(frozen=True)
class Strategy:
    """How a search goes about it.

    Attributes:
        sampler: Who suggests the trials.
        scheduler: What stops trials early.
        baselines: What the winner is compared with: trainings of the same students, of which none is stopped early.
        confirm: How the winner is confirmed; left out, nothing is.
        objectives: What is to be good: something measured on the validation images first, by which trials are judged,
            stopped early and chosen; then what else is, and what the student costs.
        limits: What a student may cost; pairs whose student costs more are left out before anything is trained.
        metrics: What is measured of every student beside accuracy and loss, on the validation images, and in a final
            training on the test images; what is an objective is measured anyway.
    """

    sampler: Sampler = Sampler()
    scheduler: Scheduler = Scheduler()
    baselines: tuple[str, ...] = ()
    confirm: Confirm | None = None
    objectives: tuple[str, ...] = (ACCURACY,)
    limits: Limits = Limits()
    metrics: tuple[str, ...] = ()

    @property
    def judge(self) -> Metric:
        """What trials are judged by: the first objective."""
        return OBJECTIVES[self.objectives[0]]

    @property
    def directions(self) -> list[str]:
        """Of each objective whether it is to be high or low, in Optuna's words."""
        return ["maximize" if _is_high(name) else "minimize" for name in self.objectives]

    @property
    def costs(self) -> list[str]:
        """What must be known of the students: what is an objective or limited."""
        limited = self.limits.given()
        return [cost for cost in COSTS if cost in self.objectives or cost in limited]


def read_strategy(
    document: Document,
    budget: Budget,
    entries: Mapping[str, Entry],
    students: Sequence[str],
    classes: int | None,
) -> Strategy:
    """Reads the sections of a space that say how it is searched; every problem is noted.

    Args:
        document: The space.
        budget: Its budget.
        entries: What it searches.
        students: The student architectures that trials may have.
        classes: How many classes there are; None if that is not known.
    """
    objectives = _objectives(document, students, classes)
    sampler = _named(document, "sampler", Sampler, SAMPLER_OPTIONS)
    if sampler.name == "cmaes":
        _check_cmaes(document, entries, objectives)
    return Strategy(
        sampler,
        _scheduler(document, budget),
        _baselines(document),
        _confirm(document, entries),
        objectives,
        document.section("limits", Limits, Limits()),
        _metrics(document, objectives, classes),
    )


def _named(document: Document, key: str, form: Any, options: Mapping[str, tuple[str, ...]]) -> Any:
    """A section that is a name, or a mapping with the name and its options."""
    raw = document.data.get(key)
    if raw is None:
        return form()
    if isinstance(raw, str):
        if raw not in options:
            document.fault((key,), f"must be one of {', '.join(options)}, but got {raw!r}")
            return form()
        return form(raw)
    read = document.validated((key,), raw, form, form())
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


def _scheduler(document: Document, budget: Budget) -> Scheduler:
    scheduler: Scheduler = _named(document, "scheduler", Scheduler, SCHEDULER_OPTIONS)
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
    return scheduler


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
            document.fault(("baselines", number), f"{name} is there twice")
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
    known = (*OBJECTIVES, *COSTS)
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
    return (*(chosen or [ACCURACY]), *costs)


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
    """Whether something is a list at all; whatever in it is unknown, or there twice, is noted."""
    if not isinstance(raw, list) or len(raw) < minimum:
        document.fault((key,), f"must be a list of {', '.join(known)}, but got {raw!r}")
        return False
    for number, name in enumerate(raw):
        if name not in known:
            document.fault((key, number), f"must be one of {', '.join(known)}, but got {name!r}")
        elif name in raw[:number]:
            document.fault((key, number), f"{name} is there twice")
    return True


def _is_high(objective: str) -> bool:
    return objective in OBJECTIVES and OBJECTIVES[objective].goal == "max"


def _given(section: Any) -> dict[str, Any]:
    items = ((item.name, getattr(section, item.name)) for item in dataclasses.fields(section) if item.name != "name")
    return {name: value for name, value in items if value is not None}
