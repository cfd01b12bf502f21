"""The sections of a report, each with a sentence in place of a part that cannot be made."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ctkd_search.analysis.by_method import by_method
from ctkd_search.analysis.final_lines import headline, sentences
from ctkd_search.analysis.standing import not_confirmed
from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.display import comparisons, final_tables
from ctkd_search.display.tables import Table
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.records.states import state_path
from ctkd_search.records.store import FINISHED, SearchFolder
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report import curves, figures, optuna_plots, pareto, series, tables
from ctkd_search.report.attention import looks
from ctkd_search.report.facts import SearchSummary, warm_start_sentences
from ctkd_search.report.final import FinalSummary, means_picture, newest_final
from ctkd_search.report.spending import FORWARD_SHARE, Spending
from ctkd_search.report.style import BASELINE, SCRATCH, WINNER, Picture
from ctkd_search.report.teachers import KeptTeachers, spending
from ctkd_search.space.baselines import STUDENT_ALONE
from ctkd_search.text import clock, one_line

Part = Picture | Table | str | None


def cause(error: BaseException) -> str:
    """Returns the reason why a part could not be made, in one line."""
    text = one_line(" ".join(str(error).split())).rstrip(".")
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def raise_if_disk_full(error: Exception) -> None:
    """Raises an error again if it comes from a full disk, on which every other part would fail too."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        raise error


