"""The failures of trials: their reasons, and whether a retry may succeed."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search.errors import MACHINE_SIGNS, UserError
from ctkd_search.text import one_line

_NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "database or disk is full")
_OUT_OF_MEMORY = ("CUDA out of memory", "torch.OutOfMemoryError", "CUDA error: out of memory")
_USER_ERROR = f"{UserError.__module__}.{UserError.__name__}"

# Exceptions that are raised again by the same trial at the same step: training is a function of its config.
_DETERMINISTIC = frozenset(
    kind.__name__
    for kind in (
        ValueError,
        TypeError,
        RuntimeError,
        LookupError,
        KeyError,
        IndexError,
        AttributeError,
        NameError,
        ArithmeticError,
        ZeroDivisionError,
        OverflowError,
        AssertionError,
        NotImplementedError,
        RecursionError,
        UnboundLocalError,
        ImportError,
        ModuleNotFoundError,
        SyntaxError,
        UnicodeError,
        UnicodeDecodeError,
    )
) | {_USER_ERROR}
# Exceptions that always come from the machine, so that a second one does not show that they are permanent.
_MACHINE_KINDS = frozenset(
    kind.__name__
    for kind in (
        OSError,
        MemoryError,
        EOFError,
        KeyboardInterrupt,
        SystemExit,
        ConnectionError,
        ConnectionResetError,
        ConnectionRefusedError,
        BrokenPipeError,
        TimeoutError,
        PermissionError,
        FileNotFoundError,
        InterruptedError,
        BlockingIOError,
        ChildProcessError,
    )
)


@dataclass(frozen=True)
class Failure:
    """The failure of a trial.

    Attributes:
        reason: The reason, in one line.
        full_disk: Whether a disk was full; the trial itself is not at fault.
        out_of_memory: Whether a GPU had no memory left.
        may_pass: Whether a retry may succeed: not where the user must change something, nor where the training code
            raises the error whenever it runs.
        of_the_machine: Whether it is known to come from the machine (a lost process, memory, files), so that a second
            failure of the same kind does not show that it is permanent.
    """

    reason: str
    full_disk: bool = False
    out_of_memory: bool = False
    may_pass: bool = True
    of_the_machine: bool = False


def failure_of(trial: Any) -> Failure:
    """Returns the failure of a Ray trial, from the last error in Ray's error file."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return Failure("no reason is known", of_the_machine=True)
    return read_failure(text)


def read_failure(text: str) -> Failure:
    """Returns the failure of a trial from the text of Ray's error file."""
    lines = [line for line in text.rpartition("Failure #")[2].splitlines()[1:] if line.strip()]
    # An actor also "died" when the first trial in it raised; that is a traceback like any other.
    if not lines or lines[0].startswith(("The actor died unexpectedly", "The actor is temporarily")):
        return Failure("its worker process died" + _memory_hint(text), of_the_machine=True)
    last = _message(lines)
    of_the_machine = _is_of_the_machine(last)
    return Failure(
        one_line(last.removeprefix(f"{_USER_ERROR}: ")),
        full_disk=any(sign in last for sign in _NO_ROOM),
        out_of_memory=any(sign in last for sign in _OUT_OF_MEMORY),
        may_pass=of_the_machine or last.partition(":")[0] not in _DETERMINISTIC,
        of_the_machine=of_the_machine,
    )


def _is_of_the_machine(message: str) -> bool:
    """Returns whether an exception, as `Kind: message`, is known to come from the machine, not the training."""
    kind = message.partition(":")[0]
    if kind == _USER_ERROR:
        return False
    if kind in _MACHINE_KINDS or kind.startswith("ray.") or kind.rpartition(".")[2] == "OutOfMemoryError":
        return True
    return kind not in _DETERMINISTIC - {"RuntimeError"} and any(sign in message for sign in MACHINE_SIGNS)


def _message(lines: list[str]) -> str:
    """Returns the first line of an exception's message, which follows the frames of the traceback."""
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if frames:
        return next((line for line in lines[frames[-1] :] if not line[0].isspace()), lines[-1]).strip()
    return next((line for line in reversed(lines) if _is_message(line)), lines[-1]).strip()


def _is_message(line: str) -> bool:
    """Returns whether a line begins with the name of an exception."""
    name = line.partition(":")[0].rpartition(".")[2]
    return name.isidentifier() and name[:1].isupper()


def _memory_hint(text: str) -> str:
    return " (the machine was short of memory)" if "OutOfMemory" in text or "low on memory" in text else ""


def is_full_disk(error: BaseException) -> bool:
    """Returns whether an error, or one of its causes, comes from a full disk."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(seen) for sign in _NO_ROOM):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def cause_of(error: BaseException) -> str:
    """Returns the cause of a Ray task's error: the last line, which follows any traceback."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return lines[-1].strip() if lines else type(cause).__name__
