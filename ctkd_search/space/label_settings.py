"""Settings of recipes that act through the labels, beside methods: smoothing and class weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctkd_search.geometry import Geometry
from ctkd_search.recipe import UNWEIGHTED, Recipe
from ctkd_search.space.distributions import Constant, Entry, Number
from ctkd_search.space.document import Place
from ctkd_search.space.parameters import PAIR, chosen_methods, method_parameters, possible_methods, possible_values
from ctkd_search.space.search_section import place_of

_SMOOTHING, _OWN = "label_smoothing", "none.label_smoothing"
# Settings that act through the labels, with the value that switches each off.
OF_LABELS = {_SMOOTHING: 0.0, "class_weights": UNWEIGHTED}


def label_faults(
    train: Recipe, entries: Mapping[str, Entry], geometry: Geometry | None, baselines: bool
) -> Iterator[tuple[Place, str]]:
    """Yields the places of settings of labels that have no effect or are set twice, each with its message.

    Args:
        train: The student's recipe.
        entries: Entries of the parameters, without faults.
        geometry: The images, if they are known.
        baselines: Whether the space has baselines, whose loss may have the labels.

    Raises:
        UserError: There is no such architecture, or it does not take such images.
    """
    places: dict[str, Place] = {key: place_of(key) for key in OF_LABELS if key in entries}
    places |= {key: ("train", key) for key in given_of_labels(train) if key not in entries}
    if not places:
        return
    own = entries.get(_OWN)
    if _SMOOTHING in places and own is not None and not (isinstance(own, Constant) and not own.value):
        yield place_of(_OWN), f"takes the place of {'.'.join(map(str, places[_SMOOTHING]))}; leave one of the two out"
    pairs = possible_values(entries.get(PAIR.name), PAIR)
    if not baselines and not any(_learns_labels(name, entries, pairs, geometry) for name in chosen_methods(entries)):
        for place in places.values():
            yield place, "has no effect, because no trial's loss has the labels; leave it out"


def given_of_labels(train: Recipe) -> list[str]:
    """Returns the names of the settings of a recipe that act through the labels."""
    return [key for key, off in OF_LABELS.items() if getattr(train, key) != off]


def _learns_labels(name: str, entries: Mapping[str, Entry], pairs: Sequence[str], geometry: Geometry | None) -> bool:
    """Returns whether the labels are part of a method's loss in any trial."""
    # Of a range only one end is listed, at which the labels may have no weight.
    if any(isinstance(entries.get(key), Number) for key in method_parameters(name)):
        return True
    every = (made for pair in pairs for made in possible_methods(name, entries, pair, geometry))
    return any(made.learns_labels for made in every)
