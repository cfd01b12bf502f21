"""The champion among the versions of a registered student: a worse one never replaces a better one unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctkd_search.metrics import OBJECTIVES

if TYPE_CHECKING:
    from ctkd_search.tracking.store import Mlflow

CHAMPION = "champion"
# Tags of a registered version: what its evidence was measured on, by what it is judged, and what it reached.
FINGERPRINT, VALIDATION, OBJECTIVE = "ctkd.fingerprint", "ctkd.validation_images", "ctkd.objective"
REACHED, CONFIRMED = "ctkd.reached", "ctkd.confirmed"


def replaces(champion: Mapping[str, str], challenger: Mapping[str, str]) -> tuple[bool, str]:
    """Returns whether a version is better than the champion by the evidence that both have, and why, or why not.

    Means over fresh seeds are compared where both have one, else what the trials themselves reached; only on the same
    training and validation images, and by the same objective.

    Args:
        champion: The tags of the version that is the champion.
        challenger: The tags of the other version.
    """
    if not {FINGERPRINT, VALIDATION, OBJECTIVE, REACHED} <= champion.keys():
        return False, "the champion's evidence is not noted"
    if any(champion[key] != challenger.get(key) for key in (FINGERPRINT, VALIDATION)):
        return False, "the champion was judged on other images"
    metric = OBJECTIVES.get(champion[OBJECTIVE])
    if metric is None or champion[OBJECTIVE] != challenger.get(OBJECTIVE):
        return False, f"the champion was judged by {champion[OBJECTIVE]}"
    key = CONFIRMED if CONFIRMED in champion and CONFIRMED in challenger else REACHED
    theirs, ours = float(champion[key]), float(challenger[key])
    of = "mean of fresh seeds" if key == CONFIRMED else "of the trials themselves"
    apart = f"{metric.show(ours)} against {metric.show(theirs)}, {metric.label}, {of}"
    return metric.sign * ours > metric.sign * theirs, apart


def crown(
    store: Mlflow, name: str, version: Any, evidence: Mapping[str, str] | None, *, force: bool, option: str
) -> str:
    """Makes a registered version the champion if there is none yet, if it is better, or if that is forced.

    Args:
        store: MLflow.
        name: The registered model.
        version: The version.
        evidence: Its tags; None for a student whose evidence must not choose, as test images must not.
        force: Whether it becomes the champion in any case.
        option: The option that forces it, for the message.

    Returns:
        What became of it, in a sentence.
    """
    known = store.client.get_registered_model(name).aliases.get(CHAMPION)
    if known is None:
        store.client.set_registered_model_alias(name, CHAMPION, version)
        return f"models:/{name}@{CHAMPION} is this version, the first"
    if str(known) == str(version):
        return f"models:/{name}@{CHAMPION} is this version"
    if force:
        better, why = True, f"as {option} asks"
    elif evidence is None:
        better, why = False, "test images do not choose a champion"
    else:
        better, why = replaces(store.client.get_model_version(name, known).tags, evidence)
    if better:
        store.client.set_registered_model_alias(name, CHAMPION, version)
        return f"models:/{name}@{CHAMPION} is this version now, instead of {known} ({why})"
    return f"models:/{name}@{CHAMPION} stays version {known} ({why}); {option} makes this one the champion"
