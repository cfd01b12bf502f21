"""The section ``search`` of a space with several methods, each with its parameters under its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctkd_search.config import Augment
from ctkd_search.distill.methods.base import method_class, methods
from ctkd_search.plugins import is_reference
from ctkd_search.recipe import Recipe
from ctkd_search.space.augment_reader import ONLY_ALTERNATIVES
from ctkd_search.space.distributions import Constant, Entry, Report
from ctkd_search.space.document import Document, Place, unknown
from ctkd_search.space.parameters import AUGMENT, CTKD, METHOD, key_of, owner_of, parameters

_AUGMENTS = tuple(item.name for item in dataclasses.fields(Augment))


def place_of(key: str) -> Place:
    """Returns the place of a parameter in a space."""
    owner, dot, name = key.rpartition(".")
    return ("search", owner, name) if dot else ("search", name)


def chosen_among(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the methods that the section names; all methods if it names an unknown one."""
    given = raw.get(METHOD.name, CTKD)
    options = given.get("choice") if isinstance(given, dict) else [given]
    if not isinstance(options, list) or not options or any(METHOD.fault(name) for name in options):
        return METHOD.choices
    return tuple(dict.fromkeys(options))


def nested_methods() -> list[str]:
    """Returns the methods of this package whose parameters are under their name."""
    return [name for name, method in methods().items() if name != CTKD and method.parameters]


def flattened(
    raw: Mapping[str, Any], chosen: Sequence[str], known: Mapping[str, Any], document: Document
) -> dict[str, Any]:
    """Returns the entries of the section by the keys of the parameters; notes keys that do not belong there.

    Args:
        raw: The section.
        chosen: The methods that trials may have.
        known: The parameters of those methods.
        document: The document, which notes problems.
    """
    named = [name for name in chosen if name != CTKD and method_class(name).parameters]
    allowed = [*parameters(Recipe()), AUGMENT, *dict.fromkeys([*nested_methods(), *named])]
    given: dict[str, Any] = {}
    for key, value in raw.items():
        if key in named:
            given |= dict(_inside(str(key), value, document))
        elif key in known and "." not in str(key):
            given[key] = value
        elif key in _AUGMENTS:
            document.fault(("search", str(key)), f"belongs to augment; it {ONLY_ALTERNATIVES}")
        elif key != AUGMENT:
            document.fault(("search", str(key)), _foreign(str(key), chosen) or unknown(str(key), allowed))
    return given


def _inside(name: str, section: Any, document: Document) -> Iterator[tuple[str, Any]]:
    """Yields the entries under a method's name."""
    own = [item.name for item in method_class(name).parameters]
    if not isinstance(section, dict) or not section:
        message = f"must be a mapping of the parameters of {name} ({', '.join(own)}), but got {section!r}"
        document.fault(("search", name), message)
        return
    document.unknown_keys(("search", name), section, own)
    yield from ((key_of(name, key), value) for key, value in section.items() if key in own)


def _foreign(key: str, chosen: Sequence[str]) -> str | None:
    """Returns the message for a key of a method in the wrong place; None if it belongs to no method."""
    if key == CTKD:
        return "is not a key: the parameters of ctkd are under search itself"
    if key in chosen:
        return f"has no effect: {key} has no parameters; leave it out"
    if key in methods() or is_reference(key):
        return f"is not among the methods ({', '.join(chosen)}); add it to method, or leave it out"
    nested = [name for name in chosen if any(item.name == key for item in method_class(name).parameters)]
    instead = f"write {nested[0]}: {{{key}: ...}}" if nested else "leave it out"
    if owner_of(key) == CTKD:
        return f"belongs to ctkd, which is not among the methods ({', '.join(chosen)}); {instead}"
    return f"belongs to {nested[0]}; {instead}" if nested else None


def settled_conditions(
    key: str, entry: Entry, chosen: Sequence[str], known: Mapping[str, Any], fault: Report
) -> Entry | None:
    """Returns the entry of a parameter, with the condition that its method is the trial's.

    A condition on another parameter of the same method may leave out the method's prefix.

    Args:
        key: The parameter.
        entry: Its entry.
        chosen: The methods that trials may have.
        known: The parameters of those methods.
        fault: Called with the fault of an impossible condition.

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
    foreign = [name for name in own if owner_of(name) not in (None, owner)]
    for name in foreign:
        fault(("when", name), f"belongs to {owner_of(name)}, and no trial of {owner} has it; leave it out")
    return None if foreign else dataclasses.replace(entry, when={**beside, **own})
