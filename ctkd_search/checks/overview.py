"""The first part of the output of `check`: the space itself, without its networks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ctkd_search import data
from ctkd_search.analysis.stopping import compared_groups, early_stopping
from ctkd_search.checks.ranking import ranking_warnings
from ctkd_search.display.tables import plain_table
from ctkd_search.distill.methods.base import Method, Parameter, make_method, method_class
from ctkd_search.metrics import METRICS
from ctkd_search.records.config_list import published_names, read_published
from ctkd_search.space.baselines import baseline_pairs
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant, show
from ctkd_search.space.effects import setting_of
from ctkd_search.space.parameters import CTKD, METHOD
from ctkd_search.text import amount, clock, settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_EXAMPLES = 4
_LONGEST_CELL = 40
# Numbers of a range that are told apart where different configs are counted.
_MOST = 1_000
# NumPy's own generator, which Optuna draws from, takes no larger seed.
_SEEDS = 2**32
_MODES = {
    "recorded": "recorded once and replayed to every trial",
    "live": "live, in every trial",
    "auto": "recorded once and replayed to every trial, or live in every trial where that takes too much space",
}


def print_overview(space: Space, console: Console) -> None:
    """Prints what a space would search, a few trials that might be drawn, and how much would be trained."""
    images = data.geometry(space.dataset)
    console.print(
        f"space {space.name}: {space.dataset.name}, {images.classes} classes, "
        f"{images.image_size}x{images.image_size} pixels, {images.channels} channel{'s' * (images.channels > 1)}",
        highlight=False,
    )
    for line in (*data.recognised(space.dataset), *data.notes(space.dataset)):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_parameter_table(space))
    first = "The first trial has the default settings, or the nearest there are"
    if len(space.methods()) > 1:
        first = "The first trial of each method has its default settings, or the nearest there are"
    console.print(f"{first}; the others might be like these:")
    for number, values in enumerate(_samples(space), start=1):
        console.print(f"  {number}  {space.label(space.effective(values))}", highlight=False, soft_wrap=True)
    console.print()
    for line in (*_source_lines(space), *_budget_lines(space), *_published_lines(space)):
        console.print(line, highlight=False, soft_wrap=True)


def _parameter_table(space: Space) -> Table:
    table = plain_table("parameter", "searched", "only where", "what it is")
    # Long lists are broken, so that the description of a parameter stays on one line.
    table.columns[1].max_width = _LONGEST_CELL
    for name, parameter in space.parameters.items():
        entry = space.entries.get(name)
        if entry is None or isinstance(entry, Constant):
            searched = f"fixed: {_defaults(space, parameter) if entry is None else show(entry.value)}"
            condition = ""
        else:
            searched = str(entry)
            condition = ", ".join(
                f"{other} is {' or '.join(map(show, wanted))}" for other, wanted in entry.when.items()
            )
        table.add_row(name, searched, condition, parameter.help, style="dim" if searched.startswith("fixed") else None)
    return table


def _defaults(space: Space, parameter: Parameter) -> str:
    """Returns the default of a parameter, for each pair where they differ."""
    return " or ".join(dict.fromkeys(show(space.default(parameter, pair)) for pair in space.pairs()))


def _source_lines(space: Space) -> list[str]:
    """Returns lines with the sources of each method's default settings."""
    lines = []
    for name in space.methods():
        sources = [f"{source} ({', '.join(names)})" for source, names in method_class(name).sources().items()]
        if sources:
            lines.append(f"default settings of {name}: {'; '.join(sources)}")
    return lines


