"""Earlier searches: resumed, extended, refused, or used as a warm start."""

from __future__ import annotations

import dataclasses

import pytest
from support.factories import SEARCH, a_search, a_space, a_trial

from ctkd_search.errors import UserError
from ctkd_search.records.store import (
    FAILED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    SearchFolder,
)
from ctkd_search.records.warm_start import asked_for
from ctkd_search.search.earlier import earlier_search, incomparable, read_earlier
from ctkd_search.space.teacher_mode import with_mode

ENDED = [a_trial(1, 0.5), a_trial(2, 0.6)]
BUDGET = {"trials": 2, "grace_period": 1}


def space(**sections):
    return a_space(**{**sections, "budget": {**BUDGET, **sections.get("budget", {})}})


def begun(tmp_path, trials=ENDED, name="x", finished=False, **sections):
    """A search as it stands on disk."""
    own = space(**sections.pop("space", {}))
    return a_search(tmp_path, trials, own, **{"name": name, "fingerprint": "f", "finished": finished, **sections})


def papers(**sections):
    """The sections with the paper's recipes, of which one setting can be changed alone."""
    teachers, paper = sections.get("teachers", {}), {"schedule": "milestones"}
    return {
        **sections,
        "train": {**paper, **sections.get("train", {})},
        "teachers": {**teachers, "recipe": {**paper, **teachers.get("recipe", {})}},
    }


def differing(folder, now, fingerprint):
    """Returns the differences because of which the results of a search mean nothing to a new one."""
    return incomparable(read_earlier(folder), with_mode(now, images=100, classes=10)[0], fingerprint)


def goes_on(folder, now, resume=True, warm_start=(), ask=None):
    """Returns whether a search goes on, or the question or refusal."""
    found = earlier_search(folder, now, resume, warm_start, ask)
    assert found is None or found == folder.search()
    return found is not None


def refusal(*arguments, **options):
    with pytest.raises(UserError) as caught:
        goes_on(*arguments, **options)
    return str(caught.value)


def test_where_there_is_no_search_one_begins_unless_one_was_to_go_on(tmp_path):
    folder = SearchFolder(tmp_path, "x")
    assert not goes_on(folder, space(), resume=False)
    assert not goes_on(folder, space(), resume=False, warm_start=["y"])
    assert refusal(folder, space()) == f"there is no search 'x' in {tmp_path}; there are: none yet"


def test_a_search_that_has_not_finished_goes_on_when_asked_to(tmp_path):
    folder = begun(tmp_path)
    assert goes_on(folder, space())
    assert refusal(folder, space(), resume=False) == (
        f"search 'x' already exists in {tmp_path}; go on with it by adding --resume, or choose another --name"
    )


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_the_user_is_asked_whether_to_resume(tmp_path, answer):
    folder, asked = begun(tmp_path, [*ENDED, a_trial(3, 0.1, status=INTERRUPTED)]), []

    def ask(question):
        asked.append(question)
        return answer

    if answer:
        assert goes_on(folder, space(), resume=False, ask=ask)
    else:
        assert "--resume" in refusal(folder, space(), resume=False, ask=ask)
    assert asked == ["search 'x' was begun and has not finished (2 trials have ended); go on with it?"]
    # Who has said it already is not asked.
    assert goes_on(folder, space(), resume=True, ask=lambda question: pytest.fail(question))


@pytest.mark.parametrize("trials", [[], [a_trial(1, status=WAITING)], [a_trial(1, status=RUNNING)]])
def test_a_search_that_ended_before_its_first_epoch_has_nothing_to_lose(tmp_path, trials):
    folder = begun(tmp_path, trials)
    for resume in (False, True):
        assert goes_on(folder, space(), resume=resume)
        assert not goes_on(folder, space(seed=1), resume=resume)


def test_a_trial_that_failed_before_its_first_epoch_is_something_to_lose(tmp_path):
    folder = begun(tmp_path, [a_trial(1, status=FAILED)])
    assert "--resume" in refusal(folder, space(), resume=False)
    assert "seed: None before, 1 now" in refusal(folder, space(seed=1))


