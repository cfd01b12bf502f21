"""What every method has: its parameters, what it needs of the teachers, and its loss as named terms.

Imports nothing heavy: the space reads the parameters from here before torch is needed.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ctkd_search import pairs
from ctkd_search.config import Range
from ctkd_search.discovery import entries
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ctkd_search.distill.teachers import Lesson

# Where layers are numbered: the expert's logits. Its attention maps are numbered from 1.
LOGITS = 0


@dataclass(frozen=True)
class Parameter:
    """Something that a search may vary.

    Attributes:
        name: How a space calls it.
        default: The paper's setting.
        help: One line for the help, with the unit.
        note: What else the reference says of it.
        symbol: What stands before its value in a trial's short name.
        kind: ``float``, ``int``, ``choice`` (one of `choices`), ``layers`` (numbers of feature maps) or ``pair``.
        range: Which numbers are possible, for ``float`` and ``int``.
        choices: Which values are possible, for ``choice``.
        only_with: Values of other parameters without which this one has no effect: either the values, or
            a `Range` that they must lie in.
    """

    name: str
    default: Any
    help: str
    symbol: str = ""
    kind: str = "float"
    range: Range | None = None
    choices: tuple[Any, ...] = ()
    only_with: Mapping[str, tuple[Any, ...] | Range] = field(default_factory=dict)
    note: str = ""

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if self.kind in {"float", "int"}:
            if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else (int, float)):
                return f"must be {'a whole number' if self.kind == 'int' else 'a number'}, but got {value!r}"
            fits = self.range is None or value in self.range
            return None if fits else f"must be {self.range}, but got {value!r}"
        if self.kind == "choice" and value not in self.choices:
            return f"must be one of {', '.join(map(str, self.choices))}, but got {value!r}"
        if self.kind == "pair":
            return _pair_fault(value)
        if self.kind == "layers" and not _is_layers(value):
            return f"must be a list of different layer numbers from 1, as in [2, 3], but got {value!r}"
        return None


def _pair_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be {pairs.RULE}, but got {value!r}"
    try:
        pairs.split_pair(value)
    except ValueError as error:
        return str(error)
    return None


def _is_layers(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and all(type(item) is int and item >= 1 for item in value)
    return numbers and len(value) > 0 and len(set(value)) == len(value)


class Method(ABC):
    """How lessons become a loss.

    Attributes:
        name: How a space and a config call it.
        parameters: What a search may vary.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    @property
    @abstractmethod
    def needs_scratch(self) -> bool:
        """Whether lessons must bring the scratch teacher's logits."""

    @property
    @abstractmethod
    def expert_layers(self) -> tuple[int, ...]:
        """What lessons must bring of the expert: layers whose attention maps they need, and `LOGITS` for its logits."""

    @classmethod
    def number_names(cls) -> list[str]:
        """The parameters that are numbers, and attributes of the method by the same names."""
        return [parameter.name for parameter in cls.parameters if parameter.kind == "float"]

    def numbers_to(self, device: torch.device) -> None:
        """Keeps the numbers in tensors on a device, where a captured step reads them."""
        import torch

        for name in self.number_names():
            setattr(self, name, torch.tensor(float(getattr(self, name)), device=device))

    def take_numbers(self, other: Method) -> None:
        """Takes the numbers of a method of the same structure."""
        for name in self.number_names():
            own, new = getattr(self, name), getattr(other, name)
            if hasattr(own, "copy_"):
                own.copy_(new) if hasattr(new, "copy_") else own.fill_(new)
            else:
                setattr(self, name, new)

    @abstractmethod
    def structure(self) -> Hashable:
        """All but the numbers: methods of the same structure do the same operations."""

    @abstractmethod
    def terms(self, logits: Tensor, maps: Sequence[Tensor], lesson: Lesson) -> dict[str, Tensor]:
        """The terms of the student's loss, by the names under which they are logged; they add up to the loss.

        Args:
            logits: Logits of the student, shape (batch, classes).
            maps: Feature maps of the student's stages, each of shape (batch, channels, height, width).
            lesson: What the teachers say about the batch.
        """


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Every method there is, by name."""
    return {method.name: method for method in entries("ctkd_search.distill.methods", "METHOD")}


def make_method(values: Mapping[str, Any]) -> Method:
    """Makes a method from its name and the values of its parameters, as a config holds them.

    Raises:
        UserError: There is no such method.
    """
    chosen = methods().get(values["name"])
    if chosen is None:
        raise UserError(f"unknown method {values['name']!r}; there are: {', '.join(methods())}")
    return chosen(**{name: value for name, value in values.items() if name != "name"})
