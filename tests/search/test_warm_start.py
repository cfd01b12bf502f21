"""The trials that a search begins with: the paper's settings, and what a warm start takes of earlier searches."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState
from support.factories import SEARCH, a_search_record, a_space, a_trial
from support.simulation import study_in
from support.warm_starts import begun, earlier_search, enqueued

from ctkd_search.errors import UserError
from ctkd_search.records.config_list import PUBLISHED, published_names
from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    STOPPED,
    WAITING,
)
from ctkd_search.records.warm_start import asked_for
from ctkd_search.search.warm_start import advice, begin_study, outstanding, read_sources
from ctkd_search.versions import SEARCH_FORMAT


def test_the_papers_settings_are_tried_first_and_once(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.log"
    study_in(path, space).begin()
    study = study_in(path, space)
    study.begin()
    _, first, _ = study.ask(1, [])
    study = study_in(path, space)
    study.begin()
    _, second, _ = study.ask(2, [0])
    assert first == space.paper_point()
    assert second != first
    assert len(study.study.trials) == 2


def earlier_trials(space):
    """Trials of an earlier search: of every kind of end, and with values at the edges of other spaces."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    records = []
    for number, status in enumerate([FINISHED, STOPPED, DIVERGED, FAILED] * 5, start=1):
        trial = study.ask()
        space.suggest(trial)
        accuracies = [] if status == FAILED and number % 8 else [0.1, 0.2 + number / 100]
        records.append(a_trial(number, *accuracies, status=status, space=space, stored=trial.params))
    stored = records[0].stored
    return [
        *records,
        a_trial(21, 0.5, status=INTERRUPTED, space=space, stored=stored),
        a_trial(22, status=WAITING, space=space, stored=stored),
        a_trial(23, 0.5, space=space, stored=stored, kind=BASELINE, baseline="kd"),
        a_trial(24, 0.5, space=space, stored=stored, repeats=1),
    ]