def _samples(space: Space) -> list[dict[str, object]]:
    """Returns the default settings and a few random draws of Optuna's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=space.seed % _SEEDS))
    methods = space.methods()
    for method in methods:
        study.enqueue_trial(space.paper_point(method))
    return [space.suggest(study.ask()) for _ in range(max(_EXAMPLES, len(methods) + 1))]


def _budget_lines(space: Space) -> list[str]:
    budget = space.budget
    methods = space.methods()
    epochs = early_stopping(space)
    lines = [
        f"budget: {amount(budget.trials, 'trial')} of up to {amount(budget.epochs, 'epoch')}: "
        f"{epochs.high:,.0f} epochs in all, or about {math.ceil(epochs.low):,} with early stopping",
    ]
    different = _different(space, budget.trials)
    if different < budget.trials:
        lines.append(
            f"only {amount(different, 'different config')}, so that trials repeat; lower budget.trials or widen search"
        )
    if len(methods) > 1:
        each = budget.trials // len(methods)
        shared = f"{each} or {each + 1}" if budget.trials % len(methods) else f"{each}"
        lines.append(f"methods: {', '.join(methods)}; {shared} trials each, stopped early among themselves")
    strategy = space.strategy
    lines.append(f"sampler: {strategy.sampler.name}, objectives: {', '.join(strategy.objectives)}")
    if strategy.metrics:
        labels = ", ".join(METRICS[name].label for name in strategy.metrics)
        lines.append(f"measured of every student, in addition to accuracy and loss: {labels}")
    lines += _stopping_lines(space)
    lines += _comparison_lines(space)
    if budget.seconds() is not None:
        lines.append(f"time: at most {clock(budget.seconds() or 0)}")
    lines += [f"augment {name}: {settings(augment.given())}" for name, augment in space.augments.items()]
    teachers = ", ".join(map(space.named_teacher, space.trained_teachers()))
    lines.append(f"teachers, {_MODES[space.teachers.mode]}, {budget.epochs} epochs each: {teachers}")
    if (ensemble := space.teachers.expert.ensemble) is not None:
        members = f"{ensemble} experts of each" if isinstance(ensemble, int) else ", ".join(ensemble)
        lines.append(f"expert: an ensemble of {members}; their outputs are averaged and recorded as those of one")
    return lines


class _Path:
    """A trial, to a space, that takes given options one after another, and then the first of each further choice."""

    def __init__(self, options: Sequence[object]) -> None:
        self.taken = list(options)
        self.others: list[list[object]] = []
        self._given = len(options)
        self._asked = 0

    def _take(self, options: Iterable[object]) -> object:
        if self._asked == self._given + len(self.others):
            first, *others = options
            self.taken.append(first)
            self.others.append(others)
        self._asked += 1
        return self.taken[self._asked - 1]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> object:
        return self._take(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> object:
        return self._take(range(low, min(high, low + _MOST * step) + 1, step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> object:
        most = _MOST if step is None else min(_MOST, math.floor((high - low) / step + 1e-9))
        width = (high - low) / _MOST if step is None else step
        return self._take(low + number * width for number in range(most + 1))


def _different(space: Space, most: int) -> int:
    """Returns the number of different configs of a space; `most` if there are more, or too many ways to draw them."""
    paths: list[list[object]] = [[]]
    seen: set[str] = set()
    tried = 0
    while paths and len(seen) < most:
        if (tried := tried + 1) > max(_MOST, 10 * most):
            return most
        given = paths.pop()
        path = _Path(given)
        seen.add(json.dumps(space.effective(space.suggest(path)), sort_keys=True))
        for place, others in enumerate(path.others, start=len(given)):
            paths += [[*path.taken[:place], other] for other in others]
    return len(seen)


def _published_lines(space: Space) -> list[str]:
    """Returns a line about the published configs of the space's methods, from which its search might begin."""
    configs = [config for name in published_names() for config in read_published(name).configs]
    found = sum(config.values.get(METHOD.name, CTKD) in space.methods() for config in configs)
    if not found:
        return []
    return [
        "earlier searches: run --warm-start NAME begins from one of yours, run --warm-start published from the best "
        f"{'config' if found == 1 else 'configs'} of published ones, {found} with a method of this space"
    ]


def _stopping_lines(space: Space) -> list[str]:
    """Returns a line about the epochs after which trials are compared, and what they are compared by."""
    rungs, ranking, scheduler = space.rungs, space.strategy.ranking, space.strategy.scheduler
    if not rungs or ranking is None:
        return ranking_warnings(space)
    after = f"after epoch{'s' * (len(rungs) > 1)} {', '.join(map(str, rungs))}"
    if scheduler.name == "constant":
        among = " of those that are compared with each other" if compared_groups(space) > 1 else ""
        goes_on = f"{after} every trial waits; then the best {scheduler.finalists}{among} go on"
    else:
        later = "others wait to be promoted" if scheduler.pauses else "others are stopped for good"
        goes_on = f"{after} about one trial in {space.budget.reduction_factor} goes on; {later}"
    return [f"{scheduler.name}: {goes_on}; compared by the {ranking.label}", *ranking_warnings(space)]


def _weight_lines(runs: Iterable[tuple[str, str, Method]]) -> list[str]:
    """Returns lines about the weights of baselines that depend on the size of the images.

    Args:
        runs: Name, pair and method of each baseline.
    """
    found: dict[str, list[str]] = {}
    for name, _, method in runs:
        for item in method.effective_parameters():
            if item.side is not None:
                shown = f"{name} {show(method.values[item.name])}"
                found.setdefault(f"{item.name} ({item.help})", []).append(shown)
    return [f"{what} of baselines: {', '.join(dict.fromkeys(shown))}" for what, shown in found.items()]


def _idle_lines(space: Space, runs: Iterable[tuple[str, str, Method]]) -> list[str]:
    """Returns lines about the weights of baselines that have no effect with their pair and the images."""
    found: dict[str, None] = {}
    for name, pair, method in runs:
        idle = method.idle(setting_of(pair, data.geometry(space.dataset), space.budget.epochs))
        weights = [item.name for item in method.effective_parameters() if item.term and item.name in idle]
        found |= {f"baseline {name}: {weight} has no effect with {pair}; {idle[weight]}": None for weight in weights}
    return list(found)


def _comparison_lines(space: Space) -> list[str]:
    """Returns lines about what is trained beside the trials that Optuna suggests."""
    strategy, epochs = space.strategy, space.budget.epochs
    lines = []
    runs = baseline_pairs(strategy.baselines, space.pairs())
    if runs:
        lines.append(
            f"baselines: {', '.join(strategy.baselines)}; {len(runs)} trainings of {epochs} epochs, never stopped early"
        )
        made = [(name, pair, make_method(baseline_config(space, name, pair).method)) for name, pair in runs]
        lines += [*_weight_lines(made), *_idle_lines(space, made)]
    confirm = strategy.confirm
    if confirm:
        lines.append(
            f"confirmation: the best {confirm.best}{' of each method' * confirm.per_method} and the baselines of their "
            f"pairs, with {confirm.seeds} fresh seeds each; every seed has its own stream and teachers"
        )
    for cost, limit in strategy.limits.given().items():
        lines.append(f"limit: pairs whose student has more than {limit:,.6g} {cost} are left out")
    return lines
