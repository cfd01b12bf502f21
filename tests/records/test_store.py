"""The record of a search on disk: written, read again, ranked, compared."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from support.factories import a_search_record, a_trial

from ctkd_search.errors import UserError
from ctkd_search.records import store
from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    STOPPED,
    WAITING,
    SearchFolder,
    TrialRecord,
    best,
    contenders,
    differences,
    ranked,
)
from ctkd_search.records.warm_start import TriedConfig, WarmStart
from ctkd_search.versions import SEARCH_FORMAT

NAN, INF = float("nan"), float("inf")


# Of a search as it stands when its first trial begins; its texts are in several scripts.
RECORD = {
    "name": "digits",
    "space": {"search": {"alpha": {"float": [0.01, 5]}}},
    "versions": {"ray": "2.60.0"},
    "classes": ["null", "éins", "二", "🐈"],
    "experts": {"wrn-16-2": 0.5, "mine": None},
    "costs": {"resnet8": {"params": 78_042, "latency_ms": 0.1 + 0.2}},
    "hardware": "2 CPU threads",
    "run_id": "abc",
    "model": "models:/ctkd-digits/1",
    "geometry": [4, 3, 32],
    "resize": 36,
    "mean": [0.1 + 0.2],
    "std": [1.0],
    "teachers": "recorded",
    "precision": "bfloat16",
}


def record(**fields):
    return a_search_record(**{**RECORD, **fields})


def same(one, other):
    """Whether two values are equal, where NaN equals NaN and types count."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or (type(one) is type(other) and one == other)


def test_a_search_is_read_as_it_was_written(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    assert folder.search() == record()
    folder.write(record(finished=True, model="models:/ctkd-digits/2"))
    assert folder.search() == record(finished=True, model="models:/ctkd-digits/2")


def test_the_earlier_searches_of_a_record_are_read_as_they_were_written(tmp_path):
    config = TriedConfig(3, "50.00 %", {"lr": 0.1 + 0.2}, ["pair"], known=True)
    starts = [
        WarmStart("published", "published/a", True, ["the training images"], 0, 4, [config], ["trial 2 (no kd)"]),
        WarmStart("b", "b"),
    ]
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record(warm_start=starts))
    assert folder.search().warm_start == starts


@pytest.mark.parametrize(("kept", "names"), [(None, []), ("old", ["old"]), ([], [])])
def test_one_name_or_none_is_read_as_earlier_versions_wrote_it(tmp_path, kept, names):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record(warm_start=kept))
    assert [(start.asked, start.settled) for start in folder.search().warm_start] == [(name, False) for name in names]


@pytest.mark.parametrize("kept", [3, {"a": 1}, ["old"], [{"name": "a"}]])
def test_earlier_searches_that_are_none_are_refused(tmp_path, kept):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record(warm_start=kept))
    with pytest.raises(UserError, match=r"search\.json is not a record of ctkd-search"):
        folder.search()


def test_a_trial_is_read_as_it_was_written_whatever_its_metrics(tmp_path):
    metrics = {
        "epoch": 1,
        "validation_accuracy": 0.1 + 0.2,
        "loss": NAN,
        "loss_step": INF,
        "loss_ce": -INF,
        "lr": 5e-324,
    }
    trial = a_trial(1, status=DIVERGED, reason="the loss « NaN » — 二")
    trial = dataclasses.replace(
        trial, epochs=[metrics], stored={"pair": "a/b", "alpha": 0.1}, values={"pair": "a/b", "layers": [1, 2]}
    )
    folder = SearchFolder(tmp_path, "digits")
    folder.write_trial(trial)
    assert same(dataclasses.asdict(folder.trials()[0]), dataclasses.asdict(trial))


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "null", "1e5", ""])
def test_text_that_reads_like_a_number_stays_text(tmp_path, text):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record(classes=[text, "other"], name=text))
    folder.write_trial(a_trial(1, values={"pair": "a/b", "schedule": text}, reason=text))
    assert folder.search() == record(classes=[text, "other"], name=text)
    assert folder.trials() == [a_trial(1, values={"pair": "a/b", "schedule": text}, reason=text)]


@pytest.mark.parametrize(
    "value",
    [3, 0.5, "3", "nan", "-inf", "many", None, [3], ["nan"], [["inf"]], ["a", "nan"], {"number": "nan"}, NAN, [NAN]],
)
def test_a_mapping_whose_only_key_is_number_stays_a_mapping(tmp_path, value):
    folder = SearchFolder(tmp_path, "digits")
    space = {"dataset": {"name": "my:make", "options": {"number": value}}, "more": [{"number": value}, INF, "nan"]}
    folder.write(record(space=space))
    assert same(folder.search().space, space)