def test_a_warm_start_takes_every_explored_trial_that_ended_and_each_once(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.log"
    records = earlier_trials(space)
    for _ in range(2):
        study = study_in(path, space)
        assert study.take("old", space, records) == (20, 20)
        found = [(trial.params, trial.state, trial.values, trial.intermediate_values) for trial in study.study.trials]
        ends = {FINISHED: "COMPLETE", STOPPED: "PRUNED", DIVERGED: "FAIL", FAILED: "FAIL"}
        states = {status: TrialState[name] for status, name in ends.items()}
        assert found == [
            (
                record.stored,
                states[record.status],
                [record.accuracy] if record.status == FINISHED else None,
                {epoch["epoch"]: epoch["validation_accuracy"] for epoch in record.epochs},
            )
            for record in records[:20]
        ]
    # Another search of the same numbers is another one.
    assert study.take("older", space, records[:2]) == (2, 2)
    assert len(study.study.trials) == 22


@pytest.mark.parametrize(
    ("search", "taken"),
    [
        ({}, lambda values: True),
        ({"lr": {"float": [0.01, 0.1], "log": True}}, lambda values: values["lr"] <= 0.1),
        ({"lr": {"float": [0.001, 1]}}, lambda values: True),
        ({"lr": {"float": [0.5, 1]}}, lambda values: False),
        ({"pair": "wrn-16-2/resnet8"}, lambda values: values["pair"] == "wrn-16-2/resnet8"),
        ({"pair": "wrn-16-1/resnet8"}, lambda values: False),
        ({"step_loss": "kl", "temperature": {"float": [1, 20]}}, lambda values: values["step_loss"] == "kl"),
        ({"step_loss": "mse", "temperature": None}, lambda values: values["step_loss"] == "mse"),
        # Searched here and at its default there, which is in the range or not.
        ({"momentum": {"float": [0.5, 0.95]}}, lambda values: True),
        ({"momentum": {"float": [0.5, 0.8]}}, lambda values: False),
        # Searched there and at its default here.
        ({"lr": None}, lambda values: False),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_a_warm_start_takes_what_could_be_a_trial_of_this_space_too(search, taken):
    # With the paper's course in both, whatever is searched of it.
    common = {"sampler": "random", "train": {"schedule": "milestones"}}
    earlier = a_space(**common)
    searched = {**earlier.raw["search"], **search}
    space = a_space(**common, search={key: entry for key, entry in searched.items() if entry is not None})
    records = earlier_trials(earlier)[:20]
    expected = [record for record in records if taken(record.values)]
    study = study_in(None, space)
    assert study.take("old", earlier, records) == (len(expected), 20)
    assert len(study.study.trials) == len(expected)
    for trial, record in zip(study.study.trials, expected, strict=True):
        again = space.effective(space.decode(trial.params))
        assert {key: again[key] for key in record.values} == record.values
        assert trial.distributions == {key: space.entries[key].distribution() for key in trial.params}


MIXED, CUT = {"mixup": 0.2}, {"cutmix": 1}


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        # The same augmentations, by whatever names, searched or fixed.
        ({"a": {}, "b": MIXED}, {"b": {}, "c": MIXED}, {"a": "b", "b": "c"}),
        ({"a": {}, "b": MIXED}, {"a": CUT, "b": MIXED}, {"b": "b"}),
        ({"a": {}, "b": MIXED}, {}, {"a": None}),
        ({}, {"b": MIXED, "c": {}}, {None: "c"}),
        ({"a": CUT, "b": MIXED}, {"a": {}, "b": {"crop": 2}}, {}),
    ],
)
def test_a_warm_start_knows_an_augmentation_by_its_settings(before, now, taken):
    earlier, space = (
        a_space(sampler="random", search={**SEARCH, **({"augment": {"choice": choice}} if choice else {})})
        for choice in (before, now)
    )
    records = earlier_trials(earlier)[:20]
    study = study_in(None, space)
    expected = [record for record in records if record.values.get("augment") in taken]
    assert study.take("old", earlier, records) == (len(expected), 20)
    assert [trial.params.get("augment") for trial in study.study.trials] == [
        taken[record.values.get("augment")] for record in expected
    ]


@pytest.mark.parametrize("searched", [{}, {"momentum": {"float": [0.5, 0.95], "when": {"step_loss": "mse"}}}], ids=str)
def test_after_a_warm_start_the_papers_settings_come_first_unless_they_were_tried(tmp_path, searched):
    space = a_space(sampler="random", search={**SEARCH, **searched})
    study = study_in(None, space)
    study.take("old", space, earlier_trials(space))
    study.begin()
    _, first, _ = study.ask(1, [])
    paper = space.decode(space.paper_point())
    assert space.effective(space.decode(first)) == space.effective(paper)
    tried = study_in(None, space)
    tried.take("old", space, [*earlier_trials(space), a_trial(30, 0.5, space=space, stored=first)])
    tried.begin()
    _, other, _ = tried.ask(1, [])
    assert space.decode(other) != space.decode(first)


def test_a_warm_start_teaches_the_sampler(tmp_path):
    space = a_space(sampler={"name": "tpe", "startup_trials": 5})

    def best_lr(warm):
        study = study_in(None, space)
        records = [
            a_trial(number, 1 - abs(lr - 0.02), space=space, stored={**space.paper_point(), "lr": lr})
            for number, lr in enumerate([0.02, 0.021, 0.019, 0.3, 0.29, 0.28, 0.2, 0.1, 0.25, 0.15] * 3, start=1)
        ]
        if warm:
            study.take("old", space, records)
        asked = [study.ask(number, range(number)).stored["lr"] for number in range(1, 9)]
        return sum(lr < 0.05 for lr in asked)

    assert best_lr(warm=True) > best_lr(warm=False)


def test_results_that_can_be_compared_are_given_to_optuna_as_before(tmp_path):
    earlier_search(tmp_path)
    space = a_space(sampler="random")
    study, (start,), said = begun(tmp_path, ["old"], space)
    assert said == ["warm start from 'old': 4 of its 4 trials are in this space, with their results"]
    assert (start.taken, start.there, start.configs, start.settled) == (4, 4, [], True)
    assert [trial.value for trial in study.study.get_trials(states=(TrialState.COMPLETE,))] == [0.6, 0.9, 0.8, 0.7]
    assert enqueued(study) == [space.paper_point()]


def test_an_interrupted_start_comes_to_the_same_trials(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.log"
    earlier_search(tmp_path)
    longer = a_space(sampler="random", budget={"epochs": 12})
    stored = {**longer.paper_point(), "alpha": 0.3}
    trials = [a_trial(n, n / 10, space=longer, stored={**stored, "lr": n / 100}) for n in range(1, 6)]
    earlier_search(tmp_path, "other", longer, trials)
    undisturbed = begun(tmp_path, ["old", "other"], space, path)
    for number in range(1, 4):
        # Interrupted before the record was written, once with one more trial begun each time.
        study, starts, _ = begun(tmp_path, ["old", "other"], space, path)
        assert starts == undisturbed[1]
        study.ask(number, range(len(study.study.trials)))
    assert len(study.study.trials) == 4 + 1 + 3
    assert outstanding(a_search_record(space, warm_start=starts)) == []
    assert outstanding(a_search_record(space, warm_start=asked_for(["old", "other"]))) == ["old", "other"]
    # Once all is decided, the earlier searches are not read again.
    again = study_in(path, space)
    record = a_search_record(space, warm_start=starts)
    begin_study(again, space, record, [], pytest.fail)
    assert record.warm_start == starts
    assert len(again.study.trials) == 8


def test_a_search_without_a_finished_trial_brings_nothing(tmp_path):
    space = a_space(sampler="random")
    stopped = a_trial(1, 0.5, status=STOPPED, space=space, stored=space.paper_point())
    earlier_search(tmp_path, trials=[stopped], fingerprint="g" * 64)
    nothing = "--warm-start old brings nothing to this search, because no trial of it has finished; leave it out"
    with pytest.raises(UserError, match=nothing):
        begun(tmp_path, ["old"], a_space(sampler="random"))
    # Of one with the same images, the results count, also those of trials that were stopped.
    _, (start,), _ = begun(tmp_path, ["old"], a_space(sampler="random"), fingerprint="g" * 64)
    assert start.taken == 1


def test_results_that_can_be_compared_but_are_outside_the_space_bring_nothing_without_a_config(tmp_path):
    earlier_search(tmp_path)
    dkd = {"method": "dkd", "pair": "wrn-16-2/resnet8", "lr": {"float": [0.01, 0.3]}}
    with pytest.raises(UserError) as caught:
        begun(tmp_path, ["old"], a_space(sampler="random", search=dkd))
    assert str(caught.value) == (
        "--warm-start old brings nothing to this search, because the methods of its configs (ctkd) are not searched "
        "here; leave it out"
    )
    space = a_space(sampler="random")
    stopped = a_trial(1, 0.5, status=STOPPED, space=space, stored={**space.paper_point(), "lr": 0.02})
    earlier_search(tmp_path, "stopped", trials=[stopped])
    with pytest.raises(UserError) as caught:
        begun(tmp_path, ["stopped"], a_space(sampler="random", search={**SEARCH, "lr": {"float": [0.1, 0.3]}}))
    assert str(caught.value) == (
        "--warm-start stopped brings nothing to this search, because no trial of it has finished and none of its 1 "
        "result is in this space; leave it out"
    )


REFUSED = [
    (["older"], "there is no search 'older' in {root}; there are: old; did you mean old?"),
    (["publishd"], "there is no search 'publishd' in {root}; did you mean published?"),
    (
        ["published/digts"],
        "--warm-start published/digts: there is no published search 'digts'; there are: {published}; did you mean "
        "published/digits?",
    ),
    (["none.yaml"], "there is no file none.yaml"),
    (["none.YAML"], "there is no file none.YAML"),
    (["old", "old"], "--warm-start old is given twice; name it once"),
    (["old", "./old"], "./old is a path, not the name of a search; did you mean old?"),
    (["published", "published/digits"], "--warm-start published/digits is given twice; name it once"),
    (["new"], "--warm-start new is the search itself; name another one, or leave it out"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=lambda value: str(value))
def test_a_name_that_is_none_is_refused(tmp_path, given, said):
    earlier_search(tmp_path)
    with pytest.raises(UserError) as caught:
        read_sources(given, tmp_path, "new")
    assert str(caught.value) == said.format(root=tmp_path, published=", ".join(published_names()))


def test_a_file_is_one_however_its_path_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.yml").write_text((PUBLISHED / "digits.yaml").read_text())
    with pytest.raises(UserError, match=r"^--warm-start \./best\.yml is given twice; name it once$"):
        read_sources(["best.yml", "./best.yml"], tmp_path, "new")


def test_a_search_that_another_version_has_kept_is_refused(tmp_path):
    folder = earlier_search(tmp_path)
    path = folder.path / "search.json"
    path.write_text(path.read_text().replace(f'"format": {SEARCH_FORMAT}', '"format": 1'))
    with pytest.raises(UserError, match=r"has format 1, and ctkd-search .* reads format"):
        read_sources(["old"], tmp_path, "new")


def test_finished_searches_on_the_same_images_are_named_the_newest_first(tmp_path):
    assert advice(tmp_path, "new", "f" * 64) is None
    earlier_search(tmp_path, "new", finished=True)
    earlier_search(tmp_path, "begun", finished=False)
    earlier_search(tmp_path, "others", finished=True, fingerprint="g" * 64)
    (earlier_search(tmp_path, "damaged", finished=True).path / "search.json").write_text("{")
    assert advice(tmp_path, "new", "f" * 64) is None
    earlier_search(tmp_path, "first", finished=True)
    said = "earlier search on the same images: first; --warm-start first would begin from it"
    assert advice(tmp_path, "new", "f" * 64) == said
    for day, name in enumerate("cabd", start=3):
        earlier_search(tmp_path, name, finished=True, started=f"2026-01-0{day}T03:04:05+00:00")
    said = "earlier searches on the same images: d, b, a; --warm-start d would begin from the newest"
    assert advice(tmp_path, "new", "f" * 64) == said
