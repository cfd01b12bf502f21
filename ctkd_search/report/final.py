"""The newest final training of a search, for its report: the only results on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctkd_search.analysis.final_lines import CONFIG, Line, lines
from ctkd_search.records.finals import final_folders
from ctkd_search.records.store import SearchFolder
from ctkd_search.report import style
from ctkd_search.report.means import Means, arrows_told, draw_means
from ctkd_search.report.style import Picture
from ctkd_search.text import amount


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
    def seeds(self) -> int:
        """Number of seeds."""
        return int(self.content["seeds"])

    @property
    def new_streams(self) -> bool:
        """Returns whether every seed has its own stream and teachers."""
        return bool(self.content["new_streams"])

    def sentence(self) -> str:
        """Returns the sentence on what was trained and tested."""
        config = self.content["config"]
        images = next(trial.test["images"] for trial in self.found[0].tested if trial.test)
        return (
            f"{self.name}, begun {self.begun}: {amount(self.seeds, 'student')} of {config['student']}, taught by "
            f"{config['teacher']} with {config['method']['name']} for {amount(config['epochs'], 'epoch')}"
            + (", and as many of each baseline" if len(self.found) > 1 else "")
            + f", on training and validation images. The {images:,} test images were read once, when all were trained."
        )


def newest_final(folder: SearchFolder) -> FinalSummary | None:
    """Returns the newest final training of a search that has finished and yielded a student; None if there is none."""
    for final in reversed(final_folders(folder.path)):
        if not final.exists() or not (record := final.search()).finished:
            continue
        found = lines(final.readable_trials())
        if found and found[0].tested:
            return FinalSummary(record.name, record.started[:10], record.space, found)
    return None


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
            rows.append(Means(line.name, list(line.values(judge).values()), estimate, colour))
    if len(rows) < 2:
        return None
    caption = (
        "The final training on the test images: every tick is one seed, the diamond their mean, the line its 95 % "
        f"interval (cut off where it leaves the picture).{arrows_told(rows, judge)}"
    )
    means = "; ".join(f"{row.name} {judge.show(row.estimate.mean)}" for row in rows)
    return Picture("final", caption, f"Test means: {means}.", draw_means(rows, judge, "test"))
