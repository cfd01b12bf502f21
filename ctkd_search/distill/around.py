"""What a method builds around the student for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ctkd_search.data.stream import derived_seed
from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Architecture
from ctkd_search.models.network import TappedNetwork
from ctkd_search.models.registry import build

Held = TypeVar("Held", bound=nn.Module)


class Around(nn.Module):
    """A network for training that holds the student, and whatever is trained beside it.

    Its forward pass takes images and returns the fields of a `StudentOutput`. All that it holds is kept with the
    trial's state, and what of it has gradients is trained; but for what stands in a `Frozen`.

    Args:
        student: The student.
    """

    def __init__(self, student: TappedNetwork) -> None:
        super().__init__()
        self.student = student


class Frozen(Generic[Held]):
    """Keeps a module out of sight of the one that it stands in: it is neither trained nor kept with a trial's state.

    Gradients flow through it.

    Args:
        module: The module, on the trial's device. It is put into evaluation mode.
    """

    def __init__(self, module: Held) -> None:
        self.module: Held = module.eval().requires_grad_(False)


class Draws(nn.Module):
    """Random numbers whose state is kept with the trial's: a trial that goes on draws what it would have drawn.

    Args:
        seed: Seed of the generator, which is the CPU's own.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int) -> list[float]:
        """So many numbers in [0, 1)."""
        drawn: list[float] = torch.rand(count, generator=self.generator, dtype=torch.float64).tolist()
        return drawn

    def get_extra_state(self) -> Tensor:
        """Called by torch for the state dict."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Called by torch with what was kept."""
        self.generator.set_state(state.cpu())


@dataclass(frozen=True)
class Context:
    """What a training network can be built from.

    Attributes:
        teacher: The pair's teacher architecture.
        student: The pair's student architecture.
        geometry: Classes, channels and size of the images.
        seed: Seed of the trial's student, from which every other one is derived.
        epochs: Epochs of the trial.
        device: Where the trial computes. What is built is moved there afterwards.
        expert: Gives the expert's network, frozen, on the device.
    """

    teacher: Architecture
    student: Architecture
    geometry: Geometry
    seed: int
    epochs: int
    device: torch.device
    expert: Callable[[], TappedNetwork]

    def seed_of(self, what: str) -> int:
        """A seed of its own for something that is drawn."""
        return derived_seed(what, self.seed)

    def build(self, architecture: str, what: str) -> TappedNetwork:
        """A network with initial weights of its own."""
        return build(architecture, self.geometry, self.seed_of(what))

    @contextmanager
    def seeded(self, what: str) -> Iterator[None]:
        """Modules that are made in here draw their initial weights from a seed of their own."""
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator alone: torch.manual_seed would reseed every GPU's, which is not put back.
            torch.default_generator.manual_seed(self.seed_of(what))
            yield


def own_state(network: nn.Module, student: nn.Module) -> dict[str, Any]:
    """What a training network keeps beside its student."""
    if network is student:
        return {}
    return {name: value for name, value in network.state_dict().items() if not name.startswith("student.")}


def load_own_state(network: nn.Module, student: nn.Module, state: dict[str, Any]) -> None:
    """Takes up what a training network keeps beside its student."""
    if network is not student:
        students = {f"student.{name}": value for name, value in student.state_dict().items()}
        network.load_state_dict({**students, **state})
