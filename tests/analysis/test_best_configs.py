"""The best configs of a search, and what became of them in another one."""

from __future__ import annotations

import pytest
from support.factories import a_trial, repetitions

from ctkd_search.analysis.best_configs import best_configs, without_copies
from ctkd_search.analysis.warm_start import brought, start_sentence
from ctkd_search.records.store import BASELINE, DIVERGED, STOPPED, WAITING
from ctkd_search.records.warm_start import TriedConfig, WarmStart


def own(number, accuracy, lr, **fields):
    return a_trial(number, 0.1, accuracy, values={"lr": lr}, **fields)


def numbers(trials, count=3):
    return [one.trial.number for one in best_configs(trials, count)]


def test_without_a_confirmation_the_best_are_those_that_finished_by_their_own_values():
    trials = [own(1, 0.5, 0.1), own(2, 0.7, 0.2), own(3, 0.9, 0.3, status=STOPPED), own(4, 0.6, 0.4)]
    trials += [own(5, 0.9, 0.5, kind=BASELINE, baseline="kd"), own(6, 0.9, 0.6, status=DIVERGED)]
    assert numbers(trials) == [2, 4, 1]
    assert numbers(trials, 2) == [2, 4]
    assert [(one.value, one.seeds) for one in best_configs(trials, 1)] == [(0.7, 0)]
    assert numbers([own(1, 0.9, 0.1, status=STOPPED)]) == []


def test_confirmed_configs_come_first_by_their_means_and_baselines_are_none_of_them():
    trials = [own(1, 0.5, 0.1), own(2, 0.7, 0.2), own(3, 0.8, 0.3), own(4, 0.1, 0.4, kind=BASELINE, baseline="kd")]
    trials += [*repetitions(1, [0.6, 0.7], 10), *repetitions(2, [0.5, 0.6], 20)]
    trials += repetitions(4, [0.9, 0.9], 30, baseline="kd")
    found = best_configs(trials, 3)
    assert [(one.trial.number, one.seeds) for one in found] == [(1, 2), (2, 2), (3, 0)]
    assert [one.value for one in found] == pytest.approx([0.65, 0.55, 0.8])


def test_a_config_whose_repetitions_failed_is_not_before_the_winner():
    trials = [own(1, 0.5, 0.1), own(2, 0.7, 0.2)]
    trials += [*repetitions(1, [0.6, 0.7], 10), *repetitions(2, [0.9, None], 20)]
    assert numbers(trials) == [1, 2]


def test_of_equal_configs_the_best_alone_counts():
    trials = [own(1, 0.5, 0.1), own(2, 0.7, 0.1), own(3, 0.6, 0.3)]
    assert numbers(trials) == [2, 3]


def test_the_best_config_of_each_method_is_among_them():
    methods = ["ctkd", "ctkd", "kd", "ctkd", "none", "kd", "none"]
    trials = [
        a_trial(number, 0.1, 0.9 - 0.1 * number, values={"lr": 0.1 * number, "method": method})
        for number, method in enumerate(methods, 1)
    ]
    assert numbers(trials, 2) == [1, 2, 3, 5]
    assert numbers(trials, 5) == [1, 2, 3, 4, 5]
    # A method none of whose trials finished has none.
    trials[2].status = trials[5].status = STOPPED
    assert numbers(trials, 1) == [1, 5]


def tried(trial, lr, **fields):
    return TriedConfig(trial, "70.00 %", {"lr": lr}, **fields)


def start(**fields):
    return WarmStart("old", "old", settled=True, **fields)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (start(taken=3, there=5), "3 of its 5 trials are in this space, with their results"),
        (
            start(reasons=["the training images"], configs=[tried(1, 0.1), tried(2, 0.2)]),
            "the training images differ; its best 2 configs are tried first; its results are left alone",
        ),
        (
            start(
                reasons=["the training images", "budget.epochs: 9 before, 10 now"],
                configs=[tried(1, 0.1, changed=["pair", "lr"], known=True), tried(2, 0.2, changed=["lr"])],
                left_out=["trial 3 (method kd is not searched here)"],
            ),
            "the training images and budget.epochs differ; its best 2 configs are tried first (2 with another value of "
            "pair, lr; Optuna has 1 of them already); its results are left alone; left out: trial 3 (method kd is not "
            "searched here)",
        ),
        (
            start(reasons=["budget.epochs: 9 before, 10 now"]),
            "budget.epochs differs; it has no config that can be tried here",
        ),
        (
            start(there=4, configs=[tried(1, 0.1)]),
            "none of its 4 results is in this space; its best 1 config is tried first",
        ),
        (start(configs=[tried(1, 0.1)]), "its best 1 config is tried first"),
    ],
    ids=lambda value: "" if isinstance(value, WarmStart) else None,
)
def test_the_user_is_told_in_a_line_what_is_used_of_an_earlier_search(made, said):
    assert start_sentence(made) == f"warm start from 'old': {said}"


def test_a_search_says_what_became_of_the_configs_that_it_began_with():
    trials = [
        a_trial(1, 0.5, stored={"lr": 0.1}),
        a_trial(2, 0.9, stored={"lr": 0.2}),
        a_trial(3, 0.2, 0.3, stored={"lr": 0.3}, status=STOPPED),
        a_trial(4, stored={"lr": 0.4}, status=WAITING),
        # A repetition is no trial of its own.
        a_trial(5, 0.9, stored={"lr": 0.5}, repeats=2),
    ]
    configs = [tried(7, 0.1), tried(8, 0.3), tried(9, 0.4), tried(6, 0.5), tried(5, 0.6, known=True)]
    assert brought([start(reasons=["the training images"], configs=configs)], trials) == [
        "began from 'old': trial 7 there (70.00 %) is trial 1 here, 2 of the 2 that finished (50.00 %); "
        "trial 8 there (70.00 %) is trial 3 here, stopped early after 2 epochs; "
        "trial 9 there (70.00 %) is trial 4 here, waiting; "
        "trial 6 there (70.00 %) has not been tried; "
        "trial 5 there (70.00 %) was known with its result",
        "the best trial, 2, is none of these",
    ]
    assert brought([start(configs=[tried(7, 0.2)])], trials)[1] == "the best trial, 2, is one of these"
    assert brought([start(taken=3, there=5)], trials) == ["began from 'old': with the results of 3 of its 5 trials"]
    assert brought([WarmStart("old", "old")], trials) == []
    assert brought([], trials) == []


def test_each_of_many_trials_is_looked_at_once_for_its_copies():
    asked = []
    trials = [own(number, 0.5, number % 300) for number in range(1, 601)]
    trials.append(own(601, 0.5, 7.0, pair=trials[0].values["pair"]))  # the same number, as a fraction
    trials += [a_trial(602, 0.5, values={"layers": [1, 2]}), a_trial(603, 0.5, values={"layers": (1, 2)})]
    found = without_copies(trials, lambda trial: asked.append(trial.number) or trial)
    assert [trial.number for trial in found] == [*range(1, 301), 602]
    assert asked == [trial.number for trial in trials]
