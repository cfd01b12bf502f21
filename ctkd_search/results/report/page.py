"""The page: gathers what there is to say and to show, and writes it beside its pictures."""

from __future__ import annotations

import base64
import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from ctkd_search import data
from ctkd_search.data import Splits
from ctkd_search.errors import UserError
from ctkd_search.files import atomic, write_text
from ctkd_search.results.config_file import config_text
from ctkd_search.results.leaderboard import clock
from ctkd_search.results.report import curves, facts, figures, optuna_plots, series
from ctkd_search.results.report.attention import looks
from ctkd_search.results.report.facts import Standing, Table
from ctkd_search.results.report.spending import FORWARD_SHARE, Spending
from ctkd_search.results.report.style import BASELINE, SCRATCH, WINNER, Picture
from ctkd_search.results.report.teachers import KeptTeachers, spending
from ctkd_search.results.states import state_path
from ctkd_search.results.store import TEACHERS, SearchFolder
from ctkd_search.results.trial_configs import config_of
from ctkd_search.space_file import space_of

PAGE = "index.html"
# The names of all pictures there may be, so that those of an earlier report do not stay beside a later one.
_PICTURES = (
    *("confirmation", "best-so-far", "learning-curves", "teaching", "attention", "cost", "importances"),
    *("parallel-coordinates", "slices-*", "pareto-*"),
)


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Sentences, why something is missing among them.
        tables: Its tables.
        pictures: Its pictures.
    """

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def add(self, *parts: Picture | Table | str | None) -> Section:
        """Adds what there is."""
        for part in parts:
            if isinstance(part, Picture):
                self.pictures.append(part)
            elif isinstance(part, Table):
                self.tables.append(part)
            elif part:
                self.text.append(part)
        return self


def write_report(trials_dir: Path, name: str, directory: Path | None = None, splits: Splits | None = None) -> Path:
    """Writes the report of a search, finished or not: one HTML page with its pictures in it, and the same as files.

    Args:
        trials_dir: Directory of all searches.
        name: The search.
        directory: Where to; None for ``report`` in the search's own directory.
        splits: The search's images, where they are at hand; they are loaded otherwise.

    Returns:
        The page.

    Raises:
        UserError: There is no such search, no trial has finished an epoch, or the directory cannot be written to.
    """
    folder = SearchFolder(trials_dir, name)
    search = folder.search()
    standing = facts.standing_of(space_of(search.space), search, folder.trials())
    missing = None
    if splits is None:
        try:
            splits = data.load_train(standing.space.dataset)
        except UserError as error:
            missing = f"the images cannot be loaded any more ({error})"
    if splits is not None and splits.fingerprint != search.fingerprint:
        splits, missing = None, "the images are no longer those of the search"
    teachers = KeptTeachers(trials_dir / TEACHERS, search.fingerprint)
    sections = [
        _results(standing),
        _search(standing),
        _parameters(standing),
        _teaching(standing, teachers),
        _attention(standing, teachers, folder, splits, missing),
        _cost(standing, teachers),
    ]
    where = directory or folder.report
    for pattern in _PICTURES:
        for old in where.glob(f"{pattern}.png"):
            old.unlink(missing_ok=True)
    for picture in (picture for section in sections for picture in section.pictures):
        with atomic(where / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    write_text(where / PAGE, _html(standing, sections, splits))
    return where / PAGE


def _results(standing: Standing) -> Section:
    section = Section("Results")
    if standing.confirmed:
        section.add(figures.confirmation(standing.confirmed, standing.winner), facts.confirmed_table(standing))
    else:
        section.add("No config has been confirmed with fresh seeds: the best of many trials is partly lucky.")
    baselines = facts.baselines_table(standing)
    section.add(baselines or "There are no baselines to compare with.")
    for picture in optuna_plots.pareto_fronts(standing.space, standing.explored, standing.search.costs):
        section.add(picture)
    return section.add(facts.pareto_table(standing), facts.trials_table(standing))


def _search(standing: Standing) -> Section:
    section = Section("How the search went")
    explored, space = [trial for trial in standing.explored if trial.epochs], standing.space
    rungs = space.budget.rungs() if space.strategy.scheduler.name != "none" else []
    counted = series.rungs_of(explored, rungs)
    section.add(curves.learning_curves(standing.trials, standing.winner, counted), facts.rungs_table(counted, explored))
    if not series.is_dated(explored):
        return section.add("When epochs were measured is not in the records, so that the best over time is left out.")
    finishes = series.best_so_far(explored)
    if not finishes:
        return section.add("No trial has finished yet, so that there is no best so far.")
    return section.add(curves.best_so_far(finishes, standing.winner.number, series.end_of(explored)))


def _parameters(standing: Standing) -> Section:
    section = Section("What mattered")
    found = optuna_plots.comparable(standing.space, standing.explored)
    if found is None:
        return section.add("No trial has come to the first rung yet, so that there is nothing to compare.")
    if not found.last:
        section.add(
            f"Trials are compared after epoch {found.epoch}, the latest to which {found.trials} of them came: of those "
            "that were stopped there, nobody knows what they would have reached at the end."
        )
    section.add(optuna_plots.importances(found), optuna_plots.parallel_coordinates(found, standing.space))
    return section.add(*optuna_plots.slices(found, standing.space))


def _teaching(standing: Standing, teachers: KeptTeachers) -> Section:
    """The paper's figure 5a, of the seeds that confirmed the winner; without any, of its own seed."""
    section = Section("Teacher and student")
    space, winner = standing.space, standing.winner
    again = [trial for trial in standing.trials if trial.repeats == winner.number and trial.status == "finished"]
    shown = again or [winner]
    configs = [config_of(space, trial) for trial in shown]
    runs = [teachers.scratch(config) for config in configs]
    noted = [teachers.curve(run) for run in runs if run is not None]
    known = [curve for curve in noted if curve is not None]
    groups = {}
    if known:
        groups[f"scratch teacher {configs[0].teacher}"] = (SCRATCH, known)
    else:
        why = (
            "its recording is no longer in the teacher cache" if not noted else "it was recorded before they were kept"
        )
        section.add(f"The scratch teacher's accuracies are missing: {why}.")
    groups[f"{configs[0].student}, taught (winner)"] = (WINNER, [series.accuracies(trial) for trial in shown])
    alone = curves.baselines_beside(standing.trials, winner).get("student-alone")
    if alone is None:
        section.add("The student was not trained alone: baselines: [student-alone] in the space would add its curve.")
    else:
        seeds = [t for t in standing.trials if t.repeats == alone.number and t.status == "finished"] if again else []
        groups[f"{configs[0].student}, alone"] = (BASELINE, [series.accuracies(trial) for trial in seeds or [alone]])
    return section.add(curves.teaching(groups))