def test_numbers_that_json_lacks_are_read_from_earlier_records(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record(space={"x": "X", "y": {"number": 3}}))
    path = tmp_path / "digits" / "search.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"X"', '{"number": "-inf"}'), encoding="utf-8")
    assert folder.search().space == {"x": -INF, "y": {"number": 3}}


def test_records_are_strict_json_in_utf8(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    folder.write_trial(a_trial(7, NAN))
    for path in tmp_path.rglob("*.json"):
        assert not re.search(r"\bNaN\b|\bInfinity\b", path.read_text(encoding="utf-8"))


def test_trials_come_in_the_order_of_their_numbers_and_a_later_record_replaces_an_earlier(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    for number in (10, 2, 1, 100):
        folder.write_trial(a_trial(number, status=RUNNING))
    folder.write_trial(a_trial(2, 0.5))
    assert [(trial.number, trial.status) for trial in folder.trials()] == [
        (1, RUNNING),
        (2, FINISHED),
        (10, RUNNING),
        (100, RUNNING),
    ]


def test_a_search_exists_once_its_record_is_written(tmp_path):
    folder = SearchFolder(tmp_path / "deep" / "trials", "digits")
    assert not folder.exists()
    assert folder.trials() == []
    assert store.names(folder.root) == []
    folder.write(record())
    assert folder.exists()
    SearchFolder(folder.root, "a").write(record(name="a"))
    (folder.root / "teachers").mkdir()
    assert store.names(folder.root) == ["a", "digits"]


def test_nothing_but_records_is_left_after_writing(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    folder.write_trial(a_trial(1))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["00001.json", "search.json"]


@pytest.mark.parametrize(("there", "listed"), [((), "none yet"), (("b", "a"), "a, b")])
def test_a_search_that_there_is_not_is_answered_with_those_there_are(tmp_path, there, listed):
    for name in there:
        SearchFolder(tmp_path, name).write(record(name=name))
    with pytest.raises(UserError, match=f"there is no search 'digits' in .*; there are: {listed}"):
        SearchFolder(tmp_path, "digits").search()


def test_everything_about_a_trial_is_kept(tmp_path):
    trial = a_trial(
        3,
        0.5,
        status=STOPPED,
        values={"pair": "a/b"},
        stored={"pair": "a/b"},
        seed=7,
        kind=BASELINE,
        baseline="kd",
        repeats=2,
        optuna=0,
        reason="after epoch 1",
        retries=1,
        run_id="abc",
        student_seed=8,
        test={"accuracy": 0.75, "loss": 0.5, "images": 4},
        objective="validation_loss",
    )
    # Another value for each field than the default, so that none can be lost unseen.
    defaults = {field.name: field.default for field in dataclasses.fields(TrialRecord)}
    assert all(getattr(trial, name) != default for name, default in defaults.items())
    folder = SearchFolder(tmp_path, "digits")
    folder.write_trial(trial)
    assert folder.trials() == [trial]


def test_clearing_leaves_the_search_alone_and_removes_what_its_trials_left(tmp_path):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    folder.write_trial(a_trial(1))
    folder.states.mkdir()
    (folder.states / "00001.pt").touch()
    folder.study.touch()
    folder.clear()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["search.json"]
    folder.clear()


@pytest.mark.parametrize(
    ("status", "over"),
    [
        (WAITING, False),
        (RUNNING, False),
        (INTERRUPTED, False),
        (FINISHED, True),
        (STOPPED, True),
        (DIVERGED, True),
        (FAILED, True),
    ],
)
def test_what_was_interrupted_has_not_ended(status, over):
    assert a_trial(1, status=status).ended is over


BROKEN = ["", "{", "[]", "null", '"text"', "{}", '{"name": "digits"}', '{"unknown": 1}', "\x00\x01"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_record_is_refused_by_its_name(tmp_path, text):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    folder.write_trial(a_trial(1))
    for name, read in [("search.json", folder.search), ("records/00001.json", folder.trials)]:
        (folder.path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            read()
        message = str(caught.value)
        assert name in message or (name == "search.json" and f"{folder.path} has format 0" in message)
        assert "\n" not in message


def test_a_record_that_is_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "search.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot read the record .*search\.json"):
        SearchFolder(tmp_path, "digits").search()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 5, "versions": {"ctkd-search": "0.7.1"}},
            "has format 5, .* reads format 4 alone; .* ctkd-search 0.7.1,",
        ),
        ({"format": 5, "added_later": True}, "has format 5, .* reads format 4 alone"),
        (
            {"format": "5", "versions": "0.7.1"},
            "has format 5, .* format 4 alone; .* the version .* that wrote it",
        ),
        ({"format": None}, "has format 0, .* reads format 4 alone"),
    ],
)
def test_a_search_of_another_format_is_refused_with_what_reads_it(tmp_path, changes, message):
    folder = SearchFolder(tmp_path, "digits")
    folder.write(record())
    path = folder.path / "search.json"
    content = json.loads(path.read_text())
    assert content["format"] == SEARCH_FORMAT == 4
    path.write_text(json.dumps({**content, **changes}))
    with pytest.raises(UserError, match=f"the search in {folder.path} {message}") as caught:
        folder.search()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("trials", "order", "winner"),
    [
        ([], [], None),
        ([a_trial(1, status=RUNNING), a_trial(2, status=FAILED)], [1, 2], None),
        ([a_trial(1, 0.5), a_trial(2, 0.7), a_trial(3, 0.6)], [2, 3, 1], 2),
        ([a_trial(1, 0.9, 0.5), a_trial(2, 0.1, 0.6)], [2, 1], 2),
        ([a_trial(3, 0.5), a_trial(1, 0.5), a_trial(2, 0.5)], [1, 2, 3], 1),
        ([a_trial(1, 0.9, status=STOPPED), a_trial(2, 0.4), a_trial(3, 0.8, status=INTERRUPTED)], [1, 3, 2], 2),
        (
            [a_trial(1, 0.6, status=STOPPED), a_trial(2, 0.8, status=INTERRUPTED), a_trial(3, status=FAILED)],
            [2, 1, 3],
            2,
        ),
        # What diverged has no student to speak of.
        ([a_trial(1, 0.0, status=DIVERGED), a_trial(2, status=RUNNING)], [1, 2], None),
        ([a_trial(1, 0.9, status=DIVERGED), a_trial(2, 0.2, status=FAILED)], [1, 2], 2),
        # What Optuna did not suggest is there for comparison.
        ([a_trial(1, 0.9, kind=BASELINE), a_trial(2, 0.5), a_trial(3, 0.8, repeats=2)], [1, 3, 2], 2),
        ([a_trial(1, 0.9, kind=BASELINE), a_trial(2, 0.8, repeats=1)], [1, 2], None),
        ([a_trial(1, 0.9, kind=BASELINE), a_trial(2, 0.3, status=STOPPED)], [1, 2], 2),
    ],
)
def test_the_best_trial_is_the_best_of_the_explored_ones_that_finished(trials, order, winner):
    given = list(trials)
    assert [trial.number for trial in ranked(trials)] == order
    chosen = best(trials)
    assert (chosen.number if chosen else None) == winner
    assert [trial.number for trial in contenders(trials)][:1] == ([winner] if winner else [])
    assert trials == given


