"""Optuna's studies, opened as other programs open them."""

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def study_of(root, name):
    """The study of a search in a directory of searches."""
    path = root / name / "study.log"
    assert path.is_file()
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))
