"""The running average of a network's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ctkd_search.models.network import TappedNetwork


class Average:
    """A running average of a network's weights, and of the statistics of its norms.

    After each step, avg <- avg + (weights - avg) / min(n, horizon), where n is the number of steps so far: the mean of
    all weights up to the horizon, and exponentially weighted from there on. It costs no training.

    Args:
        network: The network; its weights stay in the same memory.
        epochs: The horizon, in epochs.
    """

    def __init__(self, network: TappedNetwork, epochs: float) -> None:
        self.epochs = epochs
        self.count = 0
        self._trained = network.state_dict()
        self.weights = {name: tensor.clone() for name, tensor in self._trained.items()}
        floating = [name for name, tensor in self.weights.items() if tensor.is_floating_point()]
        self._own = [self.weights[name] for name in floating]
        self._others = [self._trained[name] for name in floating]
        self._counters = [name for name in self.weights if name not in floating]

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """Takes the weights after a step into the average.

        Args:
            steps: Steps of an epoch.
        """
        self.count += 1
        torch._foreach_lerp_(self._own, self._others, 1 / min(self.count, max(1.0, self.epochs * steps)))
        for name in self._counters:
            self.weights[name].copy_(self._trained[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the network the average for a while, and its own weights back after it."""
        trained = {name: tensor.clone() for name, tensor in self._trained.items()}
        _copy(self.weights, self._trained)
        try:
            yield
        finally:
            _copy(trained, self._trained)

    def load(self, weights: Mapping[str, Tensor], count: int) -> None:
        """Takes up an average of earlier steps."""
        _copy(weights, self.weights)
        self.count = count


def _copy(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, tensor in into.items():
        tensor.copy_(values[name])
