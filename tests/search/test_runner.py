"""Runners of trials: a search that cannot go on, and what is left of trials that were running, and of killed ones."""

import functools
import os
import re
import tempfile
import time
from types import SimpleNamespace

import pytest
from support.factories import a_search, a_space, a_trial

from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.records.store import BASELINE, FINISHED, INTERRUPTED, RUNNING, WAITING
from ctkd_search.records.trial_configs import config_of
from ctkd_search.resources import Share
from ctkd_search.search import search_runner
from ctkd_search.search.observer import Observer
from ctkd_search.search.runner import TrialRunner, _sweep
from ctkd_search.search.search_runner import SearchRunner
from ctkd_search.search.stop_signal import StopReason, StopSignal


class Ending(TrialRunner):
    """Work that ends with an error while a trial runs.

    Args:
        directory: The directory of the trials' states.
        error: The error.
        reason: The reason for which the trials were stopped before, if they were.
    """

    def __init__(self, directory, error, reason):
        signal = StopSignal(None)
        if reason is not None:
            signal.set(reason)
        self.session = SimpleNamespace(stop_signal=signal, tracker=SimpleNamespace(parent_id=None), say=pytest.fail)
        self.records = {1: a_trial(1, 0.5, status=RUNNING)}
        self.observer = Observer(3, 2, directory, [], self.records, signal, pytest.fail)
        self.error = error

    def _work(self):
        raise self.error

    def _candidates(self, records):
        return []

    def _searcher(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("error", "stopped", "status", "reason"),
    [
        (KeyboardInterrupt(), StopReason.INTERRUPTED, INTERRUPTED, "stopped by a signal"),
        (KeyboardInterrupt(), None, INTERRUPTED, "stopped by a signal"),
        (WorkFailed("the disk of trials is full; free some"), StopReason.DISK_FULL, WAITING, "the disk is full"),
        (ValueError("no value left"), StopReason.NO_NEXT_TRIAL, WAITING, "no trial can be begun"),
        (UserError("cannot read teacher.pt\nat all"), None, WAITING, "cannot read teacher.pt"),
        (MemoryError(), None, WAITING, "MemoryError"),
    ],
    ids=str,
)
def test_a_trial_that_was_running_when_the_work_failed_has_the_reason_of_that(tmp_path, error, stopped, status, reason):
    work = Ending(tmp_path, error, stopped)
    with pytest.raises(type(error)):
        work.run()
    assert (work.records[1].status, work.records[1].reason) == (status, reason)


class Store:
    """The parent run in MLflow, and how it was closed; the server may be away."""

    parent_id = "1"

    def __init__(self, away=False):
        self.away, self.closed = away, []

    def flush(self, seconds):
        return not self.away

    def finish(self, status, metrics, tags):
        if self.away:
            raise ConnectionError("nobody there")
        self.closed.append((status, tags["ctkd.reason"]))


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (KeyboardInterrupt(), ("KILLED", "interrupted")),
        (WorkFailed("no trial finished an epoch: out of luck"), ("FAILED", "no trial finished an epoch: out of luck")),
        (ValueError("no picture\nat all"), ("FAILED", "no picture")),
        (MemoryError(), ("FAILED", "MemoryError")),
    ],
    ids=repr,
)
def test_the_parent_run_is_closed_whatever_ends_the_conclusion_and_mlflow_may_be_away(tmp_path, error, closed):
    work = Ending(tmp_path, None, None)
    work.records.clear()
    work.session.tracker = store = Store()
    with pytest.raises(type(error)), work.closing():
        raise error
    assert store.closed == [closed]
    said = []
    work.session.tracker, work.session.say = Store(away=True), said.append
    with pytest.raises(type(error)), work.closing():
        raise error
    assert said == ["the runs in MLflow stay open (nobody there)"]


def test_the_parent_run_stays_as_it_is_where_the_conclusion_succeeds_or_another_process_has_taken_over(tmp_path):
    work = Ending(tmp_path, None, None)
    work.session.tracker = store = Store()
    with work.closing():
        pass
    work.session.stop_signal.set(StopReason.TAKEN_OVER)
    with pytest.raises(WorkFailed), work.closing():
        raise WorkFailed("another process has taken this over")
    assert store.closed == []


