"""Final training: a config and its baselines, on training and validation images, with several seeds."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ctkd_search import data
from ctkd_search.cache_index import CacheIndex
from ctkd_search.config import TrialConfig
from ctkd_search.display.tables import for_terminal
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.files import atomic, make_directory
from ctkd_search.final.folders import MEANS_FILE, earlier_training, new_folder
from ctkd_search.final.plan import FinalPlan
from ctkd_search.leases.lease import Lease
from ctkd_search.plugins import changed_code, code_hashes
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import TEACHERS, SearchFolder, SearchRecord, TrialRecord, new_record
from ctkd_search.search.ownership import owned
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import Resources, Tracking
from ctkd_search.space.teacher_mode import choose_mode
from ctkd_search.text import amount, clock, one_line

if TYPE_CHECKING:
    from ctkd_search.analysis.final_lines import Line
    from ctkd_search.search.session import Session


@dataclass(frozen=True)
class FinalRequest:
    """The request for a final training.

    Attributes:
        plan: The plan.
        fingerprint: Hash of the training images that the config was found on, or None if it is not known.
        trials_dir: Directory of all searches.
        resume: Whether to go on with a final training.
        again: The command that resumes it, for messages.
        resources: The resources that a training may use.
        tracking: The settings of MLflow.
        champion: Whether the student becomes the champion of its name even if there is one.
        listeners: Returns further listeners of the trainings from the directory and the space; None for none.
        stop: Set when a callback asks for the end of the trainings.
    """

    plan: FinalPlan
    fingerprint: str | None
    trials_dir: Path
    resume: bool
    again: str
    resources: Resources
    tracking: Tracking
    champion: bool = False
    listeners: Callable[[SearchFolder, Space], Sequence[TrialListener]] | None = None
    stop: threading.Event = field(default_factory=threading.Event)


def train_final(request: FinalRequest, console: Console) -> SearchFolder:
    """Trains a config and its baselines to the end, and reads the test split once, after all trainings.

    The teachers are trained again, because they too may now learn from the validation images; they are kept in the
    teacher cache.

    Args:
        request: The request.
        console: The console to print to.

    Returns:
        The directory of the final training.

    Raises:
        UserError: Something must be changed first.
        WorkFailed: No student of the config was trained to the end, the disk is full, or MLflow did not come back.
        KeyboardInterrupt: The user stopped it; all results so far are kept.
    """

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    if fault := data.test_fault(request.plan.config.dataset):
        raise UserError(fault)
    make_directory(request.trials_dir)
    parent = request.trials_dir / request.plan.name
    earlier = earlier_training(parent, request.plan, request.resume, say)
    folder = earlier or new_folder(parent)
    with owned(folder.path, f"the final training in {folder.path}", "ctkd-search train", say) as lease:
        _train_owned(request, folder, earlier is not None, lease, say, console)
    return folder


def _train_owned(
    request: FinalRequest,
    folder: SearchFolder,
    resumed: bool,
    lease: Lease,
    say: Callable[[str], None],
    console: Console,
) -> None:
    """Runs a final training that no other process works on."""
    started = time.monotonic()
    plan = request.plan
    earlier = folder.search() if resumed else None
    kept = request.trials_dir / TEACHERS
    augments = list(dict.fromkeys(config.augment for config in plan.own_configs))
    searched = data.load_train(plan.config.dataset, augments, request.fingerprint, kept)
    for store in searched.stores:
        CacheIndex(kept).used_by(store.name, plan.name)
    if request.fingerprint not in (None, searched.fingerprint):
        say("warning: the training images are not those that the config was found on")
        if plan.config.dataset.test is not None:
            say(
                "warning: a search that did not keep the same test images apart has used some of them to choose the "
                "config"
            )
    splits = searched.with_validation()
    say(f"data: {len(splits.train):,} images, training and validation together; {splits.loading}")
    for note in data.notes(plan.config.dataset):
        say(note)
    if earlier and earlier.fingerprint != splits.fingerprint:
        raise UserError(
            f"the images are not those that the final training in {folder.path} began with; leave "
            "--resume out to begin a new one"
        )
    methods = list(dict.fromkeys(config.method.name for config in plan.own_configs))
    if earlier and (changed := changed_code(earlier.code, code_hashes(methods))):
        raise UserError(f"{changed[0]} since the final training in {folder.path} began; leave --resume out")
    trials = plan.trials()
    # Ray and torch are imported only now, after all checks of the options.
    from ctkd_search.checks.refusals import refuse_config
    from ctkd_search.search.session import Session

    content = plan.content()
    needed = plan.trajectories(len(splits.train), splits.geometry.classes)
    before = (earlier.teachers or "recorded") if earlier else None
    teachers, chosen = choose_mode(plan.config.teachers, needed, before)
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, teachers=teachers))
    if chosen:
        say(chosen)
    for config in plan.own_configs:
        refuse_config(config, plan.streams, splits.geometry, len(splits.train), request.trials_dir)
    space = plan.space(request.resources, request.tracking)
    record = earlier or new_record(f"{plan.name}/{folder.name}", content, splits, methods)
    with Session(
        space, request.trials_dir, say, lease, len(trials), plan.config_of, request.stop, record.precision
    ) as session:
        record.again, record.hardware, record.teachers = request.again, session.hardware, teachers.mode
        record.tracking_uri, record.precision = session.tracker.mlflow.place, session.precision
        folder.write(record)
        what = f"{amount(len(trials), 'student')} of {amount(plan.config.epochs, 'epoch')}"
        say(f"final training in {folder.path}: {what}")
        try:
            listeners = request.listeners(folder, space) if request.listeners else []
            _train(session, folder, record, splits, plan, trials, console, request.champion, listeners)
        except UserError:
            if any(trial.epochs for trial in folder.trials()):
                say(f"all results so far are kept; after mending that, go on with: {request.again}")
            elif earlier is None:
                shutil.rmtree(folder.path)
            raise
        except KeyboardInterrupt:
            say(f"all results so far are kept; go on with: {request.again}")
            raise
    say(f"took {clock(time.monotonic() - started)}")


def _train(
    session: Session,
    folder: SearchFolder,
    record: SearchRecord,
    splits: data.Splits,
    plan: FinalPlan,
    trials: Sequence[TrialRecord],
    console: Console,
    champion: bool,
    listeners: Sequence[TrialListener],
) -> None:
    from ctkd_search.analysis.final_lines import headline, lines, sentences
    from ctkd_search.display.final_tables import tables
    from ctkd_search.final.runner import FinalRunner

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    runner = FinalRunner(session, folder, record, splits, console, plan, trials, listeners)
    trained = runner.run()
    with runner.closing():
        if runner.stopped:
            runner.close_stopped()
            runner.say_stopped()
            return
        found = lines(trained)
        config = session.config_of(trained[0])
        lost = not found[0].tested
        if not lost:
            for line in headline(found[0]):
                say(line)
        if len(trained) > 1:
            for table in tables(found):
                console.print(for_terminal(table))
            for sentence in sentences(plan, found):
                say(sentence)
        outcome = _hand_over(session, folder, record, trained, splits, plan, config, champion)
        record.finished = True
        folder.write(record)
    shutil.rmtree(folder.states, ignore_errors=True)
    files = ["result.json", "table.txt", *([MEANS_FILE] if (folder.path / MEANS_FILE).exists() else [])]
    say(f"written to {folder.path}: {', '.join([*files, *([] if lost else ['student.pt'])])}")
    if lost:
        reasons = sorted({trial.reason for trial in found[0].trials})
        hint = "; lower train.lr in the config" if "diverged" in {trial.status for trial in found[0].trials} else ""
        raise WorkFailed(f"no student of the config was trained to the end: {'; '.join(reasons[:3])}{hint}")
    if record.model:
        say(f"student registered in MLflow as {record.model}")
    if outcome:
        say(outcome)


def _hand_over(
    session: Session,
    folder: SearchFolder,
    record: SearchRecord,
    trained: Sequence[TrialRecord],
    splits: data.Splits,
    plan: FinalPlan,
    config: TrialConfig,
    champion: bool,
) -> str | None:
    """Writes the result, and delivers to MLflow what it does not have yet, including the student.

    Returns:
        A sentence about the champion, or about why no student is registered; None if there was nothing to register.
    """
    from ctkd_search.analysis.final_lines import first_student, lines
    from ctkd_search.final import results as final
    from ctkd_search.final.registration import register_final
    from ctkd_search.models.graph import NoGraph
    from ctkd_search.search.delivery import delivery
    from ctkd_search.students.kept import STUDENT_FILE

    tracker = session.tracker
    found = lines(trained)
    text = final.as_text(plan, found)

    def keep() -> None:
        final.keep_result(folder.path, final.result(plan, config, found, len(splits.train)), text)

    keep()
    _draw(folder, found, session.say)
    chosen, outcome = first_student(trained), None
    with delivery(session, folder, record, trained):
        keep()  # again, with the ids of the trainings' runs in MLflow
        tracker.log_text(text, "table.txt")
        if (folder.path / MEANS_FILE).exists():
            tracker.log_file(folder.path / MEANS_FILE)
        tags = {}
        if chosen is not None:
            if record.model is None:
                try:
                    record.model, outcome = register_final(
                        plan, folder, record, found, chosen, splits, tracker, champion
                    )
                except NoGraph as error:
                    outcome = (
                        f"no student is registered: {error}; {STUDENT_FILE} is kept, and once its code is mended, this "
                        f"writes it: ctkd-search export {plan.name} --final --format torch"
                    )
                folder.write(record)
            tags = {"ctkd.model": record.model or "", "ctkd.student_run": chosen.run_id or ""}
        tracker.finish("FAILED" if chosen is None else "FINISHED", final.parent_metrics(found), tags)
    return outcome


def _draw(folder: SearchFolder, found: Sequence[Line], say: Callable[[str], None]) -> None:
    """Writes the picture of means; without it the results are complete."""
    from ctkd_search.report.final import means_picture

    path = folder.path / MEANS_FILE
    path.unlink(missing_ok=True)
    try:
        picture = means_picture(found)
    except Exception as error:  # of matplotlib or a font
        say(f"the picture of means is left out: {one_line(str(error))}")
        return
    if picture is not None:
        with atomic(path) as temporary:
            temporary.write_bytes(picture.png)
