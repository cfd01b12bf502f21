"""What the tests of the commands share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ctkd_search.records.store import FINISHED, STOPPED
from support.factories import a_search, a_trial, digits_space

AGAIN = "ctkd-search run 'spaces[1]/digits.yaml' --set 'search.step_loss={choice: [kl, mse]}' --name :x: --resume"


def digits_search(name, finished=False, accuracies=(0.5, 0.75)):
    """Writes a search of the digits into ./trials, as if it had run."""
    space = digits_space()
    trials = [
        a_trial(
            number,
            *[accuracy] * number,
            status=STOPPED if number == 1 else FINISHED,
            space=space,
            stored={**space.paper_point(), "alpha": number / 2},
            measured={"validation_loss": 0.5, "seconds": 1.0},
        )
        for number, accuracy in enumerate(accuracies, start=1)
    ]
    experts = {"wrn-16-2": 0.875}
    return a_search(Path("trials"), trials, space, name=name, finished=finished, again=AGAIN, experts=experts)


def process(*words, **options):
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "ctkd_search", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
