"""The section ``search`` of a space where several methods stand in it: each with what it varies under its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctkd_search.config import Recipe
from ctkd_search.distill.methods.base import methods
from ctkd_search.space.distributions import Constant, Entry, Report
from ctkd_search.space.document import Document, Place, unknown
from ctkd_search.space.parameters import CTKD, METHOD, key_of, owner_of, parameters


def place_of(key: str) -> Place:
    """Where a parameter stands in a space."""
    return ("search", *key.split("."))


def chosen_among(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods that the section names; all that there are if it names one that there is not."""
    given = raw.get(METHOD.name, CTKD)
    options = given.get("choice") if isinstance(given, dict) else [given]
    if not isinstance(options, list) or not options or any(name not in METHOD.choices for name in options):
        return METHOD.choices
    return tuple(dict.fromkeys(options))


def nested_methods() -> list[str]:
    """The methods whose parameters stand under their name."""
    return [name for name, method in methods().items() if name != CTKD and method.parameters]


def flattened(
    raw: Mapping[str, Any], chosen: Sequence[str], known: Mapping[str, Any], document: Document
) -> dict[str, Any]:
    """What the section says of each parameter, by its key; what does not belong there is noted.

    Args:
        raw: The section.
        chosen: The methods that trials may have.
        known: The parameters that there are with those methods.
        document: Where problems are noted.
    """
    named = [name for name in nested_methods() if name in chosen]
    allowed = [*parameters(Recipe()), *nested_methods()]
    given: dict[str, Any] = {}
    for key, value in raw.items():
        if key in named:
            given |= dict(_inside(str(key), value, document))
        elif key in known and "." not in str(key):
            given[key] = value
        else:
            document.fault(("search", str(key)), _foreign(str(key), chosen) or unknown(str(key), allowed))
    return given


def _inside(name: str, section: Any, document: Document) -> Iterator[tuple[str, Any]]:
    """What stands under a method's name."""
    own = [item.name for item in methods()[name].parameters]
    if not isinstance(section, dict) or not section:
        message = f"must be a mapping of what {name} varies ({', '.join(own)}), but got {section!r}"
        document.fault(("search", name), message)
        return
    document.unknown_keys(("search", name), section, own)
    yield from ((key_of(name, key), value) for key, value in section.items() if key in own)


def _foreign(key: str, chosen: Sequence[str]) -> str | None:
    """What to say of a key that belongs to a method and stands in the wrong place; None if it belongs to none."""
    if key == CTKD:
        return "is not written: what ctkd varies stands under search itself"
    if key in chosen:
        return f"has no effect: {key} varies nothing; leave it out"
    if key in methods():
        return f"is not among the methods ({', '.join(chosen)}); add it to method, or leave it out"
    nested = [name for name in chosen if any(item.name == key for item in methods()[name].parameters)]
    instead = f"write {nested[0]}: {{{key}: ...}}" if nested else "leave it out"
    if owner_of(key) == CTKD:
        return f"belongs to ctkd, which is not among the methods ({', '.join(chosen)}); {instead}"
    return f"belongs to {nested[0]}; {instead}" if nested else None


def settled_conditions(
    key: str, entry: Entry, chosen: Sequence[str], known: Mapping[str, Any], fault: Report
) -> Entry | None:
    """What is said of a parameter, with the condition that its method is the trial's.

    A condition on another parameter of the same method may name it as it stands beside it.

    Args:
        key: The parameter.
        entry: What is said of it.
        chosen: The methods that trials may have.
        known: The parameters that there are with those methods.
        fault: Called if the condition is one that cannot be.

    Returns:
        None if there was a fault.
    """
    if isinstance(entry, Constant):
        return entry
    owner = owner_of(key)
    if METHOD.name in entry.when and (key == METHOD.name or owner):
        which = f"is always {owner} here" if owner else "is not chosen by a condition: each gets as many trials"
        fault(("when", METHOD.name), f"{which}; leave it out")
        return None
    if key == METHOD.name and entry.when:
        fault(("when",), "has no place here, because each method gets as many trials; leave it out")
        return None
    if owner is None:
        return entry
    beside = {METHOD.name: (owner,)} if len(chosen) > 1 else {}
    own = {
        name if key_of(owner, name) not in known else key_of(owner, name): wanted for name, wanted in entry.when.items()
    }
    return dataclasses.replace(entry, when={**beside, **own})
