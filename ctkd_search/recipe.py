"""The recipe of a training: optimizer, schedule of the learning rate, averaging of weights, precision."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ctkd_search.fields import Checked, Count, Fraction, FromList, Options, Positive, Range, Read

SGD = "sgd"
# Optimizers with a momentum. Besides SGD they are timm's, by timm's names.
WITH_MOMENTUM = (
    *(SGD, "sgdw", "sgdp", "csgdw", "csgdp", "lars", "larc", "nlars", "nlarc", "rmsprop", "rmsproptf", "rmsproptfw"),
    *("crmsproptf", "madgrad", "madgradw", "muon", "nmuon", "adamuon", "nadamuon", "adafactorbv", "cadafactorbv"),
)
OPTIMIZERS = (
    *WITH_MOMENTUM,
    *("adam", "adamw", "cadamw", "adamp", "cadamp", "adamax", "nadam", "nadamw", "cnadamw", "radam", "radamw"),
    *("adabelief", "radabelief", "adan", "adanw", "cadan", "cadanw", "adopt", "adoptw", "cadopt", "cadoptw"),
    *("lamb", "lambw", "clamb", "clambw", "laprop", "claprop", "lion", "clion", "mars", "cmars"),
    *("novograd", "novogradw", "adafactor", "cadafactor", "adagrad", "adadelta"),
)
MILESTONES, COSINE, LINEAR, CONSTANT = "milestones", "cosine", "linear", "constant"
SCHEDULES = (MILESTONES, COSINE, LINEAR, CONSTANT)
# The settings that belong to one schedule alone.
OF_SCHEDULE = {"milestones": MILESTONES, "gamma": MILESTONES, "cooldown": CONSTANT}
UNWEIGHTED, BALANCED, EFFECTIVE = "none", "balanced", "effective"
CLASS_WEIGHTS = (UNWEIGHTED, BALANCED, EFFECTIVE)


def _known_optimizer(name: str) -> None:
    if name not in OPTIMIZERS:
        raise ValueError(f"must be one of {', '.join(OPTIMIZERS)}, but got {name!r}")


def _class_weights(value: Any) -> str | tuple[float, ...]:
    if isinstance(value, str) and value in CLASS_WEIGHTS:
        return value
    if isinstance(value, list | tuple) and value and all(map(_is_weight, value)):
        return tuple(map(float, value))
    wanted = f"must be one of {', '.join(CLASS_WEIGHTS)}, or a list of a number greater than 0 for each class"
    raise ValueError(f"{wanted}, but got {value!r}")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in Range(0, open_low=True)


_WEIGHTS_SCHEMA = {
    "oneOf": [
        {"enum": list(CLASS_WEIGHTS)},
        {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 1},
    ]
}


@dataclass(frozen=True)
class Recipe:
    """A training recipe; the defaults are SGD with a step schedule.

    They are the CTKD authors' (arXiv 1907.09643 and its released code): learning rate times 0.2 at
    epochs 60, 120 and 160 of 200, which are fractions here so that a shorter budget keeps the shape.

    Attributes:
        batch_size: Images in a step.
        optimizer: Name of the optimizer: ``sgd``, ``adamw``, ``lion``, ``muon`` or another one of timm's.
        lr: Peak of the learning rate.
        momentum: Momentum of SGD and of other optimizers that have one.
        nesterov: Whether the momentum of SGD is Nesterov's.
        optimizer_options: Further arguments of the optimizer by name, as in ``{betas: [0.9, 0.95]}``.
        weight_decay: L2 penalty on the parameters, or the decoupled decay of optimizers that have one.
        decay: Parameters that decay: ``all``, or ``weights`` alone, without biases and the parameters of norms.
        clip: Largest norm of a step's gradient, to which a larger one is scaled down; 0 switches it off.
        schedule: Course of the learning rate after the warm-up: ``milestones`` drops it after shares of the epochs,
            ``cosine`` and ``linear`` lower it to 0 step by step, ``constant`` keeps it until the cooldown.
        warmup: Epochs in which the learning rate grows linearly to its peak, step by step.
        milestones: Shares of the epochs after which the learning rate drops.
        gamma: Factor of the learning rate at each milestone.
        cooldown: Share of the epochs at the end of a constant schedule in which the learning rate falls to 0, as
            1 - sqrt of the share of it that is over (arXiv 2405.18392).
        average: Epochs that a running average of the weights looks back on, which is evaluated and exported in place of
            the last weights; 0 switches it off.
        label_smoothing: Share of each label that is spread evenly over all classes (arXiv 1512.00567).
        class_weights: Weights of the images in the cross-entropy, by class: ``none``, ``balanced`` (the inverse of the
            number of the class's images) or ``effective`` (the inverse of its effective number, arXiv 1901.05555), both
            with a mean of 1 over the images; or a list of one weight for each class.
        effective_beta: Beta of the effective number of n images, (1 - beta^n) / (1 - beta): near 0 the classes have
            nearly equal weights, near 1 the balanced ones.
        precision: ``float32`` (convolutions on GPUs since 2020 in TF32, as is torch's default), ``bfloat16`` (forward
            passes under autocast; weights and losses stay in float32), or ``auto``: bfloat16 if the hardware computes
            in it.
    """

    batch_size: Count = 128
    optimizer: Annotated[str, Checked(_known_optimizer, {"enum": list(OPTIMIZERS)})] = SGD
    lr: Positive = 0.1
    momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    nesterov: bool = False
    optimizer_options: Options | None = field(default=None, hash=False)
    weight_decay: Annotated[float, Range(0)] = 5e-4
    decay: Literal["all", "weights"] = "all"
    clip: Annotated[float, Range(0)] = 0.0
    schedule: Literal["milestones", "cosine", "linear", "constant"] = "milestones"
    warmup: Annotated[float, Range(0)] = 0.0
    milestones: Annotated[tuple[Fraction, ...], FromList()] = (0.3, 0.6, 0.8)
    gamma: Annotated[float, Range(0, 1, open_low=True)] = 0.2
    cooldown: Annotated[float, Range(0, 1, open_low=True)] = 0.2
    average: Annotated[float, Range(0)] = 0.0
    label_smoothing: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    class_weights: Annotated[str | tuple[float, ...], Read(_class_weights, _WEIGHTS_SCHEMA)] = UNWEIGHTED
    effective_beta: Fraction = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def lr_at(self, epoch: int, epochs: int, step: int = 0, steps: int = 1) -> float:
        """Returns the learning rate of a step.

        Args:
            epoch: Its epoch, from 0.
            epochs: Epochs of the training.
            step: Its number in the epoch, from 0.
            steps: Steps of an epoch.
        """
        done = epoch + step / steps
        if done < self.warmup:
            # The first step is not lost: it ends where the ramp has come to after it.
            return self.lr * min(1.0, (done + 1 / steps) / self.warmup)
        return self.lr * self._factor(epoch, done, epochs)

    def _factor(self, epoch: int, done: float, epochs: int) -> float:
        """Returns the share of the peak after the warm-up, where `done` epochs are over."""
        if self.schedule == MILESTONES:
            return self.gamma ** sum(epoch >= max(1, round(share * epochs)) for share in self.milestones)
        over = (done - self.warmup) / (epochs - self.warmup)
        if self.schedule == COSINE:
            return 0.5 * (1 + math.cos(math.pi * over))
        if self.schedule == LINEAR:
            return 1 - over
        cooling = self.cooldown * epochs
        return 1 - math.sqrt(max(0.0, done - (epochs - cooling)) / cooling)

    def idle(self) -> set[str]:
        """Returns the names of the settings that have no effect beside the others."""
        without = {
            "momentum": self.optimizer not in WITH_MOMENTUM,
            "nesterov": self.optimizer != SGD,
            "optimizer_options": not self.optimizer_options,
            "decay": not self.weight_decay,
            "effective_beta": self.class_weights != EFFECTIVE,
            **{name: self.schedule != schedule for name, schedule in OF_SCHEDULE.items()},
        }
        return {name for name, idle in without.items() if idle}

    def effective(self) -> dict[str, Any]:
        """Returns the settings that have an effect, by name."""
        idle = self.idle()
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in idle}

    def described(self) -> dict[str, Any]:
        """Returns all settings by name, without those of `_LATER` that have their defaults.

        So what is named by its recipe keeps its name when a setting is added.
        """
        return {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in _LATER or value != getattr(_PLAIN, key)
        }

    def structure(self) -> Recipe:
        """Returns the recipe without what is set from step to step: recipes with equal ones share a captured step."""
        return dataclasses.replace(self, **{name: getattr(_PLAIN, name) for name in _BY_STEP})


_PLAIN = Recipe()
# Of the weights of classes, a step reads the tensor.
_BY_STEP = ("lr", "schedule", "warmup", "milestones", "gamma", "cooldown", "effective_beta")
# Settings that did not exist in the first version.
_LATER = (
    "optimizer",
    "optimizer_options",
    "decay",
    "clip",
    "schedule",
    "warmup",
    "cooldown",
    "average",
    "label_smoothing",
    "class_weights",
    "effective_beta",
)
