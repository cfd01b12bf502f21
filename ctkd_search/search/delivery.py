"""The delivery of what MLflow does not have yet, after the work is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord
from ctkd_search.tracking.store import mlflow_error

if TYPE_CHECKING:
    from ctkd_search.search.session import Session


@contextmanager
def delivery(
    session: Session, folder: SearchFolder, record: SearchRecord, trials: Sequence[TrialRecord]
) -> Iterator[None]:
    """Delivers everything about the trials to MLflow, and then runs the block, which logs the rest.

    Args:
        session: Ray and MLflow.
        folder: The directory of the trials' records.
        record: The record of the whole.
        trials: Every trial; the ids of their runs are set.

    Raises:
        WorkFailed: MLflow does not answer, or fails in the block. Everything to be delivered is kept.
    """
    tracker = session.tracker
    away = f"the work is done and its results are kept, but MLflow at {tracker.mlflow.place} does not answer"
    if not tracker.flush(session.space.tracking.patience):
        raise WorkFailed(f"{away}; once it does, deliver them with: {record.again}")
    try:
        for trial in trials:
            run_id = tracker.run_id(trial.number)
            if trial.run_id != run_id:
                trial.run_id = run_id
                folder.write_trial(trial)
        yield
    except (UserError, WorkFailed):
        raise
    except Exception as error:  # whatever MLflow, its server or its store raises: the results are safe
        raise WorkFailed(f"{away} ({mlflow_error(error)}); once it does, go on with: {record.again}") from None
