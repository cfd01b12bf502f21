"""The states of trials: one file each, replaced after every epoch, and removed when no longer needed."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ctkd_search.files import atomic


def state_path(states: Path, number: int) -> Path:
    """Returns the path of a trial's state after its last finished epoch."""
    return states / f"{number:05d}.pt"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replaces a state in one step."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read_state(path: Path) -> dict[str, Any] | None:
    """Reads a state; returns None if there is none, or if it is damaged."""
    try:
        # torch itself does not check the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return kept
    except FileNotFoundError:
        return None
    except Exception:  # whatever zipfile and torch raise for a damaged file
        return None


def keep_only(states: Path, numbers: Collection[int]) -> None:
    """Removes the states of all but these trials."""
    kept = {state_path(states, number).name for number in numbers}
    for path in states.glob("*.pt"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
