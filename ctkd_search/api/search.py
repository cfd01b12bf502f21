"""A search as an object: what is known of it on disk, as data frames, and its student."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.analysis.standing import confirmed, find_trial, gap_to, verdicts, winner
from ctkd_search.api.exporting import Precision, export_to, form_of, write_reduced
from ctkd_search.api.options import check_whole, request_stop
from ctkd_search.api.spaces import PathLike, directory_of, path_of
from ctkd_search.api.trials import Trial, as_trial, epoch_frame, trial_frame
from ctkd_search.display.comparisons import ROWS, trials_table
from ctkd_search.display.consoles import console_for, without_widget_advice
from ctkd_search.display.leaderboard import leaderboard_parts
from ctkd_search.display.overview import search_rows
from ctkd_search.display.tables import as_html
from ctkd_search.errors import UserError
from ctkd_search.records.config_file import config_text
from ctkd_search.records.store import STOPPED, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import kept_space
from ctkd_search.text import amount

if TYPE_CHECKING:
    import optuna
    import pandas
    from torch import nn

    from ctkd_search.api.final import FinalTraining


class _Kept(NamedTuple):
    """The content of a search on disk: its record, its space and its trials."""

    record: SearchRecord
    space: Space
    trials: list[TrialRecord]


class Search:
    """A search, finished or not; made by `run` and `load`.

    Everything is read from the records on disk when it is asked for, so that the search may still be running, in this
    process or in another one. In a notebook it is shown with its leaderboard.

    Attributes:
        name: Its name.
        trials_dir: The directory of all searches.
    """

    def __init__(self, name: str, trials_dir: PathLike = "trials") -> None:
        if not isinstance(name, str):
            raise UserError(f"the name of a search must be text, but got {name!r}")
        self.name = name
        self.trials_dir = directory_of(trials_dir)
        self._folder = SearchFolder(self.trials_dir, name)
        # Set by `stop`; None where this object is not that of a running search.
        self._stop: threading.Event | None = None
        without_widget_advice()

    def _read(self) -> _Kept:
        record = self._folder.search()
        return _Kept(record, kept_space(record.space, record.teachers), self._folder.readable_trials())

    @property
    def path(self) -> Path:
        """The directory of the search."""
        return self._folder.path

    @property
    def finished(self) -> bool:
        """Returns whether it has come to its end, or its time budget has, and MLflow has everything.

        Otherwise it goes on with ``resume``.
        """
        return self._folder.search().finished

    @property
    def trials(self) -> pandas.DataFrame:
        """A data frame with a row for each trial, baselines and confirmations included, in the order they began.

        Its columns are ``trial`` (the number), ``kind``, ``winner``, ``name``, ``status``, ``epochs``, the metrics
        after the last epoch, ``seconds``, ``own_seconds``, ``seed``, the mean of fresh seeds (``confirmed_mean``,
        ``confirmed_deviation``, ``confirmed_seeds``), the value of every parameter, ``reason``, ``baseline``,
        ``repeats``, ``student_seed`` and ``run_id``. Accuracies are shares in [0, 1], losses are in nats.
        """
        kept = self._read()
        return trial_frame(kept.space, kept.trials, winner(kept.trials))

    @property
    def epochs(self) -> pandas.DataFrame:
        """A data frame in long form: a row for each epoch of each trial, with ``trial``, ``epoch`` and each metric.

        ``at`` is the time of the epoch's end, in UTC.
        """
        return epoch_frame(self._folder.readable_trials())

    def leaderboard(self, limit: int | None = ROWS) -> pandas.DataFrame:
        """Returns the table of the best trials, with its texts as ``ctkd-search show`` prints them.

        Args:
            limit: Maximum number of trials; None for all of them.

        Raises:
            UserError: The limit is not a whole number of at least 1.
        """
        import pandas

        most = check_whole("limit", limit)
        kept = self._read()
        explored = [trial for trial in kept.trials if trial.explores]
        table = trials_table(kept.space, explored, winner(kept.trials), most or len(explored))
        return pandas.DataFrame([row.cells for row in table.rows], columns=table.heads)

    @property
    def best(self) -> Trial | None:
        """The winner: the config with the best mean of fresh seeds, or, before any is confirmed, the best trial.

        None as long as no trial has finished an epoch.
        """
        kept = self._read()
        leader = winner(kept.trials)
        return None if leader is None else as_trial(kept.space, leader)

    @property
    def confirmed(self) -> pandas.DataFrame:
        """A data frame of the configs and baselines that were trained again with fresh seeds, best mean first.

        Its columns are ``trial``, ``winner``, ``baseline``, ``method``, ``pair``, and of the metric that trials are
        ranked by the ``mean`` with half its 95 % interval (``half_width``), the ``deviation``, the number of ``seeds``,
        and the paired ``difference`` to the winner with ``difference_half_width``. What one seed does not determine is
        missing or infinite. Without a confirmation it has no rows.
        """
        import pandas

        trials = self._read().trials
        leader = winner(trials)
        rows = []
        for config in confirmed(trials):
            found, ahead = config.estimate, None
            if leader is not None and config.trial is not leader:
                ahead = gap_to(trials, leader, config.trial)
            rows.append(
                {
                    "trial": config.trial.number,
                    "winner": config.trial is leader,
                    "baseline": config.trial.baseline,
                    "method": config.trial.method,
                    "pair": config.trial.values["pair"],
                    "mean": found.mean,
                    "half_width": found.half_width,
                    "deviation": found.deviation,
                    "seeds": found.n,
                    "difference": ahead.mean if ahead else None,
                    "difference_half_width": ahead.half_width if ahead else None,
                }
            )
        return pandas.DataFrame(rows, columns=_CONFIRMED)

    @property
    def verdicts(self) -> list[str]:
        """The sentences on whether the winner can be told apart from the next config and from a baseline."""
        return verdicts(self._folder.readable_trials())

    @property
    def study(self) -> optuna.Study:
        """Optuna's study of the search, for its plots and importances.

        Raises:
            UserError: The search has ended before its first trial, or the file of its study is damaged.
        """
        import optuna

        from ctkd_search.search.study_file import read_storage

        if not self._folder.study.is_file():
            raise UserError(f"search {self.name!r} has no study yet; go on with: {self._folder.search().again}")
        return optuna.load_study(study_name=self._folder.search().name, storage=read_storage(self._folder.study))

    @property
    def finals(self) -> list[FinalTraining]:
        """The final trainings of the search's configs, in the order in which they began."""
        from ctkd_search.api.final import final_trainings

        return final_trainings(self._folder.path)

    @property
    def mlflow_run_id(self) -> str | None:
        """The id of the search's parent run in MLflow; None before it has begun."""
        return self._folder.search().run_id

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI, without secrets."""
        return self._folder.search().tracking_uri

    @property
    def model(self) -> str | None:
        """The registered student, as a ``models:`` URI of MLflow; None as long as there is none."""
        return self._folder.search().model

    def config(self, trial: int | None = None) -> str:
        """Returns the config of a trial as YAML: complete, and what `train` takes.

        Args:
            trial: Number of the trial; None for the winner.

        Raises:
            UserError: There is no such trial.
        """
        kept = self._read()
        return config_text(kept.space, kept.record, find_trial(kept.trials, None if trial is None else str(trial)))

    def report(self, path: PathLike | None = None) -> Path:
        """Writes the report: one HTML page with its pictures.

        Args:
            path: The directory to write to; None for ``report`` in the search's own directory.

        Returns:
            The path of the page.

        Raises:
            UserError: No trial has finished an epoch, or the directory is not writable.
        """
        from ctkd_search.report.page import write_report

        return write_report(self.trials_dir, self.name, None if path is None else path_of(path, "path"))

    def export(
        self,
        path: PathLike,
        *,
        format: str | None = None,
        trial: int | None = None,
        int8: bool = False,
        half: bool = False,
        max_drop: float | None = None,
        tune_epochs: int | None = None,
        register: bool = False,
    ) -> Path:
        """Writes a trial's config or its student, or the best configs, to a file.

        Args:
            path: Path of the file.
            format: ``yaml`` for the config, ``configs`` for the best configs (for ``run(warm_start=...)``), ``onnx`` or
                ``torch`` (a graph of torch.export) for the student; None for the format of the path's suffix.
            trial: Number of the trial; None for the winner.
            int8: Whether to quantise the student, for ``onnx``; the comparison with float32 is printed and is in the
                model card beside the file.
            half: Whether to convert the student to half precision (float16), likewise, for ``onnx`` or ``torch``.
            max_drop: The loss of validation accuracy, in percentage points, above which a student in int8 or in half
                precision is refused; None for 2 and for 0.5.
            tune_epochs: Epochs for which an int8 student is tuned with the lessons of its trial; None for none.
            register: Whether to register the int8 student in MLflow too, as the newest int8 version of the student.

        Returns:
            The path of the file.

        Raises:
            UserError: There is no such trial or student, the format and the suffix contradict each other, an option has
                no effect, the student loses more accuracy in its precision, or the file cannot be written.
            WorkFailed: The student cannot be exported as a graph, or its graph does not return its probabilities;
                nothing was written.
        """
        written, number = path_of(path, "path"), None if trial is None else str(trial)
        tuned = check_whole("tune_epochs", tune_epochs)
        form, precision = form_of(written, format), Precision(int8, half, max_drop, tuned, register)
        precision.check(form, final=False)
        if precision.reduced:
            write_reduced(self.trials_dir, self.name, written, form, precision, console_for(None), trial=number)
            return written
        return export_to(self.trials_dir, self.name, written, format, number)

    def student(self, trial: int | None = None) -> nn.Module:
        """Returns the student of a trial, with the weights of its last epoch, in evaluation mode on the CPU.

        It takes raw images, uint8 of shape (batch, height, width, channels), and returns probabilities, float32 of
        shape (batch, classes); the preprocessing is part of it.

        Args:
            trial: Number of the trial; None for the winner.

        Raises:
            UserError: There is no such trial, or its student was not kept.
        """
        from ctkd_search.students.kept import trial_student

        return trial_student(self.trials_dir, self.name, None if trial is None else str(trial)).served

    def stop(self) -> None:
        """Ends the search, from one of its callbacks; `run` then returns, and ``resume=True`` goes on.

        The search ends as with its time budget: running trials are interrupted, the best config is not confirmed with
        fresh seeds, its student is registered in MLflow, and the report is written; ``finished`` stays false. Where no
        trial has finished an epoch, nothing is registered or written.

        Raises:
            UserError: `run` is not running this search, or has been told of its end already.
        """
        request_stop(self._stop, f"search {self.name!r}", "run")

    def __repr__(self) -> str:
        if not self._folder.exists():
            return f"<Search {self.name!r} in {self.trials_dir}: no such search>"
        trials = self._folder.readable_trials()
        explored = [trial for trial in trials if trial.explores]
        stopped = sum(trial.status == STOPPED for trial in explored)
        leader = winner(trials)
        best = "" if leader is None else f", best {leader.reached} (trial {leader.number})"
        state = "finished" if self.finished else "not finished"
        return f"<Search {self.name!r}: {amount(len(explored), 'trial')}, {stopped} stopped early{best}; {state}>"

    def _repr_html_(self) -> str:
        """Returns the leaderboard in HTML; notebooks call it."""
        return "".join(self._html())

    def _html(self) -> Iterator[str]:
        kept = self._read()
        state = "finished" if kept.record.finished else "not finished"
        yield f"<p><b>search {html.escape(self.name)}</b>, begun {html.escape(kept.record.started)}, {state}</p>"
        for part in leaderboard_parts(kept.space, kept.record, kept.trials, ROWS):
            yield f"<p>{html.escape(part)}</p>" if isinstance(part, str) else as_html(part)


_CONFIRMED = [
    *("trial", "winner", "baseline", "method", "pair", "mean", "half_width", "deviation", "seeds"),
    *("difference", "difference_half_width"),
]


def load(name: str, trials_dir: PathLike = "trials") -> Search:
    """Returns a search that was run before, finished or not, by the command line or from Python.

    Args:
        name: Its name.
        trials_dir: The directory of all searches.

    Raises:
        UserError: There is no such search, it is damaged, or another version has written it.
    """
    search = Search(name, trials_dir)
    search._read()
    return search


def searches(trials_dir: PathLike = "trials") -> pandas.DataFrame:
    """Returns a data frame of the searches in a directory: ``name``, ``begun``, ``trials``, ``best`` and ``finished``.

    ``best`` is the winner's value of the metric that the search ranks its trials by, missing where there is none.
    Searches that cannot be read are named on standard error.

    Args:
        trials_dir: The directory of all searches.

    Raises:
        UserError: It is a file.
    """
    import pandas

    rows = [
        (row.name, row.begun, row.trials, None if row.leader is None else row.leader.value, row.finished)
        for row in search_rows(directory_of(trials_dir))
    ]
    frame = pandas.DataFrame(rows, columns=["name", "begun", "trials", "best", "finished"])
    frame["begun"] = pandas.to_datetime(frame["begun"], utc=True)
    return frame
