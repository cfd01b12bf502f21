"""Searches as they stand on disk, really trained, but one trial after the other and without Ray: in seconds."""

from __future__ import annotations

import time

import torch

from ctkd_search import data
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.records.states import state_path, write_state
from ctkd_search.records.store import BASELINE, FINISHED, RUNNING, STOPPED, TEACHERS
from ctkd_search.records.trial_configs import config_of
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.definition import shown_values
from ctkd_search.versions import versions
from support.factories import a_search, a_space, a_trial

CPU = torch.device("cpu")
EPOCHS, RUNG = 4, 2
SPACE = {
    "name": "small",
    "dataset": {"name": "digits", "validation": 0.8},
    "augment": {"crop": 1, "flip": False},
    "budget": {"trials": 3, "epochs": EPOCHS, "grace_period": RUNG, "reduction_factor": 2},
    "baselines": ["student-alone", "at"],
    "confirm": {"best": 1, "seeds": 2},
    "teachers": {"recipe": {"batch_size": 32, "lr": 0.05}},
    "train": {"batch_size": 32},
    "search": {
        "pair": "wrn-10-1/resnet8",
        "step_loss": {"choice": ["kl", "mse"]},
        "attention_layers": {"subsets": [1, 3]},
        "beta": {"float": [1, 100], "log": True},
        "lr": {"float": [0.01, 0.2], "log": True},
    },
}


class SmallSearch:
    """A search in a directory, to which trials are added.

    Args:
        root: The directory of all searches.
        changes: Sections of the space that are others than in `SPACE`; None for those that it does without.
    """

    def __init__(self, root, **changes):
        self.root = root
        self.space = a_space(**{**SPACE, **changes})
        self.splits = data.load_train(self.space.dataset)
        self.folder = a_search(
            root,
            space=self.space,
            versions=versions(),
            fingerprint=self.splits.fingerprint,
            classes=list(self.splits.classes),
            finished=True,
        )
        self.record = self.folder.search()
        self.cache = TeacherCache(root / TEACHERS, self.space.name)
        self.trials = []

    def explore(self, epochs=EPOCHS, **stored):
        """Trains a trial with some of the searched values, the paper's otherwise; one of fewer epochs was stopped."""
        stored = {**self.space.paper_point(), **stored}
        return self._train(a_trial(self._number(), status=RUNNING, space=self.space, stored=stored), epochs)

    def baseline(self, name):
        """Trains a baseline."""
        values = shown_values(baseline_config(self.space, name, self.space.pairs()[0]))
        kind = {"kind": BASELINE, "baseline": name}
        return self._train(a_trial(self._number(), status=RUNNING, values=values, seed=self.space.seed, **kind), EPOCHS)

    def confirm(self, trial, seed):
        """Trains a trial's config with another seed."""
        known = {"values": trial.values, "stored": trial.stored, "kind": trial.kind, "baseline": trial.baseline}
        again = a_trial(self._number(), status=RUNNING, seed=seed, repeats=trial.number, **known)
        return self._train(again, EPOCHS)

    def _number(self):
        return len(self.trials) + 1

    def _train(self, trial, epochs):
        config = config_of(self.space, trial)
        needs = make_method(config.method).needs
        for run, storage in teacher_runs(config, self.splits.fingerprint, CPU, needs, len(self.splits.train)).items():
            for _ in prepare(run, self.splits, self.cache, CPU, storage):
                pass
            self.cache.note_use(run.entry)
        trainer = make_trainer(config, self.splits, self.cache, CPU)
        for _ in range(epochs):
            trial.epochs.append({**trainer.run_epoch(), "at": int(time.time() * 1000)})
        trial.status = FINISHED if epochs == self.space.budget.epochs else STOPPED
        write_state(state_path(self.folder.states, trial.number), {**trainer.state_dict(), "history": trial.epochs})
        self.folder.write_trial(trial)
        self.trials.append(trial)
        return trial
