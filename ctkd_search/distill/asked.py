"""The union of the outputs that all trials need of each expert, so that one pass over an epoch records all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ctkd_search.config import Augment, TrialConfig
from ctkd_search.distill.requests import ATTENTION, COMPUTED, KINDS, LOGITS, Needs, TeacherOutput
from ctkd_search.storage import MapForm, Storage, logit_bytes, number_bytes


class ExpertKey(NamedTuple):
    """One expert along one stream, among the trials of one search.

    Attributes:
        teacher: Its architecture.
        seed: Seed of the stream.
        anchor: Number of epochs of its training after which its weights are taken; None for its end.
    """

    teacher: str
    seed: int
    anchor: int | None = None


# The recorded outputs that the trials of a search need of each expert.
Asked = Mapping[ExpertKey, tuple[TeacherOutput, ...]]


def asked_of_experts(trials: Iterable[tuple[TrialConfig, Needs]]) -> dict[ExpertKey, tuple[TeacherOutput, ...]]:
    """Returns the outputs that trials need of each expert along each stream, without those too large to be recorded.

    Args:
        trials: A config of each kind of trial, and the needs of its method.
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
    """Returns the outputs that are replayed: none where one is too large, because the expert then computes them all."""
    return () if any(output.kind in COMPUTED for output in needs.expert) else needs.expert


class Passes(NamedTuple):
    """Passes of a teacher's expert over epochs of a stream, each of which records the same outputs.

    Attributes:
        outputs: Outputs that they record, without the other layers of the same kind; see `whole`.
        epochs: Number of epochs, with one pass each.
    """

    outputs: tuple[TeacherOutput, ...]
    epochs: int


class AugmentedTeacher(NamedTuple):
    """A teacher and the augmentation of the images that it sees.

    Attributes:
        teacher: Its architecture.
        augment: The augmentation.
    """

    teacher: str
    augment: Augment


def augmented_teacher(config: TrialConfig) -> AugmentedTeacher:
    """Returns the teacher of a config and the augmentation of the images that it sees."""
    return AugmentedTeacher(config.teacher, config.augment)


def passes_of_teachers(trials: Iterable[tuple[TrialConfig, Needs]]) -> dict[AugmentedTeacher, list[Passes]]:
    """Returns the passes that record all outputs that trials need of the experts, for one seed of the stream.

    Args:
        trials: A config of each kind of trial, and the needs of its method.

    Returns:
        The passes of each teacher with each augmentation.
    """
    asked: dict[tuple[AugmentedTeacher, tuple[float, ...]], tuple[TeacherOutput, ...]] = {}
    epochs = 0
    for config, needs in trials:
        recorded = _recorded(needs)
        if recorded:
            epochs = config.epochs
            key = augmented_teacher(config), needs.anchors
            asked[key] = tuple(dict.fromkeys((*asked.get(key, ()), *recorded)))
    found: dict[AugmentedTeacher, list[Passes]] = {}
    for (teacher, anchors), outputs in asked.items():
        # The last of several anchors is the expert at its end, which other trials need too.
        shared = epochs // len(anchors) if anchors and (teacher, ()) in asked else 0
        found.setdefault(teacher, []).append(Passes(outputs, epochs - shared))
    return found


def bytes_of(
    passes: Passes,
    maps: Sequence[tuple[int, int]],
    classes: int,
    embedding: int | None,
    storage: Storage,
    form: MapForm,
) -> int:
    """Returns how many bytes a pass records of one image.

    Args:
        passes: The passes.
        maps: Channels and positions of each feature map of the expert, first layer first.
        classes: Number of classes.
        embedding: Width of the expert's embedding; None if it has none.
        storage: Storage of the outputs.
        form: Form of the attention maps.
    """
    total = 0
    for kind, layer in whole(passes.outputs, range(1, len(maps) + 1)):
        channels, positions = maps[layer - 1]
        if kind == ATTENTION:
            total += form.map_bytes(positions, storage)
        elif kind == "logits":
            total += logit_bytes(storage, classes)
        else:
            total += number_bytes(storage) * {"embedding": embedding or 0, "statistics": 2 * channels}[kind]
    return total


def anchor_epoch(share: float, epochs: int) -> int:
    """Returns the number of epochs of a teacher's training at which an anchor is."""
    return max(1, round(share * epochs))


def whole(outputs: Sequence[TeacherOutput], layers: Sequence[int]) -> tuple[TeacherOutput, ...]:
    """Returns the outputs that are recorded if some are needed: those of every layer, and the logits, which are small.

    The embedding is recorded only if it is needed.

    The pass over the images is the cost, so a later search with other layers finds them recorded. Outputs too large to
    be recorded are left out.
    """
    kinds = dict.fromkeys(output.kind for output in outputs if output != LOGITS and output.kind not in COMPUTED)
    return (LOGITS, *(TeacherOutput(kind, layer) for kind in kinds for layer in (layers if KINDS[kind] else (0,))))
