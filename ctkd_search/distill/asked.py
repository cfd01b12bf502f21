"""The union of what all trials ask of each expert, so that one pass over an epoch records all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ctkd_search.config import TrialConfig
from ctkd_search.distill.requests import COMPUTED, LOGITS, Needs, TeacherOutput


class ExpertKey(NamedTuple):
    """One expert along one stream, among the trials of one search.

    Attributes:
        teacher: Its architecture.
        seed: Seed of the stream.
        anchor: After how many epochs of its training its weights are taken; None for their end.
    """

    teacher: str
    seed: int
    anchor: int | None = None


# What the trials of a search ask of each expert, as far as it is recorded.
Asked = Mapping[ExpertKey, tuple[TeacherOutput, ...]]


def asked_of_experts(trials: Iterable[tuple[TrialConfig, Needs]]) -> dict[ExpertKey, tuple[TeacherOutput, ...]]:
    """Return what trials ask of each expert along each stream, without what is too large to be recorded.

    Args:
        trials: A config of each kind of trial, and what its method needs.
    """
    asked: dict[ExpertKey, tuple[TeacherOutput, ...]] = {}
    for config, needs in trials:
        recorded = _recorded(needs)
        if not recorded:
            continue
        for anchor in dict.fromkeys(anchor_epoch(share, config.epochs) for share in needs.anchors or (1.0,)):
            key = ExpertKey(config.teacher, config.seed, anchor if anchor < config.epochs else None)
            asked[key] = tuple(dict.fromkeys((*asked.get(key, ()), *recorded)))
    return asked


def _recorded(needs: Needs) -> tuple[TeacherOutput, ...]:
    """Returns what of the requests is small enough to be recorded."""
    return tuple(request for request in needs.expert if request.kind not in COMPUTED)


class Passes(NamedTuple):
    """Passes of a teacher's expert over epochs of a stream, each of which records the same.

    Attributes:
        requests: What they record, but for other layers of the same kind; see `whole`.
        epochs: Over how many epochs they go.
    """

    requests: tuple[TeacherOutput, ...]
    epochs: int


def passes_of_teachers(trials: Iterable[tuple[TrialConfig, Needs]]) -> dict[str, list[Passes]]:
    """Return the passes in which all that trials ask of the experts is recorded along one stream, by teacher.

    Args:
        trials: A config of each kind of trial, and what its method needs.
    """
    asked: dict[tuple[str, tuple[float, ...]], tuple[TeacherOutput, ...]] = {}
    epochs = 0
    for config, needs in trials:
        recorded = _recorded(needs)
        if recorded:
            epochs = config.epochs
            key = config.teacher, needs.anchors
            asked[key] = tuple(dict.fromkeys((*asked.get(key, ()), *recorded)))
    found: dict[str, list[Passes]] = {}
    for (teacher, anchors), requests in asked.items():
        # The last of several anchors is the expert at its end, which others ask too.
        shared = epochs // len(anchors) if anchors and (teacher, ()) in asked else 0
        found.setdefault(teacher, []).append(Passes(requests, epochs - shared))
    return found


def numbers_of(passes: Passes, maps: Sequence[tuple[int, int]], classes: int) -> int:
    """Return how many numbers passes record of one image.

    Args:
        passes: The passes.
        maps: Channels and positions of each feature map of the expert, first layer first.
        classes: How many classes there are.
    """
    total = 0
    for kind, layer in whole(passes.requests, range(1, len(maps) + 1)):
        channels, positions = maps[layer - 1]
        total += {"logits": classes, "attention": positions, "statistics": 2 * channels}[kind]
    return total


def anchor_epoch(share: float, epochs: int) -> int:
    """After how many epochs of a teacher's training an anchor stands."""
    return max(1, round(share * epochs))


def whole(requests: Sequence[TeacherOutput], layers: Sequence[int]) -> tuple[TeacherOutput, ...]:
    """Returns what is recorded where something is asked for: the same of every layer, and the logits, which are small.

    Going over the images is what costs, so that a later search with other layers finds them; what is too large to be
    recorded is left out.
    """
    kinds = dict.fromkeys(request.kind for request in requests if request != LOGITS and request.kind not in COMPUTED)
    return (LOGITS, *(TeacherOutput(kind, layer) for kind in kinds for layer in layers))