CHANGED = [
    ({"seed": 1}, "seed: None before, 1 now"),
    ({"budget": {**BUDGET, "epochs": 10}}, "budget.epochs: 9 before, 10 now"),
    ({"budget": {**BUDGET, "grace_period": 2}}, "budget.grace_period: 1 before, 2 now"),
    ({"sampler": "random"}, "sampler: None before, 'random' now"),
    ({"scheduler": {"name": "hyperband"}}, "scheduler: None before, {'name': 'hyperband'} now"),
    ({"objectives": ["validation_accuracy", "params"]}, "objectives: None before, ['validation_accuracy', 'params'] "),
    ({"limits": {"max_params": 10**6}}, "limits: None before, {'max_params': 1000000} now"),
    ({"train": {"batch_size": 64}}, "train: None before, {'batch_size': 64} now"),
    ({"teachers": {"recipe": {"lr": 0.05}}}, "teachers: None before, {'recipe': {'lr': 0.05}} now"),
    ({"augment": {"crop": 0}}, "augment: None before, {'crop': 0} now"),
    ({"dataset": {"name": "digits", "validation": 0.2}}, "dataset.validation: None before, 0.2 now"),
    ({"search": {**SEARCH, "alpha": 1}}, "search.alpha: {'float': [0.1, 5], 'log': True} before, 1 now"),
    ({"search": {**SEARCH, "beta": {"float": [1, 2]}}}, "search.beta: None before, {'float': [1, 2]} now"),
    (
        {"search": {**SEARCH, "augment": {"choice": {"a": {}, "b": {"mixup": 0.2}}}}},
        "search.augment: None before, {'choice': {'a': {}, 'b': {'mixup': 0.2}}} now",
    ),
    ({"resources": {"trials_per_gpu": 2}}, "resources: None before, {'trials_per_gpu': 2} now"),
    ({"name": "y"}, "name: 'x' before, 'y' now"),
]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("sections", "line"), CHANGED, ids=[line for _, line in CHANGED])
def test_a_changed_space_is_refused_with_what_changed(tmp_path, sections, line, finished):
    now = space(**{key: value for key, value in sections.items() if key not in ("name", "dataset")})
    if "name" in sections or "dataset" in sections:
        now = dataclasses.replace(now, raw={**now.raw, **sections})
    said = refusal(begun(tmp_path, finished=finished), now).splitlines()
    assert said[0] == "the space is not the one that search 'x' began with; choose another --name:"
    assert len(said) == 2
    assert said[1].startswith(f"  {line}")


def test_the_alternatives_of_the_augmentation_keep_their_order(tmp_path):
    first, second = ("a", {}), ("b", {"mixup": 0.2})
    before, now = (
        {"search": {**SEARCH, "augment": {"choice": dict(order)}}} for order in ((first, second), (second, first))
    )
    folder = begun(tmp_path, space=before)
    assert goes_on(folder, space(**before))
    assert refusal(folder, space(**now)).endswith("search.augment: a, b before, b, a now")


def test_all_that_changed_is_shown(tmp_path):
    said = refusal(begun(tmp_path), space(seed=1, sampler="gp")).splitlines()
    assert [line.split(":")[0] for line in said[1:]] == ["  sampler", "  seed"]


FREE = [
    {"resources": {"address": "auto"}},
    {"resources": {"cpus_per_trial": 2, "retries": 5}},
    {"resources": {"gpus_per_trial": 0.5}},
    {"resources": {"concurrent_trials": 2}},
    {"budget": {**BUDGET, "time_budget": "2h"}},
    {"budget": {"trials": 1}},
    {"baselines": ["kd"]},
    {"confirm": {"best": 2}},
]


@pytest.mark.parametrize("sections", FREE, ids=str)
def test_what_a_search_runs_on_and_what_comes_after_it_may_change(tmp_path, sections):
    assert goes_on(begun(tmp_path), space(**sections))
    assert goes_on(begun(tmp_path, space=sections), space())
    assert goes_on(begun(tmp_path, space=sections), space(**sections))


@pytest.mark.parametrize("resume", [False, True])
def test_a_search_that_has_finished_does_not_go_on_by_itself(tmp_path, resume):
    folder = begun(tmp_path, finished=True)
    for now in (space(), space(budget={"trials": 1}), space(resources={"retries": 5})):
        assert refusal(folder, now, resume=resume) == (
            "search 'x' has finished; see it with: ctkd-search show x; extend it with --trials N, or choose another "
            "--name"
        )


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("sections", [{"budget": {"trials": 3}}, {"baselines": ["kd"]}, {"confirm": {}}], ids=str)
def test_a_search_that_has_finished_goes_on_when_more_is_asked_of_it(tmp_path, sections, resume):
    assert goes_on(begun(tmp_path, finished=True), space(**sections), resume=resume)


def test_baselines_and_confirmations_count_for_no_trials(tmp_path):
    more = [a_trial(3, 0.5, kind="baseline", baseline="kd"), a_trial(4, 0.5, repeats=1)]
    folder = begun(tmp_path, [*ENDED, *more], finished=True)
    assert "has finished" in refusal(folder, space())
    assert goes_on(folder, space(budget={"trials": 3}))


def test_a_search_whose_time_was_over_goes_on_with_what_had_not_ended(tmp_path):
    assert goes_on(begun(tmp_path, [*ENDED, a_trial(3, 0.5, status=INTERRUPTED)], finished=True), space())


def test_a_search_whose_time_was_over_before_its_confirmation_goes_on_with_that(tmp_path):
    confirmed = {"confirm": {"best": 1, "seeds": 2}}
    folder = begun(tmp_path, finished=True, space=confirmed)
    assert goes_on(folder, space(**confirmed))
    repeats = [a_trial(2 + seed, 0.6, seed=seed, repeats=2) for seed in (1, 2)]
    folder = begun(tmp_path, [*ENDED, *repeats], finished=True, space=confirmed)
    assert "has finished" in refusal(folder, space(**confirmed))


