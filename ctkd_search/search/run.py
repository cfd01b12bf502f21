"""Running a search: a new one, a resumed one, or an extended one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ctkd_search import data
from ctkd_search.analysis.standing import confirmed, winner
from ctkd_search.cache_index import CacheIndex
from ctkd_search.checks.images import small_data
from ctkd_search.config import plain
from ctkd_search.display.leaderboard import print_leaderboard
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.files import make_directory
from ctkd_search.leases.lease import Lease
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.config_file import config_text
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.states import is_readable, state_path
from ctkd_search.records.store import STOPPED, TEACHERS, SearchFolder, SearchRecord, TrialRecord, new_record
from ctkd_search.records.trial_configs import label_of
from ctkd_search.resources import most_at_once
from ctkd_search.search.earlier import earlier_search
from ctkd_search.search.ownership import owned
from ctkd_search.search.warm_start import advice, compared, outstanding, read_sources
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document
from ctkd_search.space.teacher_mode import with_mode
from ctkd_search.text import amount, clock, first_line
from ctkd_search.tracking.store import mlflow_error

if TYPE_CHECKING:
    from ctkd_search.models.graph import NoGraph
    from ctkd_search.search.session import Session


@dataclass(frozen=True)
class SearchRequest:
    """The request for a search.

    Attributes:
        space: The space.
        name: Name of the search.
        trials_dir: Directory of all searches.
        resume: Whether to go on with a search.
        warm_start: The earlier searches to begin from, by the names that the user gave.
        again: The command that resumes it, for messages.
        ask: Asks the user a yes-or-no question; None where nobody can answer.
        champion: Whether the student becomes the champion even if it is not better.
        document: The file that the space was read from, for messages with line numbers.
        listeners: Listeners of the trials, besides the search's own.
        stop: Set when a callback asks for the end of the search.
    """

    space: Space
    name: str
    trials_dir: Path
    resume: bool
    again: str
    warm_start: Sequence[str] = ()
    ask: Callable[[str], bool] | None = None
    document: Document | None = None
    champion: bool = False
    listeners: Sequence[TrialListener] = ()
    stop: threading.Event = field(default_factory=threading.Event)


def run_search(request: SearchRequest, console: Console) -> None:
    """Runs a search to its end.

    Args:
        request: The request.
        console: The console to print to.

    Raises:
        UserError: Something must be changed first.
        WorkFailed: No trial came to a result, the disk is full, or MLflow did not answer again.
        KeyboardInterrupt: The user stopped it; all results so far are kept.
    """
    folder = SearchFolder(request.trials_dir, request.name)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    make_directory(request.trials_dir)
    with owned(folder.path, f"search {request.name!r}", "ctkd-search run", say) as lease:
        _run_owned(request, folder, lease, say, console)


def _run_owned(
    request: SearchRequest, folder: SearchFolder, lease: Lease, say: Callable[[str], None], console: Console
) -> None:
    """Runs a search that no other process works on."""
    started = time.monotonic()
    earlier = earlier_search(folder, request.space, request.resume, request.warm_start, request.ask)
    names = outstanding(earlier) if earlier else request.warm_start
    sources = read_sources(names, request.trials_dir, request.name)
    budget = request.space.budget
    say(f"search {request.name}: {amount(budget.trials, 'trial')} of up to {amount(budget.epochs, 'epoch')}")
    for note in data.notes(request.space.dataset):
        say(note)
    like = earlier.fingerprint if earlier else None
    kept = request.trials_dir / TEACHERS
    splits = data.load_train(request.space.dataset, request.space.augmentations, like, kept)
    for store in splits.stores:
        CacheIndex(kept).used_by(store.name, request.name)
    _, channels, size = splits.geometry
    counts = f"{len(splits.train):,} training images, {len(splits.validation):,} held out for validation"
    if splits.kept_apart:
        counts += f", {splits.kept_apart:,} kept apart for the test of the final training"
    say(f"data: {counts}; {size}x{size} pixels, {'grey' if channels == 1 else 'colour'}; {splits.loading}")
    for warning in small_data(request.space, len(splits.train)):
        say(warning)
    if not (earlier or names) and (advised := advice(request.trials_dir, request.name, splits.fingerprint)):
        say(advised)
    if earlier and earlier.fingerprint != splits.fingerprint:
        raise UserError(
            f"the training images are not those that search {request.name!r} began with; choose another --name"
        )
    content, methods = plain(dict(request.space.raw)), request.space.methods()
    record = earlier or new_record(request.name, content, splits, methods, request.warm_start)
    record.space, record.again, record.finished = content, request.again, False
    before = (earlier.teachers or "recorded") if earlier else None
    space, chosen = with_mode(request.space, len(splits.train), splits.geometry.classes, before)
    record.teachers = space.teachers.mode
    if chosen:
        say(chosen)
    sources = compared(sources, space, splits.fingerprint)
    # Ray and torch are imported only now, after all checks of the file.
    from ctkd_search.checks.refusals import refuse
    from ctkd_search.search.search_runner import SearchRunner
    from ctkd_search.search.session import Session

    document = request.document or Document.of("the space", plain(dict(request.space.raw)))
    refuse(space, document, splits.geometry, len(splits.train), request.trials_dir)
    explored = sum(trial.explores for trial in folder.trials()) if earlier else 0
    at_once = most_at_once(space, explored)
    with Session(
        space, request.trials_dir, say, lease, at_once, stop=request.stop, precision=record.precision
    ) as session:
        if earlier is None and folder.exists():
            session.tracker.abandon(folder.search().run_id)
            folder.clear()
        record.tracking_uri, record.hardware = session.tracker.mlflow.place, session.hardware
        record.precision = session.precision
        folder.write(record)
        try:
            runner = SearchRunner(session, folder, record, splits, console, sources, request.listeners)
            records = runner.run()
            stopped = runner.stopped
            if stopped and winner(records) is None:
                with runner.closing():
                    runner.close_stopped()
            else:
                with runner.closing():
                    _conclude(session, folder, record, records, splits, console, request.champion, not stopped)
                say(_write_up(session, folder, record, splits))
            if stopped:
                runner.say_stopped()
        except KeyboardInterrupt:
            if record.finished:
                say(f"the search has finished; write its report with: ctkd-search report {record.name}")
            else:
                say(f"all results so far are kept; go on with: {request.again}")
            raise
    say(f"took {clock(time.monotonic() - started)}")


def _conclude(
    session: Session,
    folder: SearchFolder,
    record: SearchRecord,
    records: list[TrialRecord],
    splits: data.Splits,
    console: Console,
    champion: bool,
    finished: bool,
) -> None:
    """Prints the leaderboard, and logs and registers the winner.

    Args:
        finished: Whether nothing is left to do; False where a callback has stopped the search.
    """
    space, chosen = session.space, winner(records)
    if chosen is None:
        reasons = sorted({trial.reason for trial in records if trial.explores})
        session.tracker.flush(space.tracking.patience)
        left = sum(trial.explores and trial.ended for trial in records) < space.budget.trials
        ended = session.stop_signal.reason if left else None
        raise WorkFailed(_without_result(reasons, ended.value if ended else None, record.again))
    print_leaderboard(space, record, records, 20, console)
    explored = [trial for trial in records if trial.explores]
    stopped = sum(trial.status == STOPPED for trial in explored)
    found = next((config.estimate for config in confirmed(records) if config.trial is chosen), None)
    mean = f", {chosen.metric.show(found.mean)} in the mean of {amount(found.n, 'fresh seed')}" if found else ""
    console.print(
        f"{amount(len(explored), 'trial')}, {stopped} stopped early; best: trial {chosen.number} with "
        f"{_named(chosen)} on the validation images{mean}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"  {label_of(space, chosen)}", soft_wrap=True, highlight=False)
    lines = _hand_over(session, folder, record, records, chosen, splits, champion)
    record.finished = finished
    folder.write(record)
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _without_result(reasons: Sequence[str], ended: str | None, again: str) -> str:
    """Returns the message of a search without a result; `ended` is the reason for which its trials were ended."""
    told = [*([ended] if ended else []), *(reason for reason in reasons[:3] if reason and reason != ended)]
    message = f"no trial came to a result: {'; '.join(told) or 'no trial began'}"
    return f"{message}; go on with: {again}" if ended else message


def _named(trial: TrialRecord) -> str:
    """Returns the result of a trial, with the name of its metric unless that is the accuracy."""
    return trial.reached if trial.metric is ACCURACY else f"a {trial.metric.label} of {trial.reached}"


def _write_up(session: Session, folder: SearchFolder, record: SearchRecord, splits: data.Splits) -> str:
    """Writes the report and logs it to MLflow; returns a line about it.

    A search does not fail because of its report, which can be written again at any time.
    """
    from ctkd_search.report.page import write_report

    tracker = session.tracker
    try:
        page = write_report(folder.root, record.name, splits=splits, say=session.say)
    except Exception as error:  # of the disk, or of a drawing
        again = f"ctkd-search report {record.name}"
        return f"the report could not be written ({first_line(error)}); try again with: {again}"
    try:
        tracker.mlflow.client.log_artifacts(tracker.parent_id, str(page.parent), "report")
    except Exception as error:  # whatever MLflow, its server or its store raises
        return f"report: {page}; it could not be logged to MLflow ({mlflow_error(error)})"
    return f"report: {page}"


def _hand_over(
    session: Session,
    folder: SearchFolder,
    record: SearchRecord,
    records: list[TrialRecord],
    chosen: TrialRecord,
    splits: data.Splits,
    champion: bool,
) -> list[str]:
    """Delivers to MLflow what it does not have yet, the winner's student and the best config.

    A search does not fail because of a student that was not kept, or that cannot be read or exported, since its config
    trains the student again.

    Returns:
        The outcome of the registration, in lines.
    """
    from ctkd_search.models.graph import NoGraph
    from ctkd_search.search.delivery import delivery
    from ctkd_search.students.registration import register
    from ctkd_search.tracking.parent_run import conclude_parent

    tracker, registered = session.tracker, None
    lines = [_not_kept(record, chosen)]
    with delivery(session, folder, record, records):
        if is_readable(state_path(folder.states, chosen.number)):
            try:
                registered = register(session.space, folder, record, records, chosen, splits, tracker, champion)
                lines = [f"student registered in MLflow as {registered.uri}", registered.champion]
            except NoGraph as error:
                lines = [_not_exported(error, record)]
        record.model = registered.uri if registered else None
        tracker.log_text(config_text(session.space, record, chosen, splits), "best.yaml")
        conclude_parent(tracker, session.space, record, records, chosen, record.model or "")
    return lines


def _not_kept(record: SearchRecord, chosen: TrialRecord) -> str:
    config = f"{record.name}-best.yaml"
    again = f"ctkd-search export {record.name} -o {config} && ctkd-search train {config}"
    return (
        f"no student is registered: that of trial {chosen.number} was not kept, or cannot be read; to train it "
        f"again: {again}"
    )


def _not_exported(error: NoGraph, record: SearchRecord) -> str:
    return (
        f"no student is registered: {error}; its weights and its config are kept, and once its code is mended, this "
        f"writes it: ctkd-search export {record.name} --format torch"
    )
