"""The contract of a method: what it needs of the teachers, its training network, and its loss as named terms.

To add a method, add a module to this package that defines ``METHOD``, a subclass of `Method`:

1.  Declare ``name``, ``summary``, ``paper`` and ``parameters``, each with the source of its default. Each parameter
    becomes an attribute by its name. Parameters of kind ``float`` are numbers: on CUDA they are tensors that a captured
    step reads, so that one graph serves trials with other numbers. Never branch on them; branch on ``self.values``,
    which keeps the config's values. A parameter that means the same in another method is taken from there (see `only`).
2.  Return from ``needs`` what the lessons must contain: the scratch teacher's logits, outputs of the expert
    (`TeacherOutput`), the expert's network itself, or nothing. It is a function of the values: a weight of 0 needs
    nothing.
3.  Write ``terms``. Import torch and the losses inside of it: the space reads parameters and needs without torch. The
    cross-entropy with the labels is ``losses.cross_entropy``, which knows mixed and smoothed labels and the weights of
    classes; a loss of another kind that asks for the right class goes through ``losses.by_share``. Override
    ``learns_labels`` if the labels may have no weight.
4.  If training needs more than the student, override ``training_network``: return a `TrainingNetwork` (see
    `ctkd_search.distill.training_network`) that holds the student as ``student``, and the modules that are trained
    with it. A module that must be neither trained nor checkpointed goes into a `Frozen`. The student alone is
    evaluated, exported and served.
5.  Set what depends on the epoch in ``begin_epoch`` with ``set_number``, under a name listed in ``scheduled``. Draw
    random numbers from a `CheckpointedRandom` in the `TrainingNetwork`; its generator is part of the checkpoint. Set
    ``captured = False`` if the host chooses what a step computes.
6.  ``fault`` refuses pairs that the method cannot teach, ``epochs_fault`` trials that are too short, ``setting_fault``
    values with which nothing is learned in a setting; ``idle`` returns the parameters that have no effect for a pair,
    its images or so few epochs, so that a space that varies them is refused. ``baselines`` are settings worth comparing
    a search with.

``tests/distill/test_methods.py`` checks every method against this by its declarations alone.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ctkd_search.config import MethodConfig
from ctkd_search.discovery import entries
from ctkd_search.distill.methods.own import own_class
from ctkd_search.distill.methods.parameter import Parameter, allows
from ctkd_search.distill.requests import EMBEDDING, Needs
from ctkd_search.errors import UserError
from ctkd_search.fields import Range
from ctkd_search.plugins import is_reference

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson, StudentOutput
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork


# The form of a reference to the user's own method.
OWN_METHOD = "package.module:Class, derived from ctkd_search.distill.methods.Method"
# The range of most weights and of every temperature in which they have an effect.
ABOVE_ZERO = Range(0, open_low=True)


@dataclass(frozen=True)
class Baseline:
    """A setting of a method that searches can be compared with.

    Attributes:
        name: Its name in a space.
        summary: Its description, in a line.
        values: Values that it fixes of the method's parameters. The others are those of the search where the two share
            the parameter, and the defaults elsewhere.
        papers: Whether all others are the defaults, whatever the space has, even where a config's own are known.
        usual: Whether final trainings are compared with it by default.
    """

    name: str
    summary: str
    values: Mapping[str, Any] = field(default_factory=dict)
    papers: bool = False
    usual: bool = False


class Method(ABC):
    """Turns lessons into a loss. Made from the values of its parameters; those left out take their defaults.

    Attributes:
        name: Its name in a space and a config.
        summary: Its description, in a line.
        paper: Its source, as in ``arXiv 1503.02531``; empty if there is no paper.
        parameters: Parameters that a search may vary.
        baselines: Settings that searches can be compared with.
        auxiliary: Description of the network that is trained with the student in every trial, because it depends on
            the student and cannot be replayed; empty if there is none.
        teacherless: Whether it does not use the pair's teacher, so that it is the same for every pair of a student.
        captured: Whether a step does the same operations every time, so that it can be captured as a CUDA graph.
        scheduled: Names of further numbers, which `begin_epoch` sets.
        values: Values of the parameters, as in the config.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    baselines: ClassVar[tuple[Baseline, ...]] = ()
    auxiliary: ClassVar[str] = ""
    teacherless: ClassVar[bool] = False
    captured: ClassVar[bool] = True
    scheduled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        known = {parameter.name: parameter for parameter in self.parameters}
        if not values.keys() <= known.keys():
            raise TypeError(f"{self.name} takes {', '.join(known) or 'no parameters'}, but got {', '.join(values)}")
        settled = {name: values.get(name, parameter.default) for name, parameter in known.items()}
        self.values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settled.items()
        }
        for name, value in self.values.items():
            setattr(self, name, value)
        for name in self.scheduled:
            setattr(self, name, 1.0)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Returns the value of a parameter; for a number, a float or a tensor."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Returns what the lessons must contain; a weight of 0 needs nothing."""

    @property
    def has_teacher(self) -> bool:
        """Returns whether the pair's teacher has a part in the training with these values."""
        return not self.teacherless and (self.needs != Needs() or bool(self.auxiliary))

    @property
    def learns_labels(self) -> bool:
        """Returns whether the labels are part of the loss, so that smoothing them or weighing classes has an effect."""
        return True

    @property
    def softens_logits(self) -> bool:
        """Returns whether teachers' logits have an effect by their softened predictions alone.

        The largest logits of each image then suffice, with the others taken for equal: its losses pass the logits of
        lessons to `ctkd_search.distill.losses.softened_divergence` and do nothing else with them.
        """
        return False

    @property
    def least_batch(self) -> int:
        """Returns the least number of images that a step can learn from."""
        return 1

    @abstractmethod
    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the terms of the loss, by the names under which they are logged; they add up to the loss.

        Args:
            output: Outputs of the training network for the lesson's images.
            lesson: A batch of images with the outputs of the teachers.
        """

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the network that is trained: the student, or one that holds it as ``student``.

        Its forward pass takes images and returns the fields of a `StudentOutput`.

        Args:
            student: The student with its initial weights, on the trial's device.
            context: The pair, the images and the seed to build from.
        """
        return student

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027, because most methods need nothing of it
        """Sets the numbers that depend on the epoch.

        Args:
            epoch: Epoch that begins, from 0.
            epochs: Epochs of the trial.
        """

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Returns why this method cannot teach that student by that teacher, or None.

        Both must have the layers of the expert outputs that it needs, and an embedding if it needs the expert's.
        """
        for output in self.needs.expert:
            for network in (teacher, student):
                if output.layer and output.layer not in network.layers:
                    return f"{network.name} has no layer {output.layer}; it has {','.join(map(str, network.layers))}"
                if output == EMBEDDING and network.embedding is None:
                    return f"{network.name} has no pooled embedding: its logits are not made by one linear layer"
        return None

    def epochs_fault(self, epochs: int) -> str | None:
        """Returns why trials of so many epochs are too short for these values, or None."""
        return None

    def setting_fault(self, setting: Setting) -> str | None:
        """Returns why these values cannot teach in a setting, or None; the text begins with a parameter's name."""
        return None

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters whose values change nothing in a setting, each with the reason.

        Those that have no effect because of another parameter's value are declared by ``only_with``.
        """
        return {}

    def describe(self) -> list[str]:
        """Returns a description of the method with these values, in sentences."""
        values = [
            f"{item.name.replace('_', ' ')} {_formatted(self.values[item.name])}"
            for item in self.effective_parameters()
        ]
        with_values = f" ({', '.join(values)})" if values else ""
        trained = f" {self.auxiliary[:1].upper()}{self.auxiliary[1:]} is trained beside it." if self.auxiliary else ""
        return [f"It learns by {self.name}: {self.summary}{with_values}.{trained}"]

    def effective_parameters(self) -> list[Parameter]:
        """Returns the parameters that have an effect, given the values of the others."""
        return [
            parameter
            for parameter in self.parameters
            if all(allows(allowed, self.values[other]) for other, allowed in parameter.only_with.items())
        ]

    def canonical(self) -> MethodConfig:
        """Returns the simplest config of a method that trains alike: a name, and the values that have an effect."""
        return MethodConfig(self.name, {item.name: self.values[item.name] for item in self.effective_parameters()})

    @classmethod
    def sources(cls) -> dict[str, list[str]]:
        """Returns the sources of the defaults, each with the names of its parameters."""
        found: dict[str, list[str]] = {}
        for parameter in cls.parameters:
            found.setdefault(parameter.source, []).append(parameter.name)
        return found

    @classmethod
    def number_names(cls) -> list[str]:
        """Returns the names of the numbers: attributes that are kept in tensors on CUDA."""
        return [*(parameter.name for parameter in cls.parameters if parameter.kind == "float"), *cls.scheduled]

    def set_number(self, name: str, value: float | Tensor) -> None:
        """Sets a number in the memory that it is in."""
        own = getattr(self, name)
        if hasattr(own, "copy_"):
            own.copy_(value) if hasattr(value, "copy_") else own.fill_(value)
        else:
            setattr(self, name, value)

    def numbers_to(self, device: torch.device) -> None:
        """Keeps the numbers in tensors on a device, where a captured step reads them."""
        import torch

        for name in self.number_names():
            setattr(self, name, torch.tensor(float(getattr(self, name)), device=device))

    def take_numbers(self, other: Method) -> None:
        """Takes the numbers of a method of the same structure, and its values."""
        self.values = dict(other.values)
        for name in self.number_names():
            self.set_number(name, getattr(other, name))

    def structure(self) -> Hashable:
        """Returns all but the numbers: methods of one structure do the same operations."""
        of_effect = self.effective_parameters()
        fixed = [(item.name, self.values[item.name]) for item in of_effect if item.kind != "float"]
        switched_off = [item.name for item in of_effect if item.kind == "float" and not self.values[item.name]]
        return self.name, self.needs, tuple(fixed), tuple(switched_off)


def _formatted(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Returns every method of this package by name, sorted by paper; those without one come first."""
    found = entries("ctkd_search.distill.methods", "METHOD")
    return {method.name: method for method in sorted(found, key=lambda method: method.paper)}


