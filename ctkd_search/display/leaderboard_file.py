"""A leaderboard as a file: as text, as CSV, and as a short summary for a run in MLflow."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from ctkd_search.analysis.standing import confirmed, gap_to, verdicts
from ctkd_search.display.comparisons import heading, measured_of, methods_table
from ctkd_search.display.leaderboard import print_leaderboard
from ctkd_search.display.tables import Row, Table, as_markdown
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import BASELINE, FINAL, SearchRecord, TrialRecord, ranked
from ctkd_search.records.trial_configs import label_of
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import show

_WIDTH = 160
# The first characters of cells that spreadsheets calculate.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def leaderboard_text(space: Space, search: SearchRecord, trials: Sequence[TrialRecord]) -> str:
    """Returns the leaderboard as `show` prints it, with every trial."""
    from rich.console import Console

    text = io.StringIO()
    print_leaderboard(space, search, trials, len(trials), Console(file=text, width=_WIDTH, markup=False, emoji=False))
    return text.getvalue()


def leaderboard_csv(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord | None) -> str:
    """Returns a row for each trial, best first: its kind, its metrics, and the value of every parameter.

    Accuracies and calibration errors are shares in [0, 1], losses are in nats; ``confirmed_mean`` is the mean of the
    metric that trials are ranked by. ``own_seconds`` exclude the time in which a trial recorded experts for all others,
    or waited for such a recording.
    """
    metrics = list(dict.fromkeys([ACCURACY, *measured_of(space)]))
    parameters = [name for name in space.parameters if any(name in trial.values for trial in trials)]
    parameters += sorted({name for trial in trials for name in trial.values} - set(parameters))
    means = {config.trial.number: config.estimate for config in confirmed(trials)}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
            *("trial", "kind", "winner", "name", "status", "epochs"),
            *(metric.key for metric in metrics),
            *("seconds", "own_seconds", "seed", "confirmed_mean", "confirmed_deviation", "confirmed_seeds"),
            *(_text(name) for name in parameters),
        ]
    )
    for trial in ranked(list(trials)):
        mean = means.get(trial.number)
        table.writerow(
            [
                *(trial.number, kind_of(trial), trial is leader, _text(label_of(space, trial)), trial.status),
                len(trial.epochs),
                *("" if (value := trial.last(metric)) is None else value for metric in metrics),
                *(f"{trial.seconds:.3f}", f"{trial.own_seconds:.3f}", trial.seed),
                *((mean.mean, "" if math.isnan(mean.deviation) else mean.deviation, mean.n) if mean else ("", "", "")),
                *(_plain(trial.values.get(name, "")) for name in parameters),
            ]
        )
    return text.getvalue()


def kind_of(trial: TrialRecord) -> str:
    """Returns the kind of a trial: ``trial``, ``baseline``, ``confirmation``, or ``final`` in a final training."""
    if trial.repeats is not None:
        return "confirmation"
    return {BASELINE: "baseline", FINAL: "final"}.get(trial.kind, "trial")


def summary(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord) -> str:
    """Returns the result of a search as a few lines of Markdown."""
    mean = next((config.estimate for config in confirmed(trials) if config.trial is leader), None)
    judge = leader.metric
    reached = f"{'' if judge is ACCURACY else f'{judge.label} '}{leader.reached} on the validation images"
    if mean:
        reached += f"; {judge.show(mean.mean)} ± {judge.number(mean.half_width)} in the mean of {mean.n} fresh seeds"
    lines = [f"**Winner: trial {leader.number}**, `{label_of(space, leader)}`: {reached}.", ""]
    compared = methods_table(trials, leader, judge)
    if compared is not None:
        lines += [as_markdown(compared), ""]
    baselines = first_of_each(trials)
    if baselines:
        rows = []
        for trial in baselines:
            gap = gap_to(trials, leader, trial)
            ahead = "" if gap is None else f"{judge.signed(-judge.sign * gap.mean)} {judge.difference_unit}"
            rows.append(Row([str(trial.baseline), trial.reached, ahead]))
        heads = ["baseline", heading(judge), "the winner is ahead by"]
        lines += [as_markdown(Table("baselines", heads, rows, {1, 2})), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in verdicts(trials))])


def first_of_each(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns each baseline's best trial over the pairs, best first."""
    best: dict[str, TrialRecord] = {}
    for trial in ranked([trial for trial in trials if trial.is_baseline_run and trial.epochs]):
        best.setdefault(str(trial.baseline), trial)
    return list(best.values())


def _plain(value: Any) -> Any:
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