# Title of the section of the final training.
FINAL = "Final training"
# Rows of the table of trials.
_TRIALS = 20


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Sentences, including the reasons for missing parts.
        tables: Its tables.
        pictures: Its pictures.
        failed: The parts that could not be made, with the reasons.
    """

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Callable[[], Part | Sequence[Part]]) -> Section:
        """Adds a part; where it cannot be made, adds the reason in its place, which is also printed for the user.

        Args:
            what: The name of the part, for that sentence.
            make: Makes the part.
        """
        try:
            made = make()
        except Exception as error:  # of a record, a network, a drawing: the rest of the page is valid without it
            raise_if_disk_full(error)
            self.failed.append(f"{what} is left out: {cause(error)}")
            return self.add(f"{self.failed[-1]}.")
        return self.add(*([made] if isinstance(made, Picture | Table | str) or made is None else made))

    def add(self, *parts: Picture | Table | str | None) -> Section:
        """Adds the parts that are not None."""
        for part in parts:
            if isinstance(part, Picture):
                self.pictures.append(part)
            elif isinstance(part, Table):
                self.tables.append(part)
            elif part:
                self.text.append(part)
        return self


@dataclass(frozen=True)
class Material:
    """The material of sections.

    Attributes:
        summary: The search.
        teachers: Its teachers.
        folder: Its directory.
        splits: Its images, or None.
        missing: The reason why there are no images.
    """

    summary: SearchSummary
    teachers: KeptTeachers
    folder: SearchFolder
    splits: Splits | None
    missing: str | None

    @cached_property
    def final(self) -> tuple[FinalSummary | None, list[str]]:
        """The newest final training, and sentences on newer ones that cannot be read."""
        return newest_final(self.folder)


def every_section(material: Material) -> list[Section]:
    """Returns the sections of a page; one that cannot be made contains the reason."""
    made = []
    for title, make in SECTIONS.items():
        try:
            section = make(material)
        except Exception as error:  # the other sections must not be lost, whatever the error is
            raise_if_disk_full(error)
            section = Section(title, failed=[f"The section {title!r} is left out: {cause(error)}"])
            section.add(f"This section is left out: {cause(error)}.")
        made += [section] if section else []
    return made


def results(summary: SearchSummary) -> Section:
    """Returns the section of the confirmation, the baselines, and the trials."""
    section = Section("Results")
    trials, winner, judge = summary.trials, summary.winner, summary.winner.metric
    if summary.confirmed:
        section.attempt("The picture of means", lambda: figures.confirmation(summary.confirmed, summary.winner))
        section.attempt("The table of means", lambda: comparisons.confirmed_table(trials, winner, judge))
    else:
        section.add("No config has been confirmed with fresh seeds: the best of many trials is partly due to luck.")
        search = summary.search
        if search.finished and (line := not_confirmed(summary.space, trials, search.again)):
            # Without a full stop, which would be copied with the command.
            section.add(f"{line[0].upper()}{line[1:]}")
    none = "There are no baselines to compare with."
    section.attempt("The table of baselines", lambda: comparisons.baselines_table(trials, winner, judge) or none)
    section.attempt(
        "The picture of the Pareto front",
        lambda: pareto.pareto_fronts(summary.space, summary.explored, summary.search.costs),
    )
    section.attempt(
        "The table of the Pareto front",
        lambda: comparisons.pareto_table(summary.space, summary.search, trials, winner),
    )
    return section.attempt(
        "The table of trials", lambda: comparisons.trials_table(summary.space, summary.explored, winner, _TRIALS)
    )


def final(material: Material) -> Section | None:
    """Returns the section of the newest final training; None where none has finished."""
    summary, (found, notes) = material.summary, material.final
    if found is None:
        return Section(FINAL, text=notes, failed=notes) if notes else None
    section = Section(FINAL, text=list(notes), failed=list(notes))
    section.attempt("What was trained", found.sentence)
    section.attempt("The trial that it belongs to", lambda: found.origin(summary))
    section.add(_as_sentence(headline(found.found[0])[0]))
    section.attempt("The picture of test results", lambda: means_picture(found.found))
    if len(found.found) > 1:
        section.attempt("The table of test results", lambda: final_tables.tables(found.found)[:1])
    return section.add(*map(_as_sentence, sentences(found.seeds, found.found)))


def _as_sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def methods(summary: SearchSummary) -> Section | None:
    """Returns the section that compares the methods; None where the search has only one."""
    compared = by_method(summary.trials)
    if not compared:
        return None
    section = Section("Methods")
    confirmed = [(found.method, found.mean) for found in compared if found.mean is not None]
    if len(confirmed) > 1:
        section.attempt("The picture of the methods", lambda: figures.methods(confirmed, summary.winner))
    if len(confirmed) < len(compared):
        section.add(
            "Not every method was confirmed with fresh seeds (confirm: {per_method: true} does that): a difference of "
            "single seeds is partly due to luck."
        )
    return section.attempt(
        "The table of methods",
        lambda: comparisons.methods_table(summary.trials, summary.winner, summary.winner.metric),
    )


def search(summary: SearchSummary) -> Section:
    """Returns the section of early stops and of the best value over time."""
    section = Section("How the search went", text=warm_start_sentences(summary))
    explored, space = [trial for trial in summary.explored if trial.epochs], summary.space
    counted = series.rungs_of(explored, space.rungs)
    section.attempt(
        "The picture of learning curves", lambda: curves.learning_curves(summary.trials, summary.winner, counted)
    )
    section.attempt(
        "The table of rungs",
        lambda: tables.rungs_table(counted, explored, space.strategy.ranking, space.budget.epochs),
    )
    if not series.is_dated(explored):
        return section.add("The best value over time is left out: the records do not contain the times of epochs.")
    finishes = series.finishes(explored)
    if not finishes:
        return section.add("The best value over time is left out: no trial has finished yet.")
    return section.attempt(
        "The picture of the best value over time",
        lambda: curves.best_over_time(finishes, summary.winner, series.end_of(explored)),
    )


def parameters(summary: SearchSummary) -> Section:
    """Returns the section of Optuna's plots of the parameters."""
    section = Section("What mattered")
    found = optuna_plots.comparable(summary.space, summary.explored)
    if found is None:
        return section.add("The plots of parameters are left out: no trial has reached the first rung yet.")
    if not found.last:
        section.add(
            f"Trials are compared after epoch {found.epoch}, the latest that {found.trials} of them reached; the final "
            "values of trials that were stopped there are unknown."
        )
    space = summary.space
    section.attempt("The picture of importances", lambda: optuna_plots.importances(found, space))
    section.attempt("The picture of parallel coordinates", lambda: optuna_plots.parallel_coordinates(found, space))
    return section.attempt("The picture of single parameters", lambda: optuna_plots.slices(found, space))


