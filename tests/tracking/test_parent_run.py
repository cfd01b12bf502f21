"""The conclusion of a search's parent run in MLflow."""

import math
from types import SimpleNamespace

import pytest
from support.factories import a_search_record, a_space, a_trial

from ctkd_search.records.store import BASELINE, DIVERGED, INTERRUPTED
from ctkd_search.tracking.parent_run import conclude_parent


class Runs(SimpleNamespace):
    """Stands in for the tracker, and keeps what the parent run gets."""

    parent_id = "parent"

    def __init__(self):
        super().__init__(finished=None)
        self.mlflow = SimpleNamespace(
            client=SimpleNamespace(search_runs=lambda *given: []), experiment_id="1", log=lambda *given, **more: None
        )

    def log_text(self, text, name):
        pass

    def finish(self, status, metrics, tags):
        self.finished = status, metrics, tags


def test_the_parent_has_the_differences_to_the_baselines_that_have_finished_alone():
    winner = a_trial(1, 0.5, 0.9, measured={"seconds": 1.0})
    baselines = [
        a_trial(2 + place, *accuracies, kind=BASELINE, baseline=name, measured={"seconds": 1.0}, **more)
        for place, (name, accuracies, more) in enumerate(
            [
                ("student-alone", (0.4, 0.7), {}),
                ("kd", (0.3,), {"status": INTERRUPTED}),
                ("at", (0.3, math.nan), {"status": DIVERGED}),
            ]
        )
    ]
    runs, space = Runs(), a_space()
    conclude_parent(runs, space, a_search_record(space), [winner, *baselines], winner, "models:/m/1")
    status, metrics, tags = runs.finished
    assert status == "FINISHED"
    ahead = {name: value for name, value in metrics.items() if name.startswith("ahead_of_")}
    assert ahead == {"ahead_of_student-alone": pytest.approx(0.2)}
    assert "nan" not in tags["mlflow.note.content"]
