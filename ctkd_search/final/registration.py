"""Registration of a final training's student in MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.analysis.final_lines import Line
from ctkd_search.data import Splits
from ctkd_search.final.plan import FinalPlan
from ctkd_search.final.results import final_evidence
from ctkd_search.metrics import ECE
from ctkd_search.names import registered_name
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.document import dump
from ctkd_search.students.card import UNCALIBRATED
from ctkd_search.students.registration import OPTION, Registered, Registration, register_student, version_of
from ctkd_search.tracking.champion import update_champion
from ctkd_search.tracking.tracker import Tracker


def register_final(
    plan: FinalPlan,
    folder: SearchFolder,
    record: SearchRecord,
    found: Sequence[Line],
    chosen: TrialRecord,
    splits: Splits,
    tracker: Tracker,
    champion: bool,
) -> Registered:
    """Logs the student of a final training as a model of its run, and registers it with its card.

    It becomes the champion only if there is none, or if `champion` is true: results on the test images must not decide
    which student is used.
    """
    assert chosen.test is not None  # it was trained to the end, and tested
    name = registered_name(plan.name, final=True)
    uri = register_student(
        Registration(
            name=name,
            origin=f"It is the first seed's student of a final training begun {record.started}, on training and "
            "validation images.",
            images={"training and validation": len(splits.train), "test": chosen.test["images"]},
            evidence=final_evidence(plan, found, chosen),
            limits=[
                "All is from one data set and its one test split.",
                *([] if ECE.name in chosen.test else [UNCALIBRATED]),
            ],
            config=dump(plan.content()),
            tags={
                "ctkd.final": record.name,
                "ctkd.test_accuracy": f"{chosen.test['accuracy']:.6f}",
                f"ctkd.test_{chosen.metric.name}": f"{chosen.test[chosen.metric.name]:.6f}",
            },
        ),
        folder,
        chosen,
        splits,
        tracker,
        plan.config.dataset.name,
    )
    return Registered(uri, update_champion(tracker.mlflow, name, version_of(uri), None, force=champion, option=OPTION))
