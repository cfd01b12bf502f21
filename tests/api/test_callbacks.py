"""Callbacks are told what happens, and cannot harm a search."""

import warnings
from pathlib import Path

import pytest
from support.factories import a_trial, digits_space, space_content

from ctkd_search.api.callbacks import Callback, CallbackListener, check_callbacks
from ctkd_search.api.running import run
from ctkd_search.api.search import Search
from ctkd_search.errors import UserError


class Recorder(Callback):
    def __init__(self):
        self.heard = []

    def on_search_start(self, search):
        self.heard.append(("search start", search.name))

    def on_trial_start(self, search, trial):
        self.heard.append(("trial start", trial.number))

    def on_epoch_end(self, search, trial):
        self.heard.append(("epoch end", trial.number, trial.epochs[-1]["validation_accuracy"]))

    def on_trial_end(self, search, trial):
        self.heard.append(("trial end", trial.number, trial.status))

    def on_search_end(self, search):
        self.heard.append(("search end", search.name))


class Careless(Callback):
    def on_epoch_end(self, search, trial):
        raise KeyError("lr")

    def on_trial_end(self, search, trial):
        trial.values.clear()
        trial.epochs[-1]["validation_accuracy"] = 1.0
        trial.epochs.clear()


def tell(listener, trial):
    listener.work_started()
    listener.trial_started(trial)
    listener.trial_reported(trial)
    listener.trial_reported(trial)
    listener.trial_ended(trial)
    listener.work_ended()


def a_record():
    space = digits_space()
    return a_trial(3, 0.5, space=space, stored=space.paper_point())


def listening(*callbacks):
    return CallbackListener(callbacks, Search("small"), digits_space())


def test_every_event_is_told_in_order_to_every_callback():
    first, second = Recorder(), Recorder()
    tell(listening(first, Callback(), second), a_record())
    assert first.heard == second.heard
    assert first.heard == [
        ("search start", "small"),
        ("trial start", 3),
        ("epoch end", 3, 0.5),
        ("epoch end", 3, 0.5),
        ("trial end", 3, "finished"),
        ("search end", "small"),
    ]


def test_the_end_of_a_search_that_never_began_is_not_told():
    recorder = Recorder()
    listening(recorder).work_ended()
    assert recorder.heard == []


def test_an_exception_is_reported_once_with_its_line_and_the_others_are_told():
    recorder = Recorder()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tell(listening(Careless(), recorder), a_record())
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if text.strip() == 'raise KeyError("lr")')
    (warning,) = caught
    assert str(warning.message) == (
        f"callback Careless.on_epoch_end raised KeyError: 'lr' ({__file__}, line {line}); the search goes on, and "
        "further exceptions of this callback are not reported"
    )
    assert (warning.filename, warning.lineno, warning.category) == (__file__, line, RuntimeWarning)
    assert len(recorder.heard) == 6


def test_the_line_is_that_of_the_callback_and_not_of_the_library_that_it_called():
    class Nested(Callback):
        def on_search_start(self, search):
            __import__("json").loads("{")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        listening(Nested()).work_started()
    assert caught[0].filename == __file__


def test_where_warnings_are_errors_an_exception_does_no_harm_either(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell(listening(Careless()), a_record())
    assert "callback Careless.on_epoch_end raised KeyError" in capsys.readouterr().err


def test_a_callback_cannot_change_the_records_nor_what_the_next_one_sees():
    record, recorder = a_record(), Recorder()
    before = repr(record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tell(listening(Careless(), recorder), record)
    assert repr(record) == before
    assert recorder.heard[-2] == ("trial end", 3, "finished")


def test_an_interrupt_is_not_swallowed():
    class Stops(Callback):
        def on_search_start(self, search):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        listening(Stops()).work_started()


@pytest.mark.parametrize("callbacks", [[Recorder], [print], [None], Recorder, 5], ids=str)
def test_what_is_no_callback_is_refused_before_anything_is_done(callbacks, tmp_path):
    with pytest.raises(UserError, match=r"a callback must be an object derived from ctkd_search\.Callback, but got"):
        run(space_content(), callbacks=callbacks, trials_dir=tmp_path / "trials")
    assert not (tmp_path / "trials").exists()


def test_one_callback_may_stand_alone():
    one = Callback()
    assert check_callbacks(one) == check_callbacks((one,)) == [one]
    assert check_callbacks(None) == []
