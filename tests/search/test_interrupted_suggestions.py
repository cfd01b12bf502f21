"""Suggestions of a search that is interrupted between them, or within one."""

from __future__ import annotations

import itertools
import math

import optuna
import pytest
from optuna.storages import JournalStorage
from support.factories import a_space
from support.simulation import Killed
from support.suggestions import SAMPLERS, drawn, next_trial, opened, towards


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_suggested_depends_on_the_seed_and_the_results_and_not_on_interruptions(tmp_path, sampler):
    count = 6 if sampler == "gp" else 10
    space = a_space(sampler=SAMPLERS[sampler], seed=3)
    undisturbed = drawn(space, None, towards, count)
    assert drawn(space, tmp_path / "study.log", towards, count, reopen={2, 3, 5, 9}) == undisturbed
    assert drawn(a_space(sampler=SAMPLERS[sampler], seed=4), None, towards, count)[1:] != undisturbed[1:]
    away = drawn(space, None, lambda stored: -towards(stored), count)
    assert (away != undisturbed) is (sampler in ("tpe", "gp", "cmaes"))


class Crashing(optuna.Trial):
    """A trial of a process that ends after two values."""

    left = 2

    def _suggest(self, name, distribution):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super()._suggest(name, distribution)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("moment", ["before its values", "among its values", "after its values"])
def test_a_trial_that_was_drawn_just_before_a_crash_is_taken_first(tmp_path, sampler, moment):
    space, path = a_space(sampler=SAMPLERS[sampler]), tmp_path / "study.log"
    count = 5
    undisturbed = drawn(space, None, towards, count)
    study, records = opened(path, space), []
    for _ in range(count - 1):
        next_trial(study, records, towards)
    lost = study.study.ask()
    if moment == "among its values":
        with pytest.raises(Killed):
            space.suggest(Crashing(study.study, lost._trial_id))
    elif moment == "after its values":
        space.suggest(lost)
    again = opened(path, space, records)
    asked, stored, _ = again.ask(count, [record.optuna for record in records])
    assert asked == lost.number
    assert again.study.trials[-1].user_attrs["trial"] == len(again.study.trials) == count
    assert space.encode(space.effective(space.decode(stored))) == stored
    # In the middle of a suggestion, this one has noted in the study that it was begun.
    if moment != "among its values" or sampler != "gp":
        assert stored == undisturbed[-1]


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
@pytest.mark.parametrize("interrupted", [1, 2, 4])
def test_a_suggestion_that_is_interrupted_at_any_of_its_writes_is_taken_up_with_the_same_values(
    tmp_path, monkeypatch, sampler, interrupted
):
    space, count = a_space(sampler=SAMPLERS[sampler]), 5
    undisturbed = drawn(space, None, towards, count)
    write, left = JournalStorage._write_log, [math.inf]

    def burning(storage, *log):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        write(storage, *log)

    monkeypatch.setattr(JournalStorage, "_write_log", burning)
    for moment in itertools.count():
        path = tmp_path / f"{moment}.log"
        study, records = opened(path, space), []
        for _ in range(interrupted - 1):
            next_trial(study, records, towards)
        left[0] = moment
        try:
            study.ask(interrupted, [record.optuna for record in records])
        except Killed:
            left[0] = math.inf
        else:
            break
        study = opened(path, space, records)
        while len(records) < count:
            next_trial(study, records, towards)
        assert [record.stored for record in records] == undisturbed
    assert moment > len(undisturbed[interrupted - 1])
