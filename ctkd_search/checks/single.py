"""Batches of one image, which not every network can learn from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch

from ctkd_search.config import Member, TrialConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.pairs import split_pair
from ctkd_search.space.baselines import baseline_pairs
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Number
from ctkd_search.space.document import Place
from ctkd_search.space.parameters import possible_methods, possible_values

# The message of torch's batch normalisation where a channel has a single value.
_REFUSAL = "Expected more than 1 value per channel"


_METHOD = (
    "must be at least 2 for method {}, but got 1: it normalises values over the batch, and cannot learn from one value"
)


def _methods_of_several(space: Space) -> list[str]:
    """Returns the methods of a space that cannot learn from one image."""
    trials = (
        made
        for pair, name in itertools.product(space.pairs(), space.methods())
        for made in possible_methods(name, space.entries, pair, space.geometry)
    )
    compared = baseline_pairs(space.strategy.baselines, space.pairs())
    baselines = (make_method(baseline_config(space, name, pair).method) for name, pair in compared)
    return list(dict.fromkeys(made.name for made in itertools.chain(trials, baselines) if made.least_batch > 1))


def learns_from_one(name: str, geometry: Geometry) -> bool:
    """Returns False where a network has batch normalisation of a map of one position: one image gives it one value."""
    for device in (torch.device("meta"), torch.device("cpu")):
        try:
            with device:
                network = build(name, geometry, seed=0, published=False).to(device).train()
            with torch.no_grad():
                network(torch.zeros(1, geometry.channels, geometry.image_size, geometry.image_size, device=device))
            return True
        except Exception as error:  # a network made elsewhere may look at its numbers, which "meta" does not have
            if _REFUSAL in str(error):
                return False
    return True


def single_image_faults(space: Space, geometry: Geometry) -> list[tuple[Place, str]]:
    """Returns the faults of a space that trains a network with batches of one image, where it cannot learn from one.

    Args:
        space: The space.
        geometry: The images.
    """
    pairs = [(pair, *split_pair(pair)) for pair in space.pairs()]
    found: list[tuple[Place, str]] = []
    if _smallest(space) == 1:
        place = ("search", "batch_size") if "batch_size" in space.entries else ("train", "batch_size")
        found += [(place, message) for message in _messages((student for _, _, student in pairs), geometry)]
        found += [(place, _METHOD.format(name)) for name in _methods_of_several(space)]
    if space.teachers.recipe.batch_size == 1:
        members = space.teachers.expert.members
        trained = (
            name for pair, teacher, _ in pairs for name in _trained(space.needs(pair), teacher, members(teacher))
        )
        found += [(("teachers", "recipe", "batch_size"), message) for message in _messages(trained, geometry)]
    return found


def config_fault(config: TrialConfig, geometry: Geometry) -> str | None:
    """Returns the fault of a config that trains a network with batches of one image, or None where there is none.

    Args:
        config: The config.
        geometry: The images.
    """
    if config.train.batch_size == 1:
        for message in _messages([config.student], geometry):
            return f"train.batch_size {message}"
        if make_method(config.method).least_batch > 1:
            return f"train.batch_size {_METHOD.format(config.method.name)}"
    if config.teachers.recipe.batch_size == 1:
        needs, members = make_method(config.method).needs, config.teachers.expert.members(config.teacher)
        for message in _messages(_trained(needs, config.teacher, members), geometry):
            return f"teachers.recipe.batch_size {message}"
    return None


def _smallest(space: Space) -> int:
    """Returns the smallest batch of any trial."""
    entry = space.entries.get("batch_size")
    if isinstance(entry, Number):
        return int(min(entry.low, space.train.batch_size)) if entry.when else int(entry.low)
    if entry is None:
        return space.train.batch_size
    return min(map(int, possible_values(entry, space.parameters["batch_size"])))


def _trained(needs: Needs, teacher: str, members: Iterable[Member]) -> list[str]:
    """Returns the architectures of the teachers that are trained."""
    experts = [name for name, checkpoint in members if checkpoint is None] if needs.any_expert else []
    return [*([teacher] if needs.any_scratch else []), *experts]


def _messages(names: Iterable[str], geometry: Geometry) -> Iterator[str]:
    size = geometry.image_size
    for name in dict.fromkeys(names):
        if not learns_from_one(name, geometry):
            yield (
                f"must be at least 2 for {name}, but got 1: with images of {size}x{size} pixels it has maps of 1x1, "
                "and batch normalisation cannot learn from one value"
            )
