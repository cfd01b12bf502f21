"""The states of trials: one file each, replaced after every epoch, and removed when no longer needed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ctkd_search.errors import UserError
from ctkd_search.files import atomic

# Messages of torch's RuntimeError for memory that it does not get.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def state_path(states: Path, number: int) -> Path:
    """Returns the path of a trial's state after its last finished epoch."""
    return states / f"{number:05d}.pt"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replaces a state, or another file of tensors and plain values, in one step.

    Raises:
        UserError: The directory cannot be written to, or the disk is full.
    """
    with atomic(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # Where a write fails, torch raises an error of its own that does not say why ("unexpected pos 640 vs 598").
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_state(path: Path) -> dict[str, Any] | None:
    """Reads a state; returns None if there is none, or if it is damaged.

    Raises:
        OSError, MemoryError: It cannot be read now; that does not mean that there is none.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    try:
        # torch itself does not check the checksums that it writes.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return None
        kept: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return kept
    except MemoryError:
        raise
    except Exception as error:  # whatever zipfile and torch raise for a damaged file
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(f"too little memory to read {path}") from None
        return None


def is_readable(path: Path) -> bool:
    """Returns whether there is a state that can be read now."""
    try:
        return read_state(path) is not None
    except (OSError, MemoryError):
        return False


def student_state(path: Path, number: int) -> dict[str, Any] | None:
    """Returns the state of a trial, for a command that needs its student; None if there is none, or if it is damaged.

    Args:
        path: The state.
        number: Number of the trial.

    Raises:
        UserError: It cannot be read now.
    """
    try:
        return read_state(path)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "too little memory"
        raise UserError(
            f"the student of trial {number} cannot be read: {path}: {reason}; try again, or export another one with "
            "--trial N"
        ) from None


def keep_only(states: Path, numbers: Collection[int]) -> None:
    """Removes the states of all but these trials."""
    kept = {state_path(states, number).name for number in numbers}
    for path in states.glob("*.pt"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
