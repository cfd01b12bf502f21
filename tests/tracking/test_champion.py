"""The champion of a registered model: never replaced by a worse student unasked."""

import itertools

import pytest
from support.here import fresh_store

from ctkd_search.metrics import OBJECTIVES
from ctkd_search.tracking.champion import (
    CONFIRMED,
    FINGERPRINT,
    OBJECTIVE,
    REACHED,
    VALIDATION,
    replaces,
    update_champion,
)
from ctkd_search.tracking.store import Mlflow


def evidence(reached, confirmed=None, objective="validation_accuracy", fingerprint="f", images=216):
    """The tags of a version."""
    tags = {FINGERPRINT: fingerprint, VALIDATION: str(images), OBJECTIVE: objective, REACHED: repr(reached)}
    return tags | ({} if confirmed is None else {CONFIRMED: repr(confirmed)})


@pytest.mark.parametrize(
    ("champion", "challenger", "better", "why"),
    [
        (evidence(0.8), evidence(0.9), True, "90.00 % against 80.00 %"),
        (evidence(0.9), evidence(0.8), False, "80.00 % against 90.00 %"),
        (evidence(0.9), evidence(0.9), False, "90.00 % against 90.00 %"),
        # Means of fresh seeds count more than the trials' own luck, where both have them.
        (evidence(0.8, 0.85), evidence(0.9, 0.84), False, "84.00 % against 85.00 %, accuracy, mean of fresh seeds"),
        (evidence(0.8, 0.85), evidence(0.9), True, "90.00 % against 80.00 %, accuracy, of the trials themselves"),
        # Of a loss, less is better.
        (evidence(0.8, objective="validation_loss"), evidence(0.9, objective="validation_loss"), False, "against"),
        (evidence(0.8, objective="validation_loss"), evidence(0.7, objective="validation_loss"), True, "against"),
        (evidence(0.8), evidence(0.1, objective="validation_loss"), False, "was chosen by validation_accuracy"),
        (evidence(0.1), evidence(0.9, fingerprint="g"), False, "was measured on other images"),
        (evidence(0.1), evidence(0.9, images=100), False, "was measured on other images"),
        ({}, evidence(0.9), False, "has no evidence to compare with"),
        ({"ctkd.search": "of an earlier version"}, evidence(0.9), False, "has no evidence to compare with"),
        (evidence(0.9), evidence(float("nan")), False, "against"),
    ],
)
def test_only_a_student_that_is_better_by_the_same_evidence_replaces_it(champion, challenger, better, why):
    found, said = replaces(champion, challenger)
    assert found is better
    assert why in said


@pytest.mark.parametrize(("objective", "pair"), itertools.product(OBJECTIVES, [(0.3, 0.4), (0.4, 0.3)]))
def test_a_champion_is_replaced_in_the_direction_of_its_objective(objective, pair):
    old, new = (evidence(value, objective=objective) for value in pair)
    assert replaces(old, new)[0] is (OBJECTIVES[objective].sign * (pair[1] - pair[0]) > 0)


def test_what_becomes_of_the_champion_is_reported(tmp_path):
    fresh_store(tmp_path / "mlflow.db")
    store = Mlflow(f"sqlite:///{tmp_path}/mlflow.db", "x", tmp_path / "artifacts")
    client = store.client
    client.create_registered_model("ctkd-y")

    def register(tags, force=False):
        version = client.create_model_version("ctkd-y", source=str(tmp_path), tags=tags).version
        said = update_champion(store, "ctkd-y", version, tags, force=force, option="--champion")
        return str(client.get_model_version_by_alias("ctkd-y", "champion").version), said

    assert register(evidence(0.8)) == ("1", "models:/ctkd-y@champion is this version, the first")
    assert register(evidence(0.7)) == (
        "1",
        "models:/ctkd-y@champion is still version 1 (70.00 % against 80.00 %, accuracy, of the trials themselves); "
        "--champion makes this one the champion",
    )
    assert register(evidence(0.9))[0] == "3"
    current, said = register(evidence(0.1), force=True)
    assert current == "4"
    assert said == "models:/ctkd-y@champion is this version now, instead of 3 (as --champion asks)"
    # What somebody else has registered, without evidence, and what was tested alone.
    client.set_registered_model_alias("ctkd-y", "champion", client.create_model_version("ctkd-y", "file:/x").version)
    assert register(evidence(1.0))[0] == "5"
    assert update_champion(store, "ctkd-y", "1", None, force=False, option="--champion") == (
        "models:/ctkd-y@champion is still version 5 (results on test images do not decide); "
        "--champion makes this one the champion"
    )
