"""A final training as an object: its tables, verdicts and student."""

from __future__ import annotations

import dataclasses
import html
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkd_search.api.exporting import STUDENT_SUFFIXES, Precision, form_of, write_reduced
from ctkd_search.api.options import request_stop
from ctkd_search.api.spaces import PathLike, path_of
from ctkd_search.api.trials import epoch_frame
from ctkd_search.display.consoles import console_for, without_widget_advice
from ctkd_search.display.tables import as_html
from ctkd_search.errors import UserError
from ctkd_search.records.store import SearchFolder
from ctkd_search.text import amount

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from ctkd_search.analysis.final_lines import Line, Seeds


class FinalTraining:
    """A final training, finished or not; made by `train` and `Search.finals`.

    Everything is read from its directory when it is asked for. In a notebook it is shown with its tables.

    Attributes:
        path: Its directory, with ``result.json``, ``table.txt``, ``means.png`` and ``student.pt``.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = path_of(path, "path")
        self._folder = SearchFolder(self.path.parent, self.path.name)
        # Set by `stop`; None where this object is not that of a running final training.
        self._stop: threading.Event | None = None
        without_widget_advice()

    @property
    def name(self) -> str:
        """Its name: that of the search or config, and the number of the final training."""
        return self._folder.search().name

    @property
    def finished(self) -> bool:
        """Returns whether every student is trained and tested and MLflow has everything."""
        return self._folder.search().finished

    @property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``: means, intervals, every seed, the config and the versions.

        Raises:
            UserError: It has not finished, or the file is damaged.
        """
        path = self.path / "result.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            again = self._folder.search().again
            raise UserError(f"the final training in {self.path} has not finished; go on with: {again}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the result {path} ({error}); table.txt beside it has its tables") from None
        return content

    @property
    def table(self) -> pandas.DataFrame:
        """A data frame with a row for each metric of the config and of each baseline, on the test images.

        Its columns are ``trained``, ``metric``, the ``mean`` over the seeds with half its 95 % interval
        (``half_width``), the ``deviation``, the number of seeds ``n``, and the paired difference of the config
        (``config_minus_baseline`` with ``config_minus_baseline_half_width``). Accuracies are shares in [0, 1], losses
        are in nats; what one seed does not determine is missing. It has no rows before the test.
        """
        import pandas

        from ctkd_search.analysis.final_lines import ahead_of

        found = [line for line in self._lines() if line.tested]
        rows = []
        for line in found:
            for metric in line.metrics:
                mean = line.estimate(metric)
                ahead = None if line is found[0] else ahead_of(found, line, metric)
                rows.append(
                    {
                        "trained": line.name,
                        "metric": metric.name,
                        **({key: _finite(value) for key, value in dataclasses.asdict(mean).items()} if mean else {}),
                        "config_minus_baseline": ahead.mean if ahead else None,
                        "config_minus_baseline_half_width": _finite(ahead.half_width) if ahead else None,
                    }
                )
        return pandas.DataFrame(rows, columns=_COLUMNS)

    @property
    def students(self) -> pandas.DataFrame:
        """A data frame with a row for each training: what was trained, its seeds, its status and its test metrics."""
        import pandas

        rows = [
            {
                "student": trial.number,
                "trained": line.name,
                "seed": trial.student_seed,
                "stream_seed": trial.seed,
                "status": trial.status,
                "reason": trial.reason,
                **{f"test_{name}": value for name, value in (trial.test or {}).items()},
                "run_id": trial.run_id,
            }
            for line in self._lines()
            for trial in line.trials
        ]
        return pandas.DataFrame(rows).sort_values("student", ignore_index=True) if rows else pandas.DataFrame()

    @property
    def epochs(self) -> pandas.DataFrame:
        """A data frame in long form: a row for each epoch of each training, ``trial`` being the student's number."""
        return epoch_frame(self._folder.readable_trials())

    @property
    def verdicts(self) -> list[str]:
        """The sentences on the differences to the baselines, on the seeds, and on lost trainings."""
        from ctkd_search.analysis.final_lines import sentences

        return sentences(self._seeds(), self._lines())

    @property
    def model(self) -> str | None:
        """The registered student, as a ``models:`` URI of MLflow; None as long as there is none."""
        return self._folder.search().model

    @property
    def mlflow_run_id(self) -> str | None:
        """The id of its parent run in MLflow; None before it has begun."""
        return self._folder.search().run_id

    def student(self) -> nn.Module:
        """Returns the student of the first seed, in evaluation mode on the CPU.

        It takes raw images, uint8 of shape (batch, height, width, channels), and returns probabilities, float32 of
        shape (batch, classes); the preprocessing is part of it.

        Raises:
            UserError: It has no student, or the file is damaged.
        """
        from ctkd_search.students.kept import STUDENT_FILE, read_student

        return read_student(self.path / STUDENT_FILE).served

    def export(
        self,
        path: PathLike,
        *,
        format: str | None = None,
        int8: bool = False,
        half: bool = False,
        max_drop: float | None = None,
        register: bool = False,
    ) -> Path:
        """Writes the student to a file.

        Args:
            path: Path of the file.
            format: ``onnx`` or ``torch`` (a graph of torch.export); None for the format of the path's suffix.
            int8: See `Search.export`; of the newest final training alone.
            half: See `Search.export`; of the newest final training alone.
            max_drop: See `Search.export`.
            register: See `Search.export`.

        Returns:
            The path of the file.

        Raises:
            UserError: It has no student, the suffix is not that of a student's file, an option has no effect, the
                student loses more accuracy in its precision, or the file cannot be written.
            WorkFailed: The student cannot be exported as a graph, or its graph does not return its probabilities;
                nothing was written.
        """
        written = path_of(path, "path")
        form = form_of(written, format)
        if form not in STUDENT_SUFFIXES:
            raise UserError(f"a final training exports a student, as onnx or torch, but not {form}")
        precision = Precision(int8, half, max_drop, None, register)
        precision.check(form, final=True)
        from ctkd_search.students.export import write_kept
        from ctkd_search.students.kept import STUDENT_FILE, final_student, read_student

        if precision.reduced:
            root, name = self.path.parent.parent, self.path.parent.name
            if final_student(root, name).folder.resolve() != self.path.resolve():
                raise UserError(
                    f"int8 and half are for the student of the newest final training of {name!r}, not of {self.path}"
                )
            write_reduced(root, name, written, form, precision, console_for(None), final=True)
            return written
        write_kept(read_student(self.path / STUDENT_FILE), form, written)
        return written

    def stop(self) -> None:
        """Ends the final training, from one of its callbacks; `train` then returns, and ``resume=True`` goes on.

        Running trainings are interrupted, and no student is tested, written or registered.

        Raises:
            UserError: `train` is not running it, or has told the callbacks of its end already.
        """
        request_stop(self._stop, f"the final training in {self.path}", "train")

    def __repr__(self) -> str:
        if not self._folder.exists():
            return f"<FinalTraining in {self.path}: no such final training>"
        from ctkd_search.analysis.final_lines import headline

        found, seeds = self._lines(), self._seeds().seeds
        tested = f"; {headline(found[0])[0]}" if found and found[0].tested else ""
        state = "finished" if self.finished else "not finished"
        return f"<FinalTraining {self.name!r}: {amount(seeds, 'seed')}{tested}; {state}>"

    def _repr_html_(self) -> str:
        """Returns the tables and verdicts in HTML; notebooks call it."""
        from ctkd_search.analysis.final_lines import headline
        from ctkd_search.display.final_tables import tables

        found = self._lines()
        lines = [f"final training {self.name}", *(headline(found[0]) if found and found[0].tested else ["not tested"])]
        shown = [f"<p>{html.escape(line)}</p>" for line in lines]
        if found and found[0].tested:
            shown += [as_html(table) for table in tables(found)]
        return "".join([*shown, *(f"<p>{html.escape(sentence)}</p>" for sentence in self.verdicts)])

    def _lines(self) -> list[Line]:
        from ctkd_search.analysis.final_lines import lines

        return lines(self._folder.readable_trials())

    def _seeds(self) -> Seeds:
        from ctkd_search.analysis.final_lines import Seeds

        return Seeds.of(self._folder.search().space)


_COLUMNS = [
    *("trained", "metric", "mean", "half_width", "deviation", "n"),
    *("config_minus_baseline", "config_minus_baseline_half_width"),
]


def _finite(value: float) -> float | None:
    """Returns a value; None if it is not finite, because one seed does not determine it."""
    return value if abs(value) < float("inf") else None


def final_trainings(directory: Path) -> list[FinalTraining]:
    """Returns the final trainings in the directory of a search, in the order in which they began."""
    from ctkd_search.records.finals import final_folders

    return [FinalTraining(folder.path) for folder in final_folders(directory) if folder.exists()]
