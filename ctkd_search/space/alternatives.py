"""Reading the named alternatives of a searched augmentation, under ``search.augment``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.names import NAME, NAME_RULE
from ctkd_search.space.augment_reader import is_replaced, read_augment, read_settings
from ctkd_search.space.document import Document, Place
from ctkd_search.space.parameters import AUGMENT

_PLACE: Place = ("search", AUGMENT)
_CHOICE = "choice"
_EXAMPLE = "{choice: {weak: {}, strong: {mixup: 0.2}}}"


def read_augments(
    document: Document, dataset: DatasetConfig | None, ask_images: bool
) -> tuple[Augment, dict[str, Augment]]:
    """Returns the section ``augment``, and the alternatives by name; none if nothing is searched, or it is faulty.

    An alternative has what the section ``augment`` gives, and of the rest the data set's own.

    Args:
        document: The space.
        dataset: The data set; None for one that cannot be read.
        ask_images: Whether the images may be asked how large they are.
    """
    shared, found = _read(document, dataset, ask_images)
    if dataset and not any(augment.resized_crop for augment in found.values() or [shared]):
        for key in ("stored_side", "stored_as"):
            if getattr(dataset, key) is not None:
                document.fault(("dataset", key), "has no effect without augment.resized_crop; leave it out")
    return shared, found


def _read(document: Document, dataset: DatasetConfig | None, ask_images: bool) -> tuple[Augment, dict[str, Augment]]:
    search = document.data.get("search")
    if not isinstance(search, dict) or AUGMENT not in search:
        return read_augment(document, dataset, ask_images), {}
    shared = read_augment(document, dataset, ask_images, shared=True)
    given = _choice(document, search[AUGMENT])
    before = len(document.problems)
    found = {
        name: read_settings(document, (*_PLACE, _CHOICE, name), shared, dataset, ask_images)
        for name in given
        if _is_name(document, name)
    }
    if found and len(document.problems) == before:
        _check_differences(document, found)
        _check_shared(document, list(given.values()))
    return shared, found if len(document.problems) == before else {}


def alternatives(search: Any) -> dict[str, Any]:
    """Returns the settings of the alternatives in a section ``search``, by name; none if it has none."""
    entry = search.get(AUGMENT) if isinstance(search, dict) else None
    given = entry.get(_CHOICE) if isinstance(entry, dict) else None
    return given if isinstance(given, dict) else {}


def entry_of_names(raw: Any, names: Mapping[str, Augment]) -> Any:
    """Returns the entry of the section ``search`` with the names of the alternatives in place of their settings."""
    return {**raw, _CHOICE: list(names)} if isinstance(raw, dict) else raw


def _choice(document: Document, raw: Any) -> dict[Any, Any]:
    """Returns the settings of each alternative by its name; none if they cannot be read, which is noted."""
    given = alternatives({AUGMENT: raw})
    if not given:
        message = (
            f"must be named alternatives, as in {_EXAMPLE}, because teachers are trained and recorded anew for each "
            f"augmentation; one that is the same for every trial stands in the section {AUGMENT}; but got {raw!r}"
        )
        document.fault((*_PLACE, _CHOICE) if isinstance(raw, dict) and _CHOICE in raw else _PLACE, message)
        return {}
    if len(given) < 2:
        document.fault(
            (*_PLACE, _CHOICE),
            f"must have at least 2 alternatives; write the settings in the section {AUGMENT} for one that is the same "
            f"for every trial, but got {given!r}",
        )
        return {}
    return given


def _is_name(document: Document, name: Any) -> bool:
    """Returns whether a name can be one of an alternative; notes if not."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return True
    if isinstance(name, str):
        document.fault((*_PLACE, _CHOICE, name), f"must be named with {NAME_RULE}, but got {name!r}")
    else:  # the file has other letters there, as "on" for True
        document.fault((*_PLACE, _CHOICE), f"must have text as names, but got {name!r}; put it in quotes")
    return False


def _check_differences(document: Document, found: Mapping[str, Augment]) -> None:
    """Notes alternatives that are the same augmentation, which would be recorded once and searched twice."""
    first: dict[Augment, str] = {}
    for name, augment in found.items():
        if augment in first:
            document.fault((*_PLACE, _CHOICE, name), f"is the same augmentation as {first[augment]}; leave one out")
        first.setdefault(augment, name)


def _check_shared(document: Document, alternatives: list[Any]) -> None:
    """Notes settings of the section ``augment`` that every alternative replaces; a stored one may be complete."""
    for key in () if document.kept else document.data.get(AUGMENT) or ():
        if all(is_replaced(key, settings or {}) for settings in alternatives):
            message = f"has no effect, because every alternative under search.{AUGMENT} replaces it; leave it out"
            document.fault((AUGMENT, key), message)
