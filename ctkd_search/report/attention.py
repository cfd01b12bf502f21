"""Attention maps of expert and student, before and after the training (figure 3 of arXiv 1907.09643)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import TrialConfig
from ctkd_search.data import Images, Splits
from ctkd_search.data.stream import Normalise, derived_seed
from ctkd_search.distill import losses
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import kept_expert
from ctkd_search.distill.weights import load_own_expert, load_weights, put_weights
from ctkd_search.errors import UserError
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork
from ctkd_search.report.teachers import KeptTeachers

SHOWN, _COMPARED = 5, 1000
EXPERT, BEFORE, AFTER = "expert", "student before", "student after"


@dataclass(frozen=True)
class Looks:
    """Attention maps of three networks on a few images.

    Attributes:
        images: The images, uint8 of shape (images, height, width, channels).
        classes: Name of the class of each.
        layers: The layers that the student's loss compares.
        maps: By layer and network, the maps of the images, each of shape (images, height, width); maps of two sizes are
            all at the smaller one, as the loss compares them.
        similarity: By layer, the mean cosine similarity with the expert's map before and after training.
        compared: Number of validation images that the similarity is a mean of.
    """

    images: np.ndarray
    classes: list[str]
    layers: tuple[int, ...]
    maps: dict[tuple[int, str], np.ndarray]
    similarity: dict[int, tuple[float, float]]
    compared: int


def looks(config: TrialConfig, state: Path, splits: Splits, teachers: KeptTeachers) -> Looks:
    """Computes the attention maps of a config's expert and student on validation images.

    Args:
        config: The config.
        state: The saved state of the trial that trained it.
        splits: The images of the search.
        teachers: The search's teachers.

    Raises:
        UserError: There are no maps to show; the message is the reason.
    """
    layers = make_method(config.method).needs.attention
    if not layers:
        raise UserError("its loss does not use the expert's attention maps")
    before = build(config.student, splits.geometry, derived_seed("student", config.seed))
    after = build(config.student, splits.geometry, seed=0, published=False)
    put_weights(after, load_weights(state), str(state))
    experts = _experts(config, splits, teachers)
    chosen = one_of_each_class(splits.validation.labels, SHOWN)
    # First the images that are shown, then those that are only compared.
    images = splits.validation[np.concatenate([chosen, np.arange(min(_COMPARED, len(splits.validation)))])].held()
    maps = _maps(layers, experts, (before, after), images, Normalise(splits.mean, splits.std))
    similarity = {}
    for layer in layers:
        seen, *own = (maps[layer, name][len(chosen) :] for name in (EXPERT, BEFORE, AFTER))
        # Maps have length 1, so that the product of two is the cosine of their angle.
        first, last = (float((seen * student).sum(axis=(1, 2)).mean()) for student in own)
        similarity[layer] = (first, last)
    shown = {key: found[: len(chosen)] for key, found in maps.items()}
    names = [splits.classes[label] for label in splits.validation.labels[chosen]]
    return Looks(images.pixels[: len(chosen)], names, layers, shown, similarity, len(images) - len(chosen))


def one_of_each_class(labels: np.ndarray, most: int) -> np.ndarray:
    """Returns the positions of the first image of each class; of more than `most` classes, evenly spaced ones."""
    classes, first = np.unique(labels, return_index=True)
    spread = np.linspace(0, len(classes) - 1, min(most, len(classes))).round().astype(int)
    return first[spread]


def _experts(config: TrialConfig, splits: Splits, teachers: KeptTeachers) -> list[TappedNetwork]:
    """Returns the network of each member of the expert."""
    found = []
    for member, run in zip(config.teachers.expert.members(config.teacher), teachers.experts(config), strict=True):
        if member.checkpoint is not None:
            found.append(load_own_expert(member.checkpoint, member.architecture, splits.geometry).network)
        elif run is None:
            raise UserError("its expert is no longer in the teacher cache")
        else:
            found.append(kept_expert(run, splits, teachers.cache, torch.device("cpu")))
    return found


def _maps(
    layers: Sequence[int],
    experts: Sequence[TappedNetwork],
    students: tuple[TappedNetwork, TappedNetwork],
    images: Images,
    normalise: Normalise,
) -> dict[tuple[int, str], np.ndarray]:
    """Returns the attention maps of layers as the loss compares them: shape (images, height, width), of length 1."""
    pieces: dict[tuple[int, str], list[Tensor]] = {}
    for network in (*experts, *students):
        network.eval()
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            inputs = normalise(torch.tensor(images.pixels[start : start + 256]))
            seen = [expert(inputs)[1] for expert in experts]
            given = {layer: _mean_map([features[layer - 1] for features in seen]) for layer in layers}
            for name, student in zip((BEFORE, AFTER), students, strict=True):
                _, features = student(inputs)
                for layer in layers:
                    own, theirs = losses.compared_maps(features[layer - 1], given[layer])
                    shape = _shape(own.shape[1], features[layer - 1])
                    pieces.setdefault((layer, name), []).append(own.unflatten(1, shape))
                    if name == AFTER:
                        pieces.setdefault((layer, EXPERT), []).append(theirs.unflatten(1, shape))
    return {key: torch.cat(parts).numpy() for key, parts in pieces.items()}


def _mean_map(features: Sequence[Tensor]) -> Tensor:
    """Returns the mean attention map of an expert's members, of length 1."""
    mean = torch.stack([losses.attention_map(each) for each in features]).mean(dim=0)
    return mean if len(features) == 1 else mean / mean.norm(dim=1, keepdim=True)


def _shape(positions: int, features: Tensor) -> tuple[int, int]:
    """Returns height and width of a compared map: the student's, or those of the expert's smaller square."""
    height, width = features.shape[2:]
    return (height, width) if positions == height * width else (math.isqrt(positions), math.isqrt(positions))
