"""What `check`, `show` and `export` print."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search import data
from ctkd_search.baselines import baseline_pairs
from ctkd_search.distributions import Constant, show
from ctkd_search.errors import UserError
from ctkd_search.metrics import ACCURACY, METRICS
from ctkd_search.results.config_file import config_text
from ctkd_search.results.leaderboard import clock, percent, plain_table, print_leaderboard
from ctkd_search.results.standing import find_trial, winner
from ctkd_search.results.store import SearchFolder, TrialRecord, names
from ctkd_search.space import Space
from ctkd_search.space_file import kept_space

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_EXAMPLES = 4
_LONGEST_CELL = 40


def print_overview(space: Space, console: Console) -> None:
    """Prints what a space would search, some trials as they might be drawn, and what they would cost."""
    images = data.geometry(space.dataset)
    console.print(
        f"space {space.name}: {space.dataset.name}, {images.classes} classes, "
        f"{images.image_size}x{images.image_size} pixels, {images.channels} channel{'s' * (images.channels > 1)}",
        highlight=False,
    )
    console.print(_parameter_table(space))
    console.print("The first trial has the paper's settings, or the nearest there are; the others might be like these:")
    for number, values in enumerate(_samples(space), start=1):
        console.print(f"  {number}  {space.label(space.effective(values))}", highlight=False, soft_wrap=True)
    console.print()
    for line in _budget_lines(space):
        console.print(line, highlight=False, soft_wrap=True)


def _parameter_table(space: Space) -> Table:
    table = plain_table("parameter", "searched", "only where", "what it is")
    # Long lists are broken, so that what a parameter is stays in one line.
    table.columns[1].max_width = _LONGEST_CELL
    for name, parameter in space.parameters.items():
        entry = space.entries.get(name)
        if entry is None or isinstance(entry, Constant):
            searched = f"fixed: {show(parameter.default if entry is None else entry.value)}"
            condition = ""
        else:
            searched = str(entry)
            condition = ", ".join(
                f"{other} is {' or '.join(map(show, wanted))}" for other, wanted in entry.when.items()
            )
        table.add_row(name, searched, condition, parameter.help, style="dim" if searched.startswith("fixed") else None)
    return table


def _samples(space: Space) -> list[dict[str, object]]:
    """The paper's settings and a few random draws, made by Optuna as the search would."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=space.seed))
    study.enqueue_trial(space.paper_point())
    return [space.suggest(study.ask()) for _ in range(_EXAMPLES)]


def _budget_lines(space: Space) -> list[str]:
    budget = space.budget
    most = budget.trials * budget.epochs
    rungs = budget.rungs() if space.strategy.scheduler.name != "none" else []
    # If ASHA lets one in reduction_factor past every rung.
    stops = [*rungs, budget.epochs]
    least, going = 0.0, float(budget.trials)
    for before, after in zip([0, *stops], stops, strict=False):
        least += going * (after - before)
        going = max(1.0, going / budget.reduction_factor)
    lines = [
        f"budget: {budget.trials} trials of up to {budget.epochs} epochs: {most:,} epochs in all, or about "
        f"{math.ceil(least):,} with early stopping",
    ]
    strategy = space.strategy
    lines.append(f"sampler: {strategy.sampler.name}, objectives: {', '.join(strategy.objectives)}")
    if strategy.metrics:
        labels = ", ".join(METRICS[name].label for name in strategy.metrics)
        lines.append(f"measured beside accuracy and loss, of every student: {labels}")
    if rungs:
        lines.append(
            f"{strategy.scheduler.name}: after epoch{'s' * (len(rungs) > 1)} {', '.join(map(str, rungs))} about one "
            f"trial in {budget.reduction_factor} goes on"
        )
    lines += _comparison_lines(space)
    if budget.seconds() is not None:
        lines.append(f"time: at most {clock(budget.seconds() or 0)}")
    teachers = ", ".join(space.teachers_by_name())
    how = "recorded once and replayed to every trial" if space.teachers.mode == "recorded" else "live, in every trial"
    lines.append(f"teachers, {how}, {budget.epochs} epochs each: {teachers}")
    return lines


def _comparison_lines(space: Space) -> list[str]:
    """What is trained beside the trials that Optuna suggests."""
    strategy, epochs = space.strategy, space.budget.epochs
    lines = []
    runs = baseline_pairs(strategy.baselines, space.pairs())
    if runs:
        lines.append(
            f"baselines: {', '.join(strategy.baselines)}; {len(runs)} trainings of {epochs} epochs, never stopped early"
        )
    confirm = strategy.confirm
    if confirm:
        lines.append(
            f"confirmation: the best {confirm.best} and the baselines of their pairs, with {confirm.seeds} fresh seeds "
            "each; every seed has a stream and teachers of its own"
        )
    for cost, limit in strategy.limits.given().items():
        lines.append(f"limit: pairs whose student has more than {limit:,.6g} {cost} are left out")
    return lines


def print_searches(root: Path, console: Console) -> None:
    """Prints the searches there are."""
    found = names(root)
    if not found:
        raise UserError(f"there are no searches in {root} yet; begin one with: ctkd-search run spaces/digits.yaml")
    table = plain_table("search", "begun", "trials", "best", "state")
    for name in found:
        folder = SearchFolder(root, name)
        search, trials = folder.search(), folder.trials()
        leader = winner(trials)
        state = "finished" if search.finished else "unfinished"
        table.add_row(name, search.started, str(len(trials)), _best(leader), state)
    console.print(table)


def _best(leader: TrialRecord | None) -> str:
    if leader is None:
        return "-"
    return leader.reached if leader.metric is ACCURACY else f"{leader.reached} ({leader.metric.label})"


def print_search(root: Path, name: str, limit: int, console: Console) -> None:
    """Prints one search's leaderboard."""
    folder = SearchFolder(root, name)
    search, trials = folder.search(), folder.trials()
    print_leaderboard(kept_space(search.space), search, trials, limit, console)
    for architecture, accuracy in sorted(search.experts.items()):
        console.print(
            f"expert {architecture}: {percent(-1 if accuracy is None else accuracy)} validation accuracy",
            highlight=False,
        )
    if search.model:
        console.print(f"student: {search.model} in MLflow at {search.tracking_uri}", soft_wrap=True, highlight=False)
    if not search.finished:
        console.print(
            f"not finished; go on with: {search.again}",
            soft_wrap=True,
            highlight=False,
        )


def exported(root: Path, name: str, trial: str | None) -> str:
    """The config of a trial of a search as YAML.

    Raises:
        UserError: There is no such search or trial.
    """
    folder = SearchFolder(root, name)
    search = folder.search()
    return config_text(kept_space(search.space), search, find_trial(folder.trials(), trial))