def teaching(summary: SearchSummary, teachers: KeptTeachers) -> Section:
    """Returns the section with the paper's figure 5a, of the seeds that confirmed the winner, or of its own seed."""
    section = Section("Teacher and student")
    space, winner = summary.space, summary.winner
    again = [trial for trial in summary.trials if trial.repeats == winner.number and trial.status == FINISHED]
    shown = again or [winner]
    configs = [config_of(space, trial) for trial in shown]
    runs = [teachers.scratch(config) for config in configs]
    curves_of_runs = [teachers.curve(run) for run in runs if run is not None]
    known = [curve for curve in curves_of_runs if curve is not None]
    groups = {}
    if known:
        groups[f"scratch teacher {configs[0].teacher}"] = (SCRATCH, known)
    else:
        section.add(_no_accuracies(configs[0], teachers, bool(curves_of_runs)))
    taught = ", taught" if make_method(configs[0].method).has_teacher else ""
    groups[f"{configs[0].student}{taught} (winner)"] = (WINNER, [series.accuracies(trial) for trial in shown])
    alone = curves.baselines_of(summary.trials, winner).get(STUDENT_ALONE)
    if alone is None:
        section.add("The curve of the student alone is left out: add it with baselines: [student-alone] in the space.")
    else:
        seeds = [t for t in summary.trials if t.repeats == alone.number and t.status == FINISHED] if again else []
        groups[f"{configs[0].student}, alone"] = (BASELINE, [series.accuracies(trial) for trial in seeds or [alone]])
    return section.attempt("The picture of teacher and student", lambda: curves.teaching(groups))


def _no_accuracies(config: TrialConfig, teachers: KeptTeachers, kept: bool) -> str:
    """Returns why the accuracies of a scratch teacher are not known, in a sentence.

    Args:
        config: The config of the winner.
        teachers: The search's teachers.
        kept: Whether there is a recording of it, without them.
    """
    method = make_method(config.method)
    if not method.has_teacher:
        return "No scratch teacher is shown: the winner learned without a teacher."
    if kept:
        why = "its recording does not contain them"
    elif teachers.records_scratch(config):
        why = "its recording is no longer in the teacher cache"
    elif method.needs.any_scratch:
        why = "live teachers are not recorded"
    else:
        return "No scratch teacher is shown: none was recorded for the winner."
    return f"The scratch teacher's accuracies are missing: {why}."


def attention(material: Material) -> Section:
    """Returns the section of attention maps of the winner's networks."""
    summary, splits = material.summary, material.splits
    section = Section("Where the networks look")
    if splits is None:
        return section.add(f"Attention maps are left out: {material.missing}.")
    winner = summary.winner
    try:
        found = looks(
            config_of(summary.space, winner),
            state_path(material.folder.states, winner.number),
            splits,
            material.teachers,
        )
    except UserError as error:
        return section.add(f"Attention maps of the winner are left out: {error}.")
    return section.attempt("The picture of attention maps", lambda: figures.attention(found))


def cost(summary: SearchSummary, teachers: KeptTeachers) -> Section:
    """Returns the section of the search's cost, with an estimate for live teachers."""
    section = Section("What it cost")
    pairs = [(trial, config_of(summary.space, trial)) for trial in summary.trials]
    spent = spending(teachers, pairs)
    recording = f", and {clock(spent.recording)} recording experts, once for all of them" if spent.recording else ""
    section.add(f"Trials, baselines and confirmations: {spent.epochs:,} epochs in {clock(spent.trials)}{recording}.")
    if summary.space.teachers.mode == "live":
        return section.add("Teachers were live: the scratch teacher was trained in every trial.")
    if spent.teachers is None:
        return section.add(
            "The savings by replaying teachers are not estimated: the training times of some teachers are unknown, "
            "because they are no longer in the teacher cache or were recorded without times."
        )
    section.add(
        f"Training the teachers before the trials: {clock(spent.teachers)} (also where an earlier search had done it)."
    )
    return section.add(_estimate(spent)).attempt("The picture of the cost", lambda: figures.cost(spent))


def _estimate(spent: Spending) -> str | None:
    if spent.spent is None or spent.live is None or not spent.spent:
        return None
    return (
        f"An estimate, not a measurement: with live teachers the same epochs would have taken {clock(spent.live)} "
        f"instead of {clock(spent.spent)}, {spent.live / spent.spent:.1f} times as long. It is the trials' own time, "
        "without recording, plus the training of the experts, plus, for every epoch of a trial that needs them, the "
        "median time of an epoch of its scratch teacher, and for the expert's forward pass "
        f"{FORWARD_SHARE:.2f} of such an epoch. Other work may have run on the same machine during these measurements."
    )


SECTIONS: dict[str, Callable[[Material], Section | None]] = {
    "Results": lambda material: results(material.summary),
    FINAL: final,
    "Methods": lambda material: methods(material.summary),
    "How the search went": lambda material: search(material.summary),
    "What mattered": lambda material: parameters(material.summary),
    "Teacher and student": lambda material: teaching(material.summary, material.teachers),
    "Where the networks look": attention,
    "What it cost": lambda material: cost(material.summary, material.teachers),
}
