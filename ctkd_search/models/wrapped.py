"""A wrapper that makes a foreign network return feature maps together with its logits."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from torch import Tensor, nn

from ctkd_search.models.network import TappedNetwork
from ctkd_search.models.stages import Tapped

# The attribute of the network, and so the prefix of the names of its weights.
WRAPPED = "network"


class WrappedNetwork(TappedNetwork):
    """Takes the feature maps from a network's modules in its forward pass.

    Its `stages` are empty: where such a network could be cut is not known.

    Args:
        network: From images to logits.
        taps: The modules whose outputs are the feature maps, in the order in which they are numbered.
        output_layer: Name of the linear layer that makes the logits; None if there is no single one.
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tapped], output_layer: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.stages = nn.ModuleList()
        self._taps = tuple(taps)
        self._output_layer = output_layer

    @property
    def output_layer(self) -> nn.Linear | None:
        """Returns the linear layer that makes the logits; None if there is no single one."""
        if self._output_layer is None:
            return None
        layer = self.network.get_submodule(self._output_layer)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the numbers of its feature maps, from 1."""
        return tuple(range(1, len(self._taps) + 1))

    def embed(self, features: Tensor) -> Tensor:
        """Returns the last feature map, averaged over its positions."""
        return features.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the network's logits and feature maps."""
        outputs: dict[str, Tensor] = {}

        def keep(name: str, output: Tensor) -> None:
            outputs[name] = output

        # Hooks for this one time: so the network can be copied, exported and captured like any other.
        with contextlib.ExitStack() as hooks:
            for name, _ in self._taps:
                module = self.network.get_submodule(name)
                hook = module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
                hooks.callback(hook.remove)
            logits = self.network(images)
        return logits, [layout.as_map(outputs[name]) for name, layout in self._taps]
