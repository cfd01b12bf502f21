"""The newest final training of a search, for its report: the only results on test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctkd_search.analysis.final_lines import CONFIG, Line, Seeds, ahead_of, lines
from ctkd_search.analysis.intervals import Estimate
from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.records.finals import final_folders
from ctkd_search.records.store import SearchFolder, TrialRecord
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report import style
from ctkd_search.report.facts import KeyNumber, SearchSummary, against, interval, value_of
from ctkd_search.report.means import Means, arrows_told, draw_means
from ctkd_search.report.style import Picture
from ctkd_search.text import amount, one_line


@dataclass(frozen=True)
class FinalSummary:
    """A final training that has finished.

    Attributes:
        name: Its name, with that of the search.
        begun: The day on which it began.
        content: Its plan, as plain values.
        found: The config and its baselines.
    """

    name: str
    begun: str
    content: dict[str, Any]
    found: Sequence[Line]

    @property
    def seeds(self) -> Seeds:
        """Its seeds."""
        return Seeds.of(self.content)

    def sentence(self) -> str:
        """Returns the sentence on what was trained and tested."""
        config = self.content["config"]
        values = dict(config["method"])
        name = values.pop("name")
        taught = make_method(MethodConfig(name, values)).has_teacher
        how = f"taught by {config['teacher']} with {name}" if taught else f"trained by {name} without a teacher"
        return (
            f"{self.name}, begun {self.begun}: {amount(self.seeds.seeds, 'student')} of {config['student']}, {how} for "
            f"{amount(config['epochs'], 'epoch')}"
            + (", and as many of each baseline" if len(self.found) > 1 else "")
            + f", on training and validation images. The {self._images:,} test images were read once, when all were "
            "trained."
        )

    def trial_of(self, summary: SearchSummary) -> TrialRecord | None:
        """Returns the trial of a search whose config it is, the winner before others; None if it is that of none."""
        own = _settings(self.content["config"])
        trials = [summary.winner, *summary.explored]
        return next((trial for trial in trials if _settings(config_of(summary.space, trial).as_dict()) == own), None)

    def origin(self, summary: SearchSummary) -> str:
        """Returns the sentence on the trial of a search whose config it is."""
        trial, winner = self.trial_of(summary), summary.winner.number
        if trial is None:
            return "The config is that of no trial of this search."
        if trial is summary.winner:
            return f"The config is that of the winner, trial {winner}."
        return f"The config is that of trial {trial.number}, not of the winner, trial {winner}."

    def result(self, summary: SearchSummary) -> str:
        """Returns the main result of the final training of a search, in a sentence."""
        trial, found, judge = self.trial_of(summary), self._mean, self.found[0].judge
        if trial is summary.winner:
            whose = "Its config"
        else:
            whose = f"The config of trial {trial.number}" if trial else "A config of no trial of this search"
        mean = f"in the mean of {found.n} seeds{interval(found, judge)}" if found.n > 1 else "with one seed"
        reached = f"{value_of(judge, judge.show(found.mean), 'test')} {mean}"
        return f"{whose}, trained to the end on training and validation images, reaches {reached}."

    def key_numbers(self) -> list[KeyNumber]:
        """Returns the test result, and the difference to the best baseline that was trained beside it, if any was."""
        found, judge = self._mean, self.found[0].judge
        seeds = "one seed"
        if found.n > 1:
            seeds = f"± {judge.number(found.half_width)} (95 % interval), n = {found.n} seeds"
        note = f"{seeds} on {self._images:,} images, read once"
        made = [KeyNumber(f"test {judge.label}", judge.show(found.mean), note)]
        compared = [(mean.mean, line) for line in self.found[1:] if (mean := line.estimate(judge)) is not None]
        if compared:
            _, best = (max if judge.goal == "max" else min)(compared, key=lambda one: one[0])
            gap = ahead_of(self.found, best, judge)
            made += [against(gap, judge, "test", best.label)] if gap else []
        return made

    @property
    def _mean(self) -> Estimate:
        found = self.found[0].estimate(self.found[0].judge)
        assert found is not None  # `newest_final` leaves out what has no student
        return found

    @property
    def _images(self) -> int:
        return next(trial.test["images"] for trial in self.found[0].tested if trial.test)


def newest_final(folder: SearchFolder) -> tuple[FinalSummary | None, list[str]]:
    """Returns the newest final training of a search that has finished and yielded a student, or None.

    Beside it are sentences on newer ones that cannot be read.
    """
    notes = []
    for final in reversed(final_folders(folder.path)):
        try:
            if not final.exists():
                continue
            record = final.search()
        except UserError as error:
            notes.append(f"{final.name} is left out: {one_line(str(error), 160)}.")
            continue
        found = lines(final.readable_trials()) if record.finished else []
        if found and found[0].tested:
            return FinalSummary(record.name, record.started[:10], record.space, found), notes
    return None, notes


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a search varies of a config: its pair, method, recipe and augmentation."""
    recipe = {key: value for key, value in config["train"].items() if key != "precision"}
    return {**{key: config[key] for key in ("teacher", "student", "method", "augment")}, "train": recipe}


def means_picture(found: Sequence[Line]) -> Picture | None:
    """Draws every seed, the means and their intervals, the config first; None where there is nothing to compare.

    Args:
        found: The config and its baselines.
    """
    judge = found[0].judge
    rows = []
    for line in found:
        estimate = line.estimate(judge)
        if estimate is not None:
            colour = style.WINNER if line.name == CONFIG else style.BASELINE
            rows.append(Means(line.label, list(line.values(judge).values()), estimate, colour))
    if len(rows) < 2:
        return None
    caption = (
        "The final training on the test images: every tick is one seed, the diamond their mean, the line its 95 % "
        f"interval (cut off where it leaves the picture).{arrows_told(rows, judge)}"
    )
    means = "; ".join(f"{row.name} {judge.show(row.estimate.mean)}" for row in rows)
    return Picture("final", caption, f"Test means: {means}.", draw_means(rows, judge, "test"))
