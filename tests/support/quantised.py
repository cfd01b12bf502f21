"""A small search whose student has really learned the digits, so that int8 has something to lose."""

from __future__ import annotations

from ctkd_search.records.states import read_state, state_path, write_state
from support.small_search import SmallSearch

# Many images to learn from, and few epochs.
SHARES = {"name": "digits", "validation": 0.2}


def a_trained_search(root, pair="wrn-10-1/resnet8", **changes):
    """Returns a search of one trial, whose record has all that an export needs."""
    sections = {
        "dataset": SHARES,
        "search": {"pair": pair, "beta": {"float": [1, 100], "log": True}},
        "train": {"batch_size": 32, "lr": 0.05, "schedule": "linear"},
        **changes,
    }
    search = SmallSearch(root, **sections)
    splits, record = search.splits, search.record
    record.geometry, record.mean, record.std = list(splits.geometry), list(splits.mean), list(splits.std)
    search.folder.write(record)
    search.explore()
    return search


def spoil(folder):
    """Gives a student a channel of huge activations that nothing reads: float32 stays as it is, int8 loses the rest."""
    path = state_path(folder.states, 1)
    state = read_state(path)
    state["student"]["stages.0.0.norm1.bias"][0] = 1e5
    state["student"]["stages.0.0.conv2.weight"][:, 0] = 0
    write_state(path, state)
