"""Whole searches from Python: the records are the command's, what was started is stopped, and callbacks hear of it."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings

import mlflow
import numpy as np
import optuna
import pytest
import torch
from support import here
from support.factories import space_content, write_space
from support.python import environment

import ctkd_search
from ctkd_search.metrics import CLOCKS
from ctkd_search.records.store import SearchFolder
from ctkd_search.search.cluster import DEFAULTS, VARIABLES

pytestmark = pytest.mark.slow

SPACE = space_content(
    name="small",
    dataset={"name": "digits", "validation": 0.8},
    budget={"trials": 3, "epochs": 2, "grace_period": 1, "reduction_factor": 2},
    baselines=["student-alone"],
    confirm={"best": 1, "seeds": 2},
    teachers={"recipe": {"batch_size": 64, "lr": 0.05}},
    train={"batch_size": 32},
    search={
        "pair": "wrn-10-1/resnet8",
        "attention_layers": {"subsets": [1, 3]},
        "lr": {"float": [0.01, 0.2], "log": True},
    },
    resources={"concurrent_trials": 1},
)
CHANGES = {"train.batch_size": 64, "search.alpha": {"float": [0.1, 1.0]}}


class Recorder(ctkd_search.Callback):
    """Keeps what it is told, and what the search showed meanwhile."""

    def __init__(self):
        self.heard = []
        self.epochs_on_disk = []

    def on_search_start(self, search):
        self.heard.append("search start")
        assert search.mlflow_run_id

    def on_trial_start(self, search, trial):
        self.heard.append(f"start {trial.number}")

    def on_epoch_end(self, search, trial):
        self.heard.append(f"epoch {len(trial.epochs)} of {trial.number}")
        self.epochs_on_disk.append(len(search.epochs))

    def on_trial_end(self, search, trial):
        self.heard.append(f"end {trial.number}")
        raise RuntimeError("on purpose")

    def on_search_end(self, search):
        self.heard.append("search end")
        self.finished = search.finished


def settings():
    """Handlers and variables that a search sets in its process, and must give back."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    names = (*VARIABLES, *DEFAULTS, "MLFLOW_TRACKING_URI")
    return handlers, {name: os.environ.get(name) for name in names}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The same search by command and from Python."""
    found = {"command": tmp_path_factory.mktemp("command"), "python": tmp_path_factory.mktemp("python")}
    for directory in found.values():
        write_space(directory / "space.yaml", **SPACE)
        here.fresh_store(directory / "trials" / "mlflow.db")
    words = [f"--set={key}={value}" for key, value in (("train.batch_size", 64), ("search.alpha", "{float: [0.1, 1]}"))]
    ended = here.command("run", "space.yaml", *words, directory=found["command"], whole=False)
    assert ended.code == 0, ended.said
    before, recorder, out = settings(), Recorder(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        search = ctkd_search.run(
            SPACE,
            overrides=CHANGES,
            trials_dir=found["python"] / "trials",
            callbacks=[recorder],
            progress=False,
        )
    reported = [str(warning.message) for warning in caught if "Recorder" in str(warning.message)]
    return {
        **found,
        "search": search,
        "recorder": recorder,
        "printed": out.getvalue(),
        "reported": reported,
        "kept": before == settings(),
    }


def test_the_call_that_goes_on_has_every_option_with_which_the_search_was_begun(monkeypatch):
    calls = []
    monkeypatch.setattr("ctkd_search.api.running.run_space", lambda *given, **_: calls.append(given[3]))
    options = {
        "name": "y",
        "trials": 2,
        "epochs": 3,
        "time_budget": "2h",
        "overrides": CHANGES,
        "champion": True,
        "address": "auto",
        "tracking_uri": "http://127.0.0.1:5000",
    }
    ctkd_search.run(SPACE, **options, progress=False)
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    ctkd_search.run(SPACE, progress=False)
    assert calls == [f"ctkd_search.run(space, {given}, resume=True)", "ctkd_search.run(space, resume=True)"]


def comparable(trial):
    """What a trial's record has that does not depend on the machine."""
    epochs = [{key: value for key, value in epoch.items() if key not in (*CLOCKS, "at")} for epoch in trial.epochs]
    return {**vars(trial), "epochs": epochs, "run_id": None}


