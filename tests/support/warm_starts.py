"""Searches that begin from earlier ones: these, and what Optuna and the record have of them."""

from __future__ import annotations

from optuna.trial import TrialState

from ctkd_search.records.warm_start import asked_for
from ctkd_search.search.warm_start import begin_study, compared, read_sources
from ctkd_search.space.teacher_mode import with_mode
from support.factories import a_search, a_search_record, a_space, a_trial
from support.simulation import study_in


def earlier_search(root, name="old", space=None, trials=None, **fields):
    """An earlier search on disk, of four trials that finished and differ in their learning rate."""
    space = space or a_space(sampler="random")
    point = space.paper_point()
    made = [
        a_trial(number, 0.5, accuracy, space=space, stored={**point, "lr": lr})
        for number, (lr, accuracy) in enumerate([(0.02, 0.6), (0.03, 0.9), (0.04, 0.8), (0.05, 0.7)], start=1)
    ]
    about = {"geometry": [10, 1, 8], **fields}
    return a_search(root, made if trials is None else trials, space, name=name, **about)


def begun(root, names, space, path=None, fingerprint="f" * 64, own="new"):
    """A study that has begun from earlier searches; returns it, what the record notes, and the lines said."""
    record = a_search_record(space, name=own, fingerprint=fingerprint, warm_start=asked_for(list(names)))
    study, said = study_in(path, space), []
    space, _ = with_mode(space, images=100, classes=10)
    begin_study(study, space, record, compared(read_sources(names, root, own), space, fingerprint), said.append)
    return study, record.warm_start, said


def enqueued(study):
    """The values of the trials that wait, in order."""
    waiting = study.study.get_trials(states=(TrialState.WAITING,))
    return [trial.system_attrs["fixed_params"] for trial in waiting]
