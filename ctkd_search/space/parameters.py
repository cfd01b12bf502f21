"""Parameters that a space may search, and their keys: pair, method and its parameters, the student's recipe."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import Method, Parameter, make_method, method_class, methods
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.errors import UserError
from ctkd_search.fields import Range
from ctkd_search.geometry import Geometry
from ctkd_search.plugins import is_reference
from ctkd_search.recipe import CLASS_WEIGHTS, CONSTANT, EFFECTIVE, OPTIMIZERS, SCHEDULES, WITH_MOMENTUM, Recipe
from ctkd_search.space.defaults import default_of, depends_on_pair
from ctkd_search.space.distributions import Constant, Entry, Number

CTKD = "ctkd"
PAIR = Parameter(
    "pair",
    "wrn-40-1/wrn-16-1",
    "networks of teacher and student, TEACHER/STUDENT or TEACHER -> STUDENT",
    kind="pair",
)


@dataclasses.dataclass(frozen=True)
class _MethodParameter(Parameter):
    """The parameter that chooses among methods, the user's own too."""

    def fault(self, value: Any) -> str | None:
        """Returns what is wrong with a value, or None."""
        if not isinstance(value, str) or not is_reference(value):
            return super().fault(value)
        try:
            method_class(value)
        except UserError as error:
            return f"cannot be used: {error}"
        return None


METHOD = _MethodParameter(
    "method",
    CTKD,
    "how the student is taught; of several methods, each gets as many trials",
    kind="choice",
    choices=tuple(methods()),
    note="the parameters of a method are under its name, as in `kd: {temperature: 4}`; CTKD's have no prefix; "
    "a method of your own is named as `my_code:MyMethod`",
)
AUGMENT = "augment"
AUGMENT_HELP = "augmentation, one of named alternatives; each has teachers of its own"
# Most whole numbers of a range that are tried one by one; no method's needs depend on more.
_MOST_LISTED = 1000
# Parameters of the student's recipe that may be searched; their defaults are the space's `train` section.
TRAINING = (
    Parameter("optimizer", None, "optimizer of the student", kind="choice", choices=OPTIMIZERS),
    Parameter(
        "lr",
        None,
        "peak of the student's learning rate",
        "lr=",
        range=Range(0, open_low=True),
        note="0.1 is the default where a part of the recipe's course is named, as a schedule or a warm-up",
    ),
    Parameter(
        "momentum",
        None,
        "momentum of the student's optimizer",
        "m=",
        range=Range(0, 1, open_high=True),
        only_with={"optimizer": WITH_MOMENTUM},
    ),
    Parameter("weight_decay", None, "weight decay of the student", "wd=", range=Range(0)),
    Parameter("clip", None, "largest norm of a step's gradient; 0 for none", "clip=", range=Range(0)),
    Parameter(
        "label_smoothing",
        None,
        "share of each of the student's labels that is spread over all classes",
        "smooth=",
        range=Range(0, 1, open_high=True),
    ),
    Parameter(
        "class_weights",
        None,
        "weights of the classes in the student's cross-entropy",
        "weights=",
        kind="choice",
        choices=CLASS_WEIGHTS,
        note="a list with one weight for each class is given in the section `train`",
    ),
    Parameter(
        "effective_beta",
        None,
        "beta of the effective number of a class's images",
        "eff=",
        range=Range(0, 1, open_low=True, open_high=True),
        only_with={"class_weights": (EFFECTIVE,)},
    ),
    Parameter("batch_size", None, "images in a step of the student", "n=", kind="int", range=Range(1)),
    Parameter("schedule", None, "course of the learning rate after the warm-up", kind="choice", choices=SCHEDULES),
    Parameter("warmup", None, "epochs in which the rate grows to its peak", "warmup=", range=Range(0)),
    Parameter(
        "cooldown",
        None,
        "share of the epochs in which the rate falls at the end",
        "cooldown=",
        range=Range(0, 1, open_low=True),
        only_with={"schedule": (CONSTANT,)},
    ),
    Parameter(
        "average",
        None,
        "epochs that an average of the weights looks back on",
        "average=",
        range=Range(0),
    ),
)


def key_of(method: str, parameter: str) -> str:
    """Returns the key of a method's parameter, as ``kd.temperature``; CTKD's parameters have no prefix."""
    return parameter if method == CTKD else f"{method}.{parameter}"


def owner_of(key: str) -> str | None:
    """Returns the method that a parameter belongs to; None for those of the pair and of the recipe."""
    name, dot, _ = key.rpartition(".")
    if dot:
        return name
    return CTKD if any(item.name == key for item in methods()[CTKD].parameters) else None


def method_parameters(name: str, chosen: Sequence[str] = ()) -> dict[str, Parameter]:
    """Returns the parameters of a method, by their keys in a space.

    Args:
        name: The method.
        chosen: The methods that trials may have; with several, its parameters have an effect with it alone.
    """
    return dict(_keyed(method_class(name), len(chosen) > 1))


@functools.lru_cache(maxsize=1024)
def _keyed(method: type[Method], one_of_several: bool) -> Mapping[str, Parameter]:
    beside = {METHOD.name: (method.name,)} if one_of_several else {}
    return {
        key_of(method.name, item.name): dataclasses.replace(
            item, only_with={**beside, **{key_of(method.name, other): rule for other, rule in item.only_with.items()}}
        )
        for item in method.parameters
    }


