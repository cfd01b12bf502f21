"""The config of one trial, as plain dataclasses.

Only the standard library is imported here, so that the distillation core needs nothing else. The annotations
carry the ranges: `ctkd_search.space.definition` validates YAML against these very classes with pydantic, so that a
field is declared once.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from ctkd_search.fields import (
    Channels,
    Count,
    Fraction,
    Options,
    Parts,
    Positive,
    Range,
    Read,
    Seed,
    Share,
    Shares,
    Size,
)
from ctkd_search.metrics import ACCURACY
from ctkd_search.paths import expanded
from ctkd_search.recipe import Recipe
from ctkd_search.storage import STORAGE_SCHEMA, MapForm, Storage, read_storage
from ctkd_search.units import size_in_bytes

# Suffixes by which a member of an ensemble is a file of weights.
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")
_ENSEMBLE_SCHEMA = {
    "anyOf": [
        {"type": "null"},
        {"type": "integer", "minimum": 2},
        {"type": "array", "items": {"type": "string", "pattern": r"\S"}, "minItems": 2},
    ]
}


@dataclass(frozen=True)
class RandAugment:
    """RandAugment (arXiv 1909.13719): each image goes through random operations of one magnitude.

    Attributes:
        operations: Operations that an image goes through, one after the other.
        magnitude: Magnitude of all of them, from 0 to 30.
    """

    operations: Count = 2
    magnitude: Annotated[int, Range(0, 30)] = 9


@dataclass(frozen=True)
class Jitter:
    """Colour jitter: each image's brightness, contrast, saturation and hue change at random, in random order.

    Attributes:
        brightness: Largest distance from 1 of the factor of the brightness.
        contrast: Largest distance from 1 of the factor of the contrast.
        saturation: Largest distance from 1 of the factor of the saturation, for images in colour.
        hue: Largest turn of the hue, as a share of the circle of hues, for images in colour.
    """

    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Range(0, 0.5)] = 0.0


@dataclass(frozen=True)
class Erasing:
    """Random erasing (arXiv 1708.04896): a random rectangle of an image becomes the mean colour.

    Attributes:
        probability: Share of the images that are erased.
        area: Smallest and largest share of an image's area that a rectangle has.
    """

    probability: Annotated[float, Range(0, 1, open_low=True)]
    area: Parts = (0.02, 0.33)


@dataclass(frozen=True)
class Augment:
    """The augmentation of the training images, in the order in which it is applied, and how often each is shown.

    Attributes:
        crop: Pixels of reflected border from which a random crop of the original size is cut; 0 switches it off.
        flip: Whether images are mirrored left to right with probability one half.
        resized_crop: Smallest and largest share of a picture's area that a random part has, which is resized to the
            image's size, as in ``[0.08, 1.0]``; for images that are streamed from their files or stored. It replaces
            `crop`.
        randaugment: RandAugment: random operations of one magnitude; left out, there is none.
        trivialaugment: Whether each image goes through one random operation of random magnitude (TrivialAugment, arXiv
            2103.10158). It replaces `randaugment`.
        jitter: Colour jitter; left out, there is none.
        erasing: Random erasing, or its probability alone; left out, there is none.
        mixup: Alpha of mixup (arXiv 1710.09412): an image is blended with another one; its share is drawn from
            Beta(alpha, alpha). Left out, there is none.
        cutmix: Alpha of cutmix (arXiv 1905.04899): a rectangle of an image shows another one; the share of the rest is
            drawn from Beta(alpha, alpha). With `mixup` too, each image goes through one of the two. Left out, there is
            none.
        mix_probability: Share of the images that are mixed; left out, it is 1.
        sampling: Frequency of the images: ``balanced`` shows every class equally often, in epochs of as many images as
            there are; left out, every image is shown once an epoch.
    """

    crop: Annotated[int, Range(0)] = 4
    flip: bool = True
    resized_crop: Shares | None = None
    randaugment: RandAugment | None = None
    trivialaugment: bool | None = None
    jitter: Jitter | None = None
    erasing: Erasing | None = None
    mixup: Positive | None = None
    cutmix: Positive | None = None
    mix_probability: Annotated[float, Range(0, 1, open_low=True)] | None = None
    sampling: Literal["balanced"] | None = None

    @property
    def mixes(self) -> bool:
        """Returns whether images are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    def given(self) -> dict[str, Any]:
        """Returns the settings by name, without those that are None or, like None, switch something off."""
        settings = {**dataclasses.asdict(self), "trivialaugment": self.trivialaugment or None}
        return {key: value for key, value in settings.items() if value is not None}


