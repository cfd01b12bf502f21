"""Loading of the user's weights, and of those that trials save, into networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctkd_search.distill.fitting import Match, Shape, Target, computes_differently, loaded, matches, misfit
from ctkd_search.distill.weight_files import SAVING, StateDict, read_weights
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork

_SHOWN = 3
# Names of two different networks in one file.
_RIVALS = ("student", "teacher")
# Below this multiple of the accuracy of guessing, there is a warning.
_HARDLY = 1.5


@dataclass(frozen=True)
class OwnExpert:
    """A network with weights of the user's own.

    Attributes:
        network: The network, on the CPU.
        architecture: Its architecture.
        path: The file.
        read: Notes on how the file was read.
    """

    network: TappedNetwork
    architecture: str
    path: str
    read: tuple[str, ...]

    def __str__(self) -> str:
        """Returns the architecture, the path and the notes, in one line."""
        return f"expert {self.architecture}: {self.path}: {'; '.join(self.read)}"


def accuracy_line(architecture: str, accuracy: float, images: int, total: int, classes: int) -> str:
    """Returns a line about the accuracy of a user's expert on validation images.

    Args:
        architecture: The expert's architecture.
        accuracy: Its accuracy, a share in [0, 1].
        images: Number of images that it was measured on.
        total: Number of validation images.
        classes: Number of classes.
    """
    of = f"the {total:,}" if images == total else f"{images:,} of the {total:,}"
    line = f"expert {architecture}: {100 * accuracy:.2f} % accuracy on {of} validation images"
    if accuracy < _HARDLY / classes:
        return (
            f"{line}: warning: little better than chance. Its classes must be in the order of the data set's, and its "
            "images must have been normalised by about the mean and standard deviation of the training images"
        )
    return f"{line} (it may have been trained on some of them)"


def load_own_expert(path: str, architecture: str, geometry: Geometry) -> OwnExpert:
    """Builds a network and loads the weights in a file of the user's.

    Args:
        path: The file.
        architecture: The network.
        geometry: Images that it takes.

    Raises:
        UserError: The file is missing or damaged, or does not contain weights of the network.
    """
    file = read_weights(Path(path))
    network = build(architecture, geometry, seed=0, published=False)
    target = Target.of(network, architecture, geometry)
    found, match = _chosen(target, file.found, path)
    converted = _put(network, match, found.tensors, path)
    notes = [f"{len(match.keys)} tensors{f' under {found.key!r}' if found.key else ''}, read from {file.form}"]
    notes.append(f"named as in {match.source}" if match.source else "with the network's own names")
    if match.prefix:
        notes.append(f"prefix {match.prefix!r} dropped")
    if converted:
        notes.append(f"converted from {', '.join(sorted(converted))} to float32")
    for what, names in (
        ("left out", match.left_out),
        ("not used", [other.key for other in file.found if other is not found]),
        ("ignored without running their code, objects of", file.foreign),
    ):
        if names:
            notes.append(f"{what}: {_listed(names)}")
    return OwnExpert(network, architecture, path, tuple(notes))


def _chosen(target: Target, found: tuple[StateDict, ...], path: str) -> tuple[StateDict, Match]:
    """Returns the state dict that fits a network, and its match.

    Raises:
        UserError: None fits, or several do.
    """
    fitting: list[tuple[StateDict, Match]] = []
    for state in found:
        found_here = matches(target, _shapes(state.tensors))
        fitting += [(state, match) for match in found_here if not match.differing]
    if not fitting:
        reason = misfit(target, _shapes(found[0].tensors))
        what = target.name or "the network"
        raise UserError(f"the weights in {path} do not fit {what}: {reason}")
    first, _ = fitting[0]
    several = [match.prefix for state, match in fitting if state is first]
    named = {state.key.rpartition(".")[2].removesuffix("_state_dict") for state, _ in fitting}
    if len(several) > 1 or set(_RIVALS) <= named:
        names = several if len(several) > 1 else [state.key for state, _ in fitting]
        raise UserError(
            f"{path} contains several networks that fit {target.name or 'the network'}: {', '.join(map(repr, names))}; "
            f"save the state dict of one of them alone: {SAVING}"
        )
    if different := computes_differently(target, fitting[0][1]):
        raise UserError(f"the weights in {path} do not fit {target.name}: {different}")
    return fitting[0]


def _put(network: torch.nn.Module, match: Match, tensors: Mapping[str, Tensor], path: str) -> set[str]:
    """Loads the weights of a match; returns the types from which some were converted."""
    try:
        weights, converted = loaded(match, tensors, network.state_dict())
    except ValueError as error:
        raise UserError(f"the weights in {path} cannot be used: {error}") from None
    network.load_state_dict(weights)
    return converted


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads a file of weights without executing anything in it.

    Args:
        path: A state dict saved with torch.save or safetensors, alone or under a key such as ``state_dict``, ``model``
            or ``student``.

    Returns:
        The state dict, on the CPU.

    Raises:
        UserError: The file is missing or damaged, or contains no weights.
    """
    return read_weights(path).found[0].tensors


def put_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into a network.

    Raises:
        UserError: They belong to another architecture; the message names a few of the differences.
    """
    target = Target.of(network)
    for match in matches(target, _shapes(weights)):
        if not match.differing:
            _put(network, match, weights, source)
            return
    raise UserError(f"the weights in {source} do not fit the network: {misfit(target, _shapes(weights))}")


def all_finite(network: torch.nn.Module) -> bool:
    """Returns whether every weight and every running statistic of a network is a finite number."""
    kept = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in kept]).all()) if kept else True


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
