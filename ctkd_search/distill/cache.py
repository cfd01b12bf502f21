"""The teacher cache: what teachers left behind, named by a hash of all that determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ctkd_search.errors import UserError
from ctkd_search.files import atomic, write_text


def content_key(kind: str, parts: Mapping[str, Any]) -> str:
    """A file name's stem: the kind, and a hash of everything that determines the content."""
    described = json.dumps(parts, sort_keys=True)
    return f"{kind}-{hashlib.sha256(described.encode()).hexdigest()[:24]}"


class TeacherCache:
    """A directory of teachers' weights.

    Every file is written to a temporary name and renamed, so that no locks are needed: two writers of the same
    name write the same content. A file counts only together with its description, which is written last and
    holds its checksum.

    Args:
        directory: Where the files are; made when first written to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, key: str, weights: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
        """Keeps a network's weights, and what describes them."""
        path = self.directory / f"{key}.pt"
        with atomic(path) as temporary:
            torch.save({name: tensor.cpu() for name, tensor in weights.items()}, temporary)
            checksum = _sha256(temporary)
        described = {**description, "sha256": checksum}
        write_text(path.with_suffix(".json"), json.dumps(described, indent=1) + "\n")

    def describe(self, key: str) -> dict[str, Any]:
        """What describes the weights kept under a key; empty if there are none, or not what was written."""
        path = self.directory / f"{key}.pt"
        try:
            described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            return described if _sha256(path) == described["sha256"] else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """The weights kept under a key, or None if there are none or they are not what was written."""
        return load_weights(self.directory / f"{key}.pt") if key in self else None

    def __contains__(self, key: str) -> bool:
        """Whether intact weights are kept under a key."""
        return bool(self.describe(key))


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
        reason = str(error).splitlines()[0][:120]
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