@dataclass(frozen=True)
class DatasetConfig:
    """The data set, and its splits.

    Attributes:
        name: Name of the data set; your own is called as a factory, `package.module:factory`.
        root: Directory of its files, for data sets on disk.
        image_size: Side in pixels that images are resized to, for data sets without a fixed size; left out, that of the
            images, if they are all of one size up to 64 pixels.
        channels: 3 for colour, 1 for grey, for data sets without fixed channels; left out, 1 if all training images are
            grey.
        resize: Length in pixels that a picture's shorter side is resized to before its centred square of the image's
            size is cut out, as in 256 for 224; left out, nothing of the square is cut off.
        loading: ``resident`` keeps all images in memory, ``streamed`` decodes them from their files in every epoch,
            ``stored`` decodes them once and keeps them on disk, in the directory of the recorded teachers. ``auto``
            does not keep images in memory that would take more than an eighth of the free memory or a quarter of a
            GPU's: it stores them where a quarter of the free disk is enough, and else streams them. What random resized
            crops are cut from is stored only where you say so, because reduced pictures have less detail.
        stored_side: Length in pixels to which the shorter sides of stored pictures are reduced, from which random
            resized crops are cut; left out, `resize`, and without it 8/7 of the image size (256 for 224).
        stored_as: ``pixels`` stores such pictures as they are; ``jpeg`` takes about a tenth of the room and more time,
            and changes the pixels a little.
        workers: Processes that decode for each trial while images are streamed; 0 decodes in the trial itself. Left
            out, there are as many as the trial has CPU cores.
        verify: Whether the files must be as published (their checksums and their number), for published data sets.
        extra: Whether the additional training images of a data set that has some are used too.
        skip_broken: Whether image files that cannot be read are skipped, for data sets of image files.
        options: Arguments for the factory of your own data set, by name.
        validation: Share of each class's images, those of `test` included, that is held out of every teacher and
            student. Left out, it is the data set's own validation split if it has one, and else one tenth.
        split_seed: Seed of the draw of the validation images.
        test: Share of each class's images that the search never uses, for the test of the final training; for data sets
            of your own without test images. They are the same images for every `split_seed`.
    """

    name: str
    root: str | None = None
    image_size: Annotated[int, Range(1)] | None = None
    channels: Channels | None = None
    resize: Annotated[int, Range(1)] | None = None
    loading: Literal["auto", "resident", "streamed", "stored"] | None = None
    stored_side: Annotated[int, Range(1)] | None = None
    stored_as: Literal["pixels", "jpeg"] | None = None
    workers: Annotated[int, Range(0)] | None = None
    verify: bool | None = None
    extra: bool | None = None
    skip_broken: bool | None = None
    options: Options | None = None
    validation: Fraction | None = None
    split_seed: Seed = 0
    test: Fraction | None = None


class Member(NamedTuple):
    """One of the experts whose outputs are averaged, or the only one.

    Attributes:
        architecture: Its architecture.
        checkpoint: The file of its weights; None if it is trained.
    """

    architecture: str
    checkpoint: str | None = None


def is_weights_file(name: str) -> bool:
    """Returns whether a member of an ensemble is a file of weights, and not an architecture, by its suffix."""
    return name.endswith(_WEIGHTS_SUFFIXES)


def _absolute(path: str) -> str:
    return os.path.abspath(expanded(path))


def _ensemble(value: Any) -> int | tuple[str, ...] | None:
    if value is None or (type(value) is int and value >= 2):
        return value
    several = isinstance(value, list | tuple) and len(value) >= 2
    if several and all(isinstance(item, str) and item.strip() for item in value):
        return tuple(value)
    raise ValueError(
        "must be a whole number, at least 2, or a list of at least 2 architectures or files of weights "
        f"({', '.join(_WEIGHTS_SUFFIXES)}), but got {value!r}"
    )


@dataclass(frozen=True)
class ExpertConfig:
    """The origin of the expert teacher.

    Attributes:
        checkpoint: A file of the user's own weights, or one file for each teacher architecture.
        seed: Seed of an expert that is trained independently of the scratch teacher.
        ensemble: Several experts whose outputs are averaged: their number, each trained like the one but with a seed of
            its own; or a list of architectures that are trained, and of files of the user's own weights for the
            teacher's architecture.
    """

    checkpoint: str | dict[str, str] | None = None
    seed: Seed | None = None
    ensemble: Annotated[int | tuple[str, ...] | None, Read(_ensemble, _ENSEMBLE_SCHEMA)] = None

    def absolute(self) -> ExpertConfig:
        """Returns the same expert, its files by absolute paths."""
        checkpoint, ensemble = self.checkpoint, self.ensemble
        if isinstance(checkpoint, dict):
            checkpoint = {name: _absolute(path) for name, path in checkpoint.items()}
        elif checkpoint is not None:
            checkpoint = _absolute(checkpoint)
        if isinstance(ensemble, tuple):
            ensemble = tuple(_absolute(name) if is_weights_file(name) else name for name in ensemble)
        return dataclasses.replace(self, checkpoint=checkpoint, ensemble=ensemble)

    def members(self, architecture: str) -> list[Member]:
        """Returns the experts whose outputs are averaged; one where it is no ensemble.

        Args:
            architecture: The pair's teacher.
        """
        if self.ensemble is None:
            return [Member(architecture, self.checkpoint_of(architecture))]
        if isinstance(self.ensemble, int):
            return [Member(architecture)] * self.ensemble
        files = {name: expanded(name) for name in self.ensemble if is_weights_file(name)}
        return [Member(architecture, files[name]) if name in files else Member(name) for name in self.ensemble]

    def checkpoint_of(self, architecture: str) -> str | None:
        """Returns the file of the user's own weights for a teacher of that architecture, or None."""
        given = self.checkpoint.get(architecture) if isinstance(self.checkpoint, dict) else self.checkpoint
        return None if given is None else expanded(given)


