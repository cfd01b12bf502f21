"""Files of weights that users bring or that trials leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ctkd_search.errors import UserError
from ctkd_search.models.wrapped import WRAPPED


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads a file of weights without executing anything in it.

    Args:
        path: A state dict saved with torch.save, alone or under the key ``state_dict``, ``model`` or ``student``.

    Returns:
        The state dict, on the CPU.

    Raises:
        UserError: The file is missing, broken, or holds something else.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except Exception as error:  # torch.load raises many kinds, all of which mean that this is no file of weights
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise UserError(f"{path} is not a file of weights saved with torch.save ({reason})") from None
    for name in ("state_dict", "model", "student"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise UserError(f"{path} does not hold a state dict (names of weights, and tensors)")
    return loaded


def put_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Loads weights into a network.

    Raises:
        UserError: They belong to another architecture; the message names a few of the differences.
    """
    own = network.state_dict()
    if not set(weights) & set(own) and all(f"{WRAPPED}.{name}" in own for name in weights):
        # As the library or the user's own code that made the network saves it.
        weights = {f"{WRAPPED}.{name}": tensor for name, tensor in weights.items()}
    wrong = [f"{name} is missing" for name in own if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in own]
    wrong += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"the weights in {source} do not fit the network: {'; '.join(wrong[:3])}{more}")
    network.load_state_dict(dict(weights))


def all_finite(network: torch.nn.Module) -> bool:
    """Returns whether every weight and every running statistic of a network is a finite number."""
    kept = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in kept]).all()) if kept else True