def _attention(
    standing: Standing, teachers: KeptTeachers, folder: SearchFolder, splits: Splits | None, missing: str | None
) -> Section:
    section = Section("Where the networks look")
    if splits is None:
        return section.add(f"Attention maps are left out: {missing}.")
    winner = standing.winner
    try:
        found = looks(config_of(standing.space, winner), state_path(folder.states, winner.number), splits, teachers)
    except UserError as error:
        return section.add(f"Attention maps of the winner are left out: {error}.")
    return section.add(figures.attention(found))


def _cost(standing: Standing, teachers: KeptTeachers) -> Section:
    section = Section("What it cost")
    pairs = [(trial, config_of(standing.space, trial)) for trial in standing.trials]
    spent = spending(teachers, pairs)
    section.add(f"Trials, baselines and confirmations: {spent.epochs:,} epochs in {clock(spent.trials)}.")
    if standing.space.teachers.mode == "live":
        return section.add("Teachers were live: the scratch teacher was trained beside every student.")
    if spent.teachers is None:
        return section.add(
            "How long the teachers were trained is not known of all of them: they are no longer in the teacher cache, "
            "or were recorded before it was noted. So there is no estimate of what replaying them saved."
        )
    section.add(
        f"Training the teachers before the trials: {clock(spent.teachers)} (also where an earlier search had done it)."
    )
    return section.add(_estimate(spent), figures.cost(spent))


def _estimate(spent: Spending) -> str | None:
    if spent.spent is None or spent.live is None or not spent.spent:
        return None
    return (
        f"An estimate, not a measurement: with live teachers the same epochs would have taken {clock(spent.live)} "
        f"instead of {clock(spent.spent)}, {spent.live / spent.spent:.1f} times as long. It is the trials' own time, "
        f"plus the training of the experts, plus for every epoch of a trial the median time in which its scratch "
        f"teacher was trained an epoch, plus for the expert's forward pass {FORWARD_SHARE:.2f} of such an epoch; only "
        "where the trial needed them. Times were measured while other work may have run on the same machine."
    )


def _html(standing: Standing, sections: list[Section], splits: Splits | None) -> str:
    winner = standing.winner
    space, search = standing.space, standing.search
    sizes = (len(splits.train), len(splits.validation)) if splits else None
    running = sum(not trial.ended for trial in standing.trials)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctkd_search.results.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"base64": _base64, "minus": _minus}
    return environment.get_template("page.html.jinja").render(
        search=search,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        subtitle=facts.subtitle(standing, sizes),
        headline=facts.headline(standing),
        verdicts=facts.verdict_sentences(standing),
        cards=facts.cards(standing, len(splits.validation) if splits else None),
        words=facts.in_words(config_of(space, winner)),
        about=facts.about(standing, sizes),
        running=running,
        own_expert=space.teachers.expert.checkpoint is not None,
        sections=sections,
        best_config=config_text(space, search, winner, splits),
    )


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.png).decode()


def _minus(text: str) -> str:
    """A number's hyphen as the minus sign that it stands for."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