def test_a_trial_counts_with_its_last_epoch_and_all_its_time():
    assert a_trial(1).accuracy < 0
    assert a_trial(1).seconds == 0
    shared = a_trial(1, 0.1)
    shared.epochs[0] |= {"seconds": 9.0, "recording_seconds": 4.0, "waiting_seconds": 3.0, "recorded_epochs": 2}
    assert (shared.seconds, shared.own_seconds) == (9.0, 2.0)
    trial = a_trial(1, 0.9, 0.3, measured={"seconds": 2.0})
    assert (trial.accuracy, trial.seconds) == (0.3, 4.0)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({}, {}, []),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 before, 2 now"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": "x"}}, ["a.c: 2 before, 'x' now"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a: [1, 2] before, [1, 3] now"]),
        ({"a": 1}, {}, ["a: 1 before, None now"]),
        ({}, {"b": {"c": 1}}, ["b: None before, {'c': 1} now"]),
        ({"a": {"b": 1}}, {"a": 3}, ["a: {'b': 1} before, 3 now"]),
        ({"b": 1, "a": 1}, {"a": 2, "b": 2}, ["a: 1 before, 2 now", "b: 1 before, 2 now"]),
        ({"b": 1}, {0: 1}, ["0: None before, 1 now", "b: 1 before, None now"]),
    ],
)
def test_differences_are_told_a_line_each(old, new, lines):
    assert differences(old, new) == lines
