"""Keys of a space that do not go together, declared once for the reader and for the schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctkd_search.space.document import Document, Place
from ctkd_search.space.parameters import TRAINING

# Any value at all.
ANY = object()


@dataclass(frozen=True)
class Conflict:
    """A key that cannot be combined with another one.

    Attributes:
        place: The key that is refused.
        other: The key that it cannot be combined with.
        value: Value of the other one with which it cannot be combined; `ANY` for all of them.
        message: Message for the user.
    """

    place: Place
    other: Place
    value: Any
    message: str


def _where(section: str, key: str, other: Place, value: str) -> Conflict:
    return Conflict((section, key), other, value, f"has no effect where {other[-1]} is {value}; leave it out")


_COMBINED = "cannot be combined with gpus_per_trial; leave one of the two out"
_CHOSEN = "is chosen where trials_per_gpu is auto; leave one of the two out"
_OF_RECORDINGS = ("storage", "map_size", "map_storage", "cache_limit", "trajectory_limit")
CONFLICTS = (
    *(_where("teachers", key, ("teachers", "mode"), "live") for key in _OF_RECORDINGS),
    _where("dataset", "workers", ("dataset", "loading"), "resident"),
    Conflict(
        ("teachers", "expert", "seed"),
        ("teachers", "expert", "checkpoint"),
        ANY,
        "has no effect with checkpoint; leave one of the two out",
    ),
    Conflict(
        ("teachers", "expert", "ensemble"),
        ("teachers", "expert", "checkpoint"),
        ANY,
        "cannot be combined with checkpoint; list the files of weights in ensemble",
    ),
    *(_where("budget", key, ("scheduler",), "none") for key in ("grace_period", "reduction_factor")),
    *(
        Conflict(("budget", key), ("scheduler", "name"), "none", "has no effect where scheduler is none; leave it out")
        for key in ("grace_period", "reduction_factor")
    ),
    _where("budget", "reduction_factor", ("scheduler",), "constant"),
    Conflict(
        ("budget", "reduction_factor"),
        ("scheduler", "name"),
        "constant",
        "has no effect where scheduler is constant; leave it out",
    ),
    Conflict(("resources", "trials_per_gpu"), ("resources", "gpus_per_trial"), ANY, _COMBINED),
    *(
        Conflict(("resources", key), ("resources", "trials_per_gpu"), "auto", _CHOSEN)
        for key in ("concurrent_trials", "cpus_per_trial")
    ),
    *(
        Conflict(("train", item.name), ("search", item.name), ANY, "is under search too; leave one of the two out")
        for item in TRAINING
    ),
)


def note_conflicts(document: Document, conflicts: Sequence[Conflict] = CONFLICTS) -> None:
    """Notes the keys of a document that cannot be combined, unless they are faulty by themselves."""
    faulty = [place for place, _ in document.problems]
    for conflict in conflicts:
        own, others = _value(document.data, conflict.place), _value(document.data, conflict.other)
        if own is None or others is None or conflict.value not in (ANY, others):
            continue
        if not any(place[: len(at)] == at for place in faulty for at in (conflict.place, conflict.other)):
            document.fault(conflict.place, conflict.message)


def _value(data: Any, place: Place) -> Any:
    """Returns the value at a place; None if there is none."""
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    return data