@dataclass(frozen=True)
class TeachersConfig:
    """The training and the recording of the scratch teacher and the expert.

    Attributes:
        mode: ``recorded`` trains the teachers once and replays them to every trial; ``live`` trains the scratch
            teacher with the student, inside the trial, as the paper does; ``auto`` records them if the logits of the
            scratch teachers take no more than `trajectory_limit`, and is live otherwise.
        seed: Seed of the teachers' initial weights.
        expert: Origin of the expert; left out, it is the scratch teacher at the end of its training.
        recipe: Training recipe of both. The student's searched values do not change it.
        storage: Type in which recorded outputs are stored. ``{top: 16}`` keeps the 16 largest logits of each image and
            the others as if equal, for methods that use softened predictions alone, and float16 of all else.
        map_size: Largest side of recorded attention maps; larger ones are averaged down to it, and the student's with
            them. Left out, they keep their size. With 1 there would be nothing to compare, which is refused.
        map_storage: ``uint8`` stores attention maps with a byte for each number and a scale for each map; left out,
            they are stored as `storage` says.
        cache_limit: Disk space for what is recorded of experts, by earlier searches too, as in ``20GB``; further
            outputs are computed in the trials. 0 records none.
        trajectory_limit: Disk space for the scratch teachers' recorded logits, as in ``20GB``: epochs times images
            times classes, for every teacher and stream, those of the confirmation included. If they take more, a
            warning is printed if `mode` is ``recorded``, and teachers are live if it is ``auto``.
    """

    mode: Literal["auto", "recorded", "live"] = "auto"
    seed: Seed = 0
    expert: ExpertConfig = ExpertConfig()
    recipe: Recipe = field(default_factory=Recipe)
    storage: Annotated[Storage, Read(read_storage, STORAGE_SCHEMA)] = "float16"
    map_size: Annotated[int, Range(1)] | None = None
    map_storage: Literal["uint8"] | None = None
    cache_limit: Size = "20GB"
    trajectory_limit: Size = "20GB"

    @property
    def map_form(self) -> MapForm:
        """Returns the form of recorded attention maps."""
        return MapForm(self.map_size, self.map_storage)

    def cache_bytes(self) -> int:
        """Returns the cache limit in bytes."""
        return size_in_bytes(self.cache_limit)

    def trajectory_bytes(self) -> int:
        """Returns the limit of the scratch teachers' logits in bytes."""
        return size_in_bytes(self.trajectory_limit)


@dataclass(frozen=True)
class MethodConfig:
    """The method of a trial.

    Attributes:
        name: Name of the method.
        values: Values of its parameters, by their names; those left out take their defaults.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the name and, beside it, the values, as files and MLflow have them."""
        return {"name": self.name, **self.values}


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines one distillation, every value resolved.

    Attributes:
        dataset: The images.
        augment: Their augmentation.
        epochs: Passes over the training images.
        teacher: Architecture of the scratch teacher and the expert.
        student: Architecture of the student.
        method: Method and the values of its parameters.
        train: Training recipe of the student.
        teachers: Training and recording of the teachers.
        seed: Seed of the stream and, unless there is a `student_seed`, of the student's initial weights.
        student_seed: Seed of the student's initial weights alone; None for `seed`.
        metrics: Names of the metrics of the student, besides accuracy and loss.
        objective: Name of the objective that the student is judged by.
        int8: Whether the student's accuracy in int8 is measured too, after the last epoch.
        ranking_horizon: Horizon, in epochs, of the running average of the student's weights that is evaluated too, for
            the comparison with other trials; 0 for none. It does not change the training.
    """

    dataset: DatasetConfig
    epochs: int
    teacher: str
    student: str
    method: MethodConfig
    augment: Augment = Augment()
    train: Recipe = field(default_factory=Recipe)
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    seed: int = 0
    student_seed: int | None = None
    metrics: tuple[str, ...] = ()
    objective: str = ACCURACY.key
    int8: bool = False
    ranking_horizon: float = 0.0

    @property
    def seed_of_student(self) -> int:
        """Returns the seed of the student's initial weights."""
        return self.seed if self.student_seed is None else self.student_seed

    def nested(self) -> dict[str, Any]:
        """Returns the config as nested dictionaries, without settings that have no effect on the student."""
        whole = {**dataclasses.asdict(self), "method": self.method.as_dict(), "train": self.train.effective()}
        del whole["ranking_horizon"], whole["int8"]
        # The teachers' weights are not averaged.
        recipe = self.teachers.recipe.effective()
        whole["teachers"]["recipe"] = {key: value for key, value in recipe.items() if key != "average"}
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Returns the config as plain values for YAML and JSON."""
        return plain(self.nested())


def plain(value: Any) -> Any:
    """Returns a value with all tuples in it replaced by lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