class Resumed(SearchRunner):
    """A search that goes on with the records in its directory."""

    def __init__(self, folder, space):
        self.session = SimpleNamespace(space=space, say=pytest.fail)
        self.folder, self.record, self._sources = folder, folder.search(), []
        self.records = {trial.number: trial for trial in folder.trials()}


@pytest.mark.parametrize("numbers", [(0,), (0, 1, 2)], ids=str)
def test_a_search_whose_study_was_removed_is_refused_however_often_it_is_resumed(tmp_path, numbers):
    trials = [a_trial(number + 1, 0.5, optuna=number) for number in numbers]
    folder = a_search(tmp_path, trials, a_space(), name="x")
    said = (
        f"the study {folder.study} lacks trial 1, which the search has; put the file back, or begin the search again "
        "under another --name"
    )
    for _ in range(2):
        with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
            Resumed(folder, a_space())._prepare()


@pytest.mark.parametrize(
    ("share", "seconds"),
    [
        (Share(0, 1, 8), 180),  # teachers share the cores
        (Share(1.0, 1, 2), 90),
        (Share(0.25, 1, 8), 90),
        (Share(0.6, 1, 3), 60),
        (Share(2.0, 1, 2), 90),  # on two GPUs each
    ],
)
def test_the_teachers_of_a_confirmation_take_less_time_where_several_have_gpus(tmp_path, monkeypatch, share, seconds):
    monkeypatch.setattr(search_runner, "seconds_of_teachers", lambda *arguments: 60)
    space = a_space(confirm={"best": 1, "seeds": 3})
    work = Resumed(a_search(tmp_path, [], space, name="x"), space)
    work.session.share, work.splits, work.teachers = share, None, tmp_path
    assert work._what_follows().teachers == seconds


class Confirming(Resumed):
    """A search whose time budget ends while the repetitions with fresh seeds run, which end some of them before.

    Args:
        folder: Its directory.
        space: Its space.
        ended: Numbers of the repetitions that end before that.
    """

    def __init__(self, folder, space, ended):
        super().__init__(folder, space)
        self.session = SimpleNamespace(space=space, say=self.say, stop_signal=StopSignal(0.0))
        self.session.config_of = functools.partial(config_of, space)
        self.scheduler, self.said, self._settled, self._ended = None, [], True, ended

    def say(self, text):
        self.said.append(text)

    def _prepare_teachers(self, needs):
        return {}

    def _run(self, scheduler, expected):
        for number, trial in self.records.items():
            if trial.repeats is not None:
                trial.status = FINISHED if number in self._ended else INTERRUPTED
                trial.epochs = [{"epoch": 1, "validation_accuracy": 0.5}]


# Trials 3 and 5 repeat the winner, 4 and 6 the baseline.
@pytest.mark.parametrize(("ended", "told"), [((), True), ((4,), True), ((3,), False)])
def test_a_winner_whose_confirmation_was_cut_off_is_told_with_the_command_to_go_on(tmp_path, ended, told):
    space = a_space(confirm={"best": 1, "seeds": 2}, baselines=["kd"])
    trials = [
        a_trial(1, 0.5, space=space),
        a_trial(2, 0.4, space=space, kind=BASELINE, baseline="kd"),
    ]
    work = Confirming(a_search(tmp_path, trials, space, name="x"), space, ended)
    work._confirm()
    assert work.said[0].startswith("confirming the winner: ")
    line = (
        "the winner is not confirmed, because the time budget ended before that; raise it, or go on with as much "
        f"again: {work.record.again}"
    )
    assert work.said[1:] == [line] * told


def test_a_directory_that_another_process_removes_is_passed_over_when_old_ones_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Of what another process has just removed, the name was listed, but there is nothing behind it.
    (tmp_path / "ctkd-search-4194998-gone").symlink_to("nowhere")
    left, own = tmp_path / "ctkd-search-4194999-left", tmp_path / f"ctkd-search-{os.getpid()}-own"
    for path in (left, own):
        path.mkdir()
        os.utime(path, (time.time() - 90000,) * 2)
    _sweep()
    assert own.exists()
    assert not left.exists()