def test_a_warm_start_is_refused_once_a_search_has_begun(tmp_path):
    folder = begun(tmp_path)
    assert refusal(folder, space(), warm_start=["y"]) == (
        "--warm-start applies only to a new search, but 'x' has begun; leave it out, or choose another --name"
    )
    folder = begun(tmp_path, warm_start=asked_for(["y"]))
    assert goes_on(folder, space(), warm_start=["y"])
    assert goes_on(folder, space())
    assert "applies only to a new search" in refusal(folder, space(), warm_start=["z"])


def test_a_search_without_trials_may_begin_again_from_another_one(tmp_path):
    folder = begun(tmp_path, [], warm_start=asked_for(["y"]))
    assert goes_on(folder, space(), resume=False)
    assert goes_on(folder, space(), resume=False, warm_start=["y"])
    assert not goes_on(folder, space(), resume=False, warm_start=["z"])
    assert not goes_on(begun(tmp_path, [], name="other"), space(), resume=False, warm_start=["z"])


def test_the_names_of_a_warm_start_may_not_change_once_a_search_has_begun(tmp_path):
    folder = begun(tmp_path, warm_start=asked_for(["y", "z"]))
    assert goes_on(folder, space(), warm_start=["y", "z"])
    for other in (["y"], ["y", "z", "w"]):
        assert "applies only to a new search" in refusal(folder, space(), warm_start=other)


def test_an_earlier_search_is_read_with_its_own_space(tmp_path):
    folder = begun(tmp_path, name="old", space={"budget": {"trials": 50}})
    record, earlier, trials = read_earlier(folder)
    assert (record.name, earlier.budget.trials, trials) == ("old", 50, ENDED)
    with pytest.raises(UserError, match=r"there is no search 'older' in .*; there are: old"):
        read_earlier(SearchFolder(tmp_path, "older"))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"seed": 7},
        {"budget": {"trials": 100, "grace_period": 3, "reduction_factor": 2, "time_budget": "1h"}},
        {"sampler": "gp", "scheduler": "hyperband"},
        {"baselines": ["kd"], "confirm": {}},
        {"resources": {"retries": 0}},
        # The parameters' values are compared trial by trial.
        {"train": {"batch_size": 32, "momentum": 0.5}},
        {"search": {**SEARCH, "alpha": {"float": [1, 2]}, "beta": {"float": [1, 2]}}},
        {"search": {**SEARCH, "augment": {"choice": {"a": {"mixup": 0.2}, "own": {}}}}},
    ],
    ids=str,
)
def test_what_does_not_change_the_meaning_of_an_accuracy_may_differ(tmp_path, sections):
    other, own = papers(**sections), papers()
    assert differing(begun(tmp_path, name="old", space=own), space(**other), "f") == []
    assert differing(begun(tmp_path, name="old", space=other), space(**own), "f") == []


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"budget": {"epochs": 10}}, "budget.epochs: 9 before, 10 now"),
        ({"augment": {"flip": True}}, "augment.flip: False before, True now"),
        (
            {"search": {**SEARCH, "augment": {"choice": {"a": {"mixup": 0.2}, "b": {"mixup": 0.4}}}}},
            "augment: ['crop 1'] before, ['crop 1, mixup 0.2', 'crop 1, mixup 0.4'] now",
        ),
        ({"train": {"gamma": 0.5}}, "train.gamma: 0.2 before, 0.5 now"),
        ({"train": {"milestones": [0.5]}}, "train.milestones: [0.3, 0.6, 0.8] before, [0.5] now"),
        ({"train": {"nesterov": True}}, "train.nesterov: False before, True now"),
        ({"train": {"precision": "float32"}}, "train.precision: 'auto' before, 'float32' now"),
        ({"teachers": {"mode": "live"}}, "teachers.mode: 'recorded' before, 'live' now"),
        ({"teachers": {"seed": 1}}, "teachers.seed: 0 before, 1 now"),
        ({"teachers": {"recipe": {"lr": 0.05}}}, "teachers.recipe.lr: 0.1 before, 0.05 now"),
        ({"objectives": ["validation_accuracy", "params"]}, "objectives: ['validation_accuracy'] before, ['valida"),
    ],
    ids=str,
)
def test_what_changes_the_meaning_of_an_accuracy_is_found(tmp_path, sections, line):
    found = differing(begun(tmp_path, name="old", space=papers()), space(**papers(**sections)), "f")
    assert len(found) == 1
    assert found[0].startswith(line)


def test_other_images_are_found_beside_whatever_else_differs(tmp_path):
    found = differing(begun(tmp_path, name="old", space=papers()), space(**papers(train={"gamma": 0.5})), "g")
    assert found == ["the training images", "train.gamma: 0.2 before, 0.5 now"]


@pytest.mark.parametrize("before", ["recorded", "live"])
@pytest.mark.parametrize("limit", ["1kB", "1GB"])
def test_teachers_that_were_chosen_otherwise_differ_whatever_the_limit_was(tmp_path, before, limit):
    folder = begun(tmp_path, name="old", teachers=before)
    now = "live" if limit == "1kB" else "recorded"
    expected = [] if now == before else [f"teachers.mode: '{before}' before, '{now}' now"]
    assert differing(folder, space(teachers={"trajectory_limit": limit}), "f") == expected