def method_class(name: str) -> type[Method]:
    """Returns a method by its name, or the user's own by its reference.

    Raises:
        UserError: There is no such method, or the user's own cannot be used.
    """
    if is_reference(name):
        own: type[Method] = own_class(name, Method)  # type: ignore[type-abstract, unused-ignore]
        return own
    if name not in methods():
        raise UserError(f"unknown method {name!r}; there are: {', '.join(methods())}; or your own, {OWN_METHOD}")
    return methods()[name]


def make_method(config: MethodConfig) -> Method:
    """Makes the method of a config: a new one at each call, because training changes its numbers.

    Raises:
        UserError: There is no such method, or the user's own cannot be used.
    """
    return method_class(config.name)(**config.values)


def only(parameters: Iterable[Parameter], *names: str) -> tuple[Parameter, ...]:
    """Returns some parameters of another method, for a method in which they mean the same."""
    return tuple(
        dataclasses.replace(item, only_with={other: rule for other, rule in item.only_with.items() if other in names})
        for item in parameters
        if item.name in names
    )


# All of a parameter but what decides on its effect.
_meaning = operator.attrgetter(*(item.name for item in dataclasses.fields(Parameter) if item.name != "only_with"))


def same_meaning(one: Parameter, other: Parameter) -> bool:
    """Returns whether two methods share a parameter, whatever decides on its effect in each."""
    return _meaning(one) == _meaning(other)
