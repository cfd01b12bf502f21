"""Training networks: the student with whatever else a method trains or uses in its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ctkd_search.data.stream import derived_seed
from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Architecture
from ctkd_search.models.network import TappedNetwork
from ctkd_search.models.registry import build

Held = TypeVar("Held", bound=nn.Module)


class TrainingNetwork(nn.Module):
    """A network that is trained: the student, and the modules that a method adds to it.

    Its forward pass takes images and returns the fields of a `StudentOutput`. All of its modules are kept in the
    trial's checkpoint, and those parameters that require gradients are trained; modules in a `Frozen` are neither.

    Args:
        student: The student.
    """

    def __init__(self, student: TappedNetwork) -> None:
        super().__init__()
        self.student = student


class Frozen(Generic[Held]):
    """A holder that hides a module from the network it belongs to: it is neither trained nor checkpointed.

    Gradients flow through the module.

    Args:
        module: The module, on the trial's device. It is put into evaluation mode.
    """

    def __init__(self, module: Held) -> None:
        self.module: Held = module.eval().requires_grad_(False)


class CheckpointedRandom(nn.Module):
    """Random numbers whose generator is part of the trial's checkpoint: a resumed trial draws as if never interrupted.

    Args:
        seed: Seed of the generator, which is on the CPU.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int) -> list[float]:
        """Returns as many numbers in [0, 1) as `count`."""
        drawn: list[float] = torch.rand(count, generator=self.generator, dtype=torch.float64).tolist()
        return drawn

    def get_extra_state(self) -> Tensor:
        """Returns the generator's state for the state dict."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the generator's state from a state dict."""
        self.generator.set_state(state.cpu())


class CountedRandom(nn.Module):
    """Random numbers that are a function of a seed and of a count of draws, which are part of the trial's checkpoint.

    They are computed on the device, in a captured step too, and are the same on every device: the numbers of splitmix64
    (Steele, Lea, Flood, 2014).

    Args:
        seed: Seed of the numbers.
    """

    seed: Tensor
    count: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def below(self, limits: Tensor, columns: int) -> Tensor:
        """Draws whole numbers of at least 0.

        Args:
            limits: What those of a row are less than, int64, at most 2³¹, shape (rows, 1).
            columns: Numbers in a row.

        Returns:
            The numbers, int64, shape (rows, columns).
        """
        rows = len(limits)
        place = torch.arange(rows * columns, device=limits.device).view(rows, columns)
        mixed = self.seed + (place + (self.count << _PLACES)) * _signed(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = mixed.bitwise_xor_(_shifted(mixed, shift)).mul_(_signed(factor))
        mixed.bitwise_xor_(_shifted(mixed, 31))
        self.count += 1
        return _shifted(mixed, 33).mul_(limits) >> 31


# Bits of the number of a place within one draw; the count of the draws is above them.
_PLACES = 32


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Returns 64-bit numbers moved to the right by some bits, with zeros on the left."""
    return (numbers >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Returns the signed number that has the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number


@dataclass(frozen=True)
class Context:
    """The pair, the images and the seed from which a training network is built.

    Attributes:
        teacher: The pair's teacher architecture.
        student: The pair's student architecture.
        geometry: Classes, channels and size of the images.
        seed: Seed of the trial's student, from which every other one is derived.
        expert: Returns the expert's network, frozen, on the trial's device.
        labels: Class of each training image, shape (images,), in the order of a lesson's indices; None if not known.
    """

    teacher: Architecture
    student: Architecture
    geometry: Geometry
    seed: int
    expert: Callable[[], TappedNetwork]
    labels: np.ndarray | None = None

    def seed_of(self, what: str) -> int:
        """Returns a seed for one thing that is drawn, by its name."""
        return derived_seed(what, self.seed)

    def build(self, architecture: str, what: str) -> TappedNetwork:
        """Builds a network with initial weights from a seed of its own."""
        return build(architecture, self.geometry, self.seed_of(what))

    @contextmanager
    def seeded(self, what: str) -> Iterator[None]:
        """Seeds the initial weights of the modules that are made inside the block."""
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator alone: torch.manual_seed would reseed every GPU's, which is not restored.
            torch.default_generator.manual_seed(self.seed_of(what))
            yield


def own_state(network: nn.Module, student: nn.Module) -> dict[str, Any]:
    """Returns the state of a training network without its student's."""
    if network is student:
        return {}
    return {name: value for name, value in network.state_dict().items() if not name.startswith("student.")}


def load_own_state(network: nn.Module, student: nn.Module, state: dict[str, Any]) -> None:
    """Loads the state of a training network without its student's."""
    if network is not student:
        students = {f"student.{name}": value for name, value in student.state_dict().items()}
        network.load_state_dict({**students, **state})