def test_the_same_search_by_command_and_from_python_has_the_same_records(searched):
    by_command, from_python = (SearchFolder(searched[how] / "trials", "small") for how in ("command", "python"))
    trials = [list(map(comparable, folder.trials())) for folder in (by_command, from_python)]
    assert len(trials[0]) == 3 + 1 + 4
    assert trials[0] == trials[1]
    one, two = by_command.search(), from_python.search()
    assert (one.space, one.fingerprint, one.experts) == (two.space, two.fingerprint, two.experts)
    assert two.again == (
        f"ctkd_search.run(space, overrides={CHANGES!r}, trials_dir={str(searched['python'] / 'trials')!r}, resume=True)"
    )


def test_nothing_is_printed_without_progress_and_everything_set_is_given_back(searched):
    assert searched["printed"] == ""
    assert searched["kept"]
    assert here.shared_ray().is_initialized()


def test_callbacks_hear_of_everything_after_it_was_recorded_and_may_raise(searched):
    recorder, search = searched["recorder"], searched["search"]
    assert (recorder.heard[0], recorder.heard[-1]) == ("search start", "search end")
    assert recorder.finished
    for trial in SearchFolder(search.trials_dir, "small").trials():
        told = [event for event in recorder.heard if event.endswith(f" {trial.number}")]
        assert [event for event in told if event.startswith("epoch")] == [
            f"epoch {epoch['epoch']} of {trial.number}" for epoch in trial.epochs
        ]
        assert told[0] == f"start {trial.number}"
        assert told[-1] == f"end {trial.number}"
    assert recorder.epochs_on_disk == list(range(1, len(search.epochs) + 1))
    (reported,) = searched["reported"]
    assert "callback Recorder.on_trial_end raised RuntimeError: on purpose" in reported


def test_the_search_is_shown_as_it_is_on_disk(searched):
    search = searched["search"]
    trials, epochs, study = search.trials, search.epochs, search.study
    assert search.finished
    assert (trials["kind"] == "trial").sum() == len(study.trials) == 3
    assert study.trials[0].state is optuna.trial.TrialState.COMPLETE
    last = epochs.groupby("trial")["validation_accuracy"].last()
    assert last.tolist() == trials["validation_accuracy"].tolist()
    assert trials.loc[trials["winner"], "trial"].tolist() == [search.best.number]
    assert search.confirmed["winner"].sum() == 1
    assert search.confirmed["seeds"].tolist() == [2, 2]
    assert repr(search).startswith("<Search 'small': 3 trials, ")


def test_the_student_of_a_search_takes_raw_images(searched):
    student = searched["search"].student()
    assert isinstance(student, torch.nn.Module)
    images = torch.tensor(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8))
    with torch.inference_mode():
        found = student(images)
    assert found.shape == (3, 10)
    assert torch.allclose(found.sum(dim=1), torch.ones(3))


def test_a_finished_search_is_refused_as_the_command_refuses_it(searched):
    with pytest.raises(ctkd_search.UserError) as refused:
        ctkd_search.run(SPACE, overrides=CHANGES, trials_dir=searched["python"] / "trials", progress=False)
    told = here.command(
        *("run", "space.yaml", "--set", "train.batch_size=64", "--set", "search.alpha={float: [0.1, 1.0]}"),
        directory=searched["command"],
    )
    assert told.code == 2
    assert told.err == f"ctkd-search: {refused.value}\n"


class Stops(ctkd_search.Callback):
    """Stops a search at an event, and keeps what it is told."""

    def __init__(self, event):
        self.event, self.heard = event, []

    def _hear(self, search, event):
        self.heard.append(event)
        if event == self.event:
            search.stop()

    def on_search_start(self, search):
        self._hear(search, "search start")

    def on_epoch_end(self, search, trial):
        self._hear(search, f"epoch {len(trial.epochs)} of {trial.number}")

    def on_search_end(self, search):
        self._hear(search, "search end")


def parent_run(search):
    return mlflow.MlflowClient(search.tracking_uri).get_run(search.mlflow_run_id)


