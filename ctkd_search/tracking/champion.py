"""The champion among the versions of a registered student, which only a better version or an option replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctkd_search.metrics import OBJECTIVES

if TYPE_CHECKING:
    from ctkd_search.tracking.store import Mlflow

CHAMPION = "champion"
# Tags of a registered version: the images that it was measured on, its objective, and its results.
FINGERPRINT, VALIDATION, OBJECTIVE = "ctkd.fingerprint", "ctkd.validation_images", "ctkd.objective"
REACHED, CONFIRMED = "ctkd.reached", "ctkd.confirmed"


def replaces(champion: Mapping[str, str], challenger: Mapping[str, str]) -> tuple[bool, str]:
    """Returns whether a version is better than the champion by the evidence that both have, and the reason.

    Means over fresh seeds are compared where both versions have one, otherwise the trials' own results; and only if
    both were measured on the same training and validation images, with the same objective.

    Args:
        champion: The tags of the version that is the champion.
        challenger: The tags of the other version.
    """
    if not {FINGERPRINT, VALIDATION, OBJECTIVE, REACHED} <= champion.keys():
        return False, "the champion has no evidence to compare with"
    if any(champion[key] != challenger.get(key) for key in (FINGERPRINT, VALIDATION)):
        return False, "the champion was measured on other images"
    metric = OBJECTIVES.get(champion[OBJECTIVE])
    if metric is None or champion[OBJECTIVE] != challenger.get(OBJECTIVE):
        return False, f"the champion was chosen by {champion[OBJECTIVE]}"
    key = CONFIRMED if CONFIRMED in champion and CONFIRMED in challenger else REACHED
    theirs, ours = float(champion[key]), float(challenger[key])
    of = "mean of fresh seeds" if key == CONFIRMED else "of the trials themselves"
    apart = f"{metric.show(ours)} against {metric.show(theirs)}, {metric.label}, {of}"
    return metric.sign * ours > metric.sign * theirs, apart


def update_champion(
    store: Mlflow, name: str, version: Any, evidence: Mapping[str, str] | None, *, force: bool, option: str
) -> str:
    """Makes a registered version the champion if there is none yet, if it is better, or if it is forced.

    Args:
        store: MLflow.
        name: The registered model.
        version: The version.
        evidence: Its tags; None for a student whose evidence must not decide, because it comes from test images.
        force: Whether it becomes the champion in any case.
        option: The option that forces it, for the message.

    Returns:
        A sentence about the outcome.
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
        better, why = False, "results on test images do not decide"
    else:
        better, why = replaces(store.client.get_model_version(name, known).tags, evidence)
    if better:
        store.client.set_registered_model_alias(name, CHAMPION, version)
        return f"models:/{name}@{CHAMPION} is this version now, instead of {known} ({why})"
    return f"models:/{name}@{CHAMPION} is still version {known} ({why}); {option} makes this one the champion"
