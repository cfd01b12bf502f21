"""A leaderboard as a file: as text, as CSV, and as a short summary for a run in MLflow."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from ctkd_search.analysis.standing import confirmed, gap_to, verdicts
from ctkd_search.display.comparisons import heading, methods_table
from ctkd_search.display.leaderboard import print_leaderboard
from ctkd_search.display.tables import Row, Table, as_markdown
from ctkd_search.display.trial_rows import columns_of, parameter_names, trial_rows
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord, ranked
from ctkd_search.records.trial_configs import label_of
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import show
from ctkd_search.text import amount

_WIDTH = 160
_SECONDS = ("seconds", "own_seconds")
# The first characters of cells that spreadsheets calculate.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def leaderboard_text(space: Space, search: SearchRecord, trials: Sequence[TrialRecord]) -> str:
    """Returns the leaderboard as `show` prints it, with every trial."""
    from ctkd_search.display.consoles import text_console

    console, text = text_console(_WIDTH)
    print_leaderboard(space, search, trials, len(trials), console)
    return text.getvalue()


def leaderboard_csv(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord | None) -> str:
    """Returns a row for each trial, best first, as `trial_rows` has it."""
    names = set(parameter_names(space, trials))
    columns = columns_of(space, trials)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([_text(column) if column in names else column for column in columns])
    for row in trial_rows(space, ranked(list(trials)), leader):
        table.writerow([_cell(column, row[column]) for column in columns])
    return text.getvalue()


def summary(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord) -> str:
    """Returns the result of a search as a few lines of Markdown."""
    mean = next((config.estimate for config in confirmed(trials) if config.trial is leader), None)
    judge = leader.metric
    reached = f"{'' if judge is ACCURACY else f'{judge.label} '}{leader.reached} on the validation images"
    if mean:
        # Of one seed there is no interval.
        interval = "" if math.isinf(mean.half_width) else f" ± {judge.number(mean.half_width)}"
        reached += f"; {judge.show(mean.mean)}{interval} in the mean of {amount(mean.n, 'fresh seed')}"
    lines = [f"**Winner: trial {leader.number}**, `{label_of(space, leader)}`: {reached}.", ""]
    compared = methods_table(trials, leader, judge)
    if compared is not None:
        lines += [as_markdown(compared), ""]
    baselines = first_of_each(trials)
    if baselines:
        rows = []
        for trial in baselines:
            finished = trial.status == FINISHED
            gap = gap_to(trials, leader, trial) if finished else None
            ahead = "" if gap is None else f"{judge.signed(-judge.sign * gap.mean)} {judge.difference_unit}"
            rows.append(Row([str(trial.baseline), trial.reached if finished else trial.status, ahead]))
        heads = ["baseline", heading(judge), "the winner is ahead by"]
        lines += [as_markdown(Table("baselines", heads, rows, {1, 2})), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in verdicts(trials))])


def first_of_each(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns each baseline's best trial over the pairs, best first; those that have not finished come last."""
    best: dict[str, TrialRecord] = {}
    ran = ranked([trial for trial in trials if trial.is_baseline_run and trial.epochs])
    for trial in sorted(ran, key=lambda trial: trial.status != FINISHED):
        best.setdefault(str(trial.baseline), trial)
    return list(best.values())


def _cell(column: str, value: Any) -> Any:
    if value is None:
        return ""
    if column in _SECONDS:
        return f"{value:.3f}"
    value = show(value) if isinstance(value, list | tuple) else value
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Returns a text that no spreadsheet calculates: a leading quote marks it as text."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