def test_a_callback_stops_a_search_which_returns_and_goes_on_later(tmp_path, capsys):
    here.shared_ray()
    here.fresh_store(tmp_path / "trials" / "mlflow.db")
    content = {key: value for key, value in SPACE.items() if key != "baselines"}

    def search_with(callback, **options):
        return ctkd_search.run(content, callbacks=[callback], trials_dir=tmp_path / "trials", progress=True, **options)

    # Before the first trial: nothing is trained.
    at_once = Stops("search start")
    search = search_with(at_once)
    assert at_once.heard == ["search start", "search end"]
    assert "stopped by a callback; go on with: ctkd_search.run(space, " in capsys.readouterr().out
    assert (len(search.trials), search.best, search.model, search.finished) == (0, None, None, False)
    assert not (tmp_path / "trials" / "teachers").exists()
    run = parent_run(search)
    assert (run.info.status, run.data.tags["ctkd.reason"]) == ("KILLED", "stopped by a callback")

    # In the middle: what there is is handed over, and nothing is confirmed.
    midway = Stops("epoch 1 of 2")
    search = search_with(midway, resume=True)
    told = capsys.readouterr().out
    assert "stopping; all results so far are kept ..." in told
    assert "stopped by a callback; go on with: ctkd_search.run(space, " in told
    assert midway.heard[-1] == "search end"
    assert not any(event.endswith("of 3") for event in midway.heard)
    trials = search.trials.set_index("trial")
    assert trials.loc[1, "status"] == "finished"
    assert (trials.loc[2, "status"], trials.loc[2, "reason"]) == ("interrupted", "stopped by a callback")
    assert (search.finished, len(search.confirmed), len(search.study.trials) >= 2) == (False, 0, True)
    assert search.best is not None
    assert search.model == "models:/ctkd-small/1"
    assert (search.path / "report" / "index.html").is_file()
    assert parent_run(search).info.status == "FINISHED"
    with pytest.raises(ctkd_search.UserError, match="search 'small' cannot be stopped here"):
        search.stop()
    with pytest.raises(ctkd_search.UserError, match="cannot be stopped here"):
        ctkd_search.load("small", tmp_path / "trials").stop()

    # Too late: the callback is told so, and the search is as finished as ever.
    late = Stops("search end")
    with pytest.warns(RuntimeWarning, match=r"Stops.on_search_end raised UserError: search 'small' cannot be stopped"):
        search = search_with(late, resume=True)
    assert "epoch 1 of 2" not in late.heard
    assert search.finished
    assert (search.trials["kind"] == "trial").sum() == 3
    assert set(search.trials["status"]) <= {"finished", "stopped early"}
    assert search.confirmed["seeds"].tolist() == [2]
    assert search.model == "models:/ctkd-small/2"


INTERRUPTED = """
import os, signal, sys, threading
import ctkd_search, ray
space = {space!r}

class Interrupt(ctkd_search.Callback):
    def on_epoch_end(self, search, trial):
        if len(trial.epochs) == 3:
            os.kill(os.getpid(), signal.SIGINT)

before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
try:
    ctkd_search.run(space, trials=2, callbacks=[Interrupt()], progress=False)
    raise SystemExit("not interrupted")
except KeyboardInterrupt:
    pass
assert not ray.is_initialized()
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
search = ctkd_search.load("small")
print(repr(search), search.trials["status"].tolist(), flush=True)
assert not search.finished

def go_on():
    ctkd_search.run(space, trials=2, resume=True, progress=False)

thread = threading.Thread(target=go_on)
thread.start()
thread.join()
assert not ray.is_initialized()
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
print(repr(search), search.trials["epochs"].tolist())
"""


def test_an_interrupted_search_goes_on_in_another_thread(tmp_path):
    """Ray is that of the search, which stops it each time."""
    content = {**SPACE, "budget": {"epochs": 12, "grace_period": 12}, "confirm": None, "baselines": None}
    content = {key: value for key, value in content.items() if value is not None}
    here.fresh_store(tmp_path / "trials" / "mlflow.db")
    words = ["-c", INTERRUPTED.format(space=content)]
    ended = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=500
    )
    told = ended.stdout
    assert ended.returncode == 0, told + ended.stderr
    assert "not finished> ['interrupted'" in told
    assert "finished> [12, 12]" in told
