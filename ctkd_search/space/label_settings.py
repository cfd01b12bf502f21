"""Label smoothing of the recipe beside methods: where it has no effect, or is set twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctkd_search.geometry import Geometry
from ctkd_search.recipe import Recipe
from ctkd_search.space.distributions import Constant, Entry, Number
from ctkd_search.space.document import Place
from ctkd_search.space.parameters import PAIR, chosen_methods, method_parameters, possible_methods, possible_values
from ctkd_search.space.search_section import place_of

_KEY, _OWN = "label_smoothing", "none.label_smoothing"


def smoothing_faults(
    train: Recipe, entries: Mapping[str, Entry], geometry: Geometry | None, baselines: bool
) -> Iterator[tuple[Place, str]]:
    """Yields the places where label smoothing has no effect or is set twice, each with its message.

    Args:
        train: The student's recipe.
        entries: Entries of the parameters, without faults.
        geometry: The images, if they are known.
        baselines: Whether the space has baselines, whose loss may have the labels.

    Raises:
        UserError: There is no such architecture, or it does not take such images.
    """
    searched = _KEY in entries
    if not searched and not train.label_smoothing:
        return
    place: Place = place_of(_KEY) if searched else ("train", _KEY)
    own = entries.get(_OWN)
    if own is not None and not (isinstance(own, Constant) and not own.value):
        yield place_of(_OWN), f"takes the place of {'.'.join(map(str, place))}; leave one of the two out"
    pairs = possible_values(entries.get(PAIR.name), PAIR)
    if not baselines and not any(_learns_labels(name, entries, pairs, geometry) for name in chosen_methods(entries)):
        yield place, "has no effect, because no trial's loss has the labels; leave it out"


def _learns_labels(name: str, entries: Mapping[str, Entry], pairs: Sequence[str], geometry: Geometry | None) -> bool:
    """Returns whether the labels are part of a method's loss in any trial."""
    # Of a range only one end is listed, at which the labels may have no weight.
    if any(isinstance(entries.get(key), Number) for key in method_parameters(name)):
        return True
    every = (made for pair in pairs for made in possible_methods(name, entries, pair, geometry))
    return any(made.learns_labels for made in every)
