"""What the tests of the commands share."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

from ctkd_search.config import plain
from ctkd_search.records.store import FINISHED, STOPPED, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.reader import read_space

SPACES = Path(__file__).parents[2] / "spaces"

DIGITS = str(SPACES / "digits.yaml")

AGAIN = "ctkd-search run 'spaces[1]/digits.yaml' --set 'search.step_loss={choice: [kl, mse]}' --name :x: --resume"


@functools.cache
def digits_space():
    return read_space(Path(DIGITS))


def a_search(name, finished=False, accuracies=(0.5, 0.75)):
    """Writes a search of the digits into ./trials, as if it had run."""
    space = digits_space()
    values = {field.name: None for field in dataclasses.fields(SearchRecord) if field.name != "format"}
    values |= {"name": name, "space": plain(dict(space.raw)), "started": "2026-01-02T03:04:05+00:00", "again": AGAIN}
    values |= {"versions": {}, "fingerprint": "f" * 64, "classes": list("0123456789"), "tracking_uri": "sqlite:///x"}
    values |= {"experts": {"wrn-16-2": 0.875}, "finished": finished}
    folder = SearchFolder(Path("trials"), name)
    folder.write(SearchRecord(**values))
    for number, accuracy in enumerate(accuracies, start=1):
        stored = {**space.paper_point(), "alpha": number / 2}
        epochs = [{"epoch": 1, "validation_accuracy": accuracy, "validation_loss": 0.5, "seconds": 1.0}] * number
        chosen = plain(space.effective(space.decode(stored)))
        status = STOPPED if number == 1 else FINISHED
        folder.write_trial(TrialRecord(number, chosen, stored, space.seed, status=status, epochs=epochs))
    return folder


def process(*words, **options):
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "ctkd_search", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
