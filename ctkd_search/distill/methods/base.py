"""The contract of a method: what it needs of the teachers, what it builds around the student, its loss as named terms.

Adding a method is adding a module to this package that defines ``METHOD``, a subclass of `Method`:

1.  Declare ``name``, ``summary``, ``paper`` and ``parameters``, each with where its default is from. Each parameter
    becomes an attribute by its name. Those
    of kind ``float`` are numbers: on CUDA they are tensors that a captured step reads, so that one graph serves trials
    with other numbers. Never branch on them; branch on ``self.values``, which stay what the config says. A parameter
    that means the same in another method is taken from there (see `only`).
2.  Say in ``needs`` what the lessons must bring: the scratch teacher's logits, outputs of the expert
    (`TeacherOutput`), the expert's network itself, or nothing. It is a function of the values: a weight of 0 asks for
    nothing.
3.  Write ``terms``. Import torch and the losses inside of it: the space reads parameters and needs without torch.
4.  Where the student alone is not enough for training, override ``around``: a `ctkd_search.distill.around.Around` that
    holds the student as ``student``, and whatever is trained beside it. What must not be trained, or kept with a
    trial's state, stands in there in a `Frozen`. The student alone is evaluated, exported and served.
5.  What depends on the epoch is set in ``begin_epoch`` with ``set_number``, under a name listed in ``scheduled``. What
    is drawn at random is drawn from a `ctkd_search.distill.around.Draws` inside of the `Around`, whose state is kept
    with the trial's. A method that chooses on the host what a step computes says so with ``captured = False``.
6.  ``fault`` refuses pairs that it cannot teach, ``epochs_fault`` trials that are too short; ``idle`` says which
    parameters have no effect for a pair, its images or so few epochs, so that a space that varies them is refused.
    ``baselines`` names settings worth comparing a search with.

``tests/distill/test_methods.py`` holds every method to this by its declarations alone.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ctkd_search.config import Range
from ctkd_search.discovery import entries
from ctkd_search.distill.methods.parameter import Parameter, allows
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ctkd_search.distill.around import Around, Context
    from ctkd_search.distill.lesson import Lesson, StudentOutput
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork


# What most weights and every temperature must lie in to have an effect.
ABOVE_ZERO = Range(0, open_low=True)


@dataclass(frozen=True)
class Baseline:
    """A setting of a method that searches can be compared with.

    Attributes:
        name: How a space calls it.
        summary: What it is.
        values: Values of the method's parameters that it is about. Others are those of the search where the two share
            the parameter, and the defaults elsewhere.
        papers: Whether all of them are the defaults, or the nearest that the space has, even where a config's own are
            known.
        usual: Whether final trainings are compared with it unless they are told otherwise.
    """

    name: str
    summary: str
    values: Mapping[str, Any] = field(default_factory=dict)
    papers: bool = False
    usual: bool = False


class Method(ABC):
    """Turns lessons into a loss. Made from the values of its parameters; those left out are the defaults.

    Attributes:
        name: How a space and a config call it.
        summary: What it does, in a line.
        paper: Where it comes from, as in ``arXiv 1503.02531``; empty where there is no paper.
        parameters: What a search may vary.
        baselines: Settings that searches can be compared with.
        beside: What is trained beside the student in every trial, because it depends on the student and cannot be
            replayed; empty where nothing is.
        teacherless: Whether the pair's teacher has no part in it, so that it is the same for every pair of a student.
        captured: Whether a step does the same operations every time, so that it can be captured as a CUDA graph.
        scheduled: Numbers beside the parameters, which `begin_epoch` sets.
        values: The values of the parameters, as the config has them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    baselines: ClassVar[tuple[Baseline, ...]] = ()
    beside: ClassVar[str] = ""
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
            """The value of a parameter; for a number, a float or a tensor."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What the lessons must bring; a weight of 0 asks for nothing."""

    @abstractmethod
    def terms(self, answer: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """The terms of the loss, by the names under which they are logged; they add up to the loss.

        Args:
            answer: What the training network says of the lesson's images.
            lesson: What the teachers say of them.
        """

    def around(self, student: TappedNetwork, context: Context) -> TappedNetwork | Around:
        """The network that is trained: the student, or one that holds it as ``student``.

        Its forward pass takes images and returns the fields of an `StudentOutput`.

        Args:
            student: The student with its initial weights, on the trial's device.
            context: What can be built from.
        """
        return student

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027, because most methods need nothing of it
        """Sets what depends on the epoch.

        Args:
            epoch: The epoch that begins, from 0.
            epochs: How many there are.
        """

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Why this cannot teach that student by that teacher, or None.

        Both must have the layers that it asks the expert for.
        """
        for layer in dict.fromkeys(request.layer for request in self.needs.expert if request != LOGITS):
            for network in (teacher, student):
                if layer not in network.layers:
                    return f"{network.name} has no layer {layer}; it has {','.join(map(str, network.layers))}"
        return None

    def epochs_fault(self, epochs: int) -> str | None:
        """Why trials of so many epochs are too short for these values, or None."""
        return None

    def idle(self, setting: Setting) -> dict[str, str]:
        """The parameters whose values change nothing in a setting, each with the reason.

        Those that have no effect because of another parameter's value say so in ``only_with``.
        """
        return {}

    def describe(self) -> list[str]:
        """What it does with these values, in sentences."""
        told = [
            f"{item.name.replace('_', ' ')} {_told(self.values[item.name])}" for item in self.effective_parameters()
        ]
        with_values = f" ({', '.join(told)})" if told else ""
        beside = f" {self.beside[:1].upper()}{self.beside[1:]} is trained beside it." if self.beside else ""
        return [f"It learns by {self.name}: {self.summary}{with_values}.{beside}"]

    def effective_parameters(self) -> list[Parameter]:
        """The parameters that have an effect beside the values of the others."""
        return [
            parameter
            for parameter in self.parameters
            if all(allows(allowed, self.values[other]) for other, allowed in parameter.only_with.items())
        ]

    def essence(self) -> dict[str, Any]:
        """What it does, as the plainest method that does the same: its name, and the values that have an effect."""
        return {"name": self.name, **{item.name: self.values[item.name] for item in self.effective_parameters()}}

    @classmethod
    def sources(cls) -> dict[str, list[str]]:
        """Returns where the defaults are from: the names of the parameters, by the source."""
        found: dict[str, list[str]] = {}
        for parameter in cls.parameters:
            found.setdefault(parameter.source, []).append(parameter.name)
        return found

    @classmethod
    def number_names(cls) -> list[str]:
        """The numbers: attributes that are kept in tensors on CUDA."""
        return [*(parameter.name for parameter in cls.parameters if parameter.kind == "float"), *cls.scheduled]

    def set_number(self, name: str, value: float | Tensor) -> None:
        """Sets a number, in the memory where it is."""
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
        """All but the numbers: methods of the same structure do the same operations."""
        of_effect = self.effective_parameters()
        fixed = [(item.name, self.values[item.name]) for item in of_effect if item.kind != "float"]
        switched_off = [item.name for item in of_effect if item.kind == "float" and not self.values[item.name]]
        return self.name, self.needs, tuple(fixed), tuple(switched_off)


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Every method there is, by name, in the order of their papers; those without one come first."""
    found = entries("ctkd_search.distill.methods", "METHOD")
    return {method.name: method for method in sorted(found, key=lambda method: method.paper)}


def make_method(values: Mapping[str, Any]) -> Method:
    """Makes a method from its name and the values of its parameters, as a config holds them.

    Raises:
        UserError: There is no such method.
    """
    chosen = methods().get(values["name"])
    if chosen is None:
        raise UserError(f"unknown method {values['name']!r}; there are: {', '.join(methods())}")
    return chosen(**{name: value for name, value in values.items() if name != "name"})


def only(parameters: Iterable[Parameter], *names: str) -> tuple[Parameter, ...]:
    """Those parameters of another method that a method shares with it: they mean the same in both."""
    return tuple(
        dataclasses.replace(item, only_with={other: rule for other, rule in item.only_with.items() if other in names})
        for item in parameters
        if item.name in names
    )


def same_meaning(one: Parameter, other: Parameter) -> bool:
    """Whether two methods share a parameter, whatever decides on its effect in each."""
    return dataclasses.replace(one, only_with={}) == dataclasses.replace(other, only_with={})