def parameters(train: Recipe, chosen: Sequence[str] = (CTKD,), augments: Sequence[str] = ()) -> dict[str, Parameter]:
    """Returns all parameters that may be searched, by key.

    Args:
        train: Defaults of the parameters of the student's recipe.
        chosen: The methods that trials may have.
        augments: Names of the alternatives of a searched augmentation; without any, it is no parameter.
    """
    method = dataclasses.replace(METHOD, default=CTKD if CTKD in chosen else chosen[0])
    known = {PAIR.name: PAIR, METHOD.name: method}
    for name in chosen:
        known |= method_parameters(name, chosen)
    training = [dataclasses.replace(item, default=getattr(train, item.name)) for item in TRAINING]
    known |= {item.name: item for item in training}
    if augments:
        known[AUGMENT] = Parameter(AUGMENT, augments[0], AUGMENT_HELP, kind="choice", choices=tuple(augments))
    return known


def chosen_methods(entries: Mapping[str, Entry]) -> tuple[str, ...]:
    """The methods that trials may have."""
    return possible_values(entries.get(METHOD.name), METHOD)


def possible_methods(name: str, entries: Mapping[str, Entry], pair: str, geometry: Geometry | None) -> Iterator[Method]:
    """The method with every combination of values that trials of a pair may have; see `_values_with` for ranges.

    Args:
        name: The method.
        entries: Entries of the parameters.
        pair: The pair.
        geometry: The images, if they are known.

    Raises:
        UserError: There is no such architecture, or it does not take such images.
    """
    own = method_class(name).parameters
    choices = [_values_with(entries.get(key_of(name, item.name)), item, name, pair, geometry) for item in own]
    for values in itertools.product(*choices):
        yield make_method(MethodConfig(name, {item.name: value for item, value in zip(own, values, strict=True)}))


def _values_with(
    entry: Entry | None, parameter: Parameter, method: str, pair: str, geometry: Geometry | None
) -> tuple[Any, ...]:
    """The values that a parameter may take in trials of a method and a pair.

    Of a range of numbers, its upper end: a weight or a temperature decides on nothing but itself. Of a range of whole
    numbers, every one: which weights of an expert are kept depends on how many anchors it has, say.
    """
    if isinstance(entry, Constant):
        return (entry.value,)
    if entry is not None:
        values = _of_range(entry) if isinstance(entry, Number) else entry.values()
        conditions = dict(entry.when)
        # In trials of this pair and method these hold always or never.
        settled = ((conditions.pop(PAIR.name, (pair,)), pair), (conditions.pop(METHOD.name, (method,)), method))
        if all(allows(wanted, value) for wanted, value in settled):
            return tuple(dict.fromkeys((*values, default_of(parameter, pair, geometry)))) if conditions else values
    return (default_of(parameter, pair, geometry),)


def _of_range(entry: Number) -> tuple[float, ...]:
    if not entry.whole or entry.high - entry.low > _MOST_LISTED:
        return (entry.high,)
    # From the upper end down, because that one is where faults are looked for first.
    return tuple(reversed(range(int(entry.low), int(entry.high) + 1, int(entry.step or 1))))


def possible_values(
    entry: Entry | None, parameter: Parameter, defaults: tuple[Any, ...] | None = None
) -> tuple[Any, ...]:
    """The values that a parameter may take, as far as they can be listed; empty for a range.

    Args:
        entry: Its entry.
        parameter: The parameter.
        defaults: Its possible defaults; None for the default that it is declared with.
    """
    defaults = (parameter.default,) if defaults is None else defaults
    if entry is None:
        return defaults
    listed = entry.values() or ()
    if not isinstance(entry, Constant) and entry.when:
        return tuple(dict.fromkeys((*listed, *defaults))) if listed else ()
    return listed


def active(entry: Entry, values: Mapping[str, Any]) -> bool:
    """Returns whether the conditions of an entry hold beside the values of the parameters that they name."""
    if isinstance(entry, Constant):
        return True
    return all(allows(allowed, values[name]) for name, allowed in entry.when.items())


def named_by(key: str, entries: Mapping[str, Entry]) -> set[str]:
    """Returns the parameters that the conditions of one name, and theirs in turn; a space has no circles."""
    named = set(getattr(entries.get(key), "when", ()))
    return named.union(*(named_by(other, entries) for other in named))


def ordered(entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> list[tuple[str, Parameter]] | None:
    """The parameters, each after those its condition names; None if the conditions go in a circle.

    What may take a default that depends on the pair comes after the pair.
    """

    def before(name: str) -> set[str]:
        entry = entries.get(name)
        conditions = set(getattr(entry, "when", ()))
        defaulted = entry is None or bool(conditions)
        return conditions | ({PAIR.name} if defaulted and depends_on_pair(known[name]) else set())

    waiting = dict(known)
    order: list[tuple[str, Parameter]] = []
    while waiting:
        ready = [name for name in waiting if not before(name) & waiting.keys()]
        if not ready:
            return None
        order += [(name, waiting.pop(name)) for name in ready]
    return order
